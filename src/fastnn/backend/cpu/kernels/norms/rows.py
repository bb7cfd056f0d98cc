"""Kernels that normalise rows: layer and RMS normalisation, and their gradients.

Statistics of layer normalisation take two passes: the second one sums the distances from the rough mean of the first,
and their squares, so an offset costs no precision. Long rows are summed in stretches, which are added up in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
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
from fastnn.backend.cpu.codegen.kernel import Kit, kernel, part, rows_part
from fastnn.backend.cpu.codegen.options import helper, inlined
from fastnn.backend.cpu.kernels.norms.exact_moments import centred, moment_functions
from fastnn.program.layout import Flag

_ACCUMULATE = int(Flag.ACCUMULATE)
# elements that are summed in the dtype, in 16 or more parallel sums
_STRETCH = 2048
# Wide enough to read whole lines of a row, narrow enough for the sums to stay in the first-level cache.
_BLOCK = 1024
# rows that are summed in the dtype
_ROWS = 64


def _split(kit: Kit) -> Any:
    """Make the function that rounds the means of `count` rows to centres, and returns the error in the normalised x.

    For many rows at once: row by row the conversions took as long as the sums over 64 columns.
    """
    real, zero, infinity = kit.real, kit.real(0.0), kit.real(np.inf)

    @inlined
    def split(means, rstds, row, count, centres, lacks):
        for i in range(count):
            mean, centre = means[row + i], real(means[row + i])
            lack = real(centred(mean, np.float64(centre))) * rstds[row + i]
            # with infinite statistics only the centre and rstd count: differences of infinities would be NaN
            centres[i], lacks[i] = centre, lack if abs(lack) < infinity else zero

    return split


@kernel("layer_norm")
def layer_norm(kit: Kit, variant: str) -> Callable[..., Any]:
    """Make y = (x - mean) rstd gamma + beta in every row; the variance is of the centred row."""
    Y, MEAN, RSTD, X, GAMMA, BETA = kit.words("y mean rstd x gamma beta")
    ROWS, COLS, EPSILON = kit.words("rows cols epsilon")
    at, real, sqrt = kit.at, kit.real, kit.math.sqrt
    zero, one, most = real(0.0), real(1.0), real(np.finfo(kit.real).max)
    slow = moment_functions(kit)
    exact_moments, exact_normalize = slow.exact_moments, slow.exact_normalize

    @inlined
    def sum_values(x, first, last):
        total = zero
        for j in range(first, last):
            total += x[j]
        return total

    @inlined
    def sum_distances(x, first, last, centre):
        total, squares = zero, zero
        for j in range(first, last):
            distance = centred(x[j], centre)
            total += distance
            squares += distance * distance
        return total, squares

    @helper
    def long_moments(x, begin, cols):
        whole, end = 0.0, begin + cols
        for first in range(begin, end, _STRETCH):
            whole += np.float64(sum_values(x, first, smaller(end, first + _STRETCH)))
        centre = real(whole / cols)
        whole, all_squares = 0.0, 0.0
        for first in range(begin, end, _STRETCH):
            total, squares = sum_distances(x, first, smaller(end, first + _STRETCH), centre)
            whole += np.float64(total)
            all_squares += np.float64(squares)
        lack = whole / cols
        return centre, real(lack), real(all_squares / cols - lack * lack)

    @helper
    def exact_row(record, context, row):
        r = int64_pointer(record)
        cols, y, x = r[COLS], at(record, context, Y), at(record, context, X)
        epsilon = float64_pointer(record)[EPSILON]
        mean, _, rstd = exact_moments(x, row * cols, cols, 1, epsilon)
        float64_pointer(address(record, context, MEAN))[row] = mean
        at(record, context, RSTD)[row] = real(rstd)
        for j in range(cols):
            gamma = at(record, context, GAMMA)[j] if has(record, GAMMA) else one
            beta = at(record, context, BETA)[j] if has(record, BETA) else zero
            exact_normalize(x, y, row * cols + j, 1, 1, mean, rstd, gamma, beta)

    def layer_norm(record, context, ith, nth):
        r = int64_pointer(record)
        cols, epsilon = r[COLS], real(float64_pointer(record)[EPSILON])
        first, last = rows_part(r[ROWS], ith, nth)
        y, x, rstds = at(record, context, Y), at(record, context, X), at(record, context, RSTD)
        means = float64_pointer(address(record, context, MEAN))
        scaled, shifted = has(record, GAMMA), has(record, BETA)
        gamma = at(record, context, GAMMA) if scaled else x
        beta = at(record, context, BETA) if shifted else x
        share = one / real(cols)
        for row in range(first, last):
            i = row * cols
            if cols <= _STRETCH:
                centre = sum_values(x, i, i + cols) * share
                total, squares = sum_distances(x, i, i + cols, centre)
                lack = total * share
                variance = squares * share - lack * lack
            else:
                centre, lack, variance = long_moments(x, i, cols)
            if not variance <= most:
                exact_row(record, context, row)
                continue
            # rounding may give a negative variance of a constant row
            rstd = one / sqrt((zero if variance < zero else variance) + epsilon)
            means[row], rstds[row] = np.float64(centre) + np.float64(lack), rstd
            start = -lack * rstd
            if scaled and shifted:
                for j in range(cols):
                    y[i + j] = (centred(x[i + j], centre) * rstd + start) * gamma[j] + beta[j]
                continue
            for j in range(cols):
                y[i + j] = centred(x[i + j], centre) * rstd + start
            if scaled:
                for j in range(cols):
                    y[i + j] *= gamma[j]
            if shifted:
                for j in range(cols):
                    y[i + j] += beta[j]

    return layer_norm


@kernel("layer_norm_grad")
def layer_norm_grad(kit: Kit, variant: str) -> Callable[..., Any]:
    """Make dx = rstd (g - mean(g) - xhat mean(g xhat)) with g = dy gamma, in every row."""
    DX, DY, X, GAMMA, MEAN, RSTD = kit.words("dx dy x gamma mean rstd")
    ROWS, COLS = kit.words("rows cols")
    at, real, reals = kit.at, kit.real, kit.reals
    zero, one, split, row_bytes = real(0.0), real(1.0), _split(kit), _ROWS * kit.itemsize

    @inlined
    def sums(dx, dy, x, gamma, scaled, i, first, last, centre, lack, rstd):
        total, moment = zero, zero
        if scaled:
            for j in range(first, last):
                g = dy[i + j] * gamma[j]
                total += g
                moment += g * (centred(x[i + j], centre) * rstd - lack)
                dx[i + j] = g
        else:
            for j in range(first, last):
                g = dy[i + j]
                total += g
                moment += g * (centred(x[i + j], centre) * rstd - lack)
                dx[i + j] = g
        return total, moment

    @helper
    def long_sums(dx, dy, x, gamma, scaled, i, cols, centre, lack, rstd):
        whole, whole_moment = 0.0, 0.0
        for first in range(0, cols, _STRETCH):
            last = smaller(cols, first + _STRETCH)
            total, moment = sums(dx, dy, x, gamma, scaled, i, first, last, centre, lack, rstd)
            whole += np.float64(total)
            whole_moment += np.float64(moment)
        return real(whole), real(whole_moment)

    def layer_norm_grad(record, context, ith, nth):
        r = int64_pointer(record)
        cols = r[COLS]
        begin, end = rows_part(r[ROWS], ith, nth)
        dx, dy, x = at(record, context, DX), at(record, context, DY), at(record, context, X)
        means, rstds = float64_pointer(address(record, context, MEAN)), at(record, context, RSTD)
        centres, lacks = reals(stack_bytes(row_bytes)), reals(stack_bytes(row_bytes))
        scaled = has(record, GAMMA)
        gamma = at(record, context, GAMMA) if scaled else x
        share = one / real(cols)
        for first in range(begin, end, _ROWS):
            count = smaller(_ROWS, end - first)
            split(means, rstds, first, count, centres, lacks)
            for near in range(count):
                i = (first + near) * cols
                centre, lack, rstd = centres[near], lacks[near], rstds[first + near]
                if cols <= _STRETCH:
                    total, moment = sums(dx, dy, x, gamma, scaled, i, 0, cols, centre, lack, rstd)
                else:
                    total, moment = long_sums(dx, dy, x, gamma, scaled, i, cols, centre, lack, rstd)
                moment, total = moment * share, total * share
                for j in range(cols):
                    dx[i + j] = rstd * (dx[i + j] - total - (centred(x[i + j], centre) * rstd - lack) * moment)

    return layer_norm_grad


@kernel("layer_norm_param_grad")
def layer_norm_param_grad(kit: Kit, variant: str) -> Callable[..., Any]:
    """Sum dy xhat and dy over the rows; a part works on a slice of the columns.

    The sums of stretches of rows are added up in float64, on the stack.
    """
    DGAMMA, DBETA, DY, X, MEAN, RSTD = kit.words("dgamma dbeta dy x mean rstd")
    ROWS, COLS = kit.words("rows cols")
    at, real = kit.at, kit.real
    reals, zero, real_bytes, double_bytes = kit.reals, real(0.0), _BLOCK * kit.itemsize, _BLOCK * 8
    split, row_bytes = _split(kit), _ROWS * kit.itemsize

    def layer_norm_param_grad(record, context, ith, nth):
        r = int64_pointer(record)
        rows, cols = r[ROWS], r[COLS]
        begin, end = part(cols, ith, nth)
        dy, x = at(record, context, DY), at(record, context, X)
        means, rstds = float64_pointer(address(record, context, MEAN)), at(record, context, RSTD)
        has_dgamma, has_dbeta = has(record, DGAMMA), has(record, DBETA)
        dgamma = at(record, context, DGAMMA) if has_dgamma else x
        dbeta = at(record, context, DBETA) if has_dbeta else x
        add = flags_of(record) & _ACCUMULATE != 0
        centres, lacks = reals(stack_bytes(row_bytes)), reals(stack_bytes(row_bytes))
        near, near_totals = reals(stack_bytes(real_bytes)), reals(stack_bytes(real_bytes))
        moments, totals = float64_pointer(stack_bytes(double_bytes)), float64_pointer(stack_bytes(double_bytes))
        for first in range(begin, end, _BLOCK):
            count = smaller(_BLOCK, end - first)
            for j in range(count):
                moments[j], totals[j] = 0.0, 0.0
            for begin_row in range(0, rows, _ROWS):
                height = smaller(_ROWS, rows - begin_row)
                split(means, rstds, begin_row, height, centres, lacks)
                for j in range(count):
                    near[j], near_totals[j] = zero, zero
                row = 0
                while row + 2 <= height:
                    a = (begin_row + row) * cols + first
                    b = a + cols
                    m, n, v, w = centres[row], centres[row + 1], lacks[row], lacks[row + 1]
                    p, q = rstds[begin_row + row], rstds[begin_row + row + 1]
                    for j in range(count):
                        g, h = dy[a + j], dy[b + j]
                        near[j] += g * (centred(x[a + j], m) * p - v) + h * (centred(x[b + j], n) * q - w)
                        near_totals[j] += g + h
                    row += 2
                while row < height:
                    a = (begin_row + row) * cols + first
                    m, p, v = centres[row], rstds[begin_row + row], lacks[row]
                    for j in range(count):
                        near[j] += dy[a + j] * (centred(x[a + j], m) * p - v)
                        near_totals[j] += dy[a + j]
                    row += 1
                for j in range(count):
                    moments[j] += np.float64(near[j])
                    totals[j] += np.float64(near_totals[j])
            if has_dgamma:
                for j in range(count):
                    dgamma[first + j] = real(moments[j]) + (dgamma[first + j] if add else zero)
            if has_dbeta:
                for j in range(count):
                    dbeta[first + j] = real(totals[j]) + (dbeta[first + j] if add else zero)

    return layer_norm_param_grad


@kernel("rms_norm")
def rms_norm(kit: Kit, variant: str) -> Callable[..., Any]:
    """Make y = x rstd gamma in every row, with rstd = 1 / sqrt(mean(x^2) + epsilon)."""
    Y, RSTD, X, GAMMA = kit.words("y rstd x gamma")
    ROWS, COLS, EPSILON = kit.words("rows cols epsilon")
    at, real, sqrt = kit.at, kit.real, kit.math.sqrt
    zero, one, most = real(0.0), real(1.0), real(np.finfo(kit.real).max)

    @inlined
    def sum_squares(x, first, last):
        total = zero
        for j in range(first, last):
            total += x[j] * x[j]
        return total

    @helper
    def long_mean_square(x, begin, cols):
        whole, end = 0.0, begin + cols
        for first in range(begin, end, _STRETCH):
            whole += np.float64(sum_squares(x, first, smaller(end, first + _STRETCH)))
        return real(whole / cols)

    @helper
    def exact_row(record, context, row):
        # divided by the largest element, because the squares overflow
        cols, y, x = int64_pointer(record)[COLS], at(record, context, Y), at(record, context, X)
        begin, largest = row * cols, 0.0
        for i in range(begin, begin + cols):
            size = abs(np.float64(x[i]))
            largest = size if size > largest else largest
        scale, squares = largest if 0.0 < largest < math.inf else 1.0, 0.0
        for i in range(begin, begin + cols):
            part = np.float64(x[i]) / scale
            squares += part * part
        root = math.sqrt(squares / cols) * scale
        square = root * root + float64_pointer(record)[EPSILON]
        rstd = 1.0 / (math.sqrt(square) if square < math.inf else root)
        at(record, context, RSTD)[row] = real(rstd)
        for j in range(cols):
            gamma = at(record, context, GAMMA)[j] if has(record, GAMMA) else one
            y[begin + j] = real(np.float64(x[begin + j]) * rstd * np.float64(gamma))

    def rms_norm(record, context, ith, nth):
        r = int64_pointer(record)
        cols, epsilon = r[COLS], real(float64_pointer(record)[EPSILON])
        first, last = rows_part(r[ROWS], ith, nth)
        y, x, rstds = at(record, context, Y), at(record, context, X), at(record, context, RSTD)
        scaled = has(record, GAMMA)
        gamma = at(record, context, GAMMA) if scaled else x
        share = one / real(cols)
        for row in range(first, last):
            i = row * cols
            square = sum_squares(x, i, i + cols) * share if cols <= _STRETCH else long_mean_square(x, i, cols)
            if not square <= most:
                exact_row(record, context, row)
                continue
            rstd = one / sqrt(square + epsilon)
            rstds[row] = rstd
            if scaled:
                for j in range(cols):
                    y[i + j] = x[i + j] * rstd * gamma[j]
            else:
                for j in range(cols):
                    y[i + j] = x[i + j] * rstd

    return rms_norm


@kernel("rms_norm_grad")
def rms_norm_grad(kit: Kit, variant: str) -> Callable[..., Any]:
    """Make dx = rstd (g - xhat mean(g xhat)) with g = dy gamma and xhat = x rstd, in every row."""
    DX, DY, X, GAMMA, RSTD = kit.words("dx dy x gamma rstd")
    ROWS, COLS = kit.words("rows cols")
    at, real = kit.at, kit.real
    zero, one = real(0.0), real(1.0)

    @inlined
    def moment_of(dx, dy, x, gamma, scaled, i, first, last, rstd):
        moment = zero
        if scaled:
            for j in range(first, last):
                g = dy[i + j] * gamma[j]
                moment += g * (x[i + j] * rstd)
                dx[i + j] = g
        else:
            for j in range(first, last):
                g = dy[i + j]
                moment += g * (x[i + j] * rstd)
                dx[i + j] = g
        return moment

    @helper
    def long_moment(dx, dy, x, gamma, scaled, i, cols, rstd):
        whole = 0.0
        for first in range(0, cols, _STRETCH):
            last = smaller(cols, first + _STRETCH)
            whole += np.float64(moment_of(dx, dy, x, gamma, scaled, i, first, last, rstd))
        return real(whole)

    def rms_norm_grad(record, context, ith, nth):
        r = int64_pointer(record)
        cols = r[COLS]
        begin, end = rows_part(r[ROWS], ith, nth)
        dx, dy, x, rstds = (
            at(record, context, DX),
            at(record, context, DY),
            at(record, context, X),
            at(record, context, RSTD),
        )
        scaled = has(record, GAMMA)
        gamma = at(record, context, GAMMA) if scaled else x
        share = one / real(cols)
        for row in range(begin, end):
            i, rstd = row * cols, rstds[row]
            if cols <= _STRETCH:
                moment = moment_of(dx, dy, x, gamma, scaled, i, 0, cols, rstd)
            else:
                moment = long_moment(dx, dy, x, gamma, scaled, i, cols, rstd)
            moment *= share
            for j in range(cols):
                dx[i + j] = rstd * (dx[i + j] - x[i + j] * rstd * moment)

    return rms_norm_grad


@kernel("rms_norm_param_grad")
def rms_norm_param_grad(kit: Kit, variant: str) -> Callable[..., Any]:
    """Sum dy xhat over the rows; a part works on a slice of the columns.

    The sums of stretches of rows are added up in float64, on the stack.
    """
    DGAMMA, DY, X, RSTD = kit.words("dgamma dy x rstd")
    ROWS, COLS = kit.words("rows cols")
    at, real, reals, zero = kit.at, kit.real, kit.reals, kit.real(0.0)
    real_bytes, double_bytes = _BLOCK * kit.itemsize, _BLOCK * 8

    def rms_norm_param_grad(record, context, ith, nth):
        r = int64_pointer(record)
        rows, cols = r[ROWS], r[COLS]
        begin, end = part(cols, ith, nth)
        dy, x, rstds, dgamma = (
            at(record, context, DY), at(record, context, X), at(record, context, RSTD), at(record, context, DGAMMA),
        )  # fmt: skip
        add = flags_of(record) & _ACCUMULATE != 0
        near, moments = reals(stack_bytes(real_bytes)), float64_pointer(stack_bytes(double_bytes))
        for first in range(begin, end, _BLOCK):
            count = smaller(_BLOCK, end - first)
            for j in range(count):
                moments[j] = 0.0
            for begin_row in range(0, rows, _ROWS):
                for j in range(count):
                    near[j] = zero
                for row in range(begin_row, smaller(rows, begin_row + _ROWS)):
                    i, rstd = row * cols + first, rstds[row]
                    for j in range(count):
                        near[j] += dy[i + j] * (x[i + j] * rstd)
                for j in range(count):
                    moments[j] += np.float64(near[j])
            for j in range(count):
                dgamma[first + j] = real(moments[j]) + (dgamma[first + j] if add else zero)

    return rms_norm_param_grad
