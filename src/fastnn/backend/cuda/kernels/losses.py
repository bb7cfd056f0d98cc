"""Loss kernels: the loss of every row and, in training, the gradient of the scaled weighted sum."""

from __future__ import annotations

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
    functions,
    kernel,
    ptx,
)
from fastnn.backend.cuda.codegen.options import formula, helper
from fastnn.backend.cuda.codegen.sizes import SIZES
from fastnn.backend.cuda.kernels.rowwise import (
    ALGORITHMS,
    algorithm_of,
    divide,
    make_exp_sum,
    row_functions,
    row_stage,
    sum_of,
)
from fastnn.formulas import losses
from fastnn.program.layout import BAD_ROW, NO_ROW, Counter, Flag

_STEP, _BAD_LOSS_STEP = int(Counter.STEP), int(Counter.BAD_LOSS_STEP)
as_double, load_int64, store_int64 = ptx.int_as_double, ptx.LOADS["int64"], ptx.STORES["int64"]


def _formulas(algorithm: str) -> tuple[str, ...]:
    return tuple(losses.define(np.float32, formula, functions("float32")))


@helper
def _at_most(value, most):
    """Return a loss that counts as no more than another, if that is not 0; NaN stays."""
    return most if 0.0 < most < value else value


def _weighting(kit: Kit) -> Any:
    """Make `weight_of(record, row)`: the weight of the row's sample, 1 without weights."""
    WEIGHT, PER_SAMPLE = kit.words("weight per_sample")
    load, one = kit.load, kit.real(1.0)

    @helper
    def weight_of(record, row):
        if record[WEIGHT] == 0:
            return one
        return load(record[WEIGHT], row if record[PER_SAMPLE] == 1 else divide(row, record[PER_SAMPLE]))

    return weight_of


@kernel("loss", algorithms=ALGORITHMS, algorithm=algorithm_of, variants=_formulas)
def loss(kit: Kit) -> list[Stage]:
    """Sum (or average) an elementwise formula over every row."""
    ROW_LOSS, DX, X, TARGET, ROWS, COLS = kit.words("row_loss dx x target rows cols")
    SCALE, DIVISOR, PARAM_A, PARAM_B = kit.words("scale divisor a b")
    r, real, store_one, weight_of = row_functions(kit), kit.real, kit.store, _weighting(kit)
    place, load, store, stride, team_total, inside = r.place, r.load, r.store, r.stride, r.total, r.inside
    value, gradient = custom_code.loss(kit.variant, real) or losses.define(real, formula, kit.math)[kit.variant]
    zero, weigh = real(0.0), losses.weighing(real, formula)

    def loss(record, context):
        x_at, target_at, dx_at, cols = record[X], record[TARGET], record[DX], record[COLS]
        a, b, factor = real(as_double(record[PARAM_A])), real(as_double(record[PARAM_B])), 1.0 / record[DIVISOR]
        row, begin, i, last, writes = place(record[ROWS], cols)
        end, total = begin + cols, zero
        scale = real(as_double(record[SCALE]) * factor) * weight_of(record, row)
        while i < last:
            x, t, here = load(x_at, i, begin, end, zero), load(target_at, i, begin, end, zero), inside(i, begin, end)
            total += sum_of((
                value(x[0], t[0], a, b) if here[0] else zero, value(x[1], t[1], a, b) if here[1] else zero,
                value(x[2], t[2], a, b) if here[2] else zero, value(x[3], t[3], a, b) if here[3] else zero,
            ))  # fmt: skip
            if dx_at != 0:
                store(dx_at, i, begin, end, (
                    weigh(scale, gradient(x[0], t[0], a, b)), weigh(scale, gradient(x[1], t[1], a, b)),
                    weigh(scale, gradient(x[2], t[2], a, b)), weigh(scale, gradient(x[3], t[3], a, b)),
                ))  # fmt: skip
            i += stride
        total = team_total(total)
        if writes:
            store_one(record[ROW_LOSS], row, total * real(factor))

    return [row_stage(kit, loss)]


