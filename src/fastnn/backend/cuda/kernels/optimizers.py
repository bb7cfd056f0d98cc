"""Kernels after the backward pass: penalties, clipping, optimizer steps, constraints."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda

from fastnn.backend.cuda.codegen import custom_code
from fastnn.backend.cuda.codegen.kernel import (
    SCRATCH_WORD,
    Dims,
    Kit,
    Stage,
    ceil_div,
    kernel,
    packs,
    ptx,
)
from fastnn.backend.cuda.codegen.options import formula, helper
from fastnn.backend.cuda.codegen.sizes import PACK, SIZES
from fastnn.formulas import optimizers as formulas
from fastnn.formulas.optimizers import HYPER_COLUMNS
from fastnn.program.layout import BAD_ROW, FLAGS_WORD, NO_ROW, Counter, Flag

_ACCUMULATE = int(Flag.ACCUMULATE)
_CHUNK, _STEP, _FIRST_STEP = int(Counter.CHUNK_STEP), int(Counter.STEP), int(Counter.FIRST_STEP)
_THREADS, _TEAM = SIZES.threads, SIZES.team
load_int64, as_double = ptx.LOADS["int64"], ptx.int_as_double
load_double, store_double = ptx.LOADS["float64"], ptx.STORES["float64"]

#: maximum number of parts of a sum, one per block: 1024 fill a large GPU, and are few to add for a last block
_PARTS = 4 * _TEAM
#: up to this many elements use one block, since a second launch takes longer
_ALONE = 4 * PACK * _TEAM

# a block that reduces columns of a matrix: threads along a row, and threads per column
_LANES = SIZES.lanes // 2
_STRIPS = _TEAM // _LANES


@helper
def _steps_of_state(context: Any) -> Any:
    """Return how many steps the optimizer's state is old."""
    return load_int64(context, _STEP) - load_int64(context, _FIRST_STEP)


@kernel("optimizer", variants=lambda algorithm: tuple(formulas.FORMULAS))
def optimizer(kit: Kit) -> list[Stage]:
    """Update parameters and the optimizer's state by a scalar formula, in one pass."""
    P, G, S0, S1, S2, HYPER, N, ACCUMULATED = kit.words("p g s0 s1 s2 hyper n accumulated")
    real, load, store, load_pack, store_pack = kit.real, kit.load, kit.store, kit.load_pack, kit.store_pack
    step, slots = custom_code.update(kit.variant, real) or (
        formulas.define(real, formula, kit.math)[kit.variant],
        len(formulas.FORMULAS[kit.variant].slots),
    )
    zero = real(0.0)
    zeros = zero, zero, zero, zero

    @helper
    def scalar(row, index):
        return real(load_double(row, index))

    def optimizer(record, context):
        if load_int64(context, BAD_ROW) != NO_ROW:
            return
        if record[ACCUMULATED] > 1 and (_steps_of_state(context) + 1) % record[ACCUMULATED] != 0:
            return
        n, i = record[N], PACK * (np.int64(_THREADS) * cuda.blockIdx.x + cuda.threadIdx.x)
        h = record[HYPER] + load_int64(context, _CHUNK) * (8 * HYPER_COLUMNS)
        h0, h1, h2, h3 = scalar(h, 0), scalar(h, 1), scalar(h, 2), scalar(h, 3)
        h4, h5, h6, h7 = scalar(h, 4), scalar(h, 5), scalar(h, 6), scalar(h, 7)
        if i + PACK <= n:
            p, g = load_pack(record[P], i), load_pack(record[G], i)
            s0 = load_pack(record[S0], i) if slots > 0 else zeros
            s1 = load_pack(record[S1], i) if slots > 1 else zeros
            s2 = load_pack(record[S2], i) if slots > 2 else zeros
            a = step(p[0], g[0], s0[0], s1[0], s2[0], h0, h1, h2, h3, h4, h5, h6, h7)
            b = step(p[1], g[1], s0[1], s1[1], s2[1], h0, h1, h2, h3, h4, h5, h6, h7)
            c = step(p[2], g[2], s0[2], s1[2], s2[2], h0, h1, h2, h3, h4, h5, h6, h7)
            d = step(p[3], g[3], s0[3], s1[3], s2[3], h0, h1, h2, h3, h4, h5, h6, h7)
            store_pack(record[P], i, (a[0], b[0], c[0], d[0]))
            if slots > 0:
                store_pack(record[S0], i, (a[1], b[1], c[1], d[1]))
            if slots > 1:
                store_pack(record[S1], i, (a[2], b[2], c[2], d[2]))
            if slots > 2:
                store_pack(record[S2], i, (a[3], b[3], c[3], d[3]))
        else:
            for e in range(i, n):
                m0 = load(record[S0], e) if slots > 0 else zero
                m1 = load(record[S1], e) if slots > 1 else zero
                m2 = load(record[S2], e) if slots > 2 else zero
                one = step(load(record[P], e), load(record[G], e), m0, m1, m2, h0, h1, h2, h3, h4, h5, h6, h7)
                store(record[P], e, one[0])
                if slots > 0:
                    store(record[S0], e, one[1])
                if slots > 1:
                    store(record[S1], e, one[2])
                if slots > 2:
                    store(record[S2], e, one[3])

    return [Stage(optimizer, packs(), _THREADS)]


