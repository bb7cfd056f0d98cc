"""Metrics that sum products of predictions and targets, column by column."""

from __future__ import annotations

import numpy as np
from numba import cuda

from fastnn.backend.cuda.codegen.kernel import SCRATCH_WORD, Dims, Kit, Stage, ceil_div, kernel
from fastnn.backend.cuda.codegen.options import formula, helper
from fastnn.backend.cuda.kernels.metrics.cells import add_parts, no_bytes
from fastnn.backend.cuda.kernels.metrics.rows import (
    ALONE,
    LANES,
    PARTS,
    TEAM,
    load_double,
    load_int64,
    make_rows,
    store_double,
)
from fastnn.program.layout import BAD_ROW, NO_ROW

#: sums of a column, which are followed by its two shifts
_SUMS = 8
_TABLE = _SUMS * TEAM


def _lanes(cols):
    """Return the number of threads of a block along a row: a power of two."""
    lanes = 1
    while lanes < cols and lanes < LANES:
        lanes *= 2
    return lanes


def _column_parts(rows, cols, lanes):
    """Return the number of blocks that share a column."""
    return max(min(-(-rows // (4 * ALONE * (TEAM // lanes))), PARTS // -(-cols // lanes)), 1)


_lanes_there, _column_parts_there = formula(_lanes), formula(_column_parts)


def _regression_parts(dims: Dims) -> int:
    found: int = _column_parts(dims["rows"], dims["cols"], _lanes(dims["cols"]))
    return found


@kernel(
    "regression_sums",
    algorithms=("", "parts"),
    algorithm=lambda dims, flags: "parts" if _regression_parts(dims) > 1 else "",
    scratch=lambda dims, itemsize, algorithm: 8 * _SUMS * dims["cols"] * _regression_parts(dims),
)
def regression_sums(kit: Kit) -> list[Stage]:
    """Add shifted sums and products of predictions and targets, column by column."""
    TOTAL, X, TARGET, ROWS, COLS = kit.words("total x target rows cols")
    load, weight_of = kit.load, make_rows(kit).weight
    alone = kit.algorithm == ""

    @helper
    def shift_of(record, address, cell, column):
        # a column's value in the first row with a weight other than 0 is its shift
        held, row = load_double(record[TOTAL], _SUMS * record[COLS] + cell), np.int64(0)
        while row < record[ROWS] and held != held and weight_of(record, row) == np.float64(0.0):
            row += 1
        if held == held or row == record[ROWS]:
            return held
        return np.float64(load(address, row * record[COLS] + column))

    @helper
    def keep_shift(record, cell):
        cols = record[COLS]
        if cell < cols:
            store_double(record[TOTAL], _SUMS * cols + cell, shift_of(record, record[X], cell, cell))
        elif cell < 2 * cols:
            store_double(record[TOTAL], _SUMS * cols + cell, shift_of(record, record[TARGET], cell, cell - cols))

    def regression_sums(record, context):
        if load_int64(context, BAD_ROW) != NO_ROW:
            return
        rows, cols, own = record[ROWS], record[COLS], np.int64(cuda.threadIdx.x)
        lanes = np.int64(_lanes_there(cols))
        column = lanes * cuda.blockIdx.x + own % lanes
        w, wp, wy, wpp = np.float64(0.0), np.float64(0.0), np.float64(0.0), np.float64(0.0)
        wyy, wpy, absolute, squared = np.float64(0.0), np.float64(0.0), np.float64(0.0), np.float64(0.0)
        if column < cols:
            p_shift = shift_of(record, record[X], column, column)
            y_shift = shift_of(record, record[TARGET], cols + column, column)
            strips = TEAM // lanes
            row = strips * cuda.blockIdx.y + own // lanes
            while row < rows:
                weight = weight_of(record, row)
                score = np.float64(load(record[X], row * cols + column))
                target = np.float64(load(record[TARGET], row * cols + column))
                # a row of weight 0 may hold any value, even infinity
                if weight != np.float64(0.0):
                    p, y, error = score - p_shift, target - y_shift, score - target
                    w += weight
                    wp += weight * p
                    wy += weight * y
                    wpp += weight * p * p
                    wyy += weight * y * y
                    wpy += weight * p * y
                    absolute += weight * abs(error)
                    squared += weight * error * error
                row += strips * cuda.gridDim.y
        sums = cuda.shared.array(_TABLE, np.float64)
        sums[own], sums[TEAM + own], sums[2 * TEAM + own], sums[3 * TEAM + own] = w, wp, wy, wpp
        sums[4 * TEAM + own], sums[5 * TEAM + own] = wyy, wpy
        sums[6 * TEAM + own], sums[7 * TEAM + own] = absolute, squared
        cuda.syncthreads()
        half = np.int64(TEAM // 2)
        while half >= lanes:
            if own < half:
                for index in range(_SUMS):
                    sums[index * TEAM + own] += sums[index * TEAM + own + half]
            cuda.syncthreads()
            half //= 2
        if own < lanes and column < cols:
            for index in range(_SUMS):
                found, cell = sums[index * TEAM + own], index * cols + column
                if alone:
                    store_double(record[TOTAL], cell, load_double(record[TOTAL], cell) + found)
                else:
                    store_double(record[SCRATCH_WORD], cuda.blockIdx.y * _SUMS * cols + cell, found)
            if alone:
                keep_shift(record, column)
                keep_shift(record, cols + column)

    @helper
    def cells_there(record):
        return _SUMS * record[COLS]

    @helper
    def parts(record):
        return _column_parts_there(record[ROWS], record[COLS], _lanes_there(record[COLS]))

    def grid(dims: Dims) -> tuple[int, int]:
        return ceil_div(dims["cols"], _lanes(dims["cols"])), _regression_parts(dims)

    if alone:
        return [Stage(regression_sums, grid, TEAM)]
    last = add_parts(cells_there, parts, no_bytes, keep_shift, TOTAL, lambda dims: _SUMS * dims["cols"])
    return [Stage(regression_sums, grid, TEAM), last]
