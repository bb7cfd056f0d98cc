"""Kernels that normalise columns: batch normalisation, with the batch's or the moving statistics, and gradients.

Sums over the rows are computed in the dtype for 64 rows at a time, and added up in float64. Statistics take two
passes: the second one sums the distances from the rough mean of the first, and their squares. So neither the number of
rows nor an offset costs precision. (Float64 sums in every row take twice as many vectors: 128 x 256 rose from 7.7 to
9.6 us.)
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from fastnn.backend.cpu.codegen.intrinsics import (
    address,
    flags_of,
    float64_pointer,
    has,
    int64_pointer,
    smaller,
    stack_bytes,
)
from fastnn.backend.cpu.codegen.kernel import Kit, kernel, part
from fastnn.backend.cpu.codegen.options import inlined
from fastnn.backend.cpu.kernels.exact_moments import centred, moment_functions
from fastnn.program.layout import Flag

_ACCUMULATE = int(Flag.ACCUMULATE)
# Wide enough to read whole lines of a row, narrow enough for the sums to stay in the first-level cache.
_BLOCK = 1024
# Without sums a block may be wider: 4096 x 4096 in blocks of 512 columns took 1.25 times as long.
_WIDE = 4096
# Elements of short rows that are normalised together, as one row; columns of one part at most, see `part`.
_TOGETHER, _SHORT = 512, 64
# Rows that are summed in the dtype.
STRETCH = 64


def _block_sums(kit: Kit) -> SimpleNamespace:
    """Make the sums of a block of columns, whose first element in row 0 is x[start].

    `sum_values(x, start, rows, cols, count, near, sums)` sets sums; `sum_distances(..., centres, near, near_squares,
    sums, squares)` sets the sums of the distances from `centres` and of their squares; `sum_products(g, x, ...,
    centres, lacks, factors, near, near_totals, moments, totals)` sets those of g ((x - centre) factor - lack), and of
    g. The sums are float64, `near` is memory for the sums of a stretch; all of it is on the stack.
    """
    zero = kit.real(0.0)

    @inlined
    def clear(count, near, sums):
        for j in range(count):
            near[j] = zero
        for j in range(count):
            sums[j] = 0.0

    @inlined
    def carry(count, near, sums):
        for j in range(count):
            sums[j] += np.float64(near[j])
        for j in range(count):
            near[j] = zero

    @inlined
    def sum_values(x, start, rows, cols, count, near, sums):
        clear(count, near, sums)
        row = 0
        while row + 8 <= rows:
            a = start + row * cols
            b, c, d = a + cols, a + 2 * cols, a + 3 * cols
            e, f, g, h = a + 4 * cols, a + 5 * cols, a + 6 * cols, a + 7 * cols
            for j in range(count):
                upper = (x[a + j] + x[b + j]) + (x[c + j] + x[d + j])
                lower = (x[e + j] + x[f + j]) + (x[g + j] + x[h + j])
                near[j] += upper + lower
            row += 8
            if row % STRETCH == 0:
                carry(count, near, sums)
        while row < rows:
            a = start + row * cols
            for j in range(count):
                near[j] += x[a + j]
            row += 1
        carry(count, near, sums)

    @inlined
    def sum_distances(x, start, rows, cols, count, centres, near, near_squares, sums, squares):
        clear(count, near, sums)
        clear(count, near_squares, squares)
        row = 0
        while row + 8 <= rows:
            a = start + row * cols
            b, c, d = a + cols, a + 2 * cols, a + 3 * cols
            e, f, g, h = a + 4 * cols, a + 5 * cols, a + 6 * cols, a + 7 * cols
            for j in range(count):
                m = centres[j]
                p, q, r, s = centred(x[a + j], m), centred(x[b + j], m), centred(x[c + j], m), centred(x[d + j], m)
                t, u, v, w = centred(x[e + j], m), centred(x[f + j], m), centred(x[g + j], m), centred(x[h + j], m)
                near[j] += ((p + q) + (r + s)) + ((t + u) + (v + w))
                near_squares[j] += ((p * p + q * q) + (r * r + s * s)) + ((t * t + u * u) + (v * v + w * w))
            row += 8
            if row % STRETCH == 0:
                carry(count, near, sums)
                carry(count, near_squares, squares)
        while row < rows:
            a = start + row * cols
            for j in range(count):
                p = centred(x[a + j], centres[j])
                near[j] += p
                near_squares[j] += p * p
            row += 1
        carry(count, near, sums)
        carry(count, near_squares, squares)

    @inlined
    def sum_products(g, x, start, rows, cols, count, centres, lacks, factors, near, near_totals, moments, totals):
        clear(count, near, moments)
        clear(count, near_totals, totals)
        row = 0
        while row + 4 <= rows:
            a = start + row * cols
            b, c, d = a + cols, a + 2 * cols, a + 3 * cols
            for j in range(count):
                m, lack, k = centres[j], lacks[j], factors[j]
                p, q, r, s = g[a + j], g[b + j], g[c + j], g[d + j]
                upper = p * (centred(x[a + j], m) * k - lack) + q * (centred(x[b + j], m) * k - lack)
                lower = r * (centred(x[c + j], m) * k - lack) + s * (centred(x[d + j], m) * k - lack)
                near[j] += upper + lower
                near_totals[j] += (p + q) + (r + s)
            row += 4
            if row % STRETCH == 0:
                carry(count, near, moments)
                carry(count, near_totals, totals)
        while row < rows:
            a = start + row * cols
            for j in range(count):
                near[j] += g[a + j] * (centred(x[a + j], centres[j]) * factors[j] - lacks[j])
                near_totals[j] += g[a + j]
            row += 1
        carry(count, near, moments)
        carry(count, near_totals, totals)

    return SimpleNamespace(sum_values=sum_values, sum_distances=sum_distances, sum_products=sum_products)


def _normalize(kit: Kit) -> Any:
    """Make the function that writes y = (x - mean) rstd gamma + beta for a block of columns.

    The mean is the sum of a centre and its rounding error, since at a large offset the dtype is not precise enough:
    y = (x - centre) scale + shift. `scales` holds rstd at the call; it and `shifts` are on the stack.
    """
    Y, X, GAMMA, BETA, ROWS, COLS = kit.words("y x gamma beta rows cols")
    at, real = kit.at, kit.real
    zero, infinity, together, short = real(0.0), real(np.inf), _TOGETHER, _SHORT

    @inlined
    def normalize(record, context, first, count, centres, lacking, scales, shifts):
        r = int64_pointer(record)
        cols = r[COLS]
        y, x = at(record, context, Y), at(record, context, X)
        if has(record, GAMMA):
            gamma = at(record, context, GAMMA)
            for j in range(count):
                scales[j] *= gamma[first + j]
        for j in range(count):
            lack = lacking[j] * scales[j]
            # an infinite gamma has no shift: the difference of two infinities would be NaN
            shifts[j] = -lack if abs(lack) < infinity else zero
        if has(record, BETA):
            beta = at(record, context, BETA)
            for j in range(count):
                shifts[j] += beta[first + j]
        rows, done = r[ROWS], 0
        if count == cols and cols <= short:
            # short rows, side by side, are one long row: in the caches 1.7 times as fast (MobileNet's)
            several = together // cols
            width = several * cols
            for j in range(cols, width):
                centres[j], scales[j], shifts[j] = centres[j - cols], scales[j - cols], shifts[j - cols]
            done = rows // several * several
            for block in range(done // several):
                i = block * width
                for j in range(width):
                    y[i + j] = centred(x[i + j], centres[j]) * scales[j] + shifts[j]
        for row in range(done, rows):
            i = row * cols + first
            for j in range(count):
                y[i + j] = centred(x[i + j], centres[j]) * scales[j] + shifts[j]

    return normalize


@kernel("batch_norm")
def batch_norm(kit: Kit, variant: str) -> Callable[..., Any]:
    """Normalise columns by the batch's mean and biased variance, and move the moving ones towards them."""
    Y, MEAN, RSTD, X, GAMMA, BETA = kit.words("y mean rstd x gamma beta")
    MOVING_MEAN, MOVING_VARIANCE = kit.words("moving_mean moving_variance")
    ROWS, COLS, EPSILON, MOMENTUM = kit.words("rows cols epsilon momentum")
    at, real, reals, sqrt = kit.at, kit.real, kit.reals, kit.math.sqrt
    zero, one, most = real(0.0), real(1.0), np.float64(np.finfo(real).max)
    sums_of, normalize, slow = _block_sums(kit), _normalize(kit), moment_functions(kit)
    sum_values, sum_distances = sums_of.sum_values, sums_of.sum_distances
    exact_moments, exact_normalize = slow.exact_moments, slow.exact_normalize
    real_bytes, double_bytes = _BLOCK * kit.itemsize, _BLOCK * 8

    def batch_norm(record, context, ith, nth):
        r, params = int64_pointer(record), float64_pointer(record)
        rows, cols, epsilon, momentum = r[ROWS], r[COLS], params[EPSILON], params[MOMENTUM]
        begin, end = part(cols, ith, nth)
        y, x, rstd = at(record, context, Y), at(record, context, X), at(record, context, RSTD)
        mean = float64_pointer(address(record, context, MEAN))
        moving_mean, moving_variance = at(record, context, MOVING_MEAN), at(record, context, MOVING_VARIANCE)
        sums, squares = float64_pointer(stack_bytes(double_bytes)), float64_pointer(stack_bytes(double_bytes))
        centres, lacking = reals(stack_bytes(real_bytes)), reals(stack_bytes(real_bytes))
        scales, shifts = reals(stack_bytes(real_bytes)), reals(stack_bytes(real_bytes))
        share, rest, added = 1.0 / rows, 1.0 - momentum, real(epsilon)
        for first in range(begin, end, _BLOCK):
            count = smaller(_BLOCK, end - first)
            sum_values(x, first, rows, cols, count, scales, sums)
            for j in range(count):
                centres[j] = real(sums[j] * share)
            sum_distances(x, first, rows, cols, count, centres, scales, shifts, sums, squares)
            overflows = False
            for j in range(count):
                lack = sums[j] * share
                variance = squares[j] * share - lack * lack
                overflows |= not variance <= most
                # rounding may give a negative variance of a constant column
                variance = 0.0 if variance < 0.0 else variance
                lacking[j], scales[j] = real(lack), one / sqrt(real(variance) + added)
                squares[j] = variance
            for j in range(count):
                mean[first + j] = np.float64(centres[j]) + np.float64(lacking[j])
                rstd[first + j] = scales[j]
            if overflows:
                for j in range(count):
                    if not squares[j] <= most:
                        exact = exact_moments(x, first + j, rows, cols, epsilon)
                        mean[first + j], squares[j] = exact[0], exact[1]
                        rstd[first + j] = real(exact[2])
                        centres[j], lacking[j], scales[j] = real(exact[0]), zero, real(exact[2])
            for j in range(count):
                moving_mean[first + j] = real(moving_mean[first + j] * momentum + mean[first + j] * rest)
                moved = moving_variance[first + j] * momentum + squares[j] * rest
                moving_variance[first + j] = real(moved)
            normalize(record, context, first, count, centres, lacking, scales, shifts)
            if overflows:
                for j in range(first, first + count):
                    if not squares[j - first] <= most:
                        exact = exact_moments(x, j, rows, cols, epsilon)
                        gamma = at(record, context, GAMMA)[j] if has(record, GAMMA) else one
                        beta = at(record, context, BETA)[j] if has(record, BETA) else zero
                        exact_normalize(x, y, j, rows, cols, exact[0], exact[2], gamma, beta)
                        if exact[2] > 0.0 and not moving_variance[j] <= most:
                            moving_variance[j] = real(most)

    return batch_norm