@kernel("accumulate")
def accumulate(kit: Kit) -> list[Stage]:
    """Add gradients up; the last of `steps` steps makes their mean of them, and begins a new sum."""
    G, TOTAL, N, STEPS = kit.words("g total n steps")
    real, load, store, load_pack, store_pack = kit.real, kit.load, kit.store, kit.load_pack, kit.store_pack
    zero = real(0.0)

    @formula
    def mean(total, steps):
        return total / steps

    def accumulate(record, context):
        if load_int64(context, BAD_ROW) != NO_ROW:
            return
        last = (_steps_of_state(context) + 1) % record[STEPS] == 0
        n, i, steps = record[N], PACK * (np.int64(_THREADS) * cuda.blockIdx.x + cuda.threadIdx.x), real(record[STEPS])
        if i + PACK <= n:
            a, b = load_pack(record[TOTAL], i), load_pack(record[G], i)
            a = a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]
            if last:
                store_pack(record[G], i, (mean(a[0], steps), mean(a[1], steps), mean(a[2], steps), mean(a[3], steps)))
                store_pack(record[TOTAL], i, (zero, zero, zero, zero))
            else:
                store_pack(record[TOTAL], i, a)
        else:
            for e in range(i, n):
                total = load(record[TOTAL], e) + load(record[G], e)
                if last:
                    store(record[G], e, mean(total, steps))
                    total = zero
                store(record[TOTAL], e, total)

    return [Stage(accumulate, packs(), _THREADS)]


@kernel("moving_average")
def moving_average(kit: Kit) -> list[Stage]:
    """Average the parameters over the steps, and put the mean in their place in some of them."""
    MEAN, P, N, STEPS, OVERWRITE, MOMENTUM = kit.words("mean p n steps overwrite momentum")
    real, load, store, load_pack, store_pack = kit.real, kit.load, kit.store, kit.load_pack, kit.store_pack
    one = real(1.0)

    @formula
    def moved(before, p, momentum):
        return p if before != before else momentum * before + (one - momentum) * p

    def moving_average(record, context):
        if load_int64(context, BAD_ROW) != NO_ROW:
            return
        stretch = _steps_of_state(context) // record[STEPS]
        overwrites = record[OVERWRITE] > 0 and (stretch + 1) % record[OVERWRITE] == 0
        n, i = record[N], PACK * (np.int64(_THREADS) * cuda.blockIdx.x + cuda.threadIdx.x)
        momentum = real(as_double(record[MOMENTUM]))
        if i + PACK <= n:
            p = load_pack(record[P], i)
            if stretch > 0:
                m = load_pack(record[MEAN], i)
                p = (
                    moved(m[0], p[0], momentum), moved(m[1], p[1], momentum), moved(m[2], p[2], momentum),
                    moved(m[3], p[3], momentum),
                )  # fmt: skip
            store_pack(record[MEAN], i, p)
            if overwrites:
                store_pack(record[P], i, p)
        else:
            for e in range(i, n):
                value = load(record[P], e)
                if stretch > 0:
                    value = moved(load(record[MEAN], e), value, momentum)
                store(record[MEAN], e, value)
                if overwrites:
                    store(record[P], e, value)

    return [Stage(moving_average, packs(), _THREADS)]


