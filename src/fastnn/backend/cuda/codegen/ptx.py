"""All LLVM IR and PTX of the CUDA backend: loads and stores at addresses, shuffles, atomics, bit casts.

Addresses are int64, of global memory; an index counts elements and has any integer type. `simulator/ptx.py` has
the same names for Numba's simulator, with bounds checks.
"""

from __future__ import annotations

from itertools import count
from typing import Any

from llvmlite import ir
from numba import types
from numba.cuda import cgutils
from numba.cuda.extending import intrinsic

from fastnn.backend.cuda.codegen.ptx_mma import (  # noqa: F401, kernels find them here
    COPIES,
    COPIES_IF,
    MMA,
    commit_copies,
    load_matrices,
    to_bf16,
    to_tf32,
    wait_for_copies,
)
from fastnn.backend.cuda.codegen.ptx_wgmma import (  # noqa: F401, the same
    begin_products,
    clear_sums,
    commit_products,
    copy_block,
    expect_bytes,
    has_opened,
    make_barrier,
    multiply_matrices,
    show_barriers,
    wait_for_products,
)

_I32, _I64, _F32, _F64 = ir.IntType(32), ir.IntType(64), ir.FloatType(), ir.DoubleType()
_ANY, _GLOBAL = 0, 1
_LLVM: dict[Any, Any] = {
    types.float32: _F32,
    types.float64: _F64,
    **{one: ir.IntType(one.bitwidth) for one in types.integer_domain},
}


def _pointer(
    builder: Any, signature: Any, arguments: Any, element: Any, pointee: Any = None, space: int = _GLOBAL
) -> Any:
    """Return the address of an element: arguments[0] plus arguments[1] elements, as a pointer into global memory."""
    start, index = arguments[:2]
    kind = signature.args[1]
    if kind.bitwidth < 64:
        index = builder.sext(index, _I64) if kind.signed else builder.zext(index, _I64)
    size = element.get_abi_size(_DATA)
    place = builder.add(start, builder.mul(index, _I64(size)))
    return builder.inttoptr(place, ir.PointerType(pointee or element, space))


def _data_layout() -> Any:
    import llvmlite.binding as llvm

    return llvm.create_target_data("e-i64:64-i128:128-v16:16-v32:32-n16:32:64")


_DATA = _data_layout()