def _targets(kit: Kit, r: Any) -> Any:
    """Make `targets_of(record, row, i, begin, end, keep, base)`: the smoothed targets of four classes.

    Labels are checked before a run, but the user may change the array during it: a label out of range matches no
    class.
    """
    (TARGET,) = kit.words("target")
    load, columns, zero = r.load, r.columns, kit.real(0.0)
    if kit.op.endswith("_labels"):

        @helper
        def targets_of(record, row, i, begin, end, keep, base):
            label, j = load_int64(record[TARGET], row), columns(i, begin)
            hot = keep + base
            return (
                hot if j[0] == label else base,
                hot if j[1] == label else base,
                hot if j[2] == label else base,
                hot if j[3] == label else base,
            )

    else:

        @helper
        def targets_of(record, row, i, begin, end, keep, base):
            t = load(record[TARGET], i, begin, end, zero)
            return t[0] * keep + base, t[1] * keep + base, t[2] * keep + base, t[3] * keep + base

    return targets_of


@kernel("cross_entropy", "cross_entropy_labels", algorithms=ALGORITHMS, algorithm=algorithm_of)
def cross_entropy(kit: Kit) -> list[Stage]:
    """Make -sum(t log p) on probabilities clipped to [1e-7, 1 - 1e-7], so that log 0 gives a finite loss."""
    ROW_LOSS, DX, X, ROWS, COLS = kit.words("row_loss dx x rows cols")
    SCALE, SMOOTHING = kit.words("scale label_smoothing")
    r, real, store_one, weight_of, log = row_functions(kit), kit.real, kit.store, _weighting(kit), kit.math.log
    place, load, store, stride, team_total, inside = r.place, r.load, r.store, r.stride, r.total, r.inside
    targets_of, zero, one = _targets(kit, r), real(0.0), real(1.0)
    low, high = real(losses.EPSILON), real(1.0 - losses.EPSILON)

    @formula
    def cost(x, t):
        p = low if x < low else (high if x > high else x)
        return t * log(p)

    @formula
    def slope(x, t, share):
        return zero if x < low or x > high or share == zero else -share * t / x

    def cross_entropy(record, context):
        x_at, dx_at, cols = record[X], record[DX], record[COLS]
        row, begin, i, last, writes = place(record[ROWS], cols)
        end, total, smoothing = begin + cols, zero, real(as_double(record[SMOOTHING]))
        share = real(as_double(record[SCALE])) * weight_of(record, row)
        keep, base = one - smoothing, smoothing / real(cols)
        while i < last:
            x, t = load(x_at, i, begin, end, one), targets_of(record, row, i, begin, end, keep, base)
            here = inside(i, begin, end)
            total -= sum_of((
                cost(x[0], t[0]) if here[0] else zero, cost(x[1], t[1]) if here[1] else zero,
                cost(x[2], t[2]) if here[2] else zero, cost(x[3], t[3]) if here[3] else zero,
            ))  # fmt: skip
            if dx_at != 0:
                store(dx_at, i, begin, end, (
                    slope(x[0], t[0], share), slope(x[1], t[1], share),
                    slope(x[2], t[2], share), slope(x[3], t[3], share),
                ))  # fmt: skip
            i += stride
        total = team_total(total)
        if writes:
            store_one(record[ROW_LOSS], row, total)

    return [row_stage(kit, cross_entropy)]


@kernel("cross_entropy_logits", "cross_entropy_logits_labels", algorithms=ALGORITHMS, algorithm=algorithm_of)
def cross_entropy_logits(kit: Kit) -> list[Stage]:
    """Make the fused softmax and cross-entropy: sum(t) log(sum(exp(x))) - sum(t x), never log of softmax."""
    ROW_LOSS, DX, X, TARGET, ROWS, COLS = kit.words("row_loss dx x target rows cols")
    SCALE, SMOOTHING = kit.words("scale label_smoothing")
    r, real, store_one, weight_of = row_functions(kit), kit.real, kit.store, _weighting(kit)
    place, load, store, stride, team_total, team_largest = r.place, r.load, r.store, r.stride, r.total, r.largest
    targets_of, exp_sum, log, exp_weight = _targets(kit, r), make_exp_sum(kit, r), kit.math.log, kit.math.exp_weight
    labelled, zero, one = kit.op.endswith("_labels"), real(0.0), real(1.0)
    weigh = losses.weighing(real, formula)

    @helper
    def sum_of_targets(record, begin, i, end):
        found = zero
        while i < end:
            found += sum_of(load(record[TARGET], i, begin, end, zero))
            i += stride
        return found

    @formula
    def product(t, d):
        # 0 times an infinite logit is not NaN here: a class of weight 0 costs nothing
        return t * d if t != zero else zero

    def cross_entropy_logits(record, context):
        x_at, dx_at, cols = record[X], record[DX], record[COLS]
        row, begin, first, last, writes = place(record[ROWS], cols)
        end, smoothing = begin + cols, real(as_double(record[SMOOTHING]))
        keep, base = one - smoothing, smoothing / real(cols)
        share = real(as_double(record[SCALE])) * weight_of(record, row)
        peak, total = exp_sum(x_at, begin, first, end)
        largest = team_largest(peak)
        total = team_total(total * exp_weight(peak - largest))
        if labelled:
            mass = one if 0 <= load_int64(record[TARGET], row) < cols else zero
        else:
            mass = team_total(sum_of_targets(record, begin, first, end))
        mass = mass * keep + base * real(cols)
        factor, dot, i = mass / total, zero, first
        while i < last:
            x, t = load(x_at, i, begin, end, largest), targets_of(record, row, i, begin, end, keep, base)
            d = (x[0] - largest, x[1] - largest, x[2] - largest, x[3] - largest)
            dot += sum_of((product(t[0], d[0]), product(t[1], d[1]), product(t[2], d[2]), product(t[3], d[3])))
            if dx_at != 0:
                store(dx_at, i, begin, end, (
                    weigh(share, exp_weight(d[0]) * factor - t[0]), weigh(share, exp_weight(d[1]) * factor - t[1]),
                    weigh(share, exp_weight(d[2]) * factor - t[2]), weigh(share, exp_weight(d[3]) * factor - t[3]),
                ))  # fmt: skip
            i += stride
        dot = team_total(dot)
        if writes:
            store_one(record[ROW_LOSS], row, mass * log(total) - dot)

    return [row_stage(kit, cross_entropy_logits)]


