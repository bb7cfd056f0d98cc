"""Atomic words in memory, the processor's hint for waiting loops, and calls of the system's functions by address.

Loads acquire, stores release, and all are sequentially consistent. So a thread that announces its sleep and then looks
for work, and one that publishes work and then looks for sleepers, never both miss the other, not even on weakly
ordered processors.
"""

from __future__ import annotations

import ctypes
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastnn.backend.cpu.codegen.vectors import declared
from fastnn.backend.cpu.processor.target import is_arm64, is_x86

_I64, _I32 = ir.IntType(64), ir.IntType(32)
_ORDER = "seq_cst"


def _pointer(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, _I64.as_pointer())


@intrinsic  # type: ignore[untyped-decorator]
def atomic_load(typingctx: Any, address: Any) -> Any:
    """Read the int64 at an address."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load_atomic(_pointer(builder, args[0]), _ORDER, 8)

    return types.intp(types.intp), codegen


@intrinsic  # type: ignore[untyped-decorator]
def atomic_store(typingctx: Any, address: Any, value: Any) -> Any:
    """Write the int64 at an address."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store_atomic(args[1], _pointer(builder, args[0]), _ORDER, 8)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), codegen


@intrinsic  # type: ignore[untyped-decorator]
def atomic_add(typingctx: Any, address: Any, value: Any) -> Any:
    """Add to the int64 at an address, and return its old value."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.atomic_rmw("add", _pointer(builder, args[0]), args[1], _ORDER)

    return types.intp(types.intp, types.intp), codegen


@intrinsic  # type: ignore[untyped-decorator]
def compare_exchange(typingctx: Any, address: Any, expected: Any, value: Any) -> Any:
    """Write the int64 at an address if it has the expected value, and return its old value."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(builder, args[0])
        return builder.extract_value(builder.cmpxchg(pointer, args[1], args[2], _ORDER, _ORDER), 0)

    return types.intp(types.intp, types.intp, types.intp), codegen


def emit_pause(builder: Any, triple: str) -> None:
    """Emit the hint for a waiting loop; nothing if the processor is unknown."""
    if is_x86(triple):
        name, arguments = "llvm.x86.sse2.pause", []
    elif is_arm64(triple):
        # a yield does nothing on most ARM cores; an instruction barrier takes some ten cycles
        name, arguments = "llvm.aarch64.isb", [ir.Constant(_I32, 15)]
    else:
        return
    builder.call(declared(builder, name, ir.VoidType(), [argument.type for argument in arguments]), arguments)


@intrinsic  # type: ignore[untyped-decorator]
def pause(typingctx: Any) -> Any:
    """Hint to the processor that this loop waits for another thread."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        emit_pause(builder, llvm.get_default_triple())
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic  # type: ignore[untyped-decorator]
def call_system(typingctx: Any, address: Any, first: Any, second: Any, third: Any, fourth: Any) -> Any:
    """Call a C function of the system with up to four integers or pointers.

    One that takes fewer ignores the rest: in the conventions of x86-64, ARM64 and RISC-V the first four arguments
    travel in registers, and the caller cleans up.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        function = ir.FunctionType(_I32, [_I64] * 4)
        result = builder.call(builder.inttoptr(args[0], function.as_pointer()), list(args[1:]))
        return builder.sext(result, _I64)

    return types.intp(*[types.intp] * 5), codegen


@intrinsic  # type: ignore[untyped-decorator]
def call_thread_ident(typingctx: Any, address: Any) -> Any:
    """Call `PyThread_get_thread_ident`, whose address is given: it needs no GIL, and tells one thread from another."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        function = ir.FunctionType(ir.IntType(8 * ctypes.sizeof(ctypes.c_ulong)), [])
        found = builder.call(builder.inttoptr(args[0], function.as_pointer()), [])
        return found if found.type == _I64 else builder.zext(found, _I64)

    return types.intp(types.intp), codegen
