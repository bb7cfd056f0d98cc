"""Kernels of batch normalisation for tables of many rows, whose columns are summed in chunks of rows."""

from __future__ import annotations

import math

import numpy as np
from numba import cuda

from fastnn.backend.cuda.codegen.kernel import Kit, Stage, elements, kernel, ptx
from fastnn.backend.cuda.codegen.options import helper
from fastnn.backend.cuda.codegen.sizes import SIZES
from fastnn.backend.cuda.kernels import columnwise
from fastnn.backend.cuda.kernels.batch_norms import make_statistics, normalizing_pass, statistics_keeper
from fastnn.program.layout import BAD_ROW, FLAGS_WORD, NO_ROW, Flag

_ACCUMULATE = int(Flag.ACCUMULATE)
_THREADS = SIZES.threads
load_int64, load_double, store_double = ptx.LOADS["int64"], ptx.LOADS["float64"], ptx.STORES["float64"]


@kernel("column_moments")
def column_moments(kit: Kit) -> list[Stage]:
    """Set the means of columns in each chunk of rows, and the sums of the squared distances from them.

    Distances from the chunk's first row are summed in float64, as `batch_norm` does it.
    """
    MOMENTS, X, ROWS, COLS, CHUNKS = kit.words("moments x rows cols chunks")
    load, place, chunk_start = kit.load, columnwise.place_in_chunk, columnwise.chunk_start
    over_strips = columnwise.make_over_strips(kit, np.float64)

    @helper
    def centre_of(record, column):
        first = chunk_start(record[ROWS], cuda.blockIdx.y, record[CHUNKS])
        x = np.float64(load(record[X], first * record[COLS] + column))
        return x if abs(x) < math.inf else 0.0

    @helper
    def distance(record, held, row, i):
        d = np.float64(load(record[X], i)) - held
        return d, d * d

    sums = columnwise.make_sums(kit, centre_of, distance, np.float64)

    def column_moments(record, context):
        cols = record[COLS]
        lanes, strips, column, row, last, writes = place(record[ROWS], cols, record[CHUNKS])
        total, squares = sums(record, column, row, last, strips, cols)
        total, squares = over_strips(total, lanes, strips), over_strips(squares, lanes, strips)
        if writes:
            first = chunk_start(record[ROWS], cuda.blockIdx.y, record[CHUNKS])
            at, lack = 2 * cuda.blockIdx.y * cols + column, total / np.float64(last - first)
            store_double(record[MOMENTS], at, centre_of(record, column) + lack)
            store_double(record[MOMENTS], at + cols, squares - lack * total)

    return [columnwise.cut_stage(column_moments)]


@kernel("batch_statistics")
def batch_statistics(kit: Kit) -> list[Stage]:
    """Put the moments of chunks together (Chan et al. 1983), and move the moving statistics towards the batch's."""
    MOMENTS, ROWS, COLS, CHUNKS = kit.words("moments rows cols chunks")
    keep, chunk_start = statistics_keeper(kit), columnwise.chunk_start

    def batch_statistics(record, context):
        cols, rows, chunks = record[COLS], record[ROWS], record[CHUNKS]
        column = cuda.blockIdx.x * _THREADS + cuda.threadIdx.x
        if column >= cols or load_int64(context, BAD_ROW) != NO_ROW:
            return
        mean, squares = load_double(record[MOMENTS], column), load_double(record[MOMENTS], cols + column)
        for chunk in range(1, chunks):
            at = 2 * chunk * cols + column
            before, after = chunk_start(rows, chunk, chunks), chunk_start(rows, chunk + 1, chunks)
            share = np.float64(after - before) / np.float64(after)
            distance = load_double(record[MOMENTS], at) - mean
            mean += distance * share
            squares += load_double(record[MOMENTS], at + cols) + distance * distance * np.float64(before) * share
        keep(record, column, mean, squares / np.float64(rows))

    return [Stage(batch_statistics, elements("cols"), _THREADS)]


@kernel("normalize_columns")
def normalize_columns(kit: Kit) -> list[Stage]:
    """Normalise columns by given statistics."""
    Y, ROWS, COLS = kit.words("y rows cols")
    over_rows = normalizing_pass(kit, make_statistics(kit), adds=True)

    def normalize_columns(record, context):
        over_rows(record, record[Y], record[ROWS], record[COLS])

    return [columnwise.pass_stage(normalize_columns)]


