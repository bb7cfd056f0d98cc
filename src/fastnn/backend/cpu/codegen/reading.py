"""Elements of arrays whose dtype is known only at run time, as the numbers that programs compute with."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastnn.backend.cpu.layouts.code import DTYPES, REAL_DTYPES

_I64 = ir.IntType(64)
_REALS = {"float32": ir.FloatType(), "float64": ir.DoubleType()}
_BITS = {"int64": 64, "uint64": 64, "int32": 32, "uint32": 32, "int16": 16, "uint16": 16}


def _llvm_type(dtype: str) -> ir.Type:
    return _REALS[dtype] if dtype in _REALS else ir.IntType(_BITS.get(dtype, 8))


def _is_signed(dtype: str) -> bool:
    return dtype.startswith("int")


def _to_real(builder: Any, dtype: str, value: Any, wanted: ir.Type) -> Any:
    if dtype not in _REALS:
        return (builder.sitofp if _is_signed(dtype) else builder.uitofp)(value, wanted)
    if value.type == wanted:
        return value
    return builder.fpext(value, wanted) if dtype == "float32" else builder.fptrunc(value, wanted)


def _to_int64(builder: Any, dtype: str, value: Any, wanted: ir.Type) -> Any:
    if value.type.width == 64:
        return value
    return (builder.sext if _is_signed(dtype) else builder.zext)(value, wanted)


def _emit(builder: Any, dtypes: tuple[str, ...], dtype: Any, address: Any, wanted: ir.Type, convert: Any) -> Any:
    """Emit a switch over dtypes, each of which loads an element and converts it."""
    last = builder.append_basic_block("read")
    with builder.goto_block(last):
        found = builder.phi(wanted)
    wrong = builder.append_basic_block("unknown")
    switch = builder.switch(dtype, wrong)
    for each in dtypes:
        block = builder.append_basic_block(each)
        switch.add_case(_I64(DTYPES.index(each)), block)
        with builder.goto_block(block):
            pointer = builder.inttoptr(address, _llvm_type(each).as_pointer())
            value = convert(builder, each, builder.load(pointer, align=1), wanted)
            found.add_incoming(value, builder.block)
            builder.branch(last)
    with builder.goto_block(wrong):
        builder.unreachable()
    builder.position_at_end(last)
    return found


def _reader(dtype: str, dtypes: tuple[str, ...], convert: Any) -> Any:
    """Make the function that reads an element: (number of its dtype, address) -> a number of `dtype`."""
    result = getattr(types, dtype)

    @intrinsic  # type: ignore[untyped-decorator]
    def read(typingctx: Any, number: Any, address: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return _emit(builder, dtypes, args[0], args[1], _llvm_type(dtype), convert)

        return result(types.intp, types.intp), codegen

    return read


#: Read an element as a real number: any dtype is taken.
READ_REAL = {dtype: _reader(dtype, DTYPES, _to_real) for dtype in _REALS}
#: Read an element as an int64: of integers alone; what is larger becomes negative.
read_int64 = _reader("int64", DTYPES[REAL_DTYPES:], _to_int64)
