"""Kernels that normalise columns: batch normalisation, by the batch's statistics or by moving ones, and gradients."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from numba import cuda

from fastnn.backend.cuda.kernels import columnwise
from fastnn.backend.cuda.kernels.columnwise import THREADS
from fastnn.backend.cuda.kernels.norms import parameter_stages
from fastnn.backend.cuda.kernels.rowwise import divide
from fastnn.backend.cuda.kit import BAD_ROW, NO_ROW, SCRATCH_WORD, Dims, Kit, Stage, kernel, ptx
from fastnn.backend.cuda.options import formula, helper

as_double, load_int64 = ptx.int_as_double, ptx.LOADS["int64"]


def _moments(kit: Kit) -> SimpleNamespace:
    """Make functions of (count, mean, sum of squares around the mean), which are merged (Chan et al. 1979).

    So the rows are read once, and nothing cancels.
    """
    real, load = kit.real, kit.load
    zero, one, four, quarter = real(0.0), real(1.0), real(4.0), real(0.25)

    @formula
    def merge(a, b):
        count = a[0] + b[0]
        if count == zero:
            return a
        distance, share = b[1] - a[1], b[0] / count
        return count, a[1] + distance * share, a[2] + b[2] + distance * distance * (a[0] * share)

    @helper
    def of_strip(address, column, row, last, strips, cols):
        found = (zero, zero, zero)
        i, step = row * cols + column, strips * cols
        while row + 3 * strips < last:
            a, b = load(address, i), load(address, i + step)
            c, d = load(address, i + 2 * step), load(address, i + 3 * step)
            mean = ((a + b) + (c + d)) * quarter
            a, b, c, d = a - mean, b - mean, c - mean, d - mean
            found = merge(found, (four, mean, (a * a + b * b) + (c * c + d * d)))
            row += 4 * strips
            i += 4 * step
        if row < last:
            found = merge(found, (one, load(address, i), zero))
        if row + strips < last:
            found = merge(found, (one, load(address, i + step), zero))
        if row + 2 * strips < last:
            found = merge(found, (one, load(address, i + 2 * step), zero))
        return found

    @helper
    def over_strips(found, lanes, strips):
        thread = cuda.threadIdx.x
        counts = cuda.shared.array(THREADS, real)
        means = cuda.shared.array(THREADS, real)
        squares = cuda.shared.array(THREADS, real)
        counts[thread], means[thread], squares[thread] = found
        cuda.syncthreads()
        count = strips
        while count > 1:
            half = (count + 1) // 2
            if thread < (count - half) * lanes:
                other = thread + half * lanes
                found = merge(found, (counts[other], means[other], squares[other]))
                counts[thread], means[thread], squares[thread] = found
            cuda.syncthreads()
            count = half
        return found

    return SimpleNamespace(merge=merge, of_strip=of_strip, over_strips=over_strips)


def _normalize(kit: Kit, statistics: Any) -> Any:
    """Make the pass that writes y = (x - mean) rstd gamma + beta; `statistics(record, column)` gives mean and rstd."""
    X, GAMMA, BETA = kit.words("x gamma beta")
    load, real = kit.load, kit.real
    zero, one = real(0.0), real(1.0)

    @helper
    def hold(record, column):
        mean, rstd = statistics(record, column)
        gamma = load(record[GAMMA], column) if record[GAMMA] != 0 else one
        beta = load(record[BETA], column) if record[BETA] != 0 else zero
        return mean, rstd, gamma, beta

    @helper
    def normalized(record, held, i):
        mean, rstd, gamma, beta = held
        return (load(record[X], i) - mean) * rstd * gamma + beta

    return columnwise.make_pass(kit, hold, normalized)


@kernel(
    "batch_norm",
    ways=columnwise.WAYS,
    way=columnwise.way_of,
    scratch=lambda dims, itemsize, way: columnwise.table_bytes(dims, itemsize, 2),
)
def batch_norm(kit: Kit) -> list[Stage]:
    """Normalise columns by the batch's mean and biased variance, and move the moving ones towards them."""
    Y, MEAN, RSTD, X = kit.words("y mean rstd x")
    MOVING_MEAN, MOVING_VARIANCE = kit.words("moving_mean moving_variance")
    ROWS, COLS, EPSILON, MOMENTUM = kit.words("rows cols epsilon momentum")
    real, sqrt, load, store = kit.real, kit.math.sqrt, kit.load, kit.store
    zero, one = real(0.0), real(1.0)
    place, chunks_of, moments = columnwise.place, columnwise.chunks_of, _moments(kit)
    merge, of_strip, over_strips = moments.merge, moments.of_strip, moments.over_strips

    @helper
    def finish(record, column, mean, squares):
        momentum, rest = real(as_double(record[MOMENTUM])), real(1.0 - as_double(record[MOMENTUM]))
        variance = squares * (one / real(record[ROWS]))
        store(record[MEAN], column, mean)
        store(record[RSTD], column, one / sqrt(variance + real(as_double(record[EPSILON]))))
        store(record[MOVING_MEAN], column, load(record[MOVING_MEAN], column) * momentum + mean * rest)
        store(record[MOVING_VARIANCE], column, load(record[MOVING_VARIANCE], column) * momentum + variance * rest)

    def whole(record, context):
        if load_int64(context, BAD_ROW) != NO_ROW:
            return
        cols = record[COLS]
        lanes, strips, column, row, last, writes = place(record[ROWS], cols)
        _, mean, squares = over_strips(of_strip(record[X], column, row, last, strips, cols), lanes, strips)
        if writes:
            finish(record, column, mean, squares)

    def chunk(record, context):
        cols = record[COLS]
        lanes, strips, column, row, last, writes = place(record[ROWS], cols)
        _, mean, squares = over_strips(of_strip(record[X], column, row, last, strips, cols), lanes, strips)
        if writes:
            at = cuda.blockIdx.y * cols + column
            store(record[SCRATCH_WORD], at, mean)
            store(record[SCRATCH_WORD], at + cuda.gridDim.y * cols, squares)

    def merge_chunks(record, context):
        if load_int64(context, BAD_ROW) != NO_ROW:
            return
        rows, cols, scratch = record[ROWS], record[COLS], record[SCRATCH_WORD]
        chunks = chunks_of(rows, cols)
        height = divide(rows + chunks - 1, chunks)
        lanes, strips, column, row, last, writes = place(chunks, cols)
        found = (zero, zero, zero)
        while row < last:
            count, i = real(min(height, rows - row * height)), row * cols + column
            found = merge(found, (count, load(scratch, i), load(scratch, chunks * cols + i)))
            row += strips
        _, mean, squares = over_strips(found, lanes, strips)
        if writes:
            finish(record, column, mean, squares)

    @helper
    def statistics(record, column):
        return load(record[MEAN], column), load(record[RSTD], column)

    over_rows = _normalize(kit, statistics)

    def normalize(record, context):
        over_rows(record, record[Y], record[ROWS], record[COLS])

    if kit.way == "whole":
        return [columnwise.whole_stage(whole), columnwise.pass_stage(normalize)]
    return [columnwise.chunk_stage(chunk), columnwise.whole_stage(merge_chunks), columnwise.pass_stage(normalize)]