# rows that a thread of a team adds: the maximum if one block adds all, and the minimum if several do
_WHOLE, _CHUNK, _MOST_BLOCKS = 16, 4, 1024


def _sum_algorithm(dims: Dims, flags: Flag) -> str:
    return "whole" if dims["rows"] <= _WHOLE * SIZES.team else "chunked"


def _sum_blocks(dims: Dims) -> int:
    return min(ceil_div(dims["rows"], _CHUNK * SIZES.team), _MOST_BLOCKS)


@kernel(
    "sum_loss",
    algorithms=("whole", "chunked"),
    algorithm=_sum_algorithm,
    scratch=lambda dims, itemsize, algorithm: 8 * _sum_blocks(dims) if algorithm == "chunked" else 0,
)
def sum_loss(kit: Kit) -> list[Stage]:
    """Add the weighted losses and the number of rows to a float64 total."""
    TOTAL, ROW_LOSS, WEIGHT, ROWS, PER_SAMPLE, MOST = kit.words("total row_loss weight rows per_sample most")
    load, load_double, store_double = kit.load, ptx.LOADS["float64"], ptx.STORES["float64"]
    team, team_total = SIZES.team, kit.team(SIZES.team, "float64").total
    greatest, zero = np.float64(np.finfo(np.float64).max), np.float64(0.0)
    weigh = losses.weighing(np.float64, formula)

    @helper
    def weighted(record, row):
        value = _at_most(np.float64(load(record[ROW_LOSS], row)), as_double(record[MOST]))
        if record[WEIGHT] != 0:
            sample = row if record[PER_SAMPLE] == 1 else divide(row, record[PER_SAMPLE])
            value = weigh(np.float64(load(record[WEIGHT], sample)), value)
        return value

    @helper
    def block_sum(record):
        """Add up this block's rows, which are a team apart."""
        batch, row, step = zero, cuda.blockIdx.x * team + cuda.threadIdx.x, cuda.gridDim.x * team
        while row < record[ROWS]:
            batch += weighted(record, row)
            row += step
        return team_total(batch)

    @helper
    def finish(record, context, batch):
        total = record[TOTAL]
        store_double(total, 0, load_double(total, 0) + batch)
        store_double(total, 1, load_double(total, 1) + np.float64(record[ROWS]))
        if not abs(batch) <= greatest and load_int64(context, _BAD_LOSS_STEP) == 0:
            store_int64(context, _BAD_LOSS_STEP, load_int64(context, _STEP) + 1)

    def whole(record, context):
        if load_int64(context, BAD_ROW) != NO_ROW:
            return
        batch = block_sum(record)
        if cuda.threadIdx.x == 0:
            finish(record, context, batch)

    def chunk(record, context):
        batch = block_sum(record)
        if cuda.threadIdx.x == 0:
            store_double(record[SCRATCH_WORD], cuda.blockIdx.x, batch)

    def add_chunks(record, context):
        if load_int64(context, BAD_ROW) != NO_ROW:
            return
        # as in `_sum_blocks`, which determines the size of the scratch memory
        blocks = min(divide(record[ROWS] + _CHUNK * team - 1, _CHUNK * team), _MOST_BLOCKS)
        batch, i = zero, np.int64(cuda.threadIdx.x)
        while i < blocks:
            batch += load_double(record[SCRATCH_WORD], i)
            i += team
        batch = team_total(batch)
        if cuda.threadIdx.x == 0:
            finish(record, context, batch)

    if kit.algorithm == "whole":
        return [Stage(whole, lambda dims: (1, 1), team)]
    return [Stage(chunk, lambda dims: (_sum_blocks(dims), 1), team), Stage(add_chunks, lambda dims: (1, 1), team)]


