"""Kernels that normalise columns: batch normalisation, with the batch's or the moving statistics, and gradients.

Those of tables that other records have summed are in `chunked_norms.py`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda

from fastnn.backend.cuda.codegen.kernel import SCRATCH_WORD, Dims, Kit, Stage, kernel, ptx
from fastnn.backend.cuda.codegen.options import helper
from fastnn.backend.cuda.kernels import columnwise
from fastnn.backend.cuda.kernels.norms import parameter_stages
from fastnn.backend.cuda.kernels.rowwise import make_lack_of
from fastnn.program.layout import BAD_ROW, FLAGS_WORD, NO_ROW, Flag

_RECTIFY = int(Flag.RECTIFY)
as_double, load_int64 = ptx.int_as_double, ptx.LOADS["int64"]
load_double, store_double = ptx.LOADS["float64"], ptx.STORES["float64"]


def normalizing_pass(kit: Kit, statistics: Any, *, adds: bool = False) -> Any:
    """Make the pass that writes y = (x - mean) rstd gamma + beta, within limits if the record is to rectify.

    `statistics(record, column)` returns the mean, as a centre and its rounding error, and rstd. With `adds` the operand
    "added" is added before the limits count.
    """
    X, GAMMA, BETA, HIGH = kit.words("x gamma beta high")
    (ADDED,) = kit.words("added") if adds else (0,)
    load, real = kit.load, kit.real
    zero, one, infinity = real(0.0), real(1.0), real(math.inf)

    @helper
    def hold(record, column):
        centre, lack, rstd = statistics(record, column)
        gamma = load(record[GAMMA], column) if record[GAMMA] != 0 else one
        beta = load(record[BETA], column) if record[BETA] != 0 else zero
        low, high = -infinity, infinity
        if record[FLAGS_WORD] & _RECTIFY != 0:
            low, high = zero, real(as_double(record[HIGH]))
            high = infinity if high == zero else high
        return centre, lack, rstd, gamma, beta, low, high

    @helper
    def normalized(record, held, i):
        centre, lack, rstd, gamma, beta, low, high = held
        y = (load(record[X], i) - centre - lack) * rstd * gamma + beta
        if adds and record[ADDED] != 0:
            y += load(record[ADDED], i)
        y = low if y < low else y
        return high if y > high else y

    return columnwise.make_pass(kit, hold, normalized)


def statistics_keeper(kit: Kit) -> Any:
    """Make `keep(record, column, mean, variance)`: it writes mean and rstd, and moves the moving statistics."""
    MEAN, RSTD, MOVING_MEAN, MOVING_VARIANCE = kit.words("mean rstd moving_mean moving_variance")
    EPSILON, MOMENTUM = kit.words("epsilon momentum")
    real, load, store, most = kit.real, kit.load, kit.store, float(np.finfo(kit.real).max)

    @helper
    def keep(record, column, mean, variance):
        momentum = as_double(record[MOMENTUM])
        # rounding may give a negative variance of a constant column
        variance = 0.0 if variance < 0.0 else variance
        store_double(record[MEAN], column, mean)
        store(record[RSTD], column, real(1.0 / math.sqrt(variance + as_double(record[EPSILON]))))
        before = np.float64(load(record[MOVING_MEAN], column))
        store(record[MOVING_MEAN], column, real(before * momentum + mean * (1.0 - momentum)))
        before = np.float64(load(record[MOVING_VARIANCE], column))
        moved = before * momentum + variance * (1.0 - momentum)
        store(record[MOVING_VARIANCE], column, real(most if most < moved < math.inf else moved))

    return keep


@kernel(
    "batch_norm",
    algorithms=columnwise.ALGORITHMS,
    algorithm=columnwise.algorithm_of,
    scratch=lambda dims, itemsize, algorithm: columnwise.table_bytes(dims, 8, 2),
)
def batch_norm(kit: Kit) -> list[Stage]:
    """Normalise columns by the batch's mean and biased variance, and move the moving ones towards them.

    The rows are read once for the statistics: distances from the first row, and their squares, are summed in float64.
    Among n rows the first one is at most sqrt(n) deviations from the mean, so log2(n) bits cancel, of the 29 bits that
    float64 has more than float32.
    """
    Y, X, ROWS, COLS = kit.words("y x rows cols")
    load, keep = kit.load, statistics_keeper(kit)
    place, chunks_of = columnwise.place, columnwise.chunks_of
    over_strips = columnwise.make_over_strips(kit, np.float64)

    @helper
    def centre_of(record, column):
        x = np.float64(load(record[X], column))
        return x if abs(x) < math.inf else 0.0

    @helper
    def distance(record, held, row, i):
        d = np.float64(load(record[X], i)) - held
        return d, d * d

    @helper
    def first_chunk(record, column):
        return chunks_of(record[ROWS], record[COLS]) * record[COLS]

    @helper
    def part(record, held, row, i):
        return load_double(record[SCRATCH_WORD], i), load_double(record[SCRATCH_WORD], held + i)

    sums = columnwise.make_sums(kit, centre_of, distance, np.float64)
    sums_of_parts = columnwise.make_sums(kit, first_chunk, part, np.float64)

    @helper
    def finish(record, column, total, squares):
        share = 1.0 / np.float64(record[ROWS])
        lack = total * share
        keep(record, column, centre_of(record, column) + lack, squares * share - lack * lack)

    def whole(record, context):
        if load_int64(context, BAD_ROW) != NO_ROW:
            return
        cols = record[COLS]
        lanes, strips, column, row, last, writes = place(record[ROWS], cols)
        total, squares = sums(record, column, row, last, strips, cols)
        total, squares = over_strips(total, lanes, strips), over_strips(squares, lanes, strips)
        if writes:
            finish(record, column, total, squares)

    def chunk(record, context):
        cols = record[COLS]
        lanes, strips, column, row, last, writes = place(record[ROWS], cols)
        total, squares = sums(record, column, row, last, strips, cols)
        total, squares = over_strips(total, lanes, strips), over_strips(squares, lanes, strips)
        if writes:
            at = cuda.blockIdx.y * cols + column
            store_double(record[SCRATCH_WORD], at, total)
            store_double(record[SCRATCH_WORD], at + cuda.gridDim.y * cols, squares)

    def add_chunks(record, context):
        if load_int64(context, BAD_ROW) != NO_ROW:
            return
        cols = record[COLS]
        lanes, strips, column, row, last, writes = place(chunks_of(record[ROWS], cols), cols)
        total, squares = sums_of_parts(record, column, row, last, strips, cols)
        total, squares = over_strips(total, lanes, strips), over_strips(squares, lanes, strips)
        if writes:
            finish(record, column, total, squares)

    over_rows = normalizing_pass(kit, make_statistics(kit))

    def normalize(record, context):
        over_rows(record, record[Y], record[ROWS], record[COLS])

    if kit.algorithm == "whole":
        return [columnwise.whole_stage(whole), columnwise.pass_stage(normalize)]
    return [columnwise.chunk_stage(chunk), columnwise.whole_stage(add_chunks), columnwise.pass_stage(normalize)]


@kernel("batch_norm_inference")
def batch_norm_inference(kit: Kit) -> list[Stage]:
    """Normalise columns by the moving mean and variance."""
    Y, MEAN, RSTD, MOVING_MEAN, MOVING_VARIANCE = kit.words("y mean rstd moving_mean moving_variance")
    ROWS, COLS, EPSILON = kit.words("rows cols epsilon")
    real, sqrt, load, store = kit.real, kit.math.sqrt, kit.load, kit.store
    zero, one, place = real(0.0), real(1.0), columnwise.place

    @helper
    def statistics(record, column):
        variance = load(record[MOVING_VARIANCE], column)
        return load(record[MOVING_MEAN], column), zero, one / sqrt(variance + real(as_double(record[EPSILON])))

    over_rows = normalizing_pass(kit, statistics)

    def batch_norm_inference(record, context):
        rows, cols = record[ROWS], record[COLS]
        _, _, column, _, _, writes = place(rows, cols)
        if writes and cuda.blockIdx.y == 0:
            centre, _, rstd = statistics(record, column)
            store_double(record[MEAN], column, np.float64(centre))
            store(record[RSTD], column, rstd)
        over_rows(record, record[Y], rows, cols)

    return [columnwise.pass_stage(batch_norm_inference)]


def _grad_bytes(dims: Dims, itemsize: int, algorithm: str) -> int:
    return 2 * dims["cols"] * itemsize + columnwise.table_bytes(dims, itemsize, 2)


def make_statistics(kit: Kit) -> Any:
    """Make `statistics(record, column)`: a column's mean, as a centre and its rounding error, and rstd."""
    MEAN, RSTD = kit.words("mean rstd")
    real, load, lack_of = kit.real, kit.load, make_lack_of(kit)

    @helper
    def statistics(record, column):
        mean = load_double(record[MEAN], column)
        return real(mean), lack_of(mean), load(record[RSTD], column)

    return statistics


