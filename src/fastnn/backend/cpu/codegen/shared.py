"""Calls of functions that several kernels share, by their symbols."""

from __future__ import annotations

from inspect import Parameter, Signature
from typing import Any

from numba import types
from numba.extending import intrinsic

from fastnn.backend.cpu.codegen.vectors import I32, I64, declared
from fastnn.backend.cpu.layouts.shared import symbol_of
from fastnn.program.record import KernelKey


def shared(key: KernelKey, arguments: int) -> Any:
    """Make the intrinsic that calls a shared function of `arguments` int64, which returns nothing and never raises."""
    symbol, signature = symbol_of(key), types.void(*[types.intp] * arguments)

    def call(typingctx: Any, *args: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            with builder.goto_entry_block():
                result, error = builder.alloca(I64), builder.alloca(I64)
            kinds = [result.type, error.type, *[I64] * arguments]
            builder.call(declared(builder, symbol, I32, kinds), [result, error, *args])
            return context.get_dummy_value()

        return signature, codegen

    # Numba would pass `*args` as one tuple
    names = ["typingctx", *(f"argument{i}" for i in range(arguments))]
    call.__signature__ = Signature([Parameter(name, Parameter.POSITIONAL_OR_KEYWORD) for name in names])  # type: ignore[attr-defined]
    return intrinsic(call)
