"""The microkernels of convolutions, as LLVM vector IR: register tiles whose sums run over taps.

A tap is a place in a, from which on the factors of some terms are read; those of b follow each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import types
from numba.extending import intrinsic

from fastnn.backend.cpu.codegen.left import Broadcasts
from fastnn.backend.cpu.codegen.tile import Tile
from fastnn.backend.cpu.codegen.vectors import I64, Lanes, Loop, constant
from fastnn.backend.cpu.processor.target import is_arm64

#: The neighbouring rows that a tile of shifts multiplies by the same elements of a: the columns of a window of 3.
SHIFTS = 3
#: The number of arguments of a tile.
TILE_ARGUMENTS = 17

#: Emits the sums after one tap: the builder's tile, the sums, the tap's address in a and in b.
Tap = Callable[[Tile, list[Any], Any, Any], list[Any]]


def _over_taps(tile: Tile, sums: list[Any], a: Any, taps: Any, offsets: Any, b_at: Any, b_step: Any, tap: Tap) -> Any:
    """Return the sums after all taps."""
    b = tile.b
    with Loop(b, taps, [*sums, b_at]) as loop:
        *before, right = loop.carried
        place = b.inttoptr(b.add(offsets, b.mul(loop.index, constant(8))), I64.as_pointer())
        after = tap(tile, before, b.add(a, b.load(place)), right)
        loop.following = [*after, b.add(right, b_step)]
    return after


def make_taps_tile(dtype: str, lanes: int, rows: int, vectors: int, kind: str = "") -> Any:
    """Make the intrinsic that computes one tile of c = init + the sum of products a b, one for each tap.

    Its arguments, as those of `make_tile` where they have the same names: a, a_row, a_k, taps (at least 1), offsets
    (the address of an int64 for each tap: the bytes from a to its place), k (of each tap), b, b_k, b_step (the bytes
    from a tap's rows of b to the next one's), b_shift, c, c_row, init, init_row, late, columns, rectify.

    Parameters
    ----------
    kind : {"", "neighbours", "shifts"}
        "neighbours" says that rows of a are one element apart. With "shifts" every tap has SHIFTS products with the
        same k, whose a begins one row later each, and whose b is `b_shift` bytes further: an element of a that is
        in a register is multiplied for several rows. With one vector of columns this takes 21 loads for 48
        multiply-adds, and not 51, which take longer than these.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def tile(
        typingctx: Any, a: Any, a_row: Any, a_k: Any, taps: Any, offsets: Any, k: Any, b: Any, b_k: Any, b_step: Any,
        b_shift: Any, c: Any, c_row: Any, init: Any, init_row: Any, late: Any, columns: Any, rectify: Any,
    ) -> Any:  # fmt: skip
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            (
                a, a_row, a_k, taps, offsets, k, b_at, b_k, b_step, b_shift, c, c_row, init, init_row, late, columns,
                rectify,
            ) = args  # fmt: skip
            b, v = builder, Lanes(builder, dtype, lanes)

            def plain(tile: Tile, sums: list[Any], left: Any, right: Any) -> list[Any]:
                if is_arm64(b.module.triple):
                    return tile.product(sums, (left, a_row, a_k), (right, b_k), k, None, None)
                if kind == "neighbours":
                    return tile.product_of_neighbours(sums, left, a_k, (right, b_k), k)
                return tile.product_of_rows(sums, (left, a_row, a_k), (right, b_k), k)

            def shifted(tile: Tile, sums: list[Any], left: Any, right: Any) -> list[Any]:
                return _shifted(tile, sums, (left, a_row, a_k), (right, b_k, b_shift), k)

            made = Tile(v, rows, vectors, columns)
            late = b.icmp_signed("!=", late, constant(0))
            sums = made.initial(init, init_row, late)
            sums = _over_taps(made, sums, a, taps, offsets, b_at, b_step, shifted if kind == "shifts" else plain)
            sums = made.added(sums, init, init_row, late)
            made.store(made.rectified(sums, rectify, c_row), c, c_row)
            return context.get_dummy_value()

        return types.void(*[types.intp] * TILE_ARGUMENTS), codegen

    return tile