@kernel("batch_norm_inference")
def batch_norm_inference(kit: Kit, variant: str) -> Callable[..., Any]:
    """Normalise columns by the moving mean and variance."""
    MEAN, RSTD, MOVING_MEAN, MOVING_VARIANCE = kit.words("mean rstd moving_mean moving_variance")
    COLS, EPSILON = kit.words("cols epsilon")
    at, real, reals, sqrt = kit.at, kit.real, kit.reals, kit.math.sqrt
    zero, one = real(0.0), real(1.0)
    normalize, real_bytes = _normalize(kit), _WIDE * kit.itemsize

    def batch_norm_inference(record, context, ith, nth):
        r, epsilon = int64_pointer(record), real(float64_pointer(record)[EPSILON])
        begin, end = part(r[COLS], ith, nth)
        mean, rstd = float64_pointer(address(record, context, MEAN)), at(record, context, RSTD)
        moving_mean = at(record, context, MOVING_MEAN)
        moving_variance = at(record, context, MOVING_VARIANCE)
        centres, lacking = reals(stack_bytes(real_bytes)), reals(stack_bytes(real_bytes))
        scales, shifts = reals(stack_bytes(real_bytes)), reals(stack_bytes(real_bytes))
        for first in range(begin, end, _WIDE):
            count = smaller(_WIDE, end - first)
            for j in range(count):
                centres[j], lacking[j] = moving_mean[first + j], zero
                scales[j] = one / sqrt(moving_variance[first + j] + epsilon)
            for j in range(count):
                mean[first + j] = np.float64(centres[j])
                rstd[first + j] = scales[j]
            normalize(record, context, first, count, centres, lacking, scales, shifts)

    return batch_norm_inference


