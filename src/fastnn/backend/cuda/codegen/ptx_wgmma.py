"""PTX of warpgroups, which only GPUs of compute capability 9.0 have: their code is for exactly sm_90a.

The four warps of a warpgroup multiply matrices in shared memory, and continue while the tensor cores work.
Blocks of memory are copied there by one instruction each, and a barrier in shared memory opens when all have arrived.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.cuda.extending import intrinsic

from fastnn.backend.cuda.codegen.ptx_mma import call, statement

_I32, _I64, _F32, _VOID = ir.IntType(32), ir.IntType(64), ir.FloatType(), ir.VoidType()

# a matrix in shared memory: its address is added; eight lines are 1024 bytes, and the 16-byte chunks of a line of 128
# bytes are permuted as in `fragments.place_along`
_MATRIX = 1 << 62 | 1024 >> 4 << 32 | 1 << 16
#: bytes of a line that one multiplication takes
_STEP = 32
_KINDS = {"tf32": ("k8.f32.tf32.tf32", ""), "bf16": ("k16.f32.bf16.bf16", ", 0, 0")}


@intrinsic  # type: ignore[untyped-decorator]
def make_barrier(typing_context: Any, barrier: Any) -> Any:
    """Make a barrier of eight bytes of shared memory, at which one thread announces the bytes that it waits for."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        call(builder, _VOID, arguments, "mbarrier.init.shared::cta.b64 [$0], 1;", "r,~{memory}")
        return context.get_dummy_value()

    return types.none(types.uint32), codegen


#: make this thread's new barriers visible to copies
show_barriers = statement("fence.mbarrier_init.release.cluster; fence.proxy.async;")


@intrinsic  # type: ignore[untyped-decorator]
def expect_bytes(typing_context: Any, barrier: Any, nbytes: Any) -> Any:
    """Announce `nbytes` bytes at a barrier: it opens once when they have arrived."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        text = "mbarrier.arrive.expect_tx.shared::cta.b64 _, [$0], $1;"
        call(builder, _VOID, arguments, text, "r,r,~{memory}")
        return context.get_dummy_value()

    return types.none(types.uint32, types.uint32), codegen


@intrinsic  # type: ignore[untyped-decorator]
def copy_block(typing_context: Any, target: Any, address: Any, nbytes: Any, barrier: Any) -> Any:
    """Copy bytes, a multiple of 16, from an address into shared memory; they are counted at a barrier."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        text = "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [$0], [$1], $2, [$3];"
        call(builder, _VOID, arguments, text, "r,l,r,r,~{memory}")
        return context.get_dummy_value()

    return types.none(types.uint32, types.int64, types.uint32, types.uint32), codegen


@intrinsic  # type: ignore[untyped-decorator]
def has_opened(typing_context: Any, barrier: Any, parity: Any) -> Any:
    """Wait a while for a barrier's first, third, ... opening (parity 0) or the others; returns whether it opened."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        text = "{ .reg .pred done; mbarrier.try_wait.parity.shared::cta.b64 done, [$1], $2; selp.u32 $0, 1, 0, done; }"
        found = call(builder, _I32, arguments, text, "=r,r,r,~{memory}")
        return builder.icmp_unsigned("!=", found, _I32(0))

    return types.boolean(types.uint32, types.uint32), codegen


def _elements(context: Any, builder: Any, kind: Any, array: Any, count: int) -> list[Any]:
    """Return pointers to a thread's numbers."""
    data = context.make_array(kind)(context, builder, array).data
    return [builder.gep(data, [_I32(number)]) for number in range(count)]


def clear_sums(count: int) -> Any:
    """Make clear(sums), which sets all of them to 0."""

    @intrinsic  # type: ignore[untyped-decorator]
    def clear(typing_context: Any, sums: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            for place in _elements(context, builder, signature.args[0], arguments[0], count):
                builder.store(_F32(0.0), place)
            return context.get_dummy_value()

        return types.none(sums), codegen

    return clear


def multiply_matrices(precision: str, cols: int) -> Any:
    """Make multiply(sums, a, b, step): start to add the product of 64 lines of a and `cols` lines of b to the sums.

    `a` and `b` are addresses in shared memory, multiples of 1024, of lines of 128 bytes; it multiplies part `step` of
    the four parts of each line. The sums are valid after the warpgroup has waited.
    """
    count = cols // 2
    kind, ends = _KINDS[precision]
    held = ",".join(f"${number}" for number in range(count))
    a, b, more = (f"${2 * count + number}" for number in range(3))
    text = (
        f"{{ .reg .pred more; setp.ne.b32 more, {more}, 0; "
        f"wgmma.mma_async.sync.aligned.m64n{cols}{kind} {{{held}}}, {a}, {b}, more, 1, 1{ends}; }}"
    )
    constraints = ",".join(["=f"] * count + [str(number) for number in range(count)] + ["l", "l", "r", "~{memory}"])
    sums_of = ir.LiteralStructType([_F32] * count)

    @intrinsic  # type: ignore[untyped-decorator]
    def multiply(typing_context: Any, sums: Any, a: Any, b: Any, step: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            places = _elements(context, builder, signature.args[0], arguments[0], count)
            step = builder.mul(arguments[3], arguments[3].type(_STEP))
            step = builder.trunc(step, _I32) if step.type.width > 32 else step
            matrices = []
            for start in arguments[1:3]:
                place = builder.lshr(builder.add(start, step), _I32(4))
                matrices.append(builder.or_(builder.zext(place, _I64), _I64(_MATRIX)))
            operands = [*(builder.load(place) for place in places), *matrices, _I32(1)]
            found = call(builder, sums_of, operands, text, constraints)
            for number, place in enumerate(places):
                builder.store(builder.extract_value(found, number), place)
            return context.get_dummy_value()

        return types.none(sums, types.uint32, types.uint32, step), codegen

    return multiply


#: needed before multiplications whose sums or matrices other instructions have written
begin_products = statement("wgmma.fence.sync.aligned;")
#: close a group of multiplications
commit_products = statement("wgmma.commit_group.sync.aligned;")


def wait_for_products(but: int) -> Any:
    """Make a function that waits for the warpgroup's groups of multiplications, except the last `but` ones."""
    return statement(f"wgmma.wait_group.sync.aligned {but};")
