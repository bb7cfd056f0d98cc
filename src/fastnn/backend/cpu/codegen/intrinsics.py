"""Pointers, calls through addresses, and the stack: features that kernels need and Numba lacks."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastnn.backend.cpu.codegen.vectors import declared, emit_call
from fastnn.backend.cpu.layouts.code import CodeWord
from fastnn.program.layout import FLAGS_WORD, OFFSET_BITS, OFFSET_MASK, Counter

_I64 = ir.IntType(64)


def _pointer_to(numba_type: Any, llvm_type: ir.Type) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def pointer(typingctx: Any, address: Any) -> Any:
        """Convert an address to a pointer."""

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.inttoptr(args[0], llvm_type.as_pointer())

        return types.CPointer(numba_type)(types.intp), codegen

    return pointer


float32_pointer = _pointer_to(types.float32, ir.FloatType())
float64_pointer = _pointer_to(types.float64, ir.DoubleType())
SOURCE_POINTERS = {
    "float32": float32_pointer,
    "float64": float64_pointer,
    "int8": _pointer_to(types.int8, ir.IntType(8)),
    "int16": _pointer_to(types.int16, ir.IntType(16)),
    "int32": _pointer_to(types.int32, ir.IntType(32)),
    "int64": _pointer_to(types.int64, _I64),
    "uint8": _pointer_to(types.uint8, ir.IntType(8)),
    "uint16": _pointer_to(types.uint16, ir.IntType(16)),
    "uint32": _pointer_to(types.uint32, ir.IntType(32)),
    "uint64": _pointer_to(types.uint64, _I64),
}
int64_pointer = SOURCE_POINTERS["int64"]

# What follows could be parts of kernels in Python. Each of those takes Numba 15 ms, in every kernel and for every word.


def _word(builder: Any, base: Any, index: Any) -> Any:
    return builder.load(builder.gep(builder.inttoptr(base, _I64.as_pointer()), [index]))


def _emit_address(builder: Any, record: Any, context: Any, word: Any) -> Any:
    operand = _word(builder, record, word)
    buffer = _word(builder, context, builder.ashr(operand, _I64(OFFSET_BITS)))
    return builder.add(buffer, builder.and_(operand, _I64(OFFSET_MASK)))


@intrinsic  # type: ignore[untyped-decorator]
def address(typingctx: Any, record: Any, context: Any, word: Any) -> Any:
    """Return the address of an operand that exists in the record."""

    def codegen(_: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _emit_address(builder, *args)

    return types.intp(types.intp, types.intp, types.intp), codegen


def _operand_pointer(numba_type: Any, llvm_type: ir.Type) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def at(typingctx: Any, record: Any, context: Any, word: Any) -> Any:
        """Return a pointer to an operand that exists in the record."""

        def codegen(_: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.inttoptr(_emit_address(builder, *args), llvm_type.as_pointer())

        return types.CPointer(numba_type)(types.intp, types.intp, types.intp), codegen

    return at


float32_operand = _operand_pointer(types.float32, ir.FloatType())
float64_operand = _operand_pointer(types.float64, ir.DoubleType())


@intrinsic  # type: ignore[untyped-decorator]
def has(typingctx: Any, record: Any, word: Any) -> Any:
    """Return whether a record has an optional operand."""

    def codegen(_: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.icmp_signed(">=", _word(builder, *args), _I64(0))

    return types.boolean(types.intp, types.intp), codegen


@intrinsic  # type: ignore[untyped-decorator]
def flags_of(typingctx: Any, record: Any) -> Any:
    """Return the flags word; the engine also stores the number of parts in it, so read only single bits."""

    def codegen(_: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _word(builder, args[0], _I64(FLAGS_WORD))

    return types.intp(types.intp), codegen


@intrinsic  # type: ignore[untyped-decorator]
def smaller(typingctx: Any, a: Any, b: Any) -> Any:
    """Return the smaller of two integers; `min`, which Numba compiles in each kernel, takes it 18 ms."""

    def codegen(_: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.icmp_signed("<", *args), *args)

    return types.intp(types.intp, types.intp), codegen


def _emit_status(builder: Any, address: Any, context: Any, arguments: list[Any]) -> Any:
    """Emit a call that returns the status, and notes an exception in a context."""
    error_at = builder.add(context, _I64(8 * int(Counter.ERROR)))
    return builder.sext(emit_call(builder, address, arguments, error_at)[0], _I64)


@intrinsic  # type: ignore[untyped-decorator]
def call_kernel(typingctx: Any, address: Any, record: Any, context: Any, ith: Any, nth: Any) -> Any:
    """Call the kernel at an address: (record, context, ith, nth) -> status."""

    def codegen(_: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _emit_status(builder, args[0], args[2], list(args[1:]))

    return types.intp(*[types.intp] * 5), codegen


@intrinsic  # type: ignore[untyped-decorator]
def call_map(typingctx: Any, address: Any, context: Any, out: Any, x: Any, saved: Any, n: Any, params: Any) -> Any:
    """Call the elementwise function at an address: (out, x, saved, n, params) -> status."""

    def codegen(_: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _emit_status(builder, args[0], args[1], list(args[2:]))

    return types.intp(*[types.intp] * 7), codegen


@intrinsic  # type: ignore[untyped-decorator]
def call_pointwise(
    typingctx: Any, address: Any, context: Any, out: Any, a: Any, b: Any, c: Any, n: Any, single: Any
) -> Any:
    """Call the function of up to three arrays at an address: (out, a, b, c, n, single) -> status."""

    def codegen(_: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _emit_status(builder, args[0], args[1], list(args[2:]))

    return types.intp(*[types.intp] * 8), codegen


def emit_note(builder: Any, code: Any, arguments: list[Any]) -> Any:
    """Emit the call of `note_failure` by its address in a code; returns the outcome that it was given."""
    where = builder.gep(builder.inttoptr(code, _I64.as_pointer()), [_I64(int(CodeWord.NOTE))])
    return emit_call(builder, builder.load(where), [code, *arguments])[1]


@intrinsic  # type: ignore[untyped-decorator]
def call_note(
    typingctx: Any, code: Any, outcome: Any, first: Any, second: Any, third: Any, fourth: Any, slots: Any, array: Any
) -> Any:
    """Note what a failed call was given: four numbers, and the wrong array (-1: none); returns the outcome.

    By address, so that what calls it has none of its code.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return emit_note(builder, args[0], list(args[1:]))

    return types.intp(*[types.intp] * 8), codegen


