"""Parts of the kernels of batch normalisation: statistics from moments, and passes over tables and their gradients."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from fastnn.backend.cpu.codegen.intrinsics import address, flags_of, float64_pointer, has, int64_pointer, stack_bytes
from fastnn.backend.cpu.codegen.kernel import Kit
from fastnn.backend.cpu.codegen.options import helper, inlined
from fastnn.backend.cpu.kernels.norms.column_sums import BLOCK, TOGETHER, piece, pieces, repeat, side_by_side
from fastnn.backend.cpu.kernels.norms.exact_moments import centred, moment_functions
from fastnn.program.layout import Flag

_ACCUMULATE, _RECTIFY = int(Flag.ACCUMULATE), int(Flag.RECTIFY)
#: Without sums a block may be wider: 4096 x 4096 in blocks of 512 columns took 1.25 times as long.
WIDE = 4096
# Elements of rows that are normalised side by side; in the caches 1.7 times as fast as one by one (MobileNet's).
_TOGETHER = 512


def finishing(kit: Kit) -> Any:
    """Make `finish`, which turns moments into mean and rstd, and moves the moving statistics towards them.

    Of a column whose variance exceeds the dtype the moments are computed again.
    """
    MEAN, RSTD, X = kit.words("mean rstd x")
    MOVING_MEAN, MOVING_VARIANCE = kit.words("moving_mean moving_variance")
    ROWS, COLS, EPSILON, MOMENTUM = kit.words("rows cols epsilon momentum")
    at, real, sqrt = kit.at, kit.real, kit.math.sqrt
    one, most = real(1.0), np.float64(np.finfo(real).max)
    exact_moments = moment_functions(kit).exact_moments

    @helper
    def finish(record, context, first, count, means, squares):
        r, params = int64_pointer(record), float64_pointer(record)
        rows, cols, epsilon, momentum = r[ROWS], r[COLS], params[EPSILON], params[MOMENTUM]
        x, rstd = at(record, context, X), at(record, context, RSTD)
        mean = float64_pointer(address(record, context, MEAN))
        moving_mean, moving_variance = at(record, context, MOVING_MEAN), at(record, context, MOVING_VARIANCE)
        share, rest, added = 1.0 / rows, 1.0 - momentum, real(epsilon)
        overflows = False
        for j in range(count):
            variance = squares[j] * share
            overflows |= not variance <= most
            # rounding may give a negative variance of a constant column
            squares[j] = 0.0 if variance < 0.0 else variance
        for j in range(count):
            mean[first + j], rstd[first + j] = means[j], one / sqrt(real(squares[j]) + added)
        if overflows:
            for j in range(count):
                if not squares[j] <= most:
                    exact = exact_moments(x, first + j, rows, cols, epsilon)
                    mean[first + j], squares[j], rstd[first + j] = exact[0], exact[1], real(exact[2])
        for j in range(count):
            moving_mean[first + j] = real(moving_mean[first + j] * momentum + mean[first + j] * rest)
            moved = moving_variance[first + j] * momentum + squares[j] * rest
            moving_variance[first + j] = real(moved)
        if overflows:
            for j in range(first, first + count):
                if not squares[j - first] <= most and rstd[j] >= 0.0 and not moving_variance[j] <= most:
                    moving_variance[j] = real(most)

    return finish


def holding(kit: Kit, *, normal: bool = False) -> Any:
    """Make `hold(record, context, first, count, centres, lacks, factors)`: mean = centre + lack, factor = rstd.

    With `normal` the lack is in standard deviations: xhat = (x - centre) factor - lack.
    """
    MEAN, RSTD = kit.words("mean rstd")
    at, real = kit.at, kit.real
    one, zero, infinity = real(1.0), real(0.0), real(np.inf)

    @helper
    def hold(record, context, first, count, centres, lacks, factors):
        mean, rstd = float64_pointer(address(record, context, MEAN)), at(record, context, RSTD)
        for j in range(count):
            centre = real(mean[first + j])
            lack = real(centred(mean[first + j], np.float64(centre))) * (rstd[first + j] if normal else one)
            centres[j], factors[j] = centre, rstd[first + j]
            # with infinite statistics only the centre and rstd count: differences of infinities would be NaN
            lacks[j] = lack if abs(lack) < infinity else zero

    return hold


def normalizing(kit: Kit, *, adds: bool = False) -> SimpleNamespace:
    """Make `normalize`, which writes y = (x - mean) rstd gamma + beta within limits, and `normalize_exactly`.

    With `adds` the operand "added" is added before the limits count.

    `normalize(record, context, begin, end, first, count, centres, lacks, scales, shifts)` writes the rows `begin` to
    `end` of the columns `first` to `first + count`: y = (x - centre) scale + shift. A mean is the sum of a centre and
    its lack, since at a large offset the dtype is not precise enough. `scales` holds rstd at the call; the vectors are
    on the stack, have room for rows side by side, and change.
    `normalize_exactly(record, context, begin, end, first, count)` writes columns again whose variance
    exceeds the dtype.
    """
    Y, RSTD, X = kit.words("y rstd x")
    GAMMA, BETA, ROWS, COLS = kit.words("gamma beta rows cols")
    EPSILON, HIGH = kit.words("epsilon high")
    (ADDED,) = kit.words("added") if adds else (0,)
    at, real = kit.at, kit.real
    zero, one, infinity = real(0.0), real(1.0), real(np.inf)
    least = real(1.0 / np.sqrt(np.float64(np.finfo(real).max)))
    slow = moment_functions(kit)
    exact_moments, exact_normalize = slow.exact_moments, slow.exact_normalize

    @inlined
    def limits(record):
        high, clips = real(float64_pointer(record)[HIGH]), flags_of(record) & _RECTIFY != 0
        return zero if clips else -infinity, high if clips and high > zero else infinity

    @inlined
    def within(value, low, high):
        value = low if value < low else value
        return high if value > high else value

    @inlined
    def write(y, x, start, stride, rows, count, centres, scales, shifts, low, high):
        for row in range(rows):
            i = start + row * stride
            for j in range(count):
                y[i + j] = within(centred(x[i + j], centres[j]) * scales[j] + shifts[j], low, high)

    @inlined
    def write_sum(y, x, added, start, stride, rows, count, centres, scales, shifts, low, high):
        for row in range(rows):
            i = start + row * stride
            for j in range(count):
                normal = centred(x[i + j], centres[j]) * scales[j] + shifts[j]
                y[i + j] = within(normal + added[i + j], low, high)

    @inlined
    def normalize(record, context, begin, end, first, count, centres, lacks, scales, shifts):
        cols = int64_pointer(record)[COLS]
        low, high = limits(record)
        y, x = at(record, context, Y), at(record, context, X)
        if has(record, GAMMA):
            gamma = at(record, context, GAMMA)
            for j in range(count):
                scales[j] *= gamma[first + j]
        for j in range(count):
            lack = lacks[j] * scales[j]
            # an infinite mean or gamma has no shift: the difference of two infinities would be NaN
            shifts[j] = -lack if abs(lack) < infinity else zero
        if has(record, BETA):
            beta = at(record, context, BETA)
            for j in range(count):
                shifts[j] += beta[first + j]
        several = side_by_side(end - begin, cols, _TOGETHER)
        repeat(centres, count, several)
        repeat(scales, count, several)
        repeat(shifts, count, several)
        for number in range(pieces(end - begin, several)):
            start, many, left = piece(number, begin, end - begin, cols, first, several)
            if adds and has(record, ADDED):
                added = at(record, context, ADDED)
                write_sum(y, x, added, start, many * cols, left, many * count, centres, scales, shifts, low, high)
            else:
                write(y, x, start, many * cols, left, many * count, centres, scales, shifts, low, high)

    @helper
    def normalize_exactly(record, context, begin, end, first, count):
        r, params = int64_pointer(record), float64_pointer(record)
        rows, cols = r[ROWS], r[COLS]
        low, high = limits(record)
        y, x, rstd = at(record, context, Y), at(record, context, X), at(record, context, RSTD)
        for column in range(first, first + count):
            if abs(rstd[column]) <= least:
                mean, _, exact = exact_moments(x, column, rows, cols, params[EPSILON])
                gamma = at(record, context, GAMMA)[column] if has(record, GAMMA) else one
                beta = at(record, context, BETA)[column] if has(record, BETA) else zero
                exact_normalize(x, y, begin * cols + column, end - begin, cols, mean, exact, gamma, beta)
                for row in range(begin, end):
                    i = row * cols + column
                    more = at(record, context, ADDED)[i] if adds and has(record, ADDED) else zero
                    y[i] = within(y[i] + more, low, high)

    return SimpleNamespace(normalize=normalize, normalize_exactly=normalize_exactly)


def writing(kit: Kit) -> Any:
    """Make `write_gradient(record, context, begin, end, first, count, centres, lacks, factors, slopes, starts, whole)`.

    It writes the rows `begin` to `end` of dx = (dy - start - xhat slope) factor gamma; with `whole` False, for
    statistics that do not depend on x, of dy factor gamma. The vectors of columns have room for rows side by side.
    """
    DX, DY, X, GAMMA, COLS = kit.words("dx dy x gamma cols")
    at, reals, real_bytes = kit.at, kit.reals, BLOCK * kit.itemsize

    @helper
    def write_gradient(record, context, begin, end, first, count, centres, lacks, factors, slopes, starts, by_batch):
        cols = int64_pointer(record)[COLS]
        dx, dy, x = at(record, context, DX), at(record, context, DY), at(record, context, X)
        scales = reals(stack_bytes(real_bytes))
        for j in range(count):
            scales[j] = factors[j]
        if has(record, GAMMA):
            gamma = at(record, context, GAMMA)
            for j in range(count):
                scales[j] *= gamma[first + j]
        several = side_by_side(end - begin, cols, TOGETHER)
        repeat(centres, count, several)
        repeat(lacks, count, several)
        repeat(factors, count, several)
        repeat(scales, count, several)
        repeat(starts, count, several)
        repeat(slopes, count, several)
        for number in range(pieces(end - begin, several)):
            start, many, left = piece(number, begin, end - begin, cols, first, several)
            width = many * count
            for row in range(left):
                i = start + row * many * cols
                if by_batch:
                    for j in range(width):
                        normal = centred(x[i + j], centres[j]) * factors[j] - lacks[j]
                        dx[i + j] = (dy[i + j] - (starts[j] + normal * slopes[j])) * scales[j]
                else:
                    for j in range(width):
                        dx[i + j] = dy[i + j] * scales[j]

    return write_gradient


def accumulating(kit: Kit) -> Any:
    """Make `keep_sums`, which writes dgamma and dbeta where a record has them, or adds to them.

    `keep_sums(record, context, first, count, moments, totals)` takes the sums of columns `first` to `first + count`.
    """
    DGAMMA, DBETA = kit.words("dgamma dbeta")
    at, real = kit.at, kit.real

    @inlined
    def keep(out, first, count, sums, add):
        for j in range(count):
            total = real(sums[j])
            out[first + j] = total + out[first + j] if add else total

    @helper
    def keep_sums(record, context, first, count, moments, totals):
        add = flags_of(record) & _ACCUMULATE != 0
        if has(record, DGAMMA):
            keep(at(record, context, DGAMMA), first, count, moments, add)
        if has(record, DBETA):
            keep(at(record, context, DBETA), first, count, totals, add)

    return keep_sums
