"""Kernels of rows that a team of threads holds in registers: each element is read and computed once.

They are for rows of up to `SIZES.longest_warp_row` elements; longer ones are read several times, by a whole block
(`rows.py`, `norms.py`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda

from fastnn.backend.cuda.codegen.kernel import Kit, Stage, ceil_div, ptx
from fastnn.backend.cuda.codegen.options import formula, helper
from fastnn.backend.cuda.codegen.sizes import PACK, SIZES
from fastnn.backend.cuda.kernels.rowwise import TEAMS, higher, make_lack_of, row_functions, row_stage, sum_of

as_double, load_double, store_double = ptx.int_as_double, ptx.LOADS["float64"], ptx.STORES["float64"]

# groups of four per thread; a row of a warp may begin within a pack, and so need one more
_LONGEST = {"thread": PACK, "few": 2 * SIZES.warp, "warp": SIZES.longest_warp_row + PACK * SIZES.warp}
PACKS = {algorithm: ceil_div(longest, PACK * TEAMS[algorithm]) for algorithm, longest in _LONGEST.items()}

#: registers of a thread that may hold elements
_MOST_WORDS = 80


def is_held(kit: Kit, arrays: int = 1) -> bool:
    """Return whether rows of `arrays` operands are held in registers."""
    return kit.algorithm in PACKS and arrays * PACK * PACKS[kit.algorithm] * kit.itemsize // 4 <= _MOST_WORDS


@formula
def put(values, k, x):
    """Put four elements into a thread's local array."""
    values[4 * k], values[4 * k + 1], values[4 * k + 2], values[4 * k + 3] = x[0], x[1], x[2], x[3]


@formula
def get(values, k):
    """Return four elements."""
    return values[4 * k], values[4 * k + 1], values[4 * k + 2], values[4 * k + 3]


def _fetch(kit: Kit) -> Any:
    """Make `fetch(values, address, first, begin, end, fill)`: load all of a thread's elements.

    No element is used before the last load is issued: so all loads of a thread run at the same time.
    """
    r, packs = row_functions(kit), PACKS[kit.algorithm]
    load, stride = r.load, r.stride

    @helper
    def fetch(values, address, first, begin, end, fill):
        for k in range(packs):
            i = first + k * stride
            if i < end:
                put(values, k, load(address, i, begin, end, fill))

    return fetch


def _hold(kit: Kit) -> Any:
    """Make `hold(values, address, first, begin, end)`: load a thread's elements and return the largest.

    NaN is skipped. The largest is finite, so that a row of -inf only gives no difference of infinities.
    """
    real, packs, stride, fetch = kit.real, PACKS[kit.algorithm], row_functions(kit).stride, _fetch(kit)
    lowest, nothing = real(np.finfo(real).min), real(-np.inf)

    @helper
    def hold(values, address, first, begin, end):
        fetch(values, address, first, begin, end, nothing)
        peak = lowest
        for k in range(packs):
            if first + k * stride < end:
                x = get(values, k)
                peak = higher(higher(x[0], x[1]), higher(higher(x[2], x[3]), peak))
        return peak

    return hold


def softmax(kit: Kit) -> list[Stage]:
    """Make every row exp(x - max) / sum."""
    Y, X, ROWS, COLS = kit.words("y x rows cols")
    r, real, exp_weight, packs = row_functions(kit), kit.real, kit.math.exp_weight, PACKS[kit.algorithm]
    place, store, stride, team_total, team_largest, hold = r.place, r.store, r.stride, r.total, r.largest, _hold(kit)
    zero, one, count = real(0.0), real(1.0), 4 * packs

    def softmax(record, context):
        _, begin, first, last, _ = place(record[ROWS], record[COLS])
        end, values, total = begin + record[COLS], cuda.local.array(count, real), zero
        peak = team_largest(hold(values, record[X], first, begin, end))
        for k in range(packs):
            if first + k * stride < end:
                x = get(values, k)
                e = exp_weight(x[0] - peak), exp_weight(x[1] - peak), exp_weight(x[2] - peak), exp_weight(x[3] - peak)
                put(values, k, e)
                total += sum_of(e)
        scale = one / team_total(total)
        for k in range(packs):
            i = first + k * stride
            if i < last:
                e = get(values, k)
                store(record[Y], i, begin, end, (e[0] * scale, e[1] * scale, e[2] * scale, e[3] * scale))

    return [row_stage(kit, softmax)]


