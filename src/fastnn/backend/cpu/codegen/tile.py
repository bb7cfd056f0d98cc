"""The microkernels of the matmul, as LLVM vector IR: register tiles.

A tile is `rows` x `vectors` accumulators, each a whole vector register. Every element is one chain of fused
multiply-adds over a block of k in rising order, whatever the tile's shape, so results do not depend on how a matrix is
cut.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastnn.backend.cpu.codegen.left import Broadcasts, Columns, Left, Neighbours, Pairs
from fastnn.backend.cpu.codegen.vectors import Lanes, Loop, constant
from fastnn.backend.cpu.processor.target import is_arm64

CACHE_LINE = 64


def make_tile(dtype: str, lanes: int, rows: int, vectors: int, *, copies: bool = False, fetches: bool = False) -> Any:
    """Make the intrinsic that computes one tile of c = init + a b.

    Its arguments, all addresses and strides in bytes: a, a_row (from a row to the next), a_k (from a k to the
    next), b, b_k (b's lanes are contiguous), k (at least 1), c, c_row, init (0 for zeros), init_row, late (whether init
    is added to the finished sums and the chains start from zeros), columns (how many of the `lanes * vectors` columns
    are stored), copy, rectify (0 for nothing; 1 to set negative
    elements to zero; else the address of saved values, with c's strides: elements become zero where they are not
    positive), ahead, ahead_row, pace.

    Parameters
    ----------
    copies : bool
        Whether the tile also writes the columns of b that it reads to the address `copy`, one k after another
        without gaps: the first tile of a panel packs it for the tiles below.
    fetches : bool
        Whether the tile prefetches rows of the next panel, one in 2^pace steps of k, from the address `ahead` on at
        distances of `ahead_row`. Not on ARM64, whose vectors are too short for it to pay.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def tile(
        typingctx: Any, a: Any, a_row: Any, a_k: Any, b: Any, b_k: Any, k: Any, c: Any, c_row: Any,
        init: Any, init_row: Any, late: Any, columns: Any, copy: Any, rectify: Any, ahead: Any, ahead_row: Any,
        pace: Any,
    ) -> Any:  # fmt: skip
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            emit_tile(Lanes(builder, dtype, lanes), args, rows, vectors, copies=copies, fetches=fetches)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 17), codegen

    return tile


def emit_tile(v: Lanes, args: Any, rows: int, vectors: int, *, copies: bool = False, fetches: bool = False) -> None:
    """Emit what the intrinsic of `make_tile` does with its arguments."""
    b = v.builder
    a, a_row, a_k, b_at, b_k, k, c, c_row, init, init_row, late, columns, copy, rectify, ahead, ahead_row, pace = args
    made = Tile(v, rows, vectors, columns)
    late = b.icmp_signed("!=", late, constant(0))
    sums = made.initial(init, init_row, late)
    if rows > 2:
        # the tile below comes next, and its chains may start from its c
        made.prefetch(b.add(c, b.mul(c_row, constant(rows))), c_row)
    following = (ahead, ahead_row, pace) if fetches else None
    sums = made.product(sums, (a, a_row, a_k), (b_at, b_k), k, copy if copies else None, following)
    sums = made.added(sums, init, init_row, late)
    made.store(made.rectified(sums, rectify, c_row), c, c_row)


