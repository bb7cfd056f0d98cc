"""Kernels after the backward pass: penalties, clipping, optimizer steps, constraints."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.backend.cpu.codegen.intrinsics import address, flags_of, float64_pointer, has, int64_pointer
from fastnn.backend.cpu.codegen.kernel import Kit, kernel, part, rows_part
from fastnn.backend.cpu.codegen.options import around_users, formula, helper
from fastnn.formulas import custom, custom_formulas
from fastnn.formulas import optimizers as formulas
from fastnn.formulas.optimizers import HYPER_COLUMNS, PENALTY_COLUMN
from fastnn.program.layout import Counter, Flag

_ACCUMULATE = int(Flag.ACCUMULATE)
_CHUNK, _STEP, _FIRST_STEP = int(Counter.CHUNK_STEP), int(Counter.STEP), int(Counter.FIRST_STEP)


@helper
def _steps_of_state(context: int) -> int:
    """Return how many steps the optimizer's state is old."""
    counters = int64_pointer(context)
    return counters[_STEP] - counters[_FIRST_STEP]


@kernel("optimizer")
def optimizer(kit: Kit, variant: str) -> Callable[..., Any]:
    """Update a range of parameters by a scalar formula, in one pass over parameters, gradients and slots."""
    P, G, S0, S1, S2, HYPER, N, ACCUMULATED, MULTIPLIER = kit.words("p g s0 s1 s2 hyper n accumulated multiplier")
    at, real = kit.at, kit.real
    users = custom.find(variant)
    if users is not None:
        step, slots = custom_formulas.update(users, real, around_users, kit.users), users.slots
    else:
        step = formulas.define(real, formula, kit.math)[variant]
        slots = len(formulas.FORMULAS[variant].slots)
    zero = real(0.0)
    third_is_rate = variant in formulas.FORMULAS and len(formulas.FORMULAS[variant].rates) > 2

    def optimizer(record, context, ith, nth):
        r = int64_pointer(record)
        if r[ACCUMULATED] > 1 and (_steps_of_state(context) + 1) % r[ACCUMULATED] != 0:
            return
        first, last = part(r[N], ith, nth)
        hyper = address(record, context, HYPER) + int64_pointer(context)[_CHUNK] * (HYPER_COLUMNS * 8)
        h = float64_pointer(hyper)
        multiplier = float64_pointer(record)[MULTIPLIER]
        h0, h1 = real(multiplier * h[0]), real(multiplier * h[1])
        h2, h3 = real(multiplier * h[2]) if third_is_rate else real(h[2]), real(h[3])
        h4, h5, h6, h7 = real(h[4]), real(h[5]), real(h[6]), real(h[7])
        p, g = at(record, context, P), at(record, context, G)
        if slots == 0:
            for i in range(first, last):
                p[i], _, _, _ = step(p[i], g[i], zero, zero, zero, h0, h1, h2, h3, h4, h5, h6, h7)
        elif slots == 1:
            s0 = at(record, context, S0)
            for i in range(first, last):
                p[i], s0[i], _, _ = step(p[i], g[i], s0[i], zero, zero, h0, h1, h2, h3, h4, h5, h6, h7)
        elif slots == 2:
            s0, s1 = at(record, context, S0), at(record, context, S1)
            for i in range(first, last):
                p[i], s0[i], s1[i], _ = step(p[i], g[i], s0[i], s1[i], zero, h0, h1, h2, h3, h4, h5, h6, h7)
        else:
            s0, s1, s2 = at(record, context, S0), at(record, context, S1), at(record, context, S2)
            for i in range(first, last):
                p[i], s0[i], s1[i], s2[i] = step(p[i], g[i], s0[i], s1[i], s2[i], h0, h1, h2, h3, h4, h5, h6, h7)

    return optimizer


@kernel("accumulate")
def accumulate(kit: Kit, variant: str) -> Callable[..., Any]:
    """Add gradients up; the last of `steps` steps makes their mean of them, and begins a new sum."""
    G, TOTAL, N, STEPS = kit.words("g total n steps")
    at, real = kit.at, kit.real
    zero = real(0.0)

    def accumulate(record, context, ith, nth):
        r = int64_pointer(record)
        first, last = part(r[N], ith, nth)
        g, total = at(record, context, G), at(record, context, TOTAL)
        if (_steps_of_state(context) + 1) % r[STEPS] != 0:
            for i in range(first, last):
                total[i] += g[i]
            return
        steps = real(r[STEPS])
        for i in range(first, last):
            g[i] = (total[i] + g[i]) / steps
            total[i] = zero

    return accumulate


@kernel("moving_average")
def moving_average(kit: Kit, variant: str) -> Callable[..., Any]:
    """Average the parameters over the steps, and put the mean in their place in some of them."""
    MEAN, P, N, STEPS, OVERWRITE, MOMENTUM = kit.words("mean p n steps overwrite momentum")
    at, real = kit.at, kit.real
    one = real(1.0)

    def moving_average(record, context, ith, nth):
        r = int64_pointer(record)
        stretch = _steps_of_state(context) // r[STEPS]
        # the other factor is made of the rounded one, so that both add up to 1
        momentum = real(float64_pointer(record)[MOMENTUM])
        rest = one - momentum
        first, last = part(r[N], ith, nth)
        mean, p = at(record, context, MEAN), at(record, context, P)
        if stretch == 0:
            for i in range(first, last):
                mean[i] = p[i]
        elif r[OVERWRITE] > 0 and (stretch + 1) % r[OVERWRITE] == 0:
            for i in range(first, last):
                before = mean[i]
                after = p[i] if before != before else momentum * before + rest * p[i]
                mean[i] = after
                p[i] = after
        else:
            for i in range(first, last):
                before = mean[i]
                mean[i] = p[i] if before != before else momentum * before + rest * p[i]

    return moving_average


