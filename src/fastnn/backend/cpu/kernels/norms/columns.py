"""Kernels of batch normalisation, with the batch's or the moving statistics, and its gradients.

A table with columns for several threads is one record; for others see `chunked.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.backend.cpu.codegen.intrinsics import (
    address,
    float64_pointer,
    has,
    int64_pointer,
    smaller,
    stack_bytes,
)
from fastnn.backend.cpu.codegen.kernel import Kit, kernel, part
from fastnn.backend.cpu.kernels.norms.column_sums import BLOCK, column_functions
from fastnn.backend.cpu.kernels.norms.passes import WIDE, accumulating, finishing, holding, normalizing, writing

# Columns of tables whose rows are cut into parts, where both can be cut.
_NARROW = 512


@kernel("batch_norm")
def batch_norm(kit: Kit, variant: str) -> Callable[..., Any]:
    """Normalise columns by the batch's mean and biased variance, and move the moving ones towards them."""
    X, ROWS, COLS = kit.words("x rows cols")
    at, reals, real_bytes, double_bytes = kit.at, kit.reals, BLOCK * kit.itemsize, BLOCK * 8
    moments, finish, hold, passes = column_functions(kit).moments, finishing(kit), holding(kit), normalizing(kit)
    normalize, normalize_exactly = passes.normalize, passes.normalize_exactly

    def batch_norm(record, context, ith, nth):
        r = int64_pointer(record)
        rows, cols = r[ROWS], r[COLS]
        begin, end = part(cols, ith, nth)
        x = at(record, context, X)
        centres, lacks = reals(stack_bytes(real_bytes)), reals(stack_bytes(real_bytes))
        scales, shifts = reals(stack_bytes(real_bytes)), reals(stack_bytes(real_bytes))
        means, squares = float64_pointer(stack_bytes(double_bytes)), float64_pointer(stack_bytes(double_bytes))
        for first in range(begin, end, BLOCK):
            count = smaller(BLOCK, end - first)
            moments(x, 0, rows, cols, first, count, means, squares)
            finish(record, context, first, count, means, squares)
            hold(record, context, first, count, centres, lacks, scales)
            normalize(record, context, 0, rows, first, count, centres, lacks, scales, shifts)
            normalize_exactly(record, context, 0, rows, first, count)

    return batch_norm


@kernel("batch_norm_inference")
def batch_norm_inference(kit: Kit, variant: str) -> Callable[..., Any]:
    """Normalise columns by the moving mean and variance."""
    MEAN, RSTD, MOVING_MEAN, MOVING_VARIANCE = kit.words("mean rstd moving_mean moving_variance")
    ROWS, COLS, EPSILON = kit.words("rows cols epsilon")
    at, real, reals, sqrt = kit.at, kit.real, kit.reals, kit.math.sqrt
    zero, one, normalize, real_bytes = real(0.0), real(1.0), normalizing(kit).normalize, WIDE * kit.itemsize

    def batch_norm_inference(record, context, ith, nth):
        r, epsilon = int64_pointer(record), real(float64_pointer(record)[EPSILON])
        top, bottom, begin, end = 0, r[ROWS], 0, r[COLS]
        if end < _NARROW:
            top, bottom = part(bottom, ith, nth)
        else:
            begin, end = part(end, ith, nth)
        mean, rstd = float64_pointer(address(record, context, MEAN)), at(record, context, RSTD)
        moving_mean = at(record, context, MOVING_MEAN)
        moving_variance = at(record, context, MOVING_VARIANCE)
        centres, lacks = reals(stack_bytes(real_bytes)), reals(stack_bytes(real_bytes))
        scales, shifts = reals(stack_bytes(real_bytes)), reals(stack_bytes(real_bytes))
        for first in range(begin, end, WIDE):
            count = smaller(WIDE, end - first)
            for j in range(count):
                centres[j], lacks[j] = moving_mean[first + j], zero
                scales[j] = one / sqrt(moving_variance[first + j] + epsilon)
            if top == 0:
                for j in range(count):
                    mean[first + j], rstd[first + j] = np.float64(centres[j]), scales[j]
            normalize(record, context, top, bottom, first, count, centres, lacks, scales, shifts)

    return batch_norm_inference


def _batch_norm_grad(kit: Kit, *, by_batch: bool) -> Callable[..., Any]:
    """Make the gradient; statistics of the batch depend on x, moving ones do not.

    The sums are computed on the stack, a block of columns at a time: if dgamma and dbeta accumulate, dx still needs
    the sums of this batch alone.
    """
    DX, DY, X, ROWS, COLS = kit.words("dx dy x rows cols")
    at, reals, real = kit.at, kit.reals, kit.real
    products, hold = column_functions(kit).products, holding(kit, normal=True)
    keep_sums, write_gradient = accumulating(kit), writing(kit)
    real_bytes, double_bytes = BLOCK * kit.itemsize, BLOCK * 8

    def batch_norm_grad(record, context, ith, nth):
        r = int64_pointer(record)
        rows, cols = r[ROWS], r[COLS]
        begin, end = part(cols, ith, nth)
        dy, x = at(record, context, DY), at(record, context, X)
        moments, totals = float64_pointer(stack_bytes(double_bytes)), float64_pointer(stack_bytes(double_bytes))
        centres, lacks = reals(stack_bytes(real_bytes)), reals(stack_bytes(real_bytes))
        factors, slopes = reals(stack_bytes(real_bytes)), reals(stack_bytes(real_bytes))
        starts = reals(stack_bytes(real_bytes))
        share = 1.0 / rows
        for first in range(begin, end, BLOCK):
            count = smaller(BLOCK, end - first)
            hold(record, context, first, count, centres, lacks, factors)
            products(dy, x, 0, rows, cols, first, count, centres, lacks, factors, moments, totals)
            for j in range(count):
                slopes[j], starts[j] = real(moments[j] * share), real(totals[j] * share)
            keep_sums(record, context, first, count, moments, totals)
            if has(record, DX):
                write_gradient(
                    record, context, 0, rows, first, count, centres, lacks, factors, slopes, starts, by_batch
                )

    return batch_norm_grad


@kernel("batch_norm_grad")
def batch_norm_grad(kit: Kit, variant: str) -> Callable[..., Any]:
    """Make dx = rstd gamma (dy - mean(dy) - xhat mean(dy xhat)), and the sums for gamma and beta."""
    return _batch_norm_grad(kit, by_batch=True)


@kernel("batch_norm_inference_grad")
def batch_norm_inference_grad(kit: Kit, variant: str) -> Callable[..., Any]:
    """Make dx = rstd gamma dy, and the sums for gamma and beta."""
    return _batch_norm_grad(kit, by_batch=False)