def make_small_tile(dtype: str, lanes: int, rows: int, vectors: int) -> Any:
    """Make the intrinsic that computes one tile of c = scale a b, for matrices that are small.

    It has none of what `make_tile` does at the beginning and the end of a tile, which takes longer than a short k. Its
    arguments, all but the last as there: a, a_row, a_k, b, b_k, k (at least 1), c, c_row, columns, and the scale, a
    number of the dtype.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def tile(
        typingctx: Any, a: Any, a_row: Any, a_k: Any, b: Any, b_k: Any, k: Any, c: Any, c_row: Any, columns: Any,
        scale: Any,
    ) -> Any:  # fmt: skip
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            a, a_row, a_k, b, b_k, k, c, c_row, columns, scale = args
            v = Lanes(builder, dtype, lanes)
            made = Tile(v, rows, vectors, columns)
            sums = made.product([v.zero] * len(made.cells), (a, a_row, a_k), (b, b_k), k, None, None)
            made.store(made.scaled(sums, scale), c, c_row)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 9, getattr(types, dtype)), codegen

    return tile


class Tile:
    """The parts of a tile, each added to the builder's block."""

    def __init__(self, v: Lanes, rows: int, vectors: int, columns: Any) -> None:
        self.v, self.b, self.rows, self.vectors = v, v.builder, rows, vectors
        self.cells = [(i, j) for i in range(rows) for j in range(vectors)]
        self.columns = columns
        self.full = self.b.icmp_signed(">=", columns, constant(v.lanes * vectors))
        self.masks = [v.edge(columns, j * v.lanes) for j in range(vectors)]

    def _at(self, base: Any, stride: Any, i: int, j: int) -> Any:
        b = self.b
        return b.add(base, b.add(b.mul(stride, constant(i)), constant(j * self.v.width)))

    def _choose(self, choices: list[tuple[Any, Callable[[], list[Any]]]], otherwise: list[Any]) -> list[Any]:
        """Return the values of the first choice whose condition holds."""
        b = self.b
        behind, ends = b.append_basic_block("chosen"), []
        for condition, values in choices:
            here, further = b.append_basic_block("choice"), b.append_basic_block("further")
            b.cbranch(condition, here, further)
            b.position_at_end(here)
            ends.append((values(), b.block))
            b.branch(behind)
            b.position_at_end(further)
        ends.append((otherwise, b.block))
        b.branch(behind)
        b.position_at_end(behind)
        chosen = []
        for index in range(len(self.cells)):
            phi = b.phi(self.v.vector)
            for made, block in ends:
                phi.add_incoming(made[index], block)
            chosen.append(phi)
        return chosen

    def _load(self, base: Any, stride: Any, masked: bool) -> list[Any]:
        if masked:
            return [self.v.masked_load(self._at(base, stride, i, j), self.masks[j]) for i, j in self.cells]
        return [self.v.load(self._at(base, stride, i, j)) for i, j in self.cells]

    def initial(self, init: Any, init_row: Any, late: Any) -> list[Any]:
        """Return the start of the chains: zeros, a bias (row stride 0), or the values of c."""
        b = self.b
        some = b.and_(b.icmp_signed("!=", init, constant(0)), b.not_(late))
        choices = [
            (b.and_(some, self.full), lambda: self._load(init, init_row, False)),
            (some, lambda: self._load(init, init_row, True)),
        ]
        return self._choose(choices, [self.v.zero] * len(self.cells))

    def added(self, sums: list[Any], init: Any, init_row: Any, late: Any) -> list[Any]:
        """Return the sums of a block of k, plus those of earlier blocks if `late` is set."""
        b = self.b

        def more(masked: bool) -> list[Any]:
            return [b.fadd(value, total) for value, total in zip(self._load(init, init_row, masked), sums, strict=True)]

        return self._choose([(b.and_(late, self.full), lambda: more(False)), (late, lambda: more(True))], sums)

    def prefetch(self, base: Any, stride: Any) -> None:
        """Prefetch cells of a matrix."""
        for i, j in self.cells:
            self.v.prefetch(self._at(base, stride, i, j))

    def product(self, sums: list[Any], left: Any, right: Any, k: Any, copy: Any, following: Any) -> list[Any]:
        """Return the sums after k steps; `copy` and `following` may be None."""
        if is_arm64(self.b.module.triple):
            return self._product_by_lane(sums, left, right, k, copy)
        return self._steps(sums, Broadcasts(self.v, self.rows, *left), right, k, copy, following)

    def product_of_rows(self, sums: list[Any], left: Any, right: Any, k: Any) -> list[Any]:
        """Return the sums after k steps, with pointers to the rows of a that do not wait for each other."""
        return self._steps(sums, Broadcasts(self.v, self.rows, *left, apart=True), right, k, None, None)

    def product_of_neighbours(self, sums: list[Any], a: Any, a_k: Any, right: Any, k: Any) -> list[Any]:
        """Return the sums after k steps; rows of a are one element apart."""
        return self._steps(sums, Neighbours(self.v, a, a_k), right, k, None, None)

    def _product_by_lane(self, sums: list[Any], left: Any, right: Any, k: Any, copy: Any) -> list[Any]:
        """Return the sums after k steps, reading a in vectors of rows or pairs of steps as its strides allow."""
        b, v, rows = self.b, self.v, self.rows
        (a, a_row, a_k), (b_at, b_k), one = left, right, constant(v.size)
        columns, pairs = b.icmp_signed("==", a_row, one), b.icmp_signed("==", a_k, one)
        done = b.select(columns, k, b.select(pairs, b.and_(k, constant(-Pairs.depth)), constant(0)))
        choices = [
            (columns, lambda: self._steps(sums, Columns(v, rows, a, a_k), right, k, copy, None)),
            (
                b.icmp_signed(">", done, constant(0)),
                lambda: self._steps(
                    sums, Pairs(v, rows, a, a_row), right, b.sdiv(done, constant(Pairs.depth)), copy, None
                ),
            ),
        ]
        most = self._choose(choices, sums)

        def rest() -> list[Any]:
            further = Broadcasts(v, rows, b.add(a, b.mul(a_k, done)), a_row, a_k)
            to = None if copy is None else b.add(copy, b.mul(done, constant(self.vectors * v.width)))
            return self._steps(most, further, (b.add(b_at, b.mul(b_k, done)), b_k), b.sub(k, done), to, None)

        return self._choose([(b.icmp_signed("<", done, k), rest)], most)

    def _steps(self, sums: list[Any], left: Left, right: Any, turns: Any, copy: Any, following: Any) -> list[Any]:
        """Return the sums after `turns` (at least 1) times the steps of k that `left` takes at a time."""
        b, v, count = self.b, self.v, len(self.cells)
        b_at, b_k = right
        copies = [] if copy is None else [copy]
        with Loop(b, turns, [*sums, *left.initial, b_at, *copies]) as loop:
            before, carried = loop.carried[:count], loop.carried[count : count + len(left.initial)]
            right_at, *copy_at = loop.carried[count + len(left.initial) :]
            gap, factors = self.vectors * v.width, []
            for _ in range(left.depth):
                factors.append([v.load(b.add(right_at, constant(j * v.width))) for j in range(self.vectors)])
                if following is not None:
                    ahead, ahead_row, pace = following
                    line = b.add(ahead, b.mul(b.ashr(loop.index, pace), ahead_row))
                    for skip in range(0, gap, CACHE_LINE):
                        v.prefetch(b.add(line, constant(skip)), level=2)
                for target in copy_at:
                    for j, value in enumerate(factors[-1]):
                        v.store(value, b.add(target, constant(j * v.width)))
                if len(factors) < left.depth:
                    right_at, copy_at = b.add(right_at, b_k), [b.add(target, constant(gap)) for target in copy_at]
            after: list[Any] = []
            for i in range(self.rows):
                totals = before[i * self.vectors : (i + 1) * self.vectors]
                for factor, row in zip(left.factors(carried, i), factors, strict=True):
                    totals = [v.fma(factor, value, total) for value, total in zip(row, totals, strict=True)]
                after += totals
            steps = [*left.following(carried), b.add(right_at, b_k)]
            loop.following = [*after, *steps, *(b.add(target, constant(gap)) for target in copy_at)]
        return after

    def rectified(self, sums: list[Any], rectify: Any, stride: Any) -> list[Any]:
        """Return the sums, their relu, or the sums with zeros where relu has no gradient; NaN stays."""
        b, v = self.b, self.v

        def negative() -> list[Any]:
            return [b.select(b.fcmp_ordered("<", value, v.zero), v.zero, value) for value in sums]

        def behind(masked: bool) -> list[Any]:
            saved = self._load(rectify, stride, masked)
            pairs = zip(saved, sums, strict=True)
            return [b.select(b.fcmp_ordered("<=", kept, v.zero), v.zero, value) for kept, value in pairs]

        saves = b.icmp_unsigned(">", rectify, constant(1))
        choices = [
            (b.icmp_signed("==", rectify, constant(1)), negative),
            (b.and_(saves, self.full), lambda: behind(False)),
            (saves, lambda: behind(True)),
        ]
        return self._choose(choices, sums)

    def scaled(self, sums: list[Any], scale: Any) -> list[Any]:
        """Return the sums times a number; 1 takes no time."""
        b, factor = self.b, self.v.spread(scale)
        scales = b.fcmp_unordered("!=", scale, ir.Constant(self.v.scalar, 1.0))
        return self._choose([(scales, lambda: [b.fmul(value, factor) for value in sums])], sums)

    def store(self, sums: list[Any], base: Any, stride: Any) -> None:
        """Store the existing columns."""
        with self.b.if_else(self.full) as (full, edge):
            with full:
                self._store(sums, base, stride)
            with edge:
                # whole vectors without a mask: a masked store takes ten cycles on AMD's processors
                for j in range(self.vectors):
                    whole = self.b.icmp_signed(">=", self.columns, constant((j + 1) * self.v.lanes))
                    with self.b.if_else(whole) as (plain, masked):
                        with plain:
                            self._store(sums, base, stride, [j])
                        with masked:
                            self._store(sums, base, stride, [j], masked=True)

    def _store(
        self, sums: list[Any], base: Any, stride: Any, vectors: Sequence[int] | None = None, masked: bool = False
    ) -> None:
        for (i, j), value in zip(self.cells, sums, strict=True):
            address = self._at(base, stride, i, j)
            if vectors is None or j in vectors:
                if masked:
                    self.v.masked_store(value, address, self.masks[j])
                else:
                    self.v.store(value, address)
