"""Kernels that normalise: over rows (layer norm) and over columns (batch norm)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnn.backend.cpu.intrinsics import float64_pointer, int64_pointer, stack_bytes
from fastnn.backend.cpu.kernels.kit import Kit, flags_of, has, kernel, part, rows_part
from fastnn.backend.cpu.options import helper
from fastnn.program.layout import Flag

_ACCUMULATE = int(Flag.ACCUMULATE)
# Wide enough to read whole pages of a row, narrow enough for the sums to stay in the first-level cache.
_BLOCK = 1024


@kernel("layer_norm")
def layer_norm(kit: Kit, variant: str) -> Callable[..., Any]:
    """Make y = (x - mean) rstd gamma + beta in every row; the variance is of the centred row."""
    Y, MEAN, RSTD, X, GAMMA, BETA = kit.words("y mean rstd x gamma beta")
    ROWS, COLS, EPSILON = kit.words("rows cols epsilon")
    at, real, sqrt = kit.at, kit.real, kit.math.sqrt
    zero, one = real(0.0), real(1.0)

    def layer_norm(record, context, ith, nth):
        r = int64_pointer(record)
        cols, epsilon = r[COLS], real(float64_pointer(record)[EPSILON])
        first, last = rows_part(r[ROWS], ith, nth)
        y, x = at(record, context, Y), at(record, context, X)
        means, rstds = at(record, context, MEAN), at(record, context, RSTD)
        scaled, shifted = has(record, GAMMA), has(record, BETA)
        gamma = at(record, context, GAMMA) if scaled else x
        beta = at(record, context, BETA) if shifted else x
        share = one / real(cols)
        for row in range(first, last):
            i = row * cols
            mean = zero
            for j in range(cols):
                mean += x[i + j]
            mean *= share
            variance = zero
            for j in range(cols):
                variance += (x[i + j] - mean) * (x[i + j] - mean)
            rstd = one / sqrt(variance * share + epsilon)
            means[row], rstds[row] = mean, rstd
            if scaled and shifted:
                for j in range(cols):
                    y[i + j] = (x[i + j] - mean) * rstd * gamma[j] + beta[j]
                continue
            for j in range(cols):
                y[i + j] = (x[i + j] - mean) * rstd
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
    at, real = kit.at, kit.real
    zero, one = real(0.0), real(1.0)

    def layer_norm_grad(record, context, ith, nth):
        r = int64_pointer(record)
        cols = r[COLS]
        first, last = rows_part(r[ROWS], ith, nth)
        dx, dy, x = at(record, context, DX), at(record, context, DY), at(record, context, X)
        means, rstds = at(record, context, MEAN), at(record, context, RSTD)
        scaled = has(record, GAMMA)
        gamma = at(record, context, GAMMA) if scaled else x
        share = one / real(cols)
        for row in range(first, last):
            i = row * cols
            mean, rstd = means[row], rstds[row]
            total, moment = zero, zero
            if scaled:
                for j in range(cols):
                    g = dy[i + j] * gamma[j]
                    total += g
                    moment += g * ((x[i + j] - mean) * rstd)
                    dx[i + j] = g
            else:
                for j in range(cols):
                    g = dy[i + j]
                    total += g
                    moment += g * ((x[i + j] - mean) * rstd)
                    dx[i + j] = g
            total *= share
            moment *= share
            for j in range(cols):
                dx[i + j] = rstd * (dx[i + j] - total - (x[i + j] - mean) * rstd * moment)

    return layer_norm_grad


@kernel("layer_norm_param_grad")
def layer_norm_param_grad(kit: Kit, variant: str) -> Callable[..., Any]:
    """Sum dy xhat and dy over the rows; a part works on a slice of the columns."""
    DGAMMA, DBETA, DY, X, MEAN, RSTD = kit.words("dgamma dbeta dy x mean rstd")
    ROWS, COLS = kit.words("rows cols")
    at, real = kit.at, kit.real
    zero = real(0.0)

    def layer_norm_param_grad(record, context, ith, nth):
        r = int64_pointer(record)
        cols = r[COLS]
        first, last = part(cols, ith, nth)
        dy, x = at(record, context, DY), at(record, context, X)
        means, rstds = at(record, context, MEAN), at(record, context, RSTD)
        add = flags_of(record) & _ACCUMULATE != 0
        if has(record, DGAMMA) and has(record, DBETA):
            dgamma, dbeta = at(record, context, DGAMMA), at(record, context, DBETA)
            if not add:
                for j in range(first, last):
                    dgamma[j], dbeta[j] = zero, zero
            for row in range(r[ROWS]):
                mean, rstd = means[row], rstds[row]
                for j in range(first, last):
                    g = dy[row * cols + j]
                    dgamma[j] += g * ((x[row * cols + j] - mean) * rstd)
                    dbeta[j] += g
        elif has(record, DGAMMA):
            dgamma = at(record, context, DGAMMA)
            for j in range(first, last):
                dgamma[j] = dgamma[j] if add else zero
            for row in range(r[ROWS]):
                mean, rstd = means[row], rstds[row]
                for j in range(first, last):
                    dgamma[j] += dy[row * cols + j] * ((x[row * cols + j] - mean) * rstd)
        elif has(record, DBETA):
            dbeta = at(record, context, DBETA)
            for j in range(first, last):
                dbeta[j] = dbeta[j] if add else zero
            for row in range(r[ROWS]):
                for j in range(first, last):
                    dbeta[j] += dy[row * cols + j]

    return layer_norm_param_grad


def _normalize(kit: Kit) -> Any:
    """Make the function that writes y = (x - mean) rstd gamma + beta for a slice of the columns."""
    Y, MEAN, RSTD, X, GAMMA, BETA = kit.words("y mean rstd x gamma beta")
    ROWS, COLS = kit.words("rows cols")
    at = kit.at

    @helper
    def normalize(record, context, first, last):
        r = int64_pointer(record)
        cols = r[COLS]
        y, x = at(record, context, Y), at(record, context, X)
        mean, rstd = at(record, context, MEAN), at(record, context, RSTD)
        scaled, shifted = has(record, GAMMA), has(record, BETA)
        gamma = at(record, context, GAMMA) if scaled else x
        beta = at(record, context, BETA) if shifted else x
        for row in range(r[ROWS]):
            i = row * cols
            if scaled and shifted:
                for j in range(first, last):
                    y[i + j] = (x[i + j] - mean[j]) * rstd[j] * gamma[j] + beta[j]
                continue
            for j in range(first, last):
                y[i + j] = (x[i + j] - mean[j]) * rstd[j]
            if scaled:
                for j in range(first, last):
                    y[i + j] *= gamma[j]
            if shifted:
                for j in range(first, last):
                    y[i + j] += beta[j]

    return normalize


@kernel("batch_norm")
def batch_norm(kit: Kit, variant: str) -> Callable[..., Any]:
    """Normalise columns by the batch's mean and biased variance, and move the moving ones towards them."""
    MEAN, RSTD, X = kit.words("mean rstd x")
    MOVING_MEAN, MOVING_VARIANCE = kit.words("moving_mean moving_variance")
    ROWS, COLS, EPSILON, MOMENTUM = kit.words("rows cols epsilon momentum")
    at, real, sqrt = kit.at, kit.real, kit.math.sqrt
    zero, one = real(0.0), real(1.0)
    normalize = _normalize(kit)

    def batch_norm(record, context, ith, nth):
        r, params = int64_pointer(record), float64_pointer(record)
        rows, cols = r[ROWS], r[COLS]
        epsilon, momentum = real(params[EPSILON]), real(params[MOMENTUM])
        rest = real(1.0 - params[MOMENTUM])
        first, last = part(cols, ith, nth)
        x, mean, variance = at(record, context, X), at(record, context, MEAN), at(record, context, RSTD)
        moving_mean = at(record, context, MOVING_MEAN)
        moving_variance = at(record, context, MOVING_VARIANCE)
        share = one / real(rows)
        for j in range(first, last):
            mean[j], variance[j] = zero, zero
        for row in range(rows):
            for j in range(first, last):
                mean[j] += x[row * cols + j]
        for j in range(first, last):
            mean[j] *= share
        for row in range(rows):
            for j in range(first, last):
                variance[j] += (x[row * cols + j] - mean[j]) * (x[row * cols + j] - mean[j])
        for j in range(first, last):
            biased = variance[j] * share
            moving_mean[j] = moving_mean[j] * momentum + mean[j] * rest
            moving_variance[j] = moving_variance[j] * momentum + biased * rest
            variance[j] = one / sqrt(biased + epsilon)
        normalize(record, context, first, last)

    return batch_norm