@intrinsic  # type: ignore[untyped-decorator]
def call_convert(typingctx: Any, code: Any, target: Any, description: Any, given: Any, first: Any, count: Any) -> Any:
    """Call `convert` by its address in a code, likewise."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        where = builder.gep(builder.inttoptr(args[0], _I64.as_pointer()), [_I64(int(CodeWord.CONVERT))])
        emit_call(builder, builder.load(where), list(args[1:]))
        return context.get_dummy_value()

    return types.void(*[types.intp] * 6), codegen


@intrinsic  # type: ignore[untyped-decorator]
def call_run(typingctx: Any, run: Any, records: Any, count: Any, context: Any, nth: Any, team: Any) -> Any:
    """Run records once by the address of the executor."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        run, records, count, where, nth, team = args
        emit_call(builder, run, [records, count, where, _I64(1), nth, team])
        return context.get_dummy_value()

    return types.void(*[types.intp] * 6), codegen


def _c_function(name: str, result: Any, kind: Any) -> Any:
    """Make the call of a C library function with one integer."""

    @intrinsic  # type: ignore[untyped-decorator]
    def call(typingctx: Any, argument: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            function = declared(builder, name, kind, [_I64])
            value = builder.call(function, args)
            return context.get_dummy_value() if result is types.void else value

        return result(types.intp), codegen

    return call


#: Allocate memory from C's library, as an address (0: not enough memory); and free it.
allocate = _c_function("malloc", types.intp, _I64)
release = _c_function("free", types.void, ir.VoidType())


@intrinsic  # type: ignore[untyped-decorator]
def prefetch(typingctx: Any, address: Any) -> Any:
    """Fetch a line of memory into the first-level cache; any address is allowed."""

    def codegen(_: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        function = declared(builder, "llvm.prefetch.p0i8", ir.VoidType(), [pointer, word, word, word])
        # for reading; of the highest locality, 3; data
        builder.call(function, [builder.inttoptr(args[0], pointer), word(0), word(3), word(1)])
        return None

    return types.void(types.intp), codegen


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def stack_bytes(typingctx: Any, nbytes: Any) -> Any:
    """Allocate a constant number of bytes, 64-byte aligned, on the stack of the running function."""
    if not isinstance(nbytes, types.IntegerLiteral):
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = ir.ArrayType(ir.IntType(8), nbytes.literal_value)
        with builder.goto_entry_block():
            slot = builder.alloca(array)
            slot.align = 64
        return builder.ptrtoint(slot, _I64)

    return types.intp(nbytes), codegen
