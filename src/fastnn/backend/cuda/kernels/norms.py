"""Kernels that normalise rows: layer and RMS normalisation, and their gradients."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda

from fastnn.backend.cuda.codegen.kernel import SCRATCH_WORD, Kit, Stage, kernel, ptx
from fastnn.backend.cuda.codegen.options import formula, helper
from fastnn.backend.cuda.kernels import columnwise, register_rows
from fastnn.backend.cuda.kernels.rowwise import ALGORITHMS, algorithm_of, make_lack_of, row_functions, row_stage, sum_of
from fastnn.program.layout import FLAGS_WORD, Flag

_ACCUMULATE = int(Flag.ACCUMULATE)
as_double, load_double, store_double = ptx.int_as_double, ptx.LOADS["float64"], ptx.STORES["float64"]


@kernel("layer_norm", algorithms=ALGORITHMS, algorithm=algorithm_of)
def layer_norm(kit: Kit) -> list[Stage]:
    """Make y = (x - mean) rstd gamma + beta in every row; mean and variance are summed in float64."""
    # with float64 sums the loop over a warp's row is too long to unroll, so its elements would be in local memory
    if register_rows.is_held(kit) and (kit.algorithm, kit.dtype) != ("warp", "float32"):
        return register_rows.layer_norm(kit)
    Y, MEAN, RSTD, X, GAMMA, BETA = kit.words("y mean rstd x gamma beta")
    ROWS, COLS, EPSILON = kit.words("rows cols epsilon")
    r, real, store_one, lack_of = row_functions(kit), kit.real, kit.store, make_lack_of(kit)
    place, load, store, stride, load_vector = r.place, r.load, r.store, r.stride, r.load_vector
    precise, inside, team_total = r.precise, r.inside, r.precise_total
    zero, one = real(0.0), real(1.0)

    @formula
    def squares(x, mean, here):
        a, b, c, d = precise(x)
        a, b = a - mean if here[0] else 0.0, b - mean if here[1] else 0.0
        c, d = c - mean if here[2] else 0.0, d - mean if here[3] else 0.0
        return (a * a + b * b) + (c * c + d * d)

    def layer_norm(record, context):
        x_at, y_at, cols = record[X], record[Y], record[COLS]
        row, begin, first, last, writes = place(record[ROWS], cols)
        end, share = begin + cols, 1.0 / np.float64(cols)
        i, total = first, 0.0
        while i < end:
            total += sum_of(precise(load(x_at, i, begin, end, zero)))
            i += stride
        mean = team_total(total) * share
        i, variance = first, 0.0
        while i < end:
            variance += squares(load(x_at, i, begin, end, zero), mean, inside(i, begin, end))
            i += stride
        rstd = real(1.0 / math.sqrt(team_total(variance) * share + as_double(record[EPSILON])))
        centre, lack = real(mean), lack_of(mean)
        if writes:
            store_double(record[MEAN], row, mean)
            store_one(record[RSTD], row, rstd)
        i = first
        while i < last:
            x = load(x_at, i, begin, end, centre)
            g = load_vector(record[GAMMA], i, begin, end, one)
            b = load_vector(record[BETA], i, begin, end, zero)
            store(y_at, i, begin, end, (
                (x[0] - centre - lack) * rstd * g[0] + b[0], (x[1] - centre - lack) * rstd * g[1] + b[1],
                (x[2] - centre - lack) * rstd * g[2] + b[2], (x[3] - centre - lack) * rstd * g[3] + b[3],
            ))  # fmt: skip
            i += stride

    return [row_stage(kit, layer_norm)]


@kernel("layer_norm_grad", algorithms=ALGORITHMS, algorithm=algorithm_of)
def layer_norm_grad(kit: Kit) -> list[Stage]:
    """Make dx = rstd (g - mean(g) - xhat mean(g xhat)) with g = dy gamma, in every row."""
    if register_rows.is_held(kit, 2):
        return register_rows.layer_norm_grad(kit)
    DX, DY, X, GAMMA, MEAN, RSTD = kit.words("dx dy x gamma mean rstd")
    ROWS, COLS = kit.words("rows cols")
    r, real, load_one, lack_of = row_functions(kit), kit.real, kit.load, make_lack_of(kit)
    place, load, store, stride, team_total, load_vector = r.place, r.load, r.store, r.stride, r.total, r.load_vector
    zero, one = real(0.0), real(1.0)

    def layer_norm_grad(record, context):
        dx_at, dy_at, x_at, cols = record[DX], record[DY], record[X], record[COLS]
        row, begin, first, last, _ = place(record[ROWS], cols)
        end, share = begin + cols, one / real(cols)
        mean, rstd = load_double(record[MEAN], row), load_one(record[RSTD], row)
        centre, lack = real(mean), lack_of(mean)
        i, total, moment = first, zero, zero
        while i < end:
            x, dy = load(x_at, i, begin, end, centre), load(dy_at, i, begin, end, zero)
            scale = load_vector(record[GAMMA], i, begin, end, one)
            g = (dy[0] * scale[0], dy[1] * scale[1], dy[2] * scale[2], dy[3] * scale[3])
            total += sum_of(g)
            moment += sum_of((
                g[0] * ((x[0] - centre - lack) * rstd), g[1] * ((x[1] - centre - lack) * rstd),
                g[2] * ((x[2] - centre - lack) * rstd), g[3] * ((x[3] - centre - lack) * rstd),
            ))  # fmt: skip
            i += stride
        total, moment = team_total(total) * share, team_total(moment) * share
        i = first
        while i < last:
            x, dy = load(x_at, i, begin, end, centre), load(dy_at, i, begin, end, zero)
            scale = load_vector(record[GAMMA], i, begin, end, one)
            store(dx_at, i, begin, end, (
                rstd * (dy[0] * scale[0] - total - (x[0] - centre - lack) * rstd * moment),
                rstd * (dy[1] * scale[1] - total - (x[1] - centre - lack) * rstd * moment),
                rstd * (dy[2] * scale[2] - total - (x[2] - centre - lack) * rstd * moment),
                rstd * (dy[3] * scale[3] - total - (x[3] - centre - lack) * rstd * moment),
            ))  # fmt: skip
            i += stride

    return [row_stage(kit, layer_norm_grad)]


def parameter_stages(kit: Kit, hold: Any, term: Any, *, keeps: bool = False, skips: bool = False) -> list[Stage]:
    """Make the stages that reduce terms over the rows to dgamma and dbeta, or add to these if the flag is set.

    Parameters
    ----------
    hold, term : device functions
        As in `columnwise.make_sums`: the terms of dgamma and of dbeta.
    keeps : bool
        Whether the sums of this batch alone are kept at the start of scratch memory, as two rows.
    skips : bool
        Whether there is nothing to do without dgamma and dbeta.
    """
    DGAMMA, DBETA, ROWS, COLS = kit.words("dgamma dbeta rows cols")
    load, store, kept = kit.load, kit.store, 2 if keeps else 0
    place, chunks_of, over_strips = columnwise.place, columnwise.chunks_of, columnwise.make_over_strips(kit)

    @helper
    def first_chunk(record, column):
        cols = record[COLS]
        return kept * cols, chunks_of(record[ROWS], cols) * cols

    @helper
    def part(record, held, row, i):
        at, table = held
        return load(record[SCRATCH_WORD], at + i), load(record[SCRATCH_WORD], at + table + i)

    sums, sums_of_parts = columnwise.make_sums(kit, hold, term), columnwise.make_sums(kit, first_chunk, part)

    @helper
    def finish(record, column, moment, total):
        if keeps:
            store(record[SCRATCH_WORD], column, moment)
            store(record[SCRATCH_WORD], record[COLS] + column, total)
        add = record[FLAGS_WORD] & _ACCUMULATE != 0
        if record[DGAMMA] != 0:
            store(record[DGAMMA], column, moment + load(record[DGAMMA], column) if add else moment)
        if record[DBETA] != 0:
            store(record[DBETA], column, total + load(record[DBETA], column) if add else total)

    @helper
    def idle(record):
        return skips and record[DGAMMA] == 0 and record[DBETA] == 0

    def whole(record, context):
        if idle(record):
            return
        cols = record[COLS]
        lanes, strips, column, row, last, writes = place(record[ROWS], cols)
        moment, total = sums(record, column, row, last, strips, cols)
        moment, total = over_strips(moment, lanes, strips), over_strips(total, lanes, strips)
        if writes:
            finish(record, column, moment, total)

    def chunk(record, context):
        if idle(record):
            return
        cols = record[COLS]
        lanes, strips, column, row, last, writes = place(record[ROWS], cols)
        moment, total = sums(record, column, row, last, strips, cols)
        moment, total = over_strips(moment, lanes, strips), over_strips(total, lanes, strips)
        if writes:
            at = kept * cols + cuda.blockIdx.y * cols + column
            store(record[SCRATCH_WORD], at, moment)
            store(record[SCRATCH_WORD], at + cuda.gridDim.y * cols, total)

    def add_chunks(record, context):
        if idle(record):
            return
        cols = record[COLS]
        lanes, strips, column, row, last, writes = place(chunks_of(record[ROWS], cols), cols)
        moment, total = sums_of_parts(record, column, row, last, strips, cols)
        moment, total = over_strips(moment, lanes, strips), over_strips(total, lanes, strips)
        if writes:
            finish(record, column, moment, total)

    if kit.algorithm == "whole":
        return [columnwise.whole_stage(whole)]
    return [columnwise.chunk_stage(chunk), columnwise.whole_stage(add_chunks)]


@kernel(
    "layer_norm_param_grad",
    algorithms=columnwise.ALGORITHMS,
    algorithm=columnwise.algorithm_of,
    scratch=lambda dims, itemsize, algorithm: columnwise.table_bytes(dims, itemsize, 2),
)
def layer_norm_param_grad(kit: Kit) -> list[Stage]:
    """Sum dy xhat and dy over the rows."""
    DGAMMA, DY, X, MEAN, RSTD = kit.words("dgamma dy x mean rstd")
    load, real, zero, lack_of = kit.load, kit.real, kit.real(0.0), make_lack_of(kit)

    @helper
    def nothing(record, column):
        return 0

    @helper
    def term(record, held, row, i):
        dy, moment = load(record[DY], i), zero
        if record[DGAMMA] != 0:
            mean = load_double(record[MEAN], row)
            moment = dy * ((load(record[X], i) - real(mean) - lack_of(mean)) * load(record[RSTD], row))
        return moment, dy

    return parameter_stages(kit, nothing, term, skips=True)


@kernel("rms_norm", algorithms=ALGORITHMS, algorithm=algorithm_of)
def rms_norm(kit: Kit) -> list[Stage]:
    """Make y = x rstd gamma in every row, with rstd = 1 / sqrt(mean(x^2) + epsilon); squares are summed in float64."""
    Y, RSTD, X, GAMMA = kit.words("y rstd x gamma")
    ROWS, COLS, EPSILON = kit.words("rows cols epsilon")
    r, real, store_one = row_functions(kit), kit.real, kit.store
    place, load, store, stride, load_vector = r.place, r.load, r.store, r.stride, r.load_vector
    precise, team_total, zero, one = r.precise, r.precise_total, real(0.0), real(1.0)

    @formula
    def squares(x):
        a, b, c, d = precise(x)
        return (a * a + b * b) + (c * c + d * d)

    def rms_norm(record, context):
        x_at, y_at, cols = record[X], record[Y], record[COLS]
        row, begin, first, last, writes = place(record[ROWS], cols)
        end, i, total = begin + cols, first, 0.0
        while i < end:
            total += squares(load(x_at, i, begin, end, zero))
            i += stride
        rstd = real(1.0 / math.sqrt(team_total(total) / np.float64(cols) + as_double(record[EPSILON])))
        if writes:
            store_one(record[RSTD], row, rstd)
        i = first
        while i < last:
            x, g = load(x_at, i, begin, end, zero), load_vector(record[GAMMA], i, begin, end, one)
            y = (x[0] * rstd * g[0], x[1] * rstd * g[1], x[2] * rstd * g[2], x[3] * rstd * g[3])
            store(y_at, i, begin, end, y)
            i += stride

    return [row_stage(kit, rms_norm)]


@kernel("rms_norm_grad", algorithms=ALGORITHMS, algorithm=algorithm_of)
def rms_norm_grad(kit: Kit) -> list[Stage]:
    """Make dx = rstd (g - xhat mean(g xhat)) with g = dy gamma and xhat = x rstd, in every row."""
    DX, DY, X, GAMMA, RSTD = kit.words("dx dy x gamma rstd")
    ROWS, COLS = kit.words("rows cols")
    r, real, load_one = row_functions(kit), kit.real, kit.load
    place, load, store, stride, team_total, load_vector = r.place, r.load, r.store, r.stride, r.total, r.load_vector
    zero, one = real(0.0), real(1.0)

    def rms_norm_grad(record, context):
        dx_at, dy_at, x_at, cols = record[DX], record[DY], record[X], record[COLS]
        row, begin, first, last, _ = place(record[ROWS], cols)
        end, rstd, i, moment = begin + cols, load_one(record[RSTD], row), first, zero
        while i < end:
            x, dy = load(x_at, i, begin, end, zero), load(dy_at, i, begin, end, zero)
            scale = load_vector(record[GAMMA], i, begin, end, one)
            moment += sum_of((
                dy[0] * scale[0] * (x[0] * rstd), dy[1] * scale[1] * (x[1] * rstd),
                dy[2] * scale[2] * (x[2] * rstd), dy[3] * scale[3] * (x[3] * rstd),
            ))  # fmt: skip
            i += stride
        moment = team_total(moment) * (one / real(cols))
        i = first
        while i < last:
            x, dy = load(x_at, i, begin, end, zero), load(dy_at, i, begin, end, zero)
            scale = load_vector(record[GAMMA], i, begin, end, one)
            store(dx_at, i, begin, end, (
                rstd * (dy[0] * scale[0] - x[0] * rstd * moment), rstd * (dy[1] * scale[1] - x[1] * rstd * moment),
                rstd * (dy[2] * scale[2] - x[2] * rstd * moment), rstd * (dy[3] * scale[3] - x[3] * rstd * moment),
            ))  # fmt: skip
            i += stride

    return [row_stage(kit, rms_norm_grad)]


@kernel(
    "rms_norm_param_grad",
    algorithms=columnwise.ALGORITHMS,
    algorithm=columnwise.algorithm_of,
    scratch=lambda dims, itemsize, algorithm: columnwise.table_bytes(dims, itemsize),
)
def rms_norm_param_grad(kit: Kit) -> list[Stage]:
    """Sum dy xhat over the rows."""
    DY, X, RSTD = kit.words("dy x rstd")
    load = kit.load

    @helper
    def term(record, row, i):
        return load(record[DY], i) * (load(record[X], i) * load(record[RSTD], row))

    return columnwise.sum_stages(kit, "dgamma", term)
