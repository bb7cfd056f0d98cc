"""How scalar formulas are compiled, and the two bit casts that the float32 formulas are built on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastnn.backend.cpu.options import FORMULA_FLAGS


def jit(function: Callable[..., Any]) -> Any:
    """Compile a scalar formula with the package's flags, to be inlined into the loop that calls it.

    Parameters
    ----------
    function : callable
        A formula of scalars, without Python objects.

    Returns
    -------
    numba dispatcher
        Only multiply-add contraction is allowed: NaN, infinities and the order of operations are kept.
    """
    # Without forceinline LLVM leaves the longer polynomials as calls, and their loops are not vectorised: erf
    # ran at 0.3 instead of 2.6 elements a nanosecond.
    return numba.njit(fastmath=set(FORMULA_FLAGS), error_model="numpy", forceinline=True)(function)


@intrinsic  # type: ignore[untyped-decorator]
def float_as_int(typing_context: Any, x: Any) -> Any:
    """Reinterpret the bits of a float32 as an int32."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.int32(types.float32), codegen


@intrinsic  # type: ignore[untyped-decorator]
def int_as_float(typing_context: Any, i: Any) -> Any:
    """Reinterpret the bits of an int32 as a float32."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), codegen