def _load(kind: Any, space: int = _GLOBAL) -> Any:
    element = _LLVM[kind]

    @intrinsic  # type: ignore[untyped-decorator]
    def load(typing_context: Any, address: Any, index: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.load(_pointer(builder, signature, arguments, element, space=space))

        return kind(address, index), codegen

    return load


def _store(kind: Any, space: int = _GLOBAL) -> Any:
    element = _LLVM[kind]

    @intrinsic  # type: ignore[untyped-decorator]
    def store(typing_context: Any, address: Any, index: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            builder.store(arguments[2], _pointer(builder, signature, arguments, element, space=space))
            return context.get_dummy_value()

        return types.none(address, index, kind), codegen

    return store


#: by dtype: load(address, index) -> value, and store(address, index, value)
LOADS = {str(kind): _load(kind) for kind in _LLVM}
STORES = {str(kind): _store(kind) for kind in _LLVM}
#: the same for memory of any kind, also a thread's own
ANY_LOADS = {str(kind): _load(kind, _ANY) for kind in _LLVM}
ANY_STORES = {str(kind): _store(kind, _ANY) for kind in (types.float32, types.float64)}


@intrinsic  # type: ignore[untyped-decorator]
def address_of(typing_context: Any, array: Any) -> Any:
    """Return the address of an array, for loads and stores of global memory if it is there."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        held = context.make_array(signature.args[0])(context, builder, arguments[0])
        return builder.ptrtoint(held.data, _I64)

    return types.int64(array), codegen


#: the argument of loads and stores of memory of any kind
memory_of = address_of


def _load_pack(kind: Any) -> Any:
    """Make the load of four neighbours from an address aligned to their size, but at most to 16 bytes."""
    element = _LLVM[kind]
    wide = min(16 // (kind.bitwidth // 8), 4)
    alignment = wide * kind.bitwidth // 8
    vector, result = ir.VectorType(element, wide), types.UniTuple(kind, 4)

    @intrinsic  # type: ignore[untyped-decorator]
    def load_pack(typing_context: Any, address: Any, index: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            place = _pointer(builder, signature, arguments, element, vector)
            parts = []
            for step in range(4 // wide):
                loaded = builder.load(builder.gep(place, [_I32(step)]), align=alignment)
                parts += [builder.extract_element(loaded, _I32(lane)) for lane in range(wide)]
            return cgutils.pack_array(builder, parts)

        return result(address, index), codegen

    return load_pack


def _store_pack(kind: Any) -> Any:
    element = _LLVM[kind]
    wide = 16 // (kind.bitwidth // 8)
    vector, four = ir.VectorType(element, wide), types.UniTuple(kind, 4)

    @intrinsic  # type: ignore[untyped-decorator]
    def store_pack(typing_context: Any, address: Any, index: Any, values: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            place = _pointer(builder, signature, arguments, element, vector)
            parts = cgutils.unpack_tuple(builder, arguments[2], 4)
            for step in range(4 // wide):
                packed = ir.Constant(vector, ir.Undefined)
                for lane in range(wide):
                    packed = builder.insert_element(packed, parts[step * wide + lane], _I32(lane))
                builder.store(packed, builder.gep(place, [_I32(step)]), align=16)
            return context.get_dummy_value()

        return types.none(address, index, four), codegen

    return store_pack


LOAD_PACKS = {str(kind): _load_pack(kind) for kind in _LLVM}
STORE_PACKS = {str(kind): _store_pack(kind) for kind in (types.float32, types.float64, types.int64, types.uint32)}


def _cast(source: Any, target: Any) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def cast(typing_context: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.bitcast(arguments[0], _LLVM[target])

        return target(source), codegen

    return cast


float_as_int = _cast(types.float32, types.int32)
int_as_float = _cast(types.int32, types.float32)
int_as_double = _cast(types.int64, types.float64)
double_as_int = _cast(types.float64, types.int64)


def _exchange(builder: Any, value: Any, mask: Any, suffix: str) -> Any:
    kind = ir.FunctionType(value.type, [_I32, value.type, _I32, _I32])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.nvvm.shfl.sync.bfly.{suffix}")
    return builder.call(function, [_I32(0xFFFFFFFF), value, mask, _I32(31)])


def _shuffle(kind: Any) -> Any:
    """Make shuffle(value, mask): the value of the thread whose lane differs by a mask; the whole warp calls it."""

    @intrinsic  # type: ignore[untyped-decorator]
    def shuffle(typing_context: Any, value: Any, mask: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            value, mask = arguments
            if kind.bitwidth == 32:
                return _exchange(builder, value, mask, "f32" if kind is types.float32 else "i32")
            # two halves of 32 bits
            whole, halves = builder.bitcast(value, _I64), []
            for shift in (0, 32):
                moved = _exchange(builder, builder.trunc(builder.lshr(whole, _I64(shift)), _I32), mask, "i32")
                halves.append(builder.shl(builder.zext(moved, _I64), _I64(shift)))
            return builder.bitcast(builder.or_(*halves), _LLVM[kind])

        return kind(kind, types.int32), codegen

    return shuffle


SHUFFLES = {str(kind): _shuffle(kind) for kind in (types.float32, types.float64, types.int32)}


@intrinsic  # type: ignore[untyped-decorator]
def high_product(typing_context: Any, a: Any, b: Any) -> Any:
    """Return the upper half of the product of two uint32."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(_I32, [_I32, _I32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.nvvm.mulhi.ui")
        return builder.call(function, arguments)

    return types.uint32(types.uint32, types.uint32), codegen


@intrinsic  # type: ignore[untyped-decorator]
def atomic_min(typing_context: Any, address: Any, index: Any, value: Any) -> Any:
    """Replace an int64 in global memory by a smaller one; the order of threads makes no difference."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.atomic_rmw("min", _pointer(builder, signature, arguments, _I64), arguments[2], "monotonic")
        return context.get_dummy_value()

    return types.none(address, index, types.int64), codegen


_SHARED = 3
_numbers = count()


def shared(elements: int, dtype: str, dynamic: bool = False, alignment: int = 16) -> Any:
    """Make a function without arguments that returns the address of a block's shared memory, aligned to some bytes.

    A kernel may have only one call of each such function: each call gets separate memory. Dynamic memory is
    all of the memory that the launch gives the block, which may be more than 48 KiB; it must have `alignment` bytes
    more than the elements need if `alignment` is more than 16.
    """
    memory = ir.ArrayType(_LLVM[getattr(types, dtype)], 0 if dynamic else elements)

    @intrinsic  # type: ignore[untyped-decorator]
    def address(typing_context: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            held = cgutils.add_global_variable(builder.module, memory, f"fastnn_shared_{next(_numbers)}", _SHARED)
            held.align = 16
            if dynamic:
                held.linkage = "external"
            else:
                held.initializer = ir.Constant(memory, ir.Undefined)
            start = builder.ptrtoint(held, _I32)
            if alignment > 16:
                start = builder.and_(builder.add(start, _I32(alignment - 1)), _I32(-alignment))
            return start

        return types.uint32(), codegen

    return address


def _keep(builder: Any, value: Any) -> Any:
    """Return a value that is opaque to LLVM, so that it is not computed again at each use."""
    letter = "l" if value.type.width == 64 else "r"
    kind = ir.FunctionType(value.type, [value.type])
    return builder.call(ir.InlineAsm(kind, f"mov.b{value.type.width} $0, $1;", f"={letter},{letter}", True), [value])


@intrinsic  # type: ignore[untyped-decorator]
def keep(typing_context: Any, value: Any) -> Any:
    """Keep an integer in a register: LLVM would move its computation from before a loop into it."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _keep(builder, arguments[0])

    return value(value), codegen


@intrinsic  # type: ignore[untyped-decorator]
def stay_rolled(typing_context: Any) -> Any:
    """Keep LLVM from unrolling the loop around, and from making a copy of it for each outcome of a condition.

    A long loop that is unrolled takes registers that other loops of its kernel need.
    """

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        # what threads do together, as far as LLVM knows, may not be copied
        nothing = ir.InlineAsm(ir.FunctionType(ir.VoidType(), []), "", "", side_effect=True)
        builder.call(nothing, [], attrs=("convergent",))
        return context.get_dummy_value()

    return types.none(), codegen


def _shared_at(kind: Any) -> Any:
    size = kind.bitwidth // 8

    @intrinsic  # type: ignore[untyped-decorator]
    def shared_at(typing_context: Any, address: Any, index: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            start, index = arguments
            if signature.args[1].bitwidth > 32:
                index = builder.trunc(index, _I32)
            return _keep(builder, builder.add(start, builder.mul(index, _I32(size))))

        return types.uint32(address, index), codegen

    return shared_at


def _shared_pointer(builder: Any, signature: Any, arguments: Any, element: Any, pointee: Any = None) -> Any:
    """Return the address of an element in shared memory: arguments[0] plus arguments[1] elements."""
    start = builder.inttoptr(arguments[0], ir.PointerType(element, _SHARED))
    return builder.bitcast(builder.gep(start, [arguments[1]]), ir.PointerType(pointee or element, _SHARED))


def _shared_load(kind: Any, wide: int) -> Any:
    element = _LLVM[kind]
    vector, result = ir.VectorType(element, wide), types.UniTuple(kind, wide)

    @intrinsic  # type: ignore[untyped-decorator]
    def load(typing_context: Any, address: Any, index: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            loaded = builder.load(_shared_pointer(builder, signature, arguments, element, vector), align=16)
            return cgutils.pack_array(builder, [builder.extract_element(loaded, _I32(lane)) for lane in range(wide)])

        return result(address, index), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def load_one(typing_context: Any, address: Any, index: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.load(_shared_pointer(builder, signature, arguments, element))

        return kind(address, index), codegen

    return load if wide > 1 else load_one


def _shared_store(kind: Any, wide: int) -> Any:
    element = _LLVM[kind]
    vector, several = ir.VectorType(element, wide), types.UniTuple(kind, wide)

    @intrinsic  # type: ignore[untyped-decorator]
    def store(typing_context: Any, address: Any, index: Any, values: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            packed = ir.Constant(vector, ir.Undefined)
            for lane, part in enumerate(cgutils.unpack_tuple(builder, arguments[2], wide)):
                packed = builder.insert_element(packed, part, _I32(lane))
            place = _shared_pointer(builder, signature, arguments, element, vector)
            builder.store(packed, place, align=wide * kind.bitwidth // 8)
            return context.get_dummy_value()

        return types.none(address, index, several), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def store_one(typing_context: Any, address: Any, index: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            builder.store(arguments[2], _shared_pointer(builder, signature, arguments, element))
            return context.get_dummy_value()

        return types.none(address, index, kind), codegen

    return store if wide > 1 else store_one


#: by dtype: shared_at(address, index) is the address of an element
SHARED_AT = {str(kind): _shared_at(kind) for kind in (types.float32, types.float64)}
#: by dtype: like loads and stores of global memory, at addresses from `shared`; here a pack is 16 bytes
SHARED_LOADS = {str(kind): _shared_load(kind, 1) for kind in (types.float32, types.float64)}
SHARED_STORES = {str(kind): _shared_store(kind, 1) for kind in (types.float32, types.float64)}
SHARED_LOAD_PACKS = {str(kind): _shared_load(kind, 128 // kind.bitwidth) for kind in (types.float32, types.float64)}
SHARED_STORE_PACKS = {str(kind): _shared_store(kind, 128 // kind.bitwidth) for kind in (types.float32, types.float64)}
#: two float32 at an address that is aligned to 8 bytes
store_shared_pair = _shared_store(types.float32, 2)