@kernel("penalty")
def penalty(kit: Kit, variant: str) -> Callable[..., Any]:
    """Add batch s (l1 sum|w| + l2 sum w^2) to the total, and s (l1 sign(w) + 2 l2 w) to the gradient.

    The factor s is this step's, from the hyper row; without one it is 1.
    """
    TOTAL, DW, W, HYPER, N, BATCH, L1, L2 = kit.words("total dw w hyper n batch l1 l2")
    at, real = kit.at, kit.real
    zero, two = real(0.0), real(2.0)

    def penalty(record, context, ith, nth):
        r, params = int64_pointer(record), float64_pointer(record)
        w, scale = at(record, context, W), 1.0
        if has(record, HYPER):
            row = address(record, context, HYPER) + int64_pointer(context)[_CHUNK] * (HYPER_COLUMNS * 8)
            scale = float64_pointer(row)[PENALTY_COLUMN]
        if ith == 0:
            total = float64_pointer(address(record, context, TOTAL))
            absolute, square = 0.0, 0.0
            for i in range(r[N]):
                value = np.float64(w[i])
                absolute += abs(value)
                square += value * value
            total[0] += r[BATCH] * scale * (params[L1] * absolute + params[L2] * square)
        if has(record, DW):
            dw = at(record, context, DW)
            l1, l2 = real(scale * params[L1]), real(scale * params[L2])
            first, last = part(r[N], ith, nth)
            for i in range(first, last):
                sign = l1 if w[i] > zero else (-l1 if w[i] < zero else zero)
                dw[i] += sign + two * l2 * w[i]

    return penalty


@kernel("clip_by_value")
def clip_by_value(kit: Kit, variant: str) -> Callable[..., Any]:
    """Clip a gradient to [-limit, limit]; NaN stays."""
    G, N, LIMIT = kit.words("g n limit")
    at, real = kit.at, kit.real

    def clip_by_value(record, context, ith, nth):
        limit = real(float64_pointer(record)[LIMIT])
        first, last = part(int64_pointer(record)[N], ith, nth)
        g = at(record, context, G)
        for i in range(first, last):
            low = -limit if g[i] < -limit else g[i]
            g[i] = limit if low > limit else low

    return clip_by_value


@kernel("sum_squares")
def sum_squares(kit: Kit, variant: str) -> Callable[..., Any]:
    """Sum squares in float64, in one part: a reduction is never cut, so its result does not depend on parts."""
    TOTAL, X, N = kit.words("total x n")
    at = kit.at

    def sum_squares(record, context, ith, nth):
        if ith == 0:
            total = float64_pointer(address(record, context, TOTAL))
            x = at(record, context, X)
            square = 0.0
            for i in range(int64_pointer(record)[N]):
                square += np.float64(x[i]) * np.float64(x[i])
            total[0] = square + (total[0] if flags_of(record) & _ACCUMULATE != 0 else 0.0)

    return sum_squares


@kernel("clip_by_norm")
def clip_by_norm(kit: Kit, variant: str) -> Callable[..., Any]:
    """Scale a gradient by limit / norm if its norm, the root of the total, exceeds the limit."""
    G, TOTAL, N, LIMIT = kit.words("g total n limit")
    at, real, tiny = kit.at, kit.real, np.float64(np.finfo(kit.real).tiny)

    def clip_by_norm(record, context, ith, nth):
        limit = float64_pointer(record)[LIMIT]
        norm = math.sqrt(float64_pointer(address(record, context, TOTAL))[0])
        if not norm <= limit:
            scale = limit / norm
            first, last = part(int64_pointer(record)[N], ith, nth)
            g = at(record, context, G)
            if scale < tiny:  # it would become 0 in the dtype, and so would the gradient
                for i in range(first, last):
                    g[i] = real(np.float64(g[i]) * scale)
                return
            factor = real(scale)
            for i in range(first, last):
                g[i] *= factor

    return clip_by_norm


@kernel("max_norm")
def max_norm(kit: Kit, variant: str) -> Callable[..., Any]:
    """Scale down every vector along `size` whose L2 norm exceeds the limit; the norm is summed in float64."""
    W, OUTER, SIZE, INNER, LIMIT = kit.words("w outer size inner limit")
    at, real = kit.at, kit.real

    @helper
    def scaled_norm(w, start, size, inner):
        """Return the norm in units of the largest element, since its square may overflow float64, and that element."""
        largest, square = 0.0, 0.0
        for k in range(size):
            value = abs(np.float64(w[start + k * inner]))
            largest = value if value > largest else largest
        if largest == math.inf:
            return largest, 1.0
        for k in range(size):
            value = np.float64(w[start + k * inner]) / largest
            square += value * value
        return math.sqrt(square), largest

    def max_norm(record, context, ith, nth):
        r, limit = int64_pointer(record), float64_pointer(record)[LIMIT]
        size, inner = r[SIZE], r[INNER]
        first, last = rows_part(r[OUTER] * inner, ith, nth)
        w = at(record, context, W)
        for vector in range(first, last):
            start = vector // inner * size * inner + vector % inner
            square = 0.0
            for k in range(size):
                value = np.float64(w[start + k * inner])
                square += value * value
            norm, unit = math.sqrt(square), 1.0
            if norm == math.inf:
                norm, unit = scaled_norm(w, start, size, inner)
            if not norm * unit <= limit:
                scale = limit / norm
                for k in range(size):
                    w[start + k * inner] = real(np.float64(w[start + k * inner]) / unit * scale)

    return max_norm