@kernel("sum_loss_by_weight")
def sum_loss_by_weight(kit: Kit) -> list[Stage]:
    """Add the weighted losses and the rows' weights to a float64 total, in one block."""
    TOTAL, ROW_LOSS, ROWS, MOST = kit.words("total row_loss rows most")
    load, load_double, store_double = kit.load, ptx.LOADS["float64"], ptx.STORES["float64"]
    team, team_total, weight_of = SIZES.team, kit.team(SIZES.team, "float64").total, _weighting(kit)
    greatest, zero = np.float64(np.finfo(np.float64).max), np.float64(0.0)
    weigh = losses.weighing(np.float64, formula)

    def add(record, context):
        if load_int64(context, BAD_ROW) != NO_ROW:
            return
        batch, weights, row = zero, zero, np.int64(cuda.threadIdx.x)
        while row < record[ROWS]:
            share = np.float64(weight_of(record, row))
            batch += weigh(share, _at_most(np.float64(load(record[ROW_LOSS], row)), as_double(record[MOST])))
            weights += share
            row += team
        batch, weights = team_total(batch), team_total(weights)
        if cuda.threadIdx.x == 0:
            total = record[TOTAL]
            store_double(total, 0, load_double(total, 0) + batch)
            store_double(total, 1, load_double(total, 1) + weights)
            if not abs(batch) <= greatest and load_int64(context, _BAD_LOSS_STEP) == 0:
                store_int64(context, _BAD_LOSS_STEP, load_int64(context, _STEP) + 1)

    return [Stage(add, lambda dims: (1, 1), team)]


@kernel("normalize_weights")
def normalize_weights(kit: Kit) -> list[Stage]:
    """Divide a batch's weights by their mean, in one block."""
    Y, WEIGHT, SAMPLES = kit.words("y weight samples")
    load, store, real, team = kit.load, kit.store, kit.real, SIZES.team
    team_total, zero = kit.team(SIZES.team, "float64").total, np.float64(0.0)

    def scale(record, context):
        total, sample = zero, np.int64(cuda.threadIdx.x)
        while sample < record[SAMPLES]:
            total += np.float64(load(record[WEIGHT], sample))
            sample += team
        total = team_total(total)
        factor = np.float64(record[SAMPLES]) / total if total != zero else zero
        sample = np.int64(cuda.threadIdx.x)
        while sample < record[SAMPLES]:
            store(record[Y], sample, real(np.float64(load(record[WEIGHT], sample)) * factor))
            sample += team

    return [Stage(scale, lambda dims: (1, 1), team)]


@kernel("mask_weights")
def mask_weights(kit: Kit) -> list[Stage]:
    """Multiply a mask of rows by weights, in one block."""
    Y, MASK, WEIGHT, ROWS, PER_SAMPLE, NORMALIZED = kit.words("y mask weight rows per_sample normalized")
    load, store, real, team = kit.load, kit.store, kit.real, SIZES.team
    team_total, zero, one = kit.team(SIZES.team, "float64").total, np.float64(0.0), np.float64(1.0)

    def scale(record, context):
        total, row = zero, np.int64(cuda.threadIdx.x)
        while row < record[ROWS]:
            total += np.float64(load(record[MASK], row))
            row += team
        total, factor = team_total(total), one
        if record[NORMALIZED] != 0:
            factor = np.float64(record[ROWS]) / total if total != zero else zero
        row = np.int64(cuda.threadIdx.x)
        while row < record[ROWS]:
            y = np.float64(load(record[MASK], row)) * factor
            if record[WEIGHT] != 0:
                y *= np.float64(load(record[WEIGHT], row // record[PER_SAMPLE]))
            store(record[Y], row, real(y))
            row += team

    return [Stage(scale, lambda dims: (1, 1), team)]