def _shifted(tile: Tile, sums: list[Any], left: Any, right: Any, k: Any) -> list[Any]:
    """Return the sums after k steps: each row's products with the rows of a from its own one on."""
    b, v = tile.b, tile.v
    right_at, b_k, b_shift = right
    rows = Broadcasts(v, tile.rows + SHIFTS - 1, *left, apart=True)
    with Loop(b, k, [*sums, *rows.initial, right_at]) as loop:
        totals = loop.carried[: len(sums)]
        pointers, at = loop.carried[len(sums) : -1], loop.carried[-1]
        factors = [
            [
                v.load(b.add(b.add(at, b.mul(b_shift, constant(shift))), constant(j * v.width)))
                for j in range(tile.vectors)
            ]
            for shift in range(SHIFTS)
        ]
        for row in range(tile.rows + SHIFTS - 1):
            (factor,) = rows.factors(pointers, row)
            for shift in range(SHIFTS):
                if 0 <= row - shift < tile.rows:
                    for j in range(tile.vectors):
                        cell = (row - shift) * tile.vectors + j
                        totals[cell] = v.fma(factor, factors[shift][j], totals[cell])
        loop.following = [*totals, *rows.following(pointers), b.add(at, b_k)]
    return list(totals)


def make_shifted_weights_tile(dtype: str, lanes: int, rows: int) -> Any:
    """Make the intrinsic that computes SHIFTS tiles of one vector of columns: c_s (+)= the sums of a^T b.

    Row i of the tile s has the products of a[p + s, i] and b[p] for all p from 0 to k - 1; k is at least SHIFTS. So
    each element of a that is in a register is multiplied by the last SHIFTS rows of b. Its arguments: a, a_k (from a p
    to the next; rows are one element apart), taps, offsets, k, b, b_k, b_step, c, c_row, c_shift (from a tile to the
    next), adds (whether the sums are added to c), columns.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def tile(
        typingctx: Any, a: Any, a_k: Any, taps: Any, offsets: Any, k: Any, b: Any, b_k: Any, b_step: Any, c: Any,
        c_row: Any, c_shift: Any, adds: Any, columns: Any,
    ) -> Any:  # fmt: skip
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            a, a_k, taps, offsets, k, b_at, b_k, b_step, c, c_row, c_shift, adds, columns = args
            b, v = builder, Lanes(builder, dtype, lanes)
            made = Tile(v, rows, 1, columns)

            def step(sums: list[Any], at: Any, known: list[Any]) -> list[Any]:
                # known[s] is the row of b for the tile s, None where there is none
                after = list(sums)
                for i in range(rows):
                    v.in_order()
                    factor = v.broadcast(b.add(at, constant(i * v.size)))
                    for shift, value in enumerate(known):
                        if value is not None:
                            cell = shift * rows + i
                            after[cell] = v.fma(factor, value, after[cell])
                return after

            def line(tile: Tile, sums: list[Any], left: Any, right: Any) -> list[Any]:
                recent: list[Any] = []  # the newest first
                for _ in range(SHIFTS - 1):
                    recent = [v.load(right), *recent]
                    sums = step(sums, left, recent)
                    left, right = b.add(left, a_k), b.add(right, b_k)
                turns = b.sub(k, constant(SHIFTS - 1))
                with Loop(b, turns, [*sums, left, right, *recent]) as loop:
                    before = loop.carried[: len(sums)]
                    at, right_at, *older = loop.carried[len(sums) :]
                    newest = [v.load(right_at), *older]
                    after = step(before, at, newest)
                    loop.following = [*after, b.add(at, a_k), b.add(right_at, b_k), *newest[:-1]]
                left, recent = b.add(at, a_k), newest[:-1]
                for missing in range(1, SHIFTS):
                    after = step(after, left, [None] * missing + recent)
                    left, recent = b.add(left, a_k), recent[:-1]
                return after

            sums = _over_taps(made, [v.zero] * (SHIFTS * rows), a, taps, offsets, b_at, b_step, line)
            adds_some = b.icmp_signed("!=", adds, constant(0))
            for shift in range(SHIFTS):
                to = b.add(c, b.mul(c_shift, constant(shift)))
                some = made.added(sums[shift * rows : (shift + 1) * rows], to, c_row, adds_some)
                made.store(some, to, c_row)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 13), codegen

    return tile
