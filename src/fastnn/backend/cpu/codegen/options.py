"""The jit options of every compiled function; nothing else in fastnn sets any.

`nnan` and `ninf` are never among the flags: a NaN has to reach the user. Formulas are compiled only with contraction,
because their range reductions rely on the order of operations; kernels may reassociate sums. (Reassociation
makes x - x inside a sum 0 even if x is NaN, so kernels test for NaN by comparisons.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

from fastnn.backend.cpu.codegen.parts import Pipeline

FORMULA_FLAGS = frozenset({"contract"})
KERNEL_FLAGS = frozenset({"contract", "reassoc", "nsz"})


# Parts of kernels are never called from Python: without the code for that, and without separate machine code, a
# first training step compiled in 8.6 to 9.5 instead of 11.0 s, and took 40 MB less.
_PART = {"error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
# A user's function may hold closures and expressions of arrays, which only Numba's own pipeline rewrites.
_OURS = {**_PART, "pipeline_class": Pipeline}


def formula(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a scalar formula, to be inlined into kernels.

    Without `forceinline` LLVM leaves the longer ones as calls, and the loops around them are not vectorised: gelu
    ran at 0.14 instead of 1.8 elements per nanosecond.
    """
    return njit(fastmath=set(FORMULA_FLAGS), forceinline=True, **_OURS)(function)  # type: ignore[no-any-return]


def users(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a user's scalar formula: as `formula`, but an index out of bounds raises, which ends the program."""
    compiled = njit(fastmath=set(FORMULA_FLAGS), forceinline=True, boundscheck=True, **_PART)
    return compiled(function)  # type: ignore[no-any-return]


def around_users(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile the code that a kernel inlines around a user's scalar formula: as `formula`, as a part.

    Numba never frees machine code: each user-defined function left 2 MB with code for calls from Python, 0.8 without.
    """
    return njit(fastmath=set(FORMULA_FLAGS), forceinline=True, **_OURS)(function)  # type: ignore[no-any-return]


def rows(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a user's function of arrays: an index out of bounds raises, which ends the program."""
    return njit(fastmath=set(FORMULA_FLAGS), boundscheck=True, **_PART)(function)  # type: ignore[no-any-return]


def helper(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a part of a kernel."""
    return njit(fastmath=set(KERNEL_FLAGS), **_OURS)(function)  # type: ignore[no-any-return]


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a part of a kernel that is inlined, so that its arguments on the stack are known not to overlap."""
    return njit(fastmath=set(KERNEL_FLAGS), forceinline=True, **_OURS)(function)  # type: ignore[no-any-return]


def exact(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a part of a kernel that computes the same bits as NumPy: nothing is contracted.

    Without an explicit `fastmath` it would inherit the caller's flags.
    """
    return njit(fastmath=False, **_OURS)(function)  # type: ignore[no-any-return]