def _batch_norm_grad(kit: Kit, *, by_batch: bool) -> Callable[..., Any]:
    """Make the gradient; statistics of the batch depend on x, moving ones do not.

    The sums are computed on the stack, a block of columns at a time: if dgamma and dbeta accumulate, dx still needs
    the sums of this batch alone.
    """
    DX, DGAMMA, DBETA, DY, X = kit.words("dx dgamma dbeta dy x")
    GAMMA, MEAN, RSTD, ROWS, COLS = kit.words("gamma mean rstd rows cols")
    at, reals, real = kit.at, kit.reals, kit.real
    zero, infinity = real(0.0), real(np.inf)
    sum_products = _block_sums(kit).sum_products
    real_bytes, double_bytes = _BLOCK * kit.itemsize, _BLOCK * 8

    def batch_norm_grad(record, context, ith, nth):
        r = int64_pointer(record)
        rows, cols = r[ROWS], r[COLS]
        begin, end = part(cols, ith, nth)
        dy, x = at(record, context, DY), at(record, context, X)
        mean, rstd = float64_pointer(address(record, context, MEAN)), at(record, context, RSTD)
        has_dgamma, has_dbeta = has(record, DGAMMA), has(record, DBETA)
        dgamma = at(record, context, DGAMMA) if has_dgamma else rstd
        dbeta = at(record, context, DBETA) if has_dbeta else rstd
        moments, totals = float64_pointer(stack_bytes(double_bytes)), float64_pointer(stack_bytes(double_bytes))
        centres, lacks = reals(stack_bytes(real_bytes)), reals(stack_bytes(real_bytes))
        factors, scales = reals(stack_bytes(real_bytes)), reals(stack_bytes(real_bytes))
        slopes, starts = reals(stack_bytes(real_bytes)), reals(stack_bytes(real_bytes))
        add = flags_of(record) & _ACCUMULATE != 0
        has_dx = has(record, DX)
        dx = at(record, context, DX) if has_dx else x
        share = 1.0 / rows
        for first in range(begin, end, _BLOCK):
            count = smaller(_BLOCK, end - first)
            for j in range(count):
                centre = real(mean[first + j])
                lack = real(centred(mean[first + j], np.float64(centre))) * rstd[first + j]
                centres[j], factors[j] = centre, rstd[first + j]
                # with infinite statistics only the centre and rstd count: differences of infinities would be NaN
                lacks[j] = lack if abs(lack) < infinity else zero
            sum_products(dy, x, first, rows, cols, count, centres, lacks, factors, slopes, starts, moments, totals)
            for j in range(count):
                slopes[j], starts[j], scales[j] = real(moments[j] * share), real(totals[j] * share), factors[j]
            if has_dgamma:
                for j in range(count):
                    dgamma[first + j] = real(moments[j]) + (dgamma[first + j] if add else zero)
            if has_dbeta:
                for j in range(count):
                    dbeta[first + j] = real(totals[j]) + (dbeta[first + j] if add else zero)
            if not has_dx:
                continue
            if has(record, GAMMA):
                gamma = at(record, context, GAMMA)
                for j in range(count):
                    scales[j] *= gamma[first + j]
            for row in range(rows):
                i = row * cols + first
                for j in range(count):
                    g = dy[i + j]
                    if by_batch:
                        g -= starts[j] + (centred(x[i + j], centres[j]) * factors[j] - lacks[j]) * slopes[j]
                    dx[i + j] = g * scales[j]

    return batch_norm_grad


@kernel("batch_norm_grad")
def batch_norm_grad(kit: Kit, variant: str) -> Callable[..., Any]:
    """Make dx = rstd gamma (dy - mean(dy) - xhat mean(dy xhat)), and the sums for gamma and beta."""
    return _batch_norm_grad(kit, by_batch=True)


@kernel("batch_norm_inference_grad")
def batch_norm_inference_grad(kit: Kit, variant: str) -> Callable[..., Any]:
    """Make dx = rstd gamma dy, and the sums for gamma and beta."""
    return _batch_norm_grad(kit, by_batch=False)