def log_softmax(kit: Kit) -> list[Stage]:
    """Make every row x - max - log(sum(exp(x - max)))."""
    Y, X, ROWS, COLS = kit.words("y x rows cols")
    r, real, exp_weight, packs = row_functions(kit), kit.real, kit.math.exp_weight, PACKS[kit.algorithm]
    place, store, stride, team_total, team_largest, hold = r.place, r.store, r.stride, r.total, r.largest, _hold(kit)
    zero, count, log = real(0.0), 4 * packs, kit.math.log

    def log_softmax(record, context):
        _, begin, first, last, _ = place(record[ROWS], record[COLS])
        end, values, total = begin + record[COLS], cuda.local.array(count, real), zero
        peak = team_largest(hold(values, record[X], first, begin, end))
        for k in range(packs):
            if first + k * stride < end:
                x = get(values, k)
                d = x[0] - peak, x[1] - peak, x[2] - peak, x[3] - peak
                put(values, k, d)
                total += sum_of((exp_weight(d[0]), exp_weight(d[1]), exp_weight(d[2]), exp_weight(d[3])))
        total = log(team_total(total))
        for k in range(packs):
            i = first + k * stride
            if i < last:
                d = get(values, k)
                store(record[Y], i, begin, end, (d[0] - total, d[1] - total, d[2] - total, d[3] - total))

    return [row_stage(kit, log_softmax)]


def softmax_grad(kit: Kit) -> list[Stage]:
    """Make dx = y (dy - sum(dy y)) in every row."""
    DX, DY, Y, ROWS, COLS = kit.words("dx dy y rows cols")
    r, real, packs = row_functions(kit), kit.real, PACKS[kit.algorithm]
    place, store, stride, team_total, fetch = r.place, r.store, r.stride, r.total, _fetch(kit)
    zero, count = real(0.0), 4 * packs

    def softmax_grad(record, context):
        _, begin, first, last, _ = place(record[ROWS], record[COLS])
        end, total = begin + record[COLS], zero
        ys, dys = cuda.local.array(count, real), cuda.local.array(count, real)
        fetch(ys, record[Y], first, begin, end, zero)
        fetch(dys, record[DY], first, begin, end, zero)
        for k in range(packs):
            if first + k * stride < end:
                y, dy = get(ys, k), get(dys, k)
                total += sum_of((dy[0] * y[0], dy[1] * y[1], dy[2] * y[2], dy[3] * y[3]))
        total = team_total(total)
        for k in range(packs):
            i = first + k * stride
            if i < last:
                y, dy = get(ys, k), get(dys, k)
                store(record[DX], i, begin, end, (
                    y[0] * (dy[0] - total), y[1] * (dy[1] - total), y[2] * (dy[2] - total), y[3] * (dy[3] - total),
                ))  # fmt: skip

    return [row_stage(kit, softmax_grad)]


