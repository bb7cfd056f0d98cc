"""Loss kernels: the loss of every row and, in training, the gradient of the scaled weighted sum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.backend.cpu.intrinsics import float64_pointer, int64_pointer
from fastnn.backend.cpu.kernels.kit import Kit, address, functions, has, kernel, rows_part
from fastnn.backend.cpu.kernels.rows import row_functions
from fastnn.backend.cpu.options import formula, helper
from fastnn.formulas import losses
from fastnn.program.layout import Counter

_STEP, _BAD_LOSS_STEP = int(Counter.STEP), int(Counter.BAD_LOSS_STEP)


@kernel("loss")
def loss(kit: Kit, variant: str) -> Callable[..., Any]:
    """Sum (or average) an elementwise formula over every row."""
    ROW_LOSS, DX, X, TARGET, WEIGHT = kit.words("row_loss dx x target weight")
    ROWS, COLS, PER_SAMPLE = kit.words("rows cols per_sample")
    SCALE, ROW_FACTOR, PARAM_A, PARAM_B = kit.words("scale row_factor a b")
    at, real = kit.at, kit.real
    value, gradient = losses.define(real, formula, functions(kit.dtype))[variant]
    zero, one = real(0.0), real(1.0)

    def loss(record, context, ith, nth):
        r, params = int64_pointer(record), float64_pointer(record)
        cols, per_sample = r[COLS], r[PER_SAMPLE]
        a, b = real(params[PARAM_A]), real(params[PARAM_B])
        factor = real(params[ROW_FACTOR])
        scale = real(params[SCALE] * params[ROW_FACTOR])
        first, last = rows_part(r[ROWS], ith, nth)
        row_loss, x, target = (
            at(record, context, ROW_LOSS),
            at(record, context, X),
            at(record, context, TARGET),
        )
        weighted, trains = has(record, WEIGHT), has(record, DX)
        weight = at(record, context, WEIGHT) if weighted else x
        dx = at(record, context, DX) if trains else x
        for row in range(first, last):
            i = row * cols
            total = zero
            for j in range(cols):
                total += value(x[i + j], target[i + j], a, b)
            row_loss[row] = total * factor
            if trains:
                share = scale * (weight[row // per_sample] if weighted else one)
                for j in range(cols):
                    dx[i + j] = share * gradient(x[i + j], target[i + j], a, b)

    return loss


def _labelled(kit: Kit) -> bool:
    return kit.op.endswith("_labels")


def _targets(kit: Kit) -> Any:
    """Make `target_at(record, context, row, j, cols, smoothing)`: the smoothed target of one class."""
    (TARGET,) = kit.words("target")
    at, real = kit.at, kit.real
    zero, one = real(0.0), real(1.0)
    if _labelled(kit):

        @helper
        def target_at(record, context, row, j, cols, smoothing):
            label = int64_pointer(address(record, context, TARGET))[row]
            hot = one if label == j else zero
            return hot * (one - smoothing) + smoothing / real(cols)

    else:

        @helper
        def target_at(record, context, row, j, cols, smoothing):
            hot = at(record, context, TARGET)[row * cols + j]
            return hot * (one - smoothing) + smoothing / real(cols)

    return target_at


@kernel("cross_entropy", "cross_entropy_labels")
def cross_entropy(kit: Kit, variant: str) -> Callable[..., Any]:
    """Make -sum(t log p) on probabilities clipped to [1e-7, 1 - 1e-7], so that log 0 costs much but finitely."""
    ROW_LOSS, DX, X, WEIGHT = kit.words("row_loss dx x weight")
    ROWS, COLS, PER_SAMPLE, SCALE, SMOOTHING = kit.words("rows cols per_sample scale label_smoothing")
    at, real, log = kit.at, kit.real, kit.math.log
    zero, one = real(0.0), real(1.0)
    low, high = real(losses.EPSILON), real(1.0 - losses.EPSILON)
    target_at = _targets(kit)

    def cross_entropy(record, context, ith, nth):
        r, params = int64_pointer(record), float64_pointer(record)
        cols, per_sample = r[COLS], r[PER_SAMPLE]
        scale, smoothing = real(params[SCALE]), real(params[SMOOTHING])
        first, last = rows_part(r[ROWS], ith, nth)
        row_loss, x = at(record, context, ROW_LOSS), at(record, context, X)
        weighted, trains = has(record, WEIGHT), has(record, DX)
        weight = at(record, context, WEIGHT) if weighted else x
        dx = at(record, context, DX) if trains else x
        for row in range(first, last):
            i = row * cols
            total = zero
            for j in range(cols):
                p = low if x[i + j] < low else (high if x[i + j] > high else x[i + j])
                t = target_at(record, context, row, j, cols, smoothing)
                total -= t * log(p)
            row_loss[row] = total
            if trains:
                share = scale * (weight[row // per_sample] if weighted else one)
                for j in range(cols):
                    p = x[i + j]
                    t = target_at(record, context, row, j, cols, smoothing)
                    dx[i + j] = zero if p < low or p > high else -share * t / p

    return cross_entropy


@kernel("cross_entropy_logits", "cross_entropy_logits_labels")
def cross_entropy_logits(kit: Kit, variant: str) -> Callable[..., Any]:
    """Make the fused softmax and cross-entropy: sum(t) log(sum(exp(x))) - sum(t x), never log of softmax."""
    ROW_LOSS, DX, X, WEIGHT = kit.words("row_loss dx x weight")
    ROWS, COLS, PER_SAMPLE, SCALE, SMOOTHING = kit.words("rows cols per_sample scale label_smoothing")
    at, real, log, exp = kit.at, kit.real, kit.math.log, kit.math.exp
    zero, one = real(0.0), real(1.0)
    row_max, exp_sum = row_functions(kit)
    target_at = _targets(kit)

    def cross_entropy_logits(record, context, ith, nth):
        r, params = int64_pointer(record), float64_pointer(record)
        cols, per_sample = r[COLS], r[PER_SAMPLE]
        scale, smoothing = real(params[SCALE]), real(params[SMOOTHING])
        first, last = rows_part(r[ROWS], ith, nth)
        row_loss, x = at(record, context, ROW_LOSS), at(record, context, X)
        weighted, trains = has(record, WEIGHT), has(record, DX)
        weight = at(record, context, WEIGHT) if weighted else x
        dx = at(record, context, DX) if trains else x
        for row in range(first, last):
            i = row * cols
            largest = row_max(x, i, cols)
            if trains:
                total = exp_sum(x, i, cols, largest, dx, i)
            else:
                total = zero
                for j in range(cols):
                    total += exp(x[i + j] - largest)
            mass, dot = zero, zero
            for j in range(cols):
                t = target_at(record, context, row, j, cols, smoothing)
                mass += t
                # 0 times an infinite logit is not NaN here: a class of no weight costs nothing
                dot += t * (x[i + j] - largest) if t != zero else zero
            row_loss[row] = mass * log(total) - dot
            if trains:
                share = scale * (weight[row // per_sample] if weighted else one)
                factor = mass / total
                for j in range(cols):
                    t = target_at(record, context, row, j, cols, smoothing)
                    dx[i + j] = share * (dx[i + j] * factor - t)

    return cross_entropy_logits


@kernel("sum_loss")
def sum_loss(kit: Kit, variant: str) -> Callable[..., Any]:
    """Add the weighted losses and the number of rows to a float64 total, in row order, in one part."""
    TOTAL, ROW_LOSS, WEIGHT, ROWS, PER_SAMPLE = kit.words("total row_loss weight rows per_sample")
    at = kit.at
    largest = np.finfo(np.float64).max

    def sum_loss(record, context, ith, nth):
        if ith == 0:
            r, counters = int64_pointer(record), int64_pointer(context)
            total = float64_pointer(address(record, context, TOTAL))
            row_loss = at(record, context, ROW_LOSS)
            rows, per_sample = r[ROWS], r[PER_SAMPLE]
            batch = 0.0
            if has(record, WEIGHT):
                weight = at(record, context, WEIGHT)
                for row in range(rows):
                    batch += np.float64(row_loss[row]) * np.float64(weight[row // per_sample])
            else:
                for row in range(rows):
                    batch += np.float64(row_loss[row])
            total[0] += batch
            total[1] += rows
            if not abs(batch) <= largest and counters[_BAD_LOSS_STEP] == 0:
                counters[_BAD_LOSS_STEP] = counters[_STEP] + 1

    return sum_loss
