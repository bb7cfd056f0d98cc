"""The microkernels of the matmul, as LLVM vector IR: register tiles, and two for a single row.

A tile is `rows` x `vectors` accumulators, each a whole vector register. Every element is one chain of fused
multiply-adds over k in rising order, whatever the tile's shape: results do not depend on how a matrix is cut.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

from fastnn.backend.cpu.lanes import Lanes, Loop, constant


def make_tile(dtype: str, lanes: int, rows: int, vectors: int, *, copies: bool = False) -> Any:
    """Make the intrinsic that computes one tile of c = init + a b.

    Its arguments, all addresses and strides in bytes: a, a_row (from a row to the next), a_k (from a k to the
    next), b, b_k (b's lanes are contiguous), k (at least 1), c, c_row, init (0 for zeros), init_row, columns (of the
    `lanes * vectors` columns how many are stored), copy.

    Parameters
    ----------
    copies : bool
        Whether the tile also writes the columns of b that it reads to the address `copy`, one k after the other
        without a gap: the first tile of a panel packs it for the tiles below.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def tile(
        typingctx: Any, a: Any, a_row: Any, a_k: Any, b: Any, b_k: Any, k: Any, c: Any, c_row: Any,
        init: Any, init_row: Any, columns: Any, copy: Any,
    ) -> Any:  # fmt: skip
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            _emit_tile(builder, args, Lanes(builder, dtype, lanes), rows, vectors, copies)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 12), codegen

    return tile


