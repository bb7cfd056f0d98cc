"""Kernels of the optimizers' steps, of gradients accumulated over steps, and of averages of weights."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda

from fastnn.backend.cuda.codegen import custom_code
from fastnn.backend.cuda.codegen.kernel import (
    Kit,
    Stage,
    kernel,
    packs,
    ptx,
)
from fastnn.backend.cuda.codegen.options import formula, helper
from fastnn.backend.cuda.codegen.sizes import PACK, SIZES
from fastnn.formulas import optimizers as formulas
from fastnn.formulas.optimizers import HYPER_COLUMNS
from fastnn.program.layout import BAD_ROW, NO_ROW, Counter, Flag

_ACCUMULATE = int(Flag.ACCUMULATE)
_CHUNK, _STEP, _FIRST_STEP = int(Counter.CHUNK_STEP), int(Counter.STEP), int(Counter.FIRST_STEP)
_THREADS, _TEAM = SIZES.threads, SIZES.team
load_int64, as_double = ptx.LOADS["int64"], ptx.int_as_double
load_double, store_double = ptx.LOADS["float64"], ptx.STORES["float64"]


@helper
def _steps_of_state(context: Any) -> Any:
    """Return how many steps the optimizer's state is old."""
    return load_int64(context, _STEP) - load_int64(context, _FIRST_STEP)


@kernel("optimizer", variants=lambda algorithm: tuple(formulas.FORMULAS))
def optimizer(kit: Kit) -> list[Stage]:
    """Update parameters and the optimizer's state by a scalar formula, in one pass."""
    P, G, S0, S1, S2, HYPER, N, ACCUMULATED, MULTIPLIER = kit.words("p g s0 s1 s2 hyper n accumulated multiplier")
    real, load, store, load_pack, store_pack = kit.real, kit.load, kit.store, kit.load_pack, kit.store_pack
    step, slots = custom_code.update(kit.variant, real) or (
        formulas.define(real, formula, kit.math)[kit.variant],
        len(formulas.FORMULAS[kit.variant].slots),
    )
    zero = real(0.0)
    zeros = zero, zero, zero, zero
    rates = len(formulas.FORMULAS[kit.variant].rates) if kit.variant in formulas.FORMULAS else 2

    @helper
    def scalar(row, index, multiplier):
        return real(load_double(row, index) * multiplier if index < rates else load_double(row, index))

    def optimizer(record, context):
        if load_int64(context, BAD_ROW) != NO_ROW:
            return
        if record[ACCUMULATED] > 1 and (_steps_of_state(context) + 1) % record[ACCUMULATED] != 0:
            return
        n, i = record[N], PACK * (np.int64(_THREADS) * cuda.blockIdx.x + cuda.threadIdx.x)
        h = record[HYPER] + load_int64(context, _CHUNK) * (8 * HYPER_COLUMNS)
        m = as_double(record[MULTIPLIER])
        h0, h1, h2, h3 = scalar(h, 0, m), scalar(h, 1, m), scalar(h, 2, m), scalar(h, 3, m)
        h4, h5, h6, h7 = scalar(h, 4, m), scalar(h, 5, m), scalar(h, 6, m), scalar(h, 7, m)
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
