"""PTX of tensor cores: products of fragments, conversions, and asynchronous copies.

They need compute capability 8.0. `fragments.py` says which elements a thread's registers hold.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.cuda import cgutils
from numba.cuda.extending import intrinsic

_I32, _I64, _F32 = ir.IntType(32), ir.IntType(64), ir.FloatType()
_VOID, _SHARED = ir.VoidType(), 3


def call(builder: Any, result: Any, operands: Any, text: str, constraints: str) -> Any:
    """Emit instructions that all threads of a warp have to reach together, and that are not moved."""
    kind = ir.FunctionType(result, [one.type for one in operands])
    assembly = ir.InlineAsm(kind, text, constraints, side_effect=True)
    return builder.call(assembly, operands, attrs=("convergent",))


def statement(text: str) -> Any:
    """Make a function without arguments from one or several instructions."""

    @intrinsic  # type: ignore[untyped-decorator]
    def run(typing_context: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            call(builder, _VOID, [], text, "~{memory}")
            return context.get_dummy_value()

        return types.none(), codegen

    return run


def _mma(shape: str) -> Any:
    text = f"mma.sync.aligned.{shape} {{$0,$1,$2,$3}}, {{$4,$5,$6,$7}}, {{$8,$9}}, {{$10,$11,$12,$13}};"
    constraints = ",".join(["=f"] * 4 + ["r"] * 6 + ["f"] * 4)
    left, right = types.UniTuple(types.uint32, 4), types.UniTuple(types.uint32, 2)
    sums = types.UniTuple(types.float32, 4)

    @intrinsic  # type: ignore[untyped-decorator]
    def mma(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            operands = []
            for values, count in zip(arguments, (4, 2, 4), strict=True):
                operands += cgutils.unpack_tuple(builder, values, count)
            found = call(builder, ir.LiteralStructType([_F32] * 4), operands, text, constraints)
            return cgutils.pack_array(builder, [builder.extract_value(found, each) for each in range(4)])

        return sums(left, right, sums), codegen

    return mma


#: mma(a, b, c) -> a b + c of the warp's fragments: 16 x 8 (or 16) times 8 (or 16) x 8
MMA = {
    "tf32": _mma("m16n8k8.row.col.f32.tf32.tf32.f32"),
    "bf16": _mma("m16n8k16.row.col.f32.bf16.bf16.f32"),
}


@intrinsic  # type: ignore[untyped-decorator]
def load_matrices(typing_context: Any, address: Any, index: Any) -> Any:
    """Load four matrices of 8 x 4 float32 from shared memory, and return an element of each.

    Lane l passes line l % 8 of matrix l // 8, which is aligned to 16 bytes, as an address and an index; it
    gets element l % 4 of line l // 4.
    """
    four = types.UniTuple(types.float32, 4)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        start, index = arguments
        if signature.args[1].bitwidth > 32:
            index = builder.trunc(index, _I32)
        place = builder.add(start, builder.mul(index, _I32(4)))
        text = "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {$0,$1,$2,$3}, [$4];"
        words = ir.LiteralStructType([_I32] * 4)
        found = call(builder, words, [place], text, "=r,=r,=r,=r,r,~{memory}")
        parts = [builder.bitcast(builder.extract_value(found, each), _F32) for each in range(4)]
        return cgutils.pack_array(builder, parts)

    return four(address, index), codegen


@intrinsic  # type: ignore[untyped-decorator]
def to_tf32(typing_context: Any, value: Any) -> Any:
    """Round a float32 to the 10 bits of fraction that tensor cores read."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return call(builder, _I32, arguments, "cvt.rna.tf32.f32 $0, $1;", "=r,f")

    return types.uint32(types.float32), codegen


@intrinsic  # type: ignore[untyped-decorator]
def to_bf16(typing_context: Any, low: Any, high: Any) -> Any:
    """Round two float32 to bfloat16, and put them into one register."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return call(builder, _I32, arguments[::-1], "cvt.rn.bf16x2.f32 $0, $1, $2;", "=r,f,f")

    return types.uint32(types.float32, types.float32), codegen


def _copy(nbytes: int, partly: bool) -> Any:
    # only copies of 16 bytes can bypass the first-level cache
    through = "cg" if nbytes == 16 else "ca"
    text = f"cp.async.{through}.shared.global [$0], [$1], {nbytes}{', $2' if partly else ''};"
    constraints = "r,l,r,~{memory}" if partly else "r,l,~{memory}"

    def operands(builder: Any, signature: Any, arguments: Any) -> Any:
        target, address, index = arguments[:3]
        if signature.args[2].bitwidth < 64:
            index = builder.zext(index, _I64)
        return [target, builder.add(address, builder.mul(index, _I64(4)))]

    @intrinsic  # type: ignore[untyped-decorator]
    def copy(typing_context: Any, target: Any, address: Any, index: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            call(builder, _VOID, operands(builder, signature, arguments), text, constraints)
            return context.get_dummy_value()

        return types.none(types.uint32, address, index), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def copy_if(typing_context: Any, target: Any, address: Any, index: Any, wanted: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            size = builder.select(arguments[3], _I32(nbytes), _I32(0))
            call(builder, _VOID, [*operands(builder, signature, arguments), size], text, constraints)
            return context.get_dummy_value()

        return types.none(types.uint32, address, index, types.boolean), codegen

    return copy_if if partly else copy


#: by elements of float32: copy(target in shared memory, address, index), which is asynchronous
COPIES = {1: _copy(4, False), 4: _copy(16, False)}
#: the same with a condition; copies zeros if it is false
COPIES_IF = {1: _copy(4, True), 4: _copy(16, True)}


#: close a group of copies, which may be empty
commit_copies = statement("cp.async.commit_group;")


def wait_for_copies(but: int) -> Any:
    """Make a function that waits for this thread's groups of copies, except the last `but` ones."""
    return statement(f"cp.async.wait_group {but};")