def _sum_algorithm(dims: Dims, flags: Flag) -> str:
    return "" if dims["n"] <= _ALONE else "parts"


def _sum_scratch(dims: Dims, itemsize: int, algorithm: str) -> int:
    return 8 * _PARTS


def _summed(kit: Kit, part: Any, finish: Any) -> list[Stage]:
    """Make the stages of a sum over n elements, in float64.

    `part(record, first, step)` sums the packs at `first`, `first + step`, ...; `finish(record, value)` takes the sum.
    """
    (N,) = kit.words("n")
    total = kit.team(_TEAM, "float64").total

    def parts(record, context):
        if load_int64(context, BAD_ROW) != NO_ROW:
            return
        block, blocks = np.int64(cuda.blockIdx.x), np.int64(cuda.gridDim.x)
        value = total(part(record, PACK * (_TEAM * block + cuda.threadIdx.x), PACK * _TEAM * blocks))
        if cuda.threadIdx.x == 0:
            if blocks == 1:
                finish(record, value)
            else:
                store_double(record[SCRATCH_WORD], block, value)

    def last(record, context):
        if load_int64(context, BAD_ROW) != NO_ROW:
            return
        many = min((record[N] + (PACK * _TEAM - 1)) // (PACK * _TEAM), _PARTS)
        value, i = 0.0, cuda.threadIdx.x
        while i < many:
            value += load_double(record[SCRATCH_WORD], i)
            i += _TEAM
        value = total(value)
        if cuda.threadIdx.x == 0:
            finish(record, value)

    if kit.algorithm == "":
        return [Stage(parts, lambda dims: (1, 1), _TEAM)]
    grid = lambda dims: (min(ceil_div(dims["n"], PACK * _TEAM), _PARTS), 1)  # noqa: E731
    return [Stage(parts, grid, _TEAM), Stage(last, lambda dims: (1, 1), _TEAM)]


@kernel("sum_squares", algorithms=("", "parts"), algorithm=_sum_algorithm, scratch=_sum_scratch)
def sum_squares(kit: Kit) -> list[Stage]:
    """Sum squares in float64."""
    TOTAL, X, N = kit.words("total x n")
    load, load_pack = kit.load, kit.load_pack

    @formula
    def square(x):
        return np.float64(x) * np.float64(x)

    @helper
    def part(record, first, step):
        n, i, value = record[N], first, 0.0
        while i + PACK <= n:
            x = load_pack(record[X], i)
            value += (square(x[0]) + square(x[1])) + (square(x[2]) + square(x[3]))
            i += step
        for e in range(i, n):
            value += square(load(record[X], e))
        return value

    @helper
    def finish(record, value):
        if record[FLAGS_WORD] & _ACCUMULATE != 0:
            value += load_double(record[TOTAL], 0)
        store_double(record[TOTAL], 0, value)

    return _summed(kit, part, finish)


@kernel("penalty", algorithms=("", "parts"), algorithm=_sum_algorithm, scratch=_sum_scratch)
def penalty(kit: Kit) -> list[Stage]:
    """Add batch (l1 sum|w| + l2 sum w^2) to the total, and l1 sign(w) + 2 l2 w to the gradient."""
    TOTAL, DW, W, N, BATCH, L1, L2 = kit.words("total dw w n batch l1 l2")
    real, load, store, load_pack, store_pack = kit.real, kit.load, kit.store, kit.load_pack, kit.store_pack
    zero, two = real(0.0), real(2.0)

    @formula
    def gradient(w, l1, l2):
        sign = l1 if w > zero else (-l1 if w < zero else zero)
        return sign + two * l2 * w

    @formula
    def size(x):
        return abs(np.float64(x))

    @formula
    def square(x):
        return np.float64(x) * np.float64(x)

    @helper
    def part(record, first, step):
        l1, l2 = real(as_double(record[L1])), real(as_double(record[L2]))
        n, i, absolute, squares = record[N], first, 0.0, 0.0
        while i + PACK <= n:
            w = load_pack(record[W], i)
            if record[DW] != 0:
                dw = load_pack(record[DW], i)
                store_pack(record[DW], i, (
                    dw[0] + gradient(w[0], l1, l2), dw[1] + gradient(w[1], l1, l2),
                    dw[2] + gradient(w[2], l1, l2), dw[3] + gradient(w[3], l1, l2),
                ))  # fmt: skip
            absolute += (size(w[0]) + size(w[1])) + (size(w[2]) + size(w[3]))
            squares += (square(w[0]) + square(w[1])) + (square(w[2]) + square(w[3]))
            i += step
        for e in range(i, n):
            one = load(record[W], e)
            if record[DW] != 0:
                store(record[DW], e, load(record[DW], e) + gradient(one, l1, l2))
            absolute += size(one)
            squares += square(one)
        return as_double(record[L1]) * absolute + as_double(record[L2]) * squares

    @helper
    def finish(record, value):
        store_double(record[TOTAL], 0, load_double(record[TOTAL], 0) + np.float64(record[BATCH]) * value)

    return _summed(kit, part, finish)


@kernel("clip_by_value")
def clip_by_value(kit: Kit) -> list[Stage]:
    """Clip a gradient to [-limit, limit]; NaN stays."""
    G, N, LIMIT = kit.words("g n limit")
    real, load, store, load_pack, store_pack = kit.real, kit.load, kit.store, kit.load_pack, kit.store_pack

    @formula
    def clip(g, limit):
        low = -limit if g < -limit else g
        return limit if low > limit else low

    def clip_by_value(record, context):
        n, i = record[N], PACK * (np.int64(_THREADS) * cuda.blockIdx.x + cuda.threadIdx.x)
        limit = real(as_double(record[LIMIT]))
        if i + PACK <= n:
            g = load_pack(record[G], i)
            store_pack(record[G], i, (clip(g[0], limit), clip(g[1], limit), clip(g[2], limit), clip(g[3], limit)))
        else:
            for e in range(i, n):
                store(record[G], e, clip(load(record[G], e), limit))

    return [Stage(clip_by_value, packs(), _THREADS)]


@kernel("clip_by_norm")
def clip_by_norm(kit: Kit) -> list[Stage]:
    """Scale a gradient by limit / norm if its norm, the root of the total, exceeds the limit."""
    G, TOTAL, N, LIMIT = kit.words("g total n limit")
    real, load, store, load_pack, store_pack = kit.real, kit.load, kit.store, kit.load_pack, kit.store_pack
    one, tiny, up, down = real(1.0), float(np.finfo(real).tiny), 2.0**100, real(2.0**-100)

    def clip_by_norm(record, context):
        # one root and one quotient per block: GPUs for graphics take 64 times as long for float64
        shared = cuda.shared.array(2, real)
        if cuda.threadIdx.x == 0:
            limit, norm = as_double(record[LIMIT]), math.sqrt(load_double(record[TOTAL], 0))
            scale = 1.0 if norm <= limit else limit / norm
            # a scale that underflows the dtype is split into two factors
            shared[0], shared[1] = (real(scale * up), down) if scale < tiny else (real(scale), one)
        cuda.syncthreads()
        scale, rest = shared[0], shared[1]
        if scale == one:
            return
        n, i = record[N], PACK * (np.int64(_THREADS) * cuda.blockIdx.x + cuda.threadIdx.x)
        if i + PACK <= n:
            g = load_pack(record[G], i)
            store_pack(record[G], i, (
                g[0] * scale * rest, g[1] * scale * rest, g[2] * scale * rest, g[3] * scale * rest,
            ))  # fmt: skip
        else:
            for e in range(i, n):
                store(record[G], e, load(record[G], e) * scale * rest)

    return [Stage(clip_by_norm, packs(), _THREADS)]


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
