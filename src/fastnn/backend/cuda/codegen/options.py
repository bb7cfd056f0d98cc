"""The jit options of every CUDA function; nothing else in this backend sets any.

`fastmath` stays off: in numba-cuda any value of it means approximate division and flushed subnormals. Multiplications
and additions are contracted without it, and formulas allow nothing more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import cuda

from fastnn.backend.cuda.codegen.sizes import SIMULATED


def helper(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a part of a kernel, which may use its thread's index, shared memory and barriers."""
    return cuda.jit(device=True)(function)  # type: ignore[no-any-return]


def formula(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a scalar formula; the simulator calls it without compilation."""
    return function if SIMULATED else helper(function)
