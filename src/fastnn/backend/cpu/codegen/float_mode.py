"""The floating-point mode of a thread: kernels round to nearest, and treat subnormal numbers as zeros.

Processors compute with subnormal numbers (below 1.2e-38 in float32) up to a hundred times as slowly, and training is
full of them: the moments of a weight whose gradient has become zero halve every few steps, and stop just above zero.
Adam on 17,226 weights, some of them dead, took 52 µs; with subnormal numbers flushed to zero 8. Compilers for other
frameworks do the same. Setting the mode also makes results independent of the calling thread's mode.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastnn.backend.cpu.codegen.vectors import declared
from fastnn.backend.cpu.processor.target import is_arm64, is_x86

_I64, _I32 = ir.IntType(64), ir.IntType(32)
# x86's MXCSR: all exceptions masked (0x1F80), results flushed (0x8000), operands treated as zeros (0x40).
_MXCSR = 0x1F80 | 0x8000 | 0x40
# Its bits for rounding other than to nearest (0x6000), and the flags that operations set: an operand was
# subnormal (0x2), or a result was subnormal and had to be rounded (0x10).
_MXCSR_MET = 0x2 | 0x10
_MXCSR_OTHER = 0x6000 | _MXCSR_MET
# ARM's FPCR: both by one bit, FZ.
_FPCR = 1 << 24


def emit_exchange(builder: Any, triple: str, mode: Any) -> Any:
    """Emit code that sets the thread's mode and returns the old one; nothing if the processor is unknown."""
    if is_x86(triple):
        word = cgutils.alloca_once(builder, _I32)
        pointer = ir.IntType(8).as_pointer()
        at = builder.bitcast(word, pointer)
        builder.call(declared(builder, "llvm.x86.sse.stmxcsr", ir.VoidType(), [pointer]), [at])
        old = builder.zext(builder.load(word), _I64)
        builder.store(builder.trunc(mode, _I32), word)
        builder.call(declared(builder, "llvm.x86.sse.ldmxcsr", ir.VoidType(), [pointer]), [at])
        return old
    if is_arm64(triple):
        old = builder.call(declared(builder, "llvm.aarch64.get.fpcr", _I64, []), [])
        builder.call(declared(builder, "llvm.aarch64.set.fpcr", ir.VoidType(), [_I64]), [mode])
        return old
    return mode


def kernel_mode(triple: str) -> int:
    """Return the mode of kernels, as the value of the processor's control register."""
    return _MXCSR if is_x86(triple) else _FPCR


@intrinsic  # type: ignore[untyped-decorator]
def is_plain(typingctx: Any) -> Any:
    """Return whether the thread's register says that it rounds to nearest and has had no subnormal number.

    If that holds before and after a computation, the kernels' mode would have made no difference, except for results
    that are subnormal and exact. The test takes 2 ns; setting and restoring the mode takes 75. False if the processor
    is not x86.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if not is_x86(llvm.get_default_triple()):
            return cgutils.false_bit
        word = cgutils.alloca_once(builder, _I32)
        pointer = ir.IntType(8).as_pointer()
        store = declared(builder, "llvm.x86.sse.stmxcsr", ir.VoidType(), [pointer])
        builder.call(store, [builder.bitcast(word, pointer)])
        other = builder.and_(builder.load(word), ir.Constant(_I32, _MXCSR_OTHER))
        return builder.icmp_unsigned("==", other, ir.Constant(_I32, 0))

    return types.boolean(), codegen


@intrinsic  # type: ignore[untyped-decorator]
def enter_kernel_mode(typingctx: Any) -> Any:
    """Set the mode of kernels, and return the thread's old mode."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        triple = llvm.get_default_triple()
        return emit_exchange(builder, triple, ir.Constant(_I64, kernel_mode(triple)))

    return types.intp(), codegen


@intrinsic  # type: ignore[untyped-decorator]
def restore_plain_mode(typingctx: Any, mode: Any) -> Any:
    """Set the mode that `enter_kernel_mode` has returned, without its flags about subnormal numbers."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        triple = llvm.get_default_triple()
        mode = builder.and_(args[0], ir.Constant(_I64, ~_MXCSR_MET)) if is_x86(triple) else args[0]
        emit_exchange(builder, triple, mode)
        return context.get_dummy_value()

    return types.void(types.intp), codegen


@intrinsic  # type: ignore[untyped-decorator]
def restore_mode(typingctx: Any, mode: Any) -> Any:
    """Set the mode that `enter_kernel_mode` has returned."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        emit_exchange(builder, llvm.get_default_triple(), args[0])
        return context.get_dummy_value()

    return types.void(types.intp), codegen
