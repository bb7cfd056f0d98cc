"""docs/ops.md is the table that the code gives, with every op of `fastnn.ops`."""

from pathlib import Path

import numpy as np

import fastnn as fnn
from fastnn.ops.__main__ import page
from fastnn.ops.definition import NUMPY_NAMES

PAGE = Path(__file__).parents[2] / "docs" / "ops.md"


def test_the_page_is_what_the_code_says():
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m fastnn.ops > docs/ops.md"


def test_every_op_is_there_with_a_name_that_numpy_has():
    text = page()
    for name, there in NUMPY_NAMES.items():
        assert f"| `{name}(" in text and callable(getattr(fnn.ops, name))
        if there and "." not in there and " " not in there and "[" not in there:
            assert hasattr(np, there), there