@kernel("batch_norm_inference")
def batch_norm_inference(kit: Kit, variant: str) -> Callable[..., Any]:
    """Normalise columns by the moving mean and variance."""
    MEAN, RSTD, MOVING_MEAN, MOVING_VARIANCE = kit.words("mean rstd moving_mean moving_variance")
    COLS, EPSILON = kit.words("cols epsilon")
    at, real, sqrt = kit.at, kit.real, kit.math.sqrt
    one = real(1.0)
    normalize = _normalize(kit)

    def batch_norm_inference(record, context, ith, nth):
        r, epsilon = int64_pointer(record), real(float64_pointer(record)[EPSILON])
        first, last = part(r[COLS], ith, nth)
        mean, rstd = at(record, context, MEAN), at(record, context, RSTD)
        moving_mean = at(record, context, MOVING_MEAN)
        moving_variance = at(record, context, MOVING_VARIANCE)
        for j in range(first, last):
            mean[j] = moving_mean[j]
            rstd[j] = one / sqrt(moving_variance[j] + epsilon)
        normalize(record, context, first, last)

    return batch_norm_inference


def _batch_norm_grad(kit: Kit, *, by_batch: bool) -> Callable[..., Any]:
    """Make the gradient; statistics of the batch depend on x, moving ones do not.

    The sums are made on the stack, a block of columns at a time: where dgamma and dbeta accumulate, dx still needs
    those of this batch alone.
    """
    DX, DGAMMA, DBETA, DY, X = kit.words("dx dgamma dbeta dy x")
    GAMMA, MEAN, RSTD, ROWS, COLS = kit.words("gamma mean rstd rows cols")
    at, reals, real = kit.at, kit.reals, kit.real
    zero, one = real(0.0), real(1.0)
    block_bytes = _BLOCK * kit.itemsize

    def batch_norm_grad(record, context, ith, nth):
        r = int64_pointer(record)
        rows, cols = r[ROWS], r[COLS]
        begin, end = part(cols, ith, nth)
        dy, x = at(record, context, DY), at(record, context, X)
        mean, rstd = at(record, context, MEAN), at(record, context, RSTD)
        has_dgamma, has_dbeta = has(record, DGAMMA), has(record, DBETA)
        dgamma = at(record, context, DGAMMA) if has_dgamma else mean
        dbeta = at(record, context, DBETA) if has_dbeta else mean
        moments, totals = reals(stack_bytes(block_bytes)), reals(stack_bytes(block_bytes))
        add = flags_of(record) & _ACCUMULATE != 0
        has_dx, scaled = has(record, DX), has(record, GAMMA)
        dx = at(record, context, DX) if has_dx else x
        gamma = at(record, context, GAMMA) if scaled else x
        share = one / real(rows)
        for first in range(begin, end, _BLOCK):
            count = min(_BLOCK, end - first)
            for j in range(count):
                moments[j], totals[j] = zero, zero
            for row in range(rows):
                i = row * cols + first
                for j in range(count):
                    moments[j] += dy[i + j] * ((x[i + j] - mean[first + j]) * rstd[first + j])
                    totals[j] += dy[i + j]
            if has_dgamma:
                for j in range(count):
                    dgamma[first + j] = moments[j] + (dgamma[first + j] if add else zero)
            if has_dbeta:
                for j in range(count):
                    dbeta[first + j] = totals[j] + (dbeta[first + j] if add else zero)
            if has_dx:
                for j in range(count):
                    moments[j], totals[j] = moments[j] * share, totals[j] * share
                for row in range(rows):
                    i = row * cols + first
                    for j in range(count):
                        g = dy[i + j]
                        if by_batch:
                            g -= totals[j] + (x[i + j] - mean[first + j]) * rstd[first + j] * moments[j]
                        dx[i + j] = g * rstd[first + j]
                    if scaled:
                        for j in range(count):
                            dx[i + j] *= gamma[first + j]

    return batch_norm_grad


@kernel("batch_norm_grad")
def batch_norm_grad(kit: Kit, variant: str) -> Callable[..., Any]:
    """Make dx = rstd gamma (dy - mean(dy) - xhat mean(dy xhat)), and the sums for gamma and beta."""
    return _batch_norm_grad(kit, by_batch=True)


@kernel("batch_norm_inference_grad")
def batch_norm_inference_grad(kit: Kit, variant: str) -> Callable[..., Any]:
    """Make dx = rstd gamma dy, and the sums for gamma and beta."""
    return _batch_norm_grad(kit, by_batch=False)