def _batch_norm_grad(kit: Kit, *, by_batch: bool) -> list[Stage]:
    """Make the gradient; statistics of the batch depend on x, moving ones do not.

    If dgamma and dbeta accumulate, dx needs the sums of this batch alone, which are in scratch memory.
    """
    DX, DGAMMA, DY, X = kit.words("dx dgamma dy x")
    GAMMA, ROWS, COLS = kit.words("gamma rows cols")
    load, real = kit.load, kit.real
    zero, one, statistics = real(0.0), real(1.0), make_statistics(kit)

    @helper
    def term(record, held, row, i):
        dy, moment = load(record[DY], i), zero
        if by_batch or record[DGAMMA] != 0:
            moment = dy * ((load(record[X], i) - held[0] - held[1]) * held[2])
        return moment, dy

    @helper
    def hold(record, column):
        centre, lack, rstd = statistics(record, column)
        gamma = load(record[GAMMA], column) if record[GAMMA] != 0 else one
        if not by_batch:
            return centre, lack, rstd, gamma, zero, zero
        share, sums, cols = one / real(record[ROWS]), record[SCRATCH_WORD], record[COLS]
        return centre, lack, rstd, gamma, load(sums, column) * share, load(sums, cols + column) * share

    @helper
    def gradient(record, held, i):
        centre, lack, rstd, gamma, moment, total = held
        g = load(record[DY], i)
        if by_batch:
            g -= total + (load(record[X], i) - centre - lack) * rstd * moment
        return g * rstd * gamma

    over_rows = columnwise.make_pass(kit, hold, gradient)

    def batch_norm_grad(record, context):
        if record[DX] != 0:
            over_rows(record, record[DX], record[ROWS], record[COLS])

    sums = parameter_stages(kit, statistics, term, keeps=by_batch, skips=not by_batch)
    return [*sums, columnwise.pass_stage(batch_norm_grad)]


@kernel("batch_norm_grad", algorithms=columnwise.ALGORITHMS, algorithm=columnwise.algorithm_of, scratch=_grad_bytes)
def batch_norm_grad(kit: Kit) -> list[Stage]:
    """Make dx = rstd gamma (dy - mean(dy) - xhat mean(dy xhat)), and the sums for gamma and beta."""
    return _batch_norm_grad(kit, by_batch=True)


@kernel(
    "batch_norm_inference_grad",
    algorithms=columnwise.ALGORITHMS,
    algorithm=columnwise.algorithm_of,
    scratch=lambda dims, itemsize, algorithm: columnwise.table_bytes(dims, itemsize, 2),
)
def batch_norm_inference_grad(kit: Kit) -> list[Stage]:
    """Make dx = rstd gamma dy, and the sums for gamma and beta."""
    return _batch_norm_grad(kit, by_batch=False)
