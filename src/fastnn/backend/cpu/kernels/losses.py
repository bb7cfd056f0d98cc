"""Loss kernels: the loss of every row and, in training, the gradient of the scaled weighted sum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.backend.cpu.codegen.elementary import functions
from fastnn.backend.cpu.codegen.intrinsics import address, float64_pointer, has, int64_pointer, smaller, stack_bytes
from fastnn.backend.cpu.codegen.kernel import Kit, given, kernel, part, rows_part
from fastnn.backend.cpu.codegen.options import around_users, formula, helper
from fastnn.backend.cpu.codegen.options import users as users_double
from fastnn.backend.cpu.kernels.rows import row_functions
from fastnn.backend.cpu.kernels.short_rows import LANES, LONGEST, is_short, lane_functions, lanes_of
from fastnn.formulas import custom, custom_formulas, losses
from fastnn.program.layout import Counter

_STEP, _BAD_LOSS_STEP = int(Counter.STEP), int(Counter.BAD_LOSS_STEP)


@kernel("loss")
def loss(kit: Kit, variant: str) -> Callable[..., Any]:
    """Sum (or average) an elementwise formula over every row."""
    ROW_LOSS, DX, X, TARGET, WEIGHT = kit.words("row_loss dx x target weight")
    ROWS, COLS, PER_SAMPLE = kit.words("rows cols per_sample")
    SCALE, DIVISOR, PARAM_A, PARAM_B = kit.words("scale divisor a b")
    at, real = kit.at, kit.real
    users = custom.find(variant)
    if users is not None:
        value, gradient = custom_formulas.loss(users, real, around_users, kit.users, users_double)
    else:
        value, gradient = losses.define(real, formula, functions(kit.dtype))[variant]
    zero, weigh = real(0.0), losses.weighing(real, formula)

    def loss(record, context, ith, nth):
        r, params = int64_pointer(record), float64_pointer(record)
        cols, per_sample = r[COLS], r[PER_SAMPLE]
        a, b = real(params[PARAM_A]), real(params[PARAM_B])
        factor = real(1.0 / r[DIVISOR])
        scale = real(params[SCALE] * (1.0 / r[DIVISOR]))
        # parts of 64 rows: then each element is computed by the same instructions, whatever the number of parts
        first, last = part(r[ROWS], ith, nth)
        row_loss, x, target = (
            at(record, context, ROW_LOSS),
            at(record, context, X),
            at(record, context, TARGET),
        )
        weighted, trains = given(record, context, WEIGHT), has(record, DX)
        weight = at(record, context, WEIGHT) if weighted else x
        dx = at(record, context, DX) if trains else x
        if cols == 1:
            for row in range(first, last):
                row_loss[row] = value(x[row], target[row], a, b) * factor
            if trains:
                for row in range(first, last):
                    dx[row] = weigh(scale, gradient(x[row], target[row], a, b))
                if weighted:
                    for row in range(first, last):
                        dx[row] = weigh(weight[row if per_sample == 1 else row // per_sample], dx[row])
            return
        for row in range(first, last):
            i = row * cols
            total = zero
            for j in range(cols):
                total += value(x[i + j], target[i + j], a, b)
            row_loss[row] = total * factor
        if trains:
            # over all rows at once: a loop over ten columns would not be vectorised
            for i in range(first * cols, last * cols):
                dx[i] = weigh(scale, gradient(x[i], target[i], a, b))
            if weighted:
                for row in range(first, last):
                    share = weight[row if per_sample == 1 else row // per_sample]
                    for j in range(cols):
                        dx[row * cols + j] = weigh(share, dx[row * cols + j])

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
    """Make -sum(t log p) on probabilities clipped to [1e-7, 1 - 1e-7], so that log 0 gives a finite loss."""
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
        weighted, trains = given(record, context, WEIGHT), has(record, DX)
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
                    dx[i + j] = zero if p < low or p > high or share == zero else -share * t / p

    return cross_entropy


def _shares(kit: Kit) -> Any:
    """Make `share_of(record, context, row)`: the scale of a row's gradient."""
    WEIGHT, PER_SAMPLE, SCALE = kit.words("weight per_sample scale")
    at, real = kit.at, kit.real

    @helper
    def share_of(record, context, row):
        scale = real(float64_pointer(record)[SCALE])
        if given(record, context, WEIGHT):
            per_sample = int64_pointer(record)[PER_SAMPLE]
            scale *= at(record, context, WEIGHT)[row if per_sample == 1 else row // per_sample]
        return scale

    return share_of


@kernel("cross_entropy_logits", "cross_entropy_logits_labels")
def cross_entropy_logits(kit: Kit, variant: str) -> Callable[..., Any]:
    """Make the fused softmax and cross-entropy: sum(t) log(sum(exp(x))) - sum(t x), never log of softmax.

    One function: helpers are optimised alone and again in their callers (0.4 s more to compile with two).
    """
    ROW_LOSS, DX, X, TARGET, WEIGHT = kit.words("row_loss dx x target weight")
    ROWS, COLS, SCALE, SMOOTHING = kit.words("rows cols scale label_smoothing")
    at, reals, real, itemsize = kit.at, kit.reals, kit.real, kit.itemsize
    log, exp_weight = kit.math.log, kit.math.exp_weight
    lane_kit = lane_functions(kit)
    load, store, maxima = lane_kit.load, lane_kit.store, lane_kit.maxima
    block_bytes, lane_bytes = LANES * LONGEST * itemsize, LANES * itemsize
    zero, one = real(0.0), real(1.0)
    row_max, exp_sum, _ = row_functions(kit)
    share_of, labelled, weigh = _shares(kit), _labelled(kit), losses.weighing(real, formula)

    def cross_entropy_logits(record, context, ith, nth):
        r = int64_pointer(record)
        cols, smoothing = r[COLS], real(float64_pointer(record)[SMOOTHING])
        first, last = rows_part(r[ROWS], ith, nth)
        row_loss, x, x_at = at(record, context, ROW_LOSS), at(record, context, X), address(record, context, X)
        trains = has(record, DX)
        dx = at(record, context, DX) if trains else x
        keep, base, scale = one - smoothing, smoothing / real(cols), real(float64_pointer(record)[SCALE])
        if is_short(r[ROWS], cols):
            # a row in each lane
            lanes = lanes_of(nth)
            block, target_block = stack_bytes(block_bytes), stack_bytes(block_bytes)
            t, u = reals(block), reals(target_block)
            maxes, totals = reals(stack_bytes(lane_bytes)), reals(stack_bytes(lane_bytes))
            masses, dots = reals(stack_bytes(lane_bytes)), reals(stack_bytes(lane_bytes))
            for row in range(first, last, LANES):
                count = smaller(LANES, last - row)
                load(address(record, context, X), row, last, cols, block, lanes)
                if labelled:
                    labels = int64_pointer(address(record, context, TARGET))
                    for k in range(lanes * cols):
                        u[k] = zero
                    for lane in range(count):
                        label = labels[row + lane]
                        # labels are checked before a run, but the user may change the array during it
                        if 0 <= label < cols:
                            u[LANES * label + lane] = one
                else:
                    load(address(record, context, TARGET), row, last, cols, target_block, lanes)
                maxima(t, cols, lanes, maxes, totals)
                for lane in range(lanes):
                    totals[lane], masses[lane], dots[lane] = zero, zero, zero
                for j in range(cols):
                    for lane in range(lanes):
                        k = LANES * j + lane
                        share, d = u[k] * keep + base, t[k] - maxes[lane]
                        e = exp_weight(d)
                        u[k], t[k] = share, e
                        totals[lane] += e
                        masses[lane] += share
                        # 0 times an infinite logit is not NaN here: a class of weight 0 costs nothing
                        dots[lane] += share * d if share != zero else zero
                for lane in range(lanes):
                    dots[lane] = masses[lane] * log(totals[lane]) - dots[lane]
                    masses[lane] = masses[lane] / totals[lane]
                for lane in range(count):
                    row_loss[row + lane] = dots[lane]
                if trains:
                    for lane in range(lanes):
                        totals[lane] = scale
                    if given(record, context, WEIGHT):
                        for lane in range(count):
                            totals[lane] = share_of(record, context, row + lane)
                    for j in range(cols):
                        for lane in range(lanes):
                            k = LANES * j + lane
                            t[k] = weigh(totals[lane], t[k] * masses[lane] - u[k])
                    store(block, row, last, cols, address(record, context, DX), lanes)
            return
        # a row at a time; the label's terms are computed separately from those of its row
        for row in range(first, last):
            i = row * cols
            largest = row_max(x_at + i * itemsize, cols)
            if trains:
                total = exp_sum(x, i, cols, largest, dx, i)
            else:
                total = zero
                for j in range(cols):
                    total += exp_weight(x[i + j] - largest)
            mass, dot, hot = zero, zero, -1
            if labelled:
                label = int64_pointer(address(record, context, TARGET))[row]
                mass = base * real(cols)
                if base != zero:
                    for j in range(cols):
                        dot += x[i + j] - largest
                    dot *= base
                # labels are checked before a run, but the user may change the array during it
                if 0 <= label < cols and keep != zero:
                    hot = label
                    mass += keep
                    dot += keep * (x[i + hot] - largest)
            else:
                target = at(record, context, TARGET)
                for j in range(cols):
                    t = target[i + j] * keep + base
                    mass += t
                    dot += t * (x[i + j] - largest) if t != zero else zero
            row_loss[row] = mass * log(total) - dot
            if trains:
                share, factor = share_of(record, context, row), mass / total
                if labelled:
                    peak = dx[i + (hot if hot > 0 else 0)]
                    for j in range(cols):
                        dx[i + j] = weigh(share, dx[i + j] * factor - base)
                    if hot >= 0:
                        dx[i + hot] = weigh(share, peak * factor - (keep + base))
                else:
                    target = at(record, context, TARGET)
                    for j in range(cols):
                        dx[i + j] = weigh(share, dx[i + j] * factor - (target[i + j] * keep + base))

    return cross_entropy_logits


@helper
def _at_most(value, most):
    """Return a loss that counts as no more than another, if that is not 0; NaN stays."""
    return most if 0.0 < most < value else value


def _plain_sum(kit: Kit) -> Any:
    """Make the sum of the losses of rows without weights."""
    reals = kit.reals

    @helper
    def plain_sum(row_loss_at, rows, most):
        row_loss, batch = reals(row_loss_at), 0.0
        for row in range(rows):
            batch += _at_most(np.float64(row_loss[row]), most)
        return batch

    return plain_sum


@kernel("sum_loss")
def sum_loss(kit: Kit, variant: str) -> Callable[..., Any]:
    """Add the weighted losses and the number of rows to a float64 total, in one part."""
    TOTAL, ROW_LOSS, WEIGHT, ROWS, PER_SAMPLE, MOST = kit.words("total row_loss weight rows per_sample most")
    at, weigh, plain_sum = kit.at, losses.weighing(np.float64, formula), _plain_sum(kit)
    largest = np.finfo(np.float64).max

    def sum_loss(record, context, ith, nth):
        if ith == 0:
            r, counters = int64_pointer(record), int64_pointer(context)
            total = float64_pointer(address(record, context, TOTAL))
            row_loss = at(record, context, ROW_LOSS)
            rows, per_sample, most = r[ROWS], r[PER_SAMPLE], float64_pointer(record)[MOST]
            batch = 0.0
            if given(record, context, WEIGHT):
                weight = at(record, context, WEIGHT)
                for row in range(rows):
                    value = _at_most(np.float64(row_loss[row]), most)
                    batch += weigh(np.float64(weight[row // per_sample]), value)
            else:
                batch = plain_sum(address(record, context, ROW_LOSS), rows, most)
            total[0] += batch
            total[1] += rows
            if not abs(batch) <= largest and counters[_BAD_LOSS_STEP] == 0:
                counters[_BAD_LOSS_STEP] = counters[_STEP] + 1

    return sum_loss


@kernel("sum_loss_by_weight")
def sum_loss_by_weight(kit: Kit, variant: str) -> Callable[..., Any]:
    """Add the weighted losses and the rows' weights to a float64 total, in one part; a learner may have no weights."""
    TOTAL, ROW_LOSS, WEIGHT, ROWS, PER_SAMPLE, MOST = kit.words("total row_loss weight rows per_sample most")
    at, weigh, plain_sum = kit.at, losses.weighing(np.float64, formula), _plain_sum(kit)
    largest = np.finfo(np.float64).max

    def sum_loss_by_weight(record, context, ith, nth):
        if ith == 0:
            r, counters = int64_pointer(record), int64_pointer(context)
            total = float64_pointer(address(record, context, TOTAL))
            row_loss, rows, per_sample, batch, weights = at(record, context, ROW_LOSS), r[ROWS], r[PER_SAMPLE], 0.0, 0.0
            most = float64_pointer(record)[MOST]
            if given(record, context, WEIGHT):
                weight = at(record, context, WEIGHT)
                for row in range(rows):
                    share = np.float64(weight[row // per_sample])
                    batch += weigh(share, _at_most(np.float64(row_loss[row]), most))
                    weights += share
            else:
                batch, weights = plain_sum(address(record, context, ROW_LOSS), rows, most), np.float64(rows)
            total[0] += batch
            total[1] += weights
            if not abs(batch) <= largest and counters[_BAD_LOSS_STEP] == 0:
                counters[_BAD_LOSS_STEP] = counters[_STEP] + 1

    return sum_loss_by_weight


@kernel("normalize_weights")
def normalize_weights(kit: Kit, variant: str) -> Callable[..., Any]:
    """Divide a batch's weights by their mean over the rows, in one part; a learner may have none: then they are 1.

    A weight that several rows share is added once for each, so the result has the bits of a weight for each row.
    """
    Y, WEIGHT, ROWS, PER_SAMPLE, SAMPLES = kit.words("y weight rows per_sample samples")
    at, real = kit.at, kit.real

    def normalize_weights(record, context, ith, nth):
        if ith == 0:
            r, y = int64_pointer(record), at(record, context, Y)
            rows, per_sample, samples, total = r[ROWS], r[PER_SAMPLE], r[SAMPLES], 0.0
            if not given(record, context, WEIGHT):
                for sample in range(samples):
                    y[sample] = real(1.0)
                return
            weight = at(record, context, WEIGHT)
            for row in range(rows):
                total += np.float64(weight[row // per_sample])
            factor = rows / total if total != 0.0 else 0.0
            for sample in range(samples):
                y[sample] = real(np.float64(weight[sample]) * factor)

    return normalize_weights


@kernel("mask_weights")
def mask_weights(kit: Kit, variant: str) -> Callable[..., Any]:
    """Multiply a mask of rows by weights, which a learner may not have, in one part."""
    Y, MASK, WEIGHT, ROWS, PER_SAMPLE, NORMALIZED = kit.words("y mask weight rows per_sample normalized")
    at, real = kit.at, kit.real

    def mask_weights(record, context, ith, nth):
        if ith == 0:
            r, y, mask = int64_pointer(record), at(record, context, Y), at(record, context, MASK)
            rows, per_sample, total, factor = r[ROWS], r[PER_SAMPLE], 0.0, 1.0
            if r[NORMALIZED] != 0:
                for row in range(rows):
                    total += np.float64(mask[row])
                factor = rows / total if total != 0.0 else 0.0
            if given(record, context, WEIGHT):
                weight = at(record, context, WEIGHT)
                for row in range(rows):
                    y[row] = real(np.float64(mask[row]) * np.float64(weight[row // per_sample]) * factor)
            else:
                for row in range(rows):
                    y[row] = real(np.float64(mask[row]) * factor)

    return mask_weights
