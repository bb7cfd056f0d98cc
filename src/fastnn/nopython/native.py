"""What the functions of `fastnn.nopython` need and Numba lacks: addresses of arrays, the process's token."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastnn.backend.cpu import token

_I64 = ir.IntType(64)


@intrinsic  # type: ignore[untyped-decorator]
def address(typingctx: Any, array: Any) -> Any:
    """Return the address of an array's first element; the array has to outlive its use."""
    if not isinstance(array, types.Array):
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.ptrtoint(data, _I64)

    return types.intp(array), codegen


@intrinsic  # type: ignore[untyped-decorator]
def process_token(typingctx: Any) -> Any:
    """Return the number that a network's code must hold; the linker resolves it anew in each process."""
    token.process_token()

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(_I64, [])
        module = builder.module
        function = module.globals.get(token.SYMBOL) or ir.Function(module, kind, token.SYMBOL)
        return builder.call(function, [])

    return types.intp(), codegen