def _emit_tile(b: Any, args: Any, v: Lanes, rows: int, vectors: int, copies: bool) -> None:
    a, a_row, a_k, b_at, b_k, k, c, c_row, init, init_row, columns, copy = args
    cells = [(i, j) for i in range(rows) for j in range(vectors)]
    full = b.icmp_signed(">=", columns, constant(v.lanes * vectors))
    masks = [v.edge(columns, j * v.lanes) for j in range(vectors)]

    def at(base: Any, stride: Any, i: int, j: int) -> Any:
        return b.add(base, b.add(b.mul(stride, constant(i)), constant(j * v.width)))

    names = ("full_init", "edge_init", "start", "full_store", "edge_store", "done")
    blocks = {name: b.append_basic_block(name) for name in names}
    entry = b.block
    # the values that the chains start from: zeros, a bias (row stride 0), or what c holds
    some = b.append_basic_block("some_init")
    b.cbranch(b.icmp_signed("==", init, constant(0)), blocks["start"], some)
    b.position_at_end(some)
    b.cbranch(full, blocks["full_init"], blocks["edge_init"])
    b.position_at_end(blocks["full_init"])
    loaded = [v.load(at(init, init_row, i, j)) for i, j in cells]
    b.branch(blocks["start"])
    b.position_at_end(blocks["edge_init"])
    masked = [v.masked_load(at(init, init_row, i, j), masks[j]) for i, j in cells]
    b.branch(blocks["start"])

    b.position_at_end(blocks["start"])
    initial = []
    for index in range(len(cells)):
        phi = b.phi(v.vector)
        for value, block in (
            (v.zero, entry),
            (loaded[index], blocks["full_init"]),
            (masked[index], blocks["edge_init"]),
        ):
            phi.add_incoming(value, block)
        initial.append(phi)
    if rows > 2:
        # the tile below comes next, and its chains start from what its c holds
        for i, j in cells:
            v.prefetch(at(c, c_row, rows + i, j))
    # one pointer for three rows: x86 addresses then need no further registers (p, p + s, p + 2 s)
    starts = [b.add(a, b.mul(a_row, constant(i))) for i in range(0, rows, 3)]
    with Loop(b, k, [*starts, b_at, copy, *initial]) as loop:
        pointers, right_at, copy_at = (
            loop.carried[: len(starts)],
            loop.carried[-len(cells) - 2],
            loop.carried[-len(cells) - 1],
        )
        sums = loop.carried[-len(cells) :]
        right = [v.load(b.add(right_at, constant(j * v.width))) for j in range(vectors)]
        if copies:
            for j, value in enumerate(right):
                v.store(value, b.add(copy_at, constant(j * v.width)))
        updated = []
        for i in range(rows):
            left = v.broadcast(b.add(pointers[i // 3], b.mul(a_row, constant(i % 3))))
            updated += [v.fma(left, right[j], sums[i * vectors + j]) for j in range(vectors)]
        advanced = [b.add(pointer, a_k) for pointer in pointers]
        next_copy = b.add(copy_at, constant(vectors * v.width)) if copies else copy_at
        loop.following = [*advanced, b.add(right_at, b_k), next_copy, *updated]

    b.cbranch(full, blocks["full_store"], blocks["edge_store"])
    b.position_at_end(blocks["full_store"])
    for (i, j), value in zip(cells, updated, strict=True):
        v.store(value, at(c, c_row, i, j))
    b.branch(blocks["done"])
    b.position_at_end(blocks["edge_store"])
    for (i, j), value in zip(cells, updated, strict=True):
        v.masked_store(value, at(c, c_row, i, j), masks[j])
    b.branch(blocks["done"])
    b.position_at_end(blocks["done"])


def make_row_update(dtype: str, lanes: int, depth: int) -> Any:
    """Make the intrinsic that adds `depth` rows of b, each times an element of a, to one row c.

    It streams b as it lies in memory, which a tile, a column of panels, does not. Its arguments, addresses and
    strides in bytes: a, a_k, b, b_row, c, columns.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def row_update(typingctx: Any, a: Any, a_k: Any, b: Any, b_row: Any, c: Any, columns: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            _emit_row_update(builder, args, Lanes(builder, dtype, lanes), depth)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 6), codegen

    return row_update


def _emit_row_update(b: Any, args: Any, v: Lanes, depth: int) -> None:
    a, a_k, b_at, b_row, c, columns = args
    left = [v.broadcast(b.add(a, b.mul(a_k, constant(i)))) for i in range(depth)]
    rows = [b.add(b_at, b.mul(b_row, constant(i))) for i in range(depth)]
    vectors = b.sdiv(columns, constant(v.lanes))
    with b.if_then(b.icmp_signed(">", vectors, constant(0))), Loop(b, vectors, []) as loop:
        skip = b.mul(loop.index, constant(v.width))
        total = v.load(b.add(c, skip))
        for factor, row in zip(left, rows, strict=True):
            total = v.fma(factor, v.load(b.add(row, skip)), total)
        v.store(total, b.add(c, skip))
    rest = b.sub(columns, b.mul(vectors, constant(v.lanes)))
    with b.if_then(b.icmp_signed(">", rest, constant(0))):
        mask, skip = v.edge(rest, 0), b.mul(vectors, constant(v.width))
        total = v.masked_load(b.add(c, skip), mask)
        for factor, row in zip(left, rows, strict=True):
            total = v.fma(factor, v.masked_load(b.add(row, skip), mask), total)
        v.masked_store(total, b.add(c, skip), mask)


def make_dots(dtype: str, lanes: int, rows: int) -> Any:
    """Make the intrinsic that adds to `rows` elements of c the dot products of a with as many rows of b.

    Partial sums, two vectors a row, are joined at the end in a fixed order. Its arguments, addresses and strides
    in bytes: a, b, b_row, k (at least 1), c; a, the rows of b, and c are contiguous.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def dots(typingctx: Any, a: Any, b: Any, b_row: Any, k: Any, c: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            _emit_dots(builder, args, Lanes(builder, dtype, lanes), rows)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 5), codegen

    return dots


def _emit_dots(b: Any, args: Any, v: Lanes, rows: int) -> None:
    a, b_at, b_row, k, c = args
    starts = [b.add(b_at, b.mul(b_row, constant(i))) for i in range(rows)]
    pairs = b.sdiv(k, constant(2 * v.lanes))
    before = b.block
    body, behind = b.append_basic_block("pairs"), b.append_basic_block("rest")
    b.cbranch(b.icmp_signed(">", pairs, constant(0)), body, behind)
    b.position_at_end(body)
    with Loop(b, pairs, [v.zero] * (2 * rows)) as loop:
        skip = b.mul(loop.index, constant(2 * v.width))
        for half in range(2):
            here = b.add(skip, constant(half * v.width))
            left = v.load(b.add(a, here))
            for i, start in enumerate(starts):
                loop.following.append(v.fma(left, v.load(b.add(start, here)), loop.carried[half * rows + i]))
    summed, inside = loop.following, b.block
    b.branch(behind)
    b.position_at_end(behind)
    sums = []
    for value in summed:
        phi = b.phi(v.vector)
        phi.add_incoming(v.zero, before)
        phi.add_incoming(value, inside)
        sums.append(phi)
    # what is left, fewer than two vectors: lanes past the end are zeros
    skip = b.mul(pairs, constant(2 * v.width))
    left_over = b.sub(k, b.mul(pairs, constant(2 * v.lanes)))
    for half in range(2):
        mask, here = v.edge(left_over, half * v.lanes), b.add(skip, constant(half * v.width))
        left = v.masked_load(b.add(a, here), mask)
        for i, start in enumerate(starts):
            sums[half * rows + i] = v.fma(left, v.masked_load(b.add(start, here), mask), sums[half * rows + i])
    for i in range(rows):
        address = b.inttoptr(b.add(c, constant(i * v.size)), v.scalar.as_pointer())
        both = b.fadd(sums[i], sums[rows + i])
        b.store(b.fadd(b.load(address), v.total(both)), address)
