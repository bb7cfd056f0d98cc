"""The microkernels of the matmul for a single row, or a few, as LLVM vector IR."""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

from fastnn.backend.cpu.codegen.options import helper
from fastnn.backend.cpu.codegen.vectors import Lanes, Loop, constant


def make_row_update(dtype: str, lanes: int, depth: int) -> Any:
    """Make the intrinsic that adds `depth` rows of b, each times an element of a, to one row c.

    It streams b in its memory order, which a tile, a column of panels, does not. Its arguments, addresses and
    strides in bytes: a, a_k, b, b_row, c, columns.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def row_update(typingctx: Any, a: Any, a_k: Any, b: Any, b_row: Any, c: Any, columns: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            _emit_row_update(builder, args, Lanes(builder, dtype, lanes), depth)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 6), codegen

    return row_update


def make_rows_update(dtype: str, lanes: int) -> Any:
    """Make `add(a, a_k, b, b_row, count, c, columns)`: as `make_row_update` for any number of rows, eight at a time."""
    update, update_one = make_row_update(dtype, lanes, 8), make_row_update(dtype, lanes, 1)

    @helper
    def add(a: Any, a_k: Any, b: Any, b_row: Any, count: Any, c: Any, columns: Any) -> None:
        i = 0
        while i + 8 <= count:
            update(a + i * a_k, a_k, b + i * b_row, b_row, c, columns)
            i += 8
        while i < count:
            update_one(a + i * a_k, a_k, b + i * b_row, b_row, c, columns)
            i += 1

    return add


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


def make_row(dtype: str, lanes: int, vectors: int, *, whole: bool = False) -> Any:
    """Make the intrinsic that computes up to `vectors` vectors of one row of c = init + a b in registers.

    Each element is one chain over k in rising order, as in a tile. Its arguments, addresses and strides in bytes: a,
    a_k, b, b_row, k (at least 1), c, init (0 for zeros), columns (more than `vectors` - 1 vectors have).

    Parameters
    ----------
    whole : bool
        Whether all columns always exist.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def row(typingctx: Any, a: Any, a_k: Any, b: Any, b_row: Any, k: Any, c: Any, init: Any, columns: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            v = Lanes(builder, dtype, lanes)
            if whole:
                _emit_row(builder, args[:-1], v, vectors, None)
            else:
                full = builder.icmp_signed(">=", args[-1], constant(vectors * lanes))
                with builder.if_else(full) as (all_there, edge):
                    with all_there:
                        _emit_row(builder, args[:-1], v, vectors, None)
                    with edge:
                        _emit_row(builder, args[:-1], v, vectors, v.edge(args[-1], (vectors - 1) * lanes))
            return context.get_dummy_value()

        return types.void(*[types.intp] * 8), codegen

    return row


def _emit_row(b: Any, args: Any, v: Lanes, vectors: int, mask: Any) -> None:
    """Emit the loop over k; `mask` has the existing lanes of the last vector."""
    a, a_k, b_at, b_row, k, c, init = args

    def load(base: Any) -> list[Any]:
        places = [b.add(base, constant(j * v.width)) for j in range(vectors)]
        return [v.load(at) if mask is None or at is not places[-1] else v.masked_load(at, mask) for at in places]

    before, some, start = b.block, b.append_basic_block("some"), b.append_basic_block("start")
    b.cbranch(b.icmp_signed("!=", init, constant(0)), some, start)
    b.position_at_end(some)
    given = load(init)
    b.branch(start)
    b.position_at_end(start)
    sums = [b.phi(v.vector) for _ in range(vectors)]
    for total, value in zip(sums, given, strict=True):
        total.add_incoming(v.zero, before)
        total.add_incoming(value, some)
    with Loop(b, k, [*sums, a, b_at]) as loop:
        *before_step, left, right = loop.carried
        factor = v.broadcast(left)
        after = [v.fma(factor, value, total) for value, total in zip(load(right), before_step, strict=True)]
        loop.following = [*after, b.add(left, a_k), b.add(right, b_row)]
    for j, total in enumerate(after):
        address = b.add(c, constant(j * v.width))
        if mask is None or j < vectors - 1:
            v.store(total, address)
        else:
            v.masked_store(total, address, mask)


def make_dots(dtype: str, lanes: int, rows: int) -> Any:
    """Make the intrinsic that adds the dot products of a with `rows` rows of b to elements of c.

    Partial sums, two vectors per row, are joined at the end in a fixed order. Its arguments, addresses and strides
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
    # the rest, fewer than two vectors: lanes past the end are zeros
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


def make_short_dots(dtype: str, lanes: int, k: int) -> Any:
    """Make the intrinsic that adds the dot products of a with contiguous rows of `k` elements, at most 4, to c.

    A vector of rows is taken at a time. Its arguments: the addresses of a, b and c, and the number of rows, at least 1.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def short_dots(typingctx: Any, a: Any, b: Any, c: Any, rows: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            _emit_short_dots(builder, args, Lanes(builder, dtype, lanes), k)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 4), codegen

    return short_dots


def _emit_short_dots(b: Any, args: Any, v: Lanes, k: int) -> None:
    a, b_at, c, rows = args
    factors = [v.broadcast(b.add(a, constant(i * v.size))) for i in range(k)]

    def add(skip: Any, left: Any) -> None:
        """Add to a vector of c, or to its first `left` elements."""
        from_row, to = b.add(b_at, b.mul(skip, constant(k))), b.add(c, skip)
        places = [b.add(from_row, constant(i * v.width)) for i in range(k)]
        if left is None:
            found, before = [v.load(place) for place in places], v.load(to)
        else:
            masks = [v.edge(b.mul(left, constant(k)), i * v.lanes) for i in range(k)]
            found = [v.masked_load(place, mask) for place, mask in zip(places, masks, strict=True)]
            before = v.masked_load(to, v.edge(left, 0))
        total = before
        for i, factor in enumerate(factors):
            total = v.fma(v.every(found, k, i), factor, total)
        if left is None:
            v.store(total, to)
        else:
            v.masked_store(total, to, v.edge(left, 0))

    vectors = b.sdiv(rows, constant(v.lanes))
    with b.if_then(b.icmp_signed(">", vectors, constant(0))), Loop(b, vectors, []) as loop:
        add(b.mul(loop.index, constant(v.width)), None)
    rest = b.sub(rows, b.mul(vectors, constant(v.lanes)))
    with b.if_then(b.icmp_signed(">", rest, constant(0))):
        add(b.mul(vectors, constant(v.width)), rest)