@kernel("column_products")
def column_products(kit: Kit) -> list[Stage]:
    """Set the sums over each chunk of rows of dy xhat, and of dy."""
    PRODUCTS, DY, X, ROWS, COLS, CHUNKS = kit.words("products dy x rows cols chunks")
    load, place, over_strips = kit.load, columnwise.place_in_chunk, columnwise.make_over_strips(kit)

    @helper
    def term(record, held, row, i):
        dy = load(record[DY], i)
        return dy * ((load(record[X], i) - held[0] - held[1]) * held[2]), dy

    sums = columnwise.make_sums(kit, make_statistics(kit), term)

    def column_products(record, context):
        cols = record[COLS]
        lanes, strips, column, row, last, writes = place(record[ROWS], cols, record[CHUNKS])
        moment, total = sums(record, column, row, last, strips, cols)
        moment, total = over_strips(moment, lanes, strips), over_strips(total, lanes, strips)
        if writes:
            at = 2 * cuda.blockIdx.y * cols + column
            store_double(record[PRODUCTS], at, np.float64(moment))
            store_double(record[PRODUCTS], at + cols, np.float64(total))

    return [columnwise.cut_stage(column_products)]


@kernel("add_products")
def add_products(kit: Kit) -> list[Stage]:
    """Add up the sums of chunks: for gamma and beta, and the means over the rows."""
    MEANS, DGAMMA, DBETA, PRODUCTS = kit.words("means dgamma dbeta products")
    ROWS, COLS, CHUNKS = kit.words("rows cols chunks")
    real, load, store = kit.real, kit.load, kit.store

    @helper
    def finish(record, out, column, total):
        if out != 0:
            add = record[FLAGS_WORD] & _ACCUMULATE != 0
            store(out, column, real(total) + load(out, column) if add else real(total))

    def add_products(record, context):
        cols, rows, column = record[COLS], np.float64(record[ROWS]), cuda.blockIdx.x * _THREADS + cuda.threadIdx.x
        if column >= cols:
            return
        moment, total = 0.0, 0.0
        for chunk in range(record[CHUNKS]):
            at = 2 * chunk * cols + column
            moment += load_double(record[PRODUCTS], at)
            total += load_double(record[PRODUCTS], at + cols)
        finish(record, record[DGAMMA], column, moment)
        finish(record, record[DBETA], column, total)
        store_double(record[MEANS], column, moment / rows)
        store_double(record[MEANS], cols + column, total / rows)

    return [Stage(add_products, elements("cols"), _THREADS)]


@kernel("normalize_columns_grad")
def normalize_columns_grad(kit: Kit) -> list[Stage]:
    """Make dx = rstd gamma (dy - mean(dy) - xhat mean(dy xhat)) by given means, or rstd gamma dy without them."""
    DX, DY, X, GAMMA = kit.words("dx dy x gamma")
    MEANS, ROWS, COLS = kit.words("means rows cols")
    real, load, statistics = kit.real, kit.load, make_statistics(kit)
    zero, one = real(0.0), real(1.0)

    @helper
    def hold(record, column):
        centre, lack, rstd = statistics(record, column)
        scale = rstd * (load(record[GAMMA], column) if record[GAMMA] != 0 else one)
        slope, start = zero, zero
        if record[MEANS] != 0:
            slope = real(load_double(record[MEANS], column))
            start = real(load_double(record[MEANS], record[COLS] + column))
        return centre, lack, rstd, scale, slope, start

    @helper
    def gradient(record, held, i):
        centre, lack, rstd, scale, slope, start = held
        g = load(record[DY], i)
        if record[MEANS] != 0:
            g -= start + (load(record[X], i) - centre - lack) * rstd * slope
        return g * scale

    over_rows = columnwise.make_pass(kit, hold, gradient)

    def normalize_columns_grad(record, context):
        over_rows(record, record[DX], record[ROWS], record[COLS])

    return [columnwise.pass_stage(normalize_columns_grad)]