@kernel("batch_norm_inference")
def batch_norm_inference(kit: Kit) -> list[Stage]:
    """Normalise columns by the moving mean and variance."""
    Y, MEAN, RSTD, MOVING_MEAN, MOVING_VARIANCE = kit.words("y mean rstd moving_mean moving_variance")
    ROWS, COLS, EPSILON = kit.words("rows cols epsilon")
    real, sqrt, load, store = kit.real, kit.math.sqrt, kit.load, kit.store
    one, place = real(1.0), columnwise.place

    @helper
    def statistics(record, column):
        variance = load(record[MOVING_VARIANCE], column)
        return load(record[MOVING_MEAN], column), one / sqrt(variance + real(as_double(record[EPSILON])))

    over_rows = _normalize(kit, statistics)

    def batch_norm_inference(record, context):
        rows, cols = record[ROWS], record[COLS]
        _, _, column, _, _, writes = place(rows, cols)
        if writes and cuda.blockIdx.y == 0:
            mean, rstd = statistics(record, column)
            store(record[MEAN], column, mean)
            store(record[RSTD], column, rstd)
        over_rows(record, record[Y], rows, cols)

    return [columnwise.pass_stage(batch_norm_inference)]


def _grad_bytes(dims: Dims, itemsize: int, way: str) -> int:
    return 2 * dims["cols"] * itemsize + columnwise.table_bytes(dims, itemsize, 2)


def _batch_norm_grad(kit: Kit, *, by_batch: bool) -> list[Stage]:
    """Make the gradient; statistics of the batch depend on x, moving ones do not.

    Where dgamma and dbeta accumulate, dx needs the sums of this batch alone, which stand in scratch memory.
    """
    DX, DGAMMA, DY, X = kit.words("dx dgamma dy x")
    GAMMA, MEAN, RSTD, ROWS, COLS = kit.words("gamma mean rstd rows cols")
    load, real = kit.load, kit.real
    zero, one = real(0.0), real(1.0)

    @helper
    def statistics(record, column):
        return load(record[MEAN], column), load(record[RSTD], column)

    @helper
    def term(record, held, row, i):
        dy, moment = load(record[DY], i), zero
        if by_batch or record[DGAMMA] != 0:
            moment = dy * ((load(record[X], i) - held[0]) * held[1])
        return moment, dy

    @helper
    def hold(record, column):
        mean, rstd = statistics(record, column)
        gamma = load(record[GAMMA], column) if record[GAMMA] != 0 else one
        if not by_batch:
            return mean, rstd, gamma, zero, zero
        share, sums, cols = one / real(record[ROWS]), record[SCRATCH_WORD], record[COLS]
        return mean, rstd, gamma, load(sums, column) * share, load(sums, cols + column) * share

    @helper
    def gradient(record, held, i):
        mean, rstd, gamma, moment, total = held
        g = load(record[DY], i)
        if by_batch:
            g -= total + (load(record[X], i) - mean) * rstd * moment
        return g * rstd * gamma

    over_rows = columnwise.make_pass(kit, hold, gradient)

    def batch_norm_grad(record, context):
        if record[DX] != 0:
            over_rows(record, record[DX], record[ROWS], record[COLS])

    sums = parameter_stages(kit, statistics, term, keeps=by_batch, skips=not by_batch)
    return [*sums, columnwise.pass_stage(batch_norm_grad)]


@kernel("batch_norm_grad", ways=columnwise.WAYS, way=columnwise.way_of, scratch=_grad_bytes)
def batch_norm_grad(kit: Kit) -> list[Stage]:
    """Make dx = rstd gamma (dy - mean(dy) - xhat mean(dy xhat)), and the sums for gamma and beta."""
    return _batch_norm_grad(kit, by_batch=True)


@kernel(
    "batch_norm_inference_grad",
    ways=columnwise.WAYS,
    way=columnwise.way_of,
    scratch=lambda dims, itemsize, way: columnwise.table_bytes(dims, itemsize, 2),
)
def batch_norm_inference_grad(kit: Kit) -> list[Stage]:
    """Make dx = rstd gamma dy, and the sums for gamma and beta."""
    return _batch_norm_grad(kit, by_batch=False)
