"""Rows of a table, each processed by a team of threads, four elements per thread at a time.

In a team of a warp or a block a thread takes four neighbours at once, in one access of 16 bytes unless the row begins
or ends within them. In smaller teams, which have short rows, the distance of the four is the team's size.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from numba import cuda

from fastnn.backend.cuda.codegen.kernel import Dims, Kit, Stage, ceil_div
from fastnn.backend.cuda.codegen.options import formula, helper
from fastnn.backend.cuda.codegen.sizes import PACK, SIZES
from fastnn.program.layout import Flag

#: the threads that share a row, by algorithm
TEAMS = {"thread": 1, "few": max(2, SIZES.warp // 4), "warp": SIZES.warp, "block": SIZES.team}
ALGORITHMS = tuple(TEAMS)


def algorithm_of(dims: Dims, flags: Flag) -> str:
    """Choose the team by the length of the rows."""
    cols = dims["cols"]
    if cols <= PACK:
        return "thread"
    if cols <= 2 * SIZES.warp:
        return "few"
    return "warp" if cols <= SIZES.longest_warp_row else "block"


def row_stage(kit: Kit, function: Any) -> Stage:
    """Make the stage of a kernel of rows."""
    threads = SIZES.team if kit.algorithm == "block" else SIZES.threads
    return Stage(function, lambda dims: (ceil_div(dims["rows"], threads // TEAMS[kit.algorithm]), 1), threads)


@formula
def divide(number, by):
    """Divide integers from 0 to 2^32, rounding down."""
    return np.int64(np.uint32(number) // np.uint32(by))


@formula
def sum_of(a):
    """Add four numbers."""
    return (a[0] + a[1]) + (a[2] + a[3])


@formula
def higher(x, largest):
    """Return the larger of two numbers; the second if the first is NaN."""
    return x if x > largest else largest


def make_lack_of(kit: Kit) -> Any:
    """Make `lack_of(mean)`: the difference of a float64 mean and the centre to which it is rounded.

    At a large offset that may be as large as the deviation. For an infinite mean, where it would be NaN, it is 0.
    """
    real, zero = kit.real, kit.real(0.0)

    @formula
    def lack_of(mean):
        lack = real(mean - np.float64(real(mean)))
        return lack if lack == lack else zero

    return lack_of


def row_functions(kit: Kit) -> SimpleNamespace:
    """Make the building blocks of row kernels, for the team of the kit's algorithm.

    Returns
    -------
    types.SimpleNamespace
        place : device function
            `place(rows, cols) -> (row, begin, first, last, writes)`: the team's row, the number of its first element,
            where this thread starts (four elements from there on, of which some may be outside the row) and where
            it stops when it writes. Only one thread of a row has `writes`. A surplus team works on the last row,
            since all have to meet in `total`, but writes nothing.
        stride : int
            From four elements of a thread to its next four.
        load, store : device functions
            `load(address, i, begin, end, fill)`: four elements of a table, with `fill` outside the row.
        columns : device function
            `columns(i, begin)`: the columns of the four.
        load_vector : device function
            The same four of a vector over the columns; all are `fill` if its address is 0.
        inside : device function
            Whether each of the four is in the row.
        total, largest, precise_total : device functions
            Over the team; `precise_total` adds numbers of float64.
        precise : device function
            Four numbers as float64.
    """
    size = TEAMS[kit.algorithm]
    together = (SIZES.team if kit.algorithm == "block" else SIZES.threads) // size
    packed = size >= SIZES.warp
    team, precise_team, one_load, one_store = kit.team(size), kit.team(size, "float64"), kit.load, kit.store
    load_pack, store_pack = kit.load_pack, kit.store_pack
    # from one of the four to the next, and from a thread's four to those of its neighbour
    gap, width = (1, PACK) if packed else (size, 1)

    @formula
    def precise(x):
        return np.float64(x[0]), np.float64(x[1]), np.float64(x[2]), np.float64(x[3])

    @helper
    def place(rows, cols):
        thread = cuda.threadIdx.x
        lane, row = thread % size, cuda.blockIdx.x * together + thread // size
        live = row < rows
        row = min(row, rows - 1)
        begin = row * cols
        first = begin - (begin & (PACK - 1) if packed else 0) + width * lane
        return row, begin, first, begin + cols if live else 0, live and lane == 0

    @helper
    def inside(i, begin, end):
        return (
            begin <= i < end,
            begin <= i + gap < end,
            begin <= i + 2 * gap < end,
            begin <= i + 3 * gap < end,
        )

    @helper
    def columns(i, begin):
        j = i - begin
        return j, j + gap, j + 2 * gap, j + 3 * gap

    @helper
    def load(address, i, begin, end, fill):
        if packed and begin <= i and i + PACK <= end:
            return load_pack(address, i)
        a, b, c, d = inside(i, begin, end)
        return (
            one_load(address, i) if a else fill,
            one_load(address, i + gap) if b else fill,
            one_load(address, i + 2 * gap) if c else fill,
            one_load(address, i + 3 * gap) if d else fill,
        )

    @helper
    def store(address, i, begin, end, values):
        if packed and begin <= i and i + PACK <= end:
            store_pack(address, i, values)
            return
        a, b, c, d = inside(i, begin, end)
        if a:
            one_store(address, i, values[0])
        if b:
            one_store(address, i + gap, values[1])
        if c:
            one_store(address, i + 2 * gap, values[2])
        if d:
            one_store(address, i + 3 * gap, values[3])

    @helper
    def load_vector(address, i, begin, end, fill):
        if address == 0:
            return fill, fill, fill, fill
        if packed and begin & (PACK - 1) != 0:
            # packs of the row are not packs of the vector
            a, b, c, d = inside(i, begin, end)
            j = i - begin
            return (
                one_load(address, j) if a else fill,
                one_load(address, j + 1) if b else fill,
                one_load(address, j + 2) if c else fill,
                one_load(address, j + 3) if d else fill,
            )
        return load(address, i - begin, 0, end - begin, fill)

    return SimpleNamespace(
        place=place, stride=PACK * size, load=load, store=store, columns=columns, load_vector=load_vector,
        inside=inside, total=team.total, largest=team.largest, precise_total=precise_team.total, precise=precise,
    )  # fmt: skip


def make_exp_sum(kit: Kit, rows: SimpleNamespace) -> Any:
    """Make `exp_sum(address, begin, first, end)`: a thread's maximum of a row, and its sum of exp(x - maximum).

    One pass: sums so far are scaled down when the maximum rises. NaN anywhere in the row reaches the sum, even where
    the maximum missed it. The team's result is the sum of sum exp(maximum - team's maximum).
    """
    real, exp_weight, load, stride = kit.real, kit.math.exp_weight, rows.load, rows.stride
    zero, nothing = real(0.0), real(-np.inf)
    # finite, so that a thread with only -inf computes no difference of infinities
    lowest = real(np.finfo(real).min)

    @helper
    def exp_sum(address, begin, first, end):
        largest, total, i = lowest, zero, first
        while i < end:
            x = load(address, i, begin, end, nothing)
            top = higher(higher(x[0], x[1]), higher(higher(x[2], x[3]), largest))
            parts = (exp_weight(x[0] - top), exp_weight(x[1] - top), exp_weight(x[2] - top), exp_weight(x[3] - top))
            total = total * exp_weight(largest - top) + sum_of(parts)
            largest = top
            i += stride
        return largest, total

    return exp_sum