def layer_norm(kit: Kit) -> list[Stage]:
    """Make y = (x - mean) rstd gamma + beta in every row; mean and variance are summed in float64."""
    Y, MEAN, RSTD, X, GAMMA, BETA = kit.words("y mean rstd x gamma beta")
    ROWS, COLS, EPSILON = kit.words("rows cols epsilon")
    r, real, store_one, packs = row_functions(kit), kit.real, kit.store, PACKS[kit.algorithm]
    place, store, stride, load_vector = r.place, r.store, r.stride, r.load_vector
    inside, fetch, zero, one, count = r.inside, _fetch(kit), real(0.0), real(1.0), 4 * packs
    precise, lack_of, team_total = r.precise, make_lack_of(kit), r.precise_total

    @formula
    def squares(x, mean, here):
        a, b, c, d = precise(x)
        a, b = a - mean if here[0] else 0.0, b - mean if here[1] else 0.0
        c, d = c - mean if here[2] else 0.0, d - mean if here[3] else 0.0
        return (a * a + b * b) + (c * c + d * d)

    def layer_norm(record, context):
        cols = record[COLS]
        row, begin, first, last, writes = place(record[ROWS], cols)
        end, values, total, variance = begin + cols, cuda.local.array(count, real), 0.0, 0.0
        share = 1.0 / np.float64(cols)
        fetch(values, record[X], first, begin, end, zero)
        for k in range(packs):
            if first + k * stride < end:
                total += sum_of(precise(get(values, k)))
        mean = team_total(total) * share
        for k in range(packs):
            i = first + k * stride
            if i < end:
                variance += squares(get(values, k), mean, inside(i, begin, end))
        rstd = real(1.0 / math.sqrt(team_total(variance) * share + as_double(record[EPSILON])))
        centre, lack = real(mean), lack_of(mean)
        if writes:
            store_double(record[MEAN], row, mean)
            store_one(record[RSTD], row, rstd)
        for k in range(packs):
            i = first + k * stride
            if i < last:
                x = get(values, k)
                g = load_vector(record[GAMMA], i, begin, end, one)
                b = load_vector(record[BETA], i, begin, end, zero)
                store(record[Y], i, begin, end, (
                    (x[0] - centre - lack) * rstd * g[0] + b[0], (x[1] - centre - lack) * rstd * g[1] + b[1],
                    (x[2] - centre - lack) * rstd * g[2] + b[2], (x[3] - centre - lack) * rstd * g[3] + b[3],
                ))  # fmt: skip

    return [row_stage(kit, layer_norm)]


def layer_norm_grad(kit: Kit) -> list[Stage]:
    """Make dx = rstd (g - mean(g) - xhat mean(g xhat)) with g = dy gamma, in every row."""
    DX, DY, X, GAMMA, MEAN, RSTD = kit.words("dx dy x gamma mean rstd")
    ROWS, COLS = kit.words("rows cols")
    r, real, load_one, packs = row_functions(kit), kit.real, kit.load, PACKS[kit.algorithm]
    place, store, stride, team_total, load_vector = r.place, r.store, r.stride, r.total, r.load_vector
    fetch, zero, one, count, lack_of = _fetch(kit), real(0.0), real(1.0), 4 * packs, make_lack_of(kit)

    def layer_norm_grad(record, context):
        cols = record[COLS]
        row, begin, first, last, _ = place(record[ROWS], cols)
        end, share, total, moment = begin + cols, one / real(cols), zero, zero
        mean, rstd = load_double(record[MEAN], row), load_one(record[RSTD], row)
        centre, lack = real(mean), lack_of(mean)
        gs, hats = cuda.local.array(count, real), cuda.local.array(count, real)
        fetch(hats, record[X], first, begin, end, centre)
        fetch(gs, record[DY], first, begin, end, zero)
        for k in range(packs):
            i = first + k * stride
            if i < end:
                x, dy = get(hats, k), get(gs, k)
                scale = load_vector(record[GAMMA], i, begin, end, one)
                g = dy[0] * scale[0], dy[1] * scale[1], dy[2] * scale[2], dy[3] * scale[3]
                h = (
                    (x[0] - centre - lack) * rstd, (x[1] - centre - lack) * rstd,
                    (x[2] - centre - lack) * rstd, (x[3] - centre - lack) * rstd,
                )  # fmt: skip
                put(gs, k, g)
                put(hats, k, h)
                total += sum_of(g)
                moment += sum_of((g[0] * h[0], g[1] * h[1], g[2] * h[2], g[3] * h[3]))
        total, moment = team_total(total) * share, team_total(moment) * share
        for k in range(packs):
            i = first + k * stride
            if i < last:
                g, h = get(gs, k), get(hats, k)
                store(record[DX], i, begin, end, (
                    rstd * (g[0] - total - h[0] * moment), rstd * (g[1] - total - h[1] * moment),
                    rstd * (g[2] - total - h[2] * moment), rstd * (g[3] - total - h[3] * moment),
                ))  # fmt: skip

    return [row_stage(kit, layer_norm_grad)]
