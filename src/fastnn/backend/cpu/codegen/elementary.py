"""The elementary functions of a dtype, compiled."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace

import numpy as np

from fastnn.backend.cpu.codegen import bits
from fastnn.backend.cpu.codegen.options import formula
from fastnn.formulas import elementary


@cache
def functions(dtype: str) -> SimpleNamespace:
    """Return the elementary functions of a dtype, jitted."""
    return elementary.define(np.dtype(dtype).type, formula, bits)
