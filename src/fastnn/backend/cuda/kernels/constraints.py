"""Kernels of constraints on weights, applied after each step."""

from __future__ import annotations

import math

import numpy as np
from numba import cuda

from fastnn.backend.cuda.codegen.kernel import (
    Dims,
    Kit,
    Stage,
    ceil_div,
    kernel,
    ptx,
)
from fastnn.backend.cuda.codegen.options import formula
from fastnn.backend.cuda.codegen.sizes import SIZES
from fastnn.program.layout import BAD_ROW, NO_ROW, Flag

_TEAM = SIZES.team
load_int64, as_double = ptx.LOADS["int64"], ptx.int_as_double

# a block that reduces columns of a matrix: threads along a row, and threads per column
_LANES = SIZES.lanes // 2
_STRIPS = _TEAM // _LANES


def _max_norm_algorithm(dims: Dims, flags: Flag) -> str:
    if dims["inner"] > 1:
        return "columns"
    return "" if dims["size"] <= SIZES.longest_warp_row else "long"


@kernel("max_norm", algorithms=("", "long", "columns"), algorithm=_max_norm_algorithm)
def max_norm(kit: Kit) -> list[Stage]:
    """Scale down every vector along `size` whose L2 norm exceeds the limit; the norm is summed in float64."""
    if kit.algorithm == "columns":
        return _max_norm_columns(kit)
    return _max_norm_rows(kit, SIZES.warp if kit.algorithm == "" else _TEAM)


def _max_norm_rows(kit: Kit, width: int) -> list[Stage]:
    """Make the kernel for contiguous vectors, with `width` threads each."""
    W, OUTER, SIZE, LIMIT = kit.words("w outer size limit")
    real, load, store = kit.real, kit.load, kit.store
    total, rows = kit.team(width, "float64").total, _TEAM // width

    def max_norm(record, context):
        if load_int64(context, BAD_ROW) != NO_ROW:
            return
        lane = np.int64(cuda.threadIdx.x) % width
        row = np.int64(rows) * cuda.blockIdx.x + np.int64(cuda.threadIdx.x) // width
        size = record[SIZE] if row < record[OUTER] else 0
        start, limit = row * size, as_double(record[LIMIT])
        square, k = 0.0, lane
        while k < size:
            value = np.float64(load(record[W], start + k))
            square += value * value
            k += width
        norm = math.sqrt(total(square))
        if not norm <= limit:
            scale, k = limit / norm, lane
            while k < size:
                store(record[W], start + k, real(np.float64(load(record[W], start + k)) * scale))
                k += width

    return [Stage(max_norm, lambda dims: (ceil_div(dims["outer"], rows), 1), _TEAM)]


def _max_norm_columns(kit: Kit) -> list[Stage]:
    """Make the kernel for interleaved vectors, of which a block has `_LANES`."""
    W, SIZE, INNER, LIMIT = kit.words("w size inner limit")
    real, load, store, itemsize = kit.real, kit.load, kit.store, kit.itemsize

    @formula
    def square_of(x):
        return np.float64(x) * np.float64(x)

    @formula
    def scaled(x, scale):
        return real(np.float64(x) * scale)

    def max_norm(record, context):
        if load_int64(context, BAD_ROW) != NO_ROW:
            return
        size, inner = record[SIZE], record[INNER]
        lane, strip = np.int64(cuda.threadIdx.x) % _LANES, np.int64(cuda.threadIdx.x) // _LANES
        groups = (inner + (_LANES - 1)) // _LANES
        outer = np.int64(cuda.blockIdx.x) // groups
        column = (cuda.blockIdx.x - outer * groups) * _LANES + lane
        # a thread without a column has nothing to add
        last = size * inner if column < inner else 0
        w = record[W] + outer * size * inner * itemsize
        step, k = _STRIPS * inner, strip * inner + column
        square = 0.0
        # four loads run at the same time, and sums have the same order everywhere
        while k + 3 * step < last:
            a, b, c, d = load(w, k), load(w, k + step), load(w, k + 2 * step), load(w, k + 3 * step)
            square += (square_of(a) + square_of(b)) + (square_of(c) + square_of(d))
            k += 4 * step
        while k < last:
            square += square_of(load(w, k))
            k += step
        squares = cuda.shared.array(_TEAM, np.float64)
        squares[cuda.threadIdx.x] = square
        cuda.syncthreads()
        square = squares[lane]
        for index in range(1, _STRIPS):
            square += squares[index * _LANES + lane]
        norm, limit = math.sqrt(square), as_double(record[LIMIT])
        if not norm <= limit:
            scale, k = limit / norm, strip * inner + column
            while k + 3 * step < last:
                a, b, c, d = load(w, k), load(w, k + step), load(w, k + 2 * step), load(w, k + 3 * step)
                store(w, k, scaled(a, scale))
                store(w, k + step, scaled(b, scale))
                store(w, k + 2 * step, scaled(c, scale))
                store(w, k + 3 * step, scaled(d, scale))
                k += 4 * step
            while k < last:
                store(w, k, scaled(load(w, k), scale))
                k += step

    return [Stage(max_norm, lambda dims: (dims["outer"] * ceil_div(dims["inner"], _LANES), 1), _TEAM)]
