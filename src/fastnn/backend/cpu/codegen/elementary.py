"""The elementary functions of a dtype, compiled."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np

from fastnn.backend.cpu.codegen import bits
from fastnn.backend.cpu.codegen.options import formula
from fastnn.formulas import double, elementary


@cache
def functions(dtype: str) -> SimpleNamespace:
    """Return the elementary functions of a dtype, jitted."""
    return elementary.define(np.dtype(dtype).type, formula, bits)


@cache
def exp_weight_of(dtype: str) -> Any:
    """Return exp(x) for x up to 88 or 700, 0 where it would be subnormal, for loops over vectors."""
    return functions(dtype).exp_weight if dtype == "float32" else double.define(formula, bits).exp_weight
