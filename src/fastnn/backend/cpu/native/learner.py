"""A learner on the caller's rows: checks of the arguments, then a training step or a part of one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from fastnn.backend.cpu.codegen.float_mode import enter_kernel_mode, restore_mode
from fastnn.backend.cpu.codegen.intrinsics import (
    SOURCE_POINTERS,
    allocate,
    call_note,
    float32_pointer,
    float64_pointer,
    int64_pointer,
    release,
    stack_bytes,
)
from fastnn.backend.cpu.codegen.kernel import Kit, kernel, overlap
from fastnn.backend.cpu.codegen.options import exact, helper
from fastnn.backend.cpu.layouts.frozen import (
    CORRECTIONS,
    MOST_TOTALS,
    STACK_BYTES,
    Outcome,
    Part,
    Progress,
    Word,
    learner_bytes,
)
from fastnn.backend.cpu.native.frozen import aligned, patch, rows_in, run_records
from fastnn.formulas import corrections
from fastnn.formulas.corrections import NADAM_DECAY
from fastnn.formulas.optimizers import FORMULAS, HYPER_COLUMNS
from fastnn.program.layout import CONTEXT_WORDS, RECORD_WORDS, Buffer, Counter

_RECORD_BYTES, _CONTEXT_BYTES, _TOTALS_BYTES = RECORD_WORDS * 8, CONTEXT_WORDS * 8, MOST_TOTALS * 8
_PARAMETERS, _GRADIENTS, _OPTIMIZER, _ARENA, _ACCUMULATORS, _HYPER, _INDEX, _SCRATCH, _DATA = (
    int(one) for one in Buffer
)
_STATUS, _CURSOR, _CHUNK_STEP = int(Counter.STATUS), int(Counter.CURSOR), int(Counter.CHUNK_STEP)
_STEP, _SEED, _FIRST_STEP = int(Counter.STEP), int(Counter.SEED), int(Counter.FIRST_STEP)

(
    COUNT, ITEM_BYTES, INPUT_NDIM, INPUT_SHAPE, INPUT_BYTES, TARGET_NDIM, TARGET_SHAPE, TARGET_BYTES, ONE_AT,
    ONE_COUNT, ONE_ARENA, MANY_COUNT, MANY_ARENA, UPDATE_ONE, UPDATE_MANY, LABELLED, COLUMNS, LOWEST, HIGHEST,
    TOLERANCE, ALLOWED, ALLOWED_COUNT, LOSS_WEIGHT, PENALTY_AT, LOSS_AT, SLOTS, RATES, CORRECTION, ACCUMULATED,
) = (
    int(Word[name])
    for name in (
        "PARAMETERS", "ITEM_BYTES", "INPUT_NDIM", "INPUT_SHAPE", "INPUT_BYTES", "OUTPUT_NDIM", "OUTPUT_SHAPE",
        "OUTPUT_BYTES", "ONE_AT", "ONE_COUNT", "ONE_ARENA", "MANY_COUNT", "MANY_ARENA", "UPDATE_ONE", "UPDATE_MANY",
        "LABELS", "COLUMNS", "LOWEST", "HIGHEST", "TOLERANCE", "ALLOWED", "ALLOWED_COUNT", "LOSS_WEIGHT",
        "PENALTY_AT", "LOSS_AT", "SLOTS", "RATES", "CORRECTION", "ACCUMULATED",
    )
)  # fmt: skip
(
    AT_STEP, AT_OPTIMIZER_STEP, AT_SEED, SCHEDULED, CONSTANT, RATE, BETA_1, BETA_2, POWER_1, POWER_2, POWER, PRODUCT,
    UNIT_ROW, ROW, RATES_AT,
) = (int(one) for one in Progress)  # fmt: skip
(
    DONE, RAISED, PARAMETERS, INPUT, WORKSPACE, MEMORY, TARGETS, LABELS, WEIGHTS, EMPTY, NOT_FINITE, TARGET_VALUES,
    SCHEDULE, SHARED,
) = (
    int(Outcome[name])
    for name in (
        "DONE", "RAISED", "PARAMETERS", "INPUT", "WORKSPACE", "MEMORY", "TARGETS", "LABELS", "WEIGHTS", "EMPTY",
        "NOT_FINITE", "TARGET_VALUES", "SCHEDULE", "SHARED",
    )
)  # fmt: skip
_GRADIENTS_PART, _UPDATE_PART = int(Part.GRADIENTS), int(Part.UPDATE)
_ADAM, _NADAM, _COUNT = (CORRECTIONS.index(name) for name in ("adam", "nadam", "count"))
_STEP_COLUMN = FORMULAS["nadam"].scalars.index("step")
_STEP_G_COLUMN, _V_COLUMN = (FORMULAS["nadam"].scalars.index(name) for name in ("step_g", "v_correction"))

int32_pointer = SOURCE_POINTERS["int32"]
_learner_bytes = helper(learner_bytes)
_corrections = corrections.define(exact, math.sqrt)
_adam, _nadam, _momentum, _unbiased = (
    _corrections.adam, _corrections.nadam, _corrections.momentum, _corrections.unbiased,
)  # fmt: skip


@helper
def _finite(values: int, count: int, itemsize: int) -> bool:
    """Return whether numbers are neither NaN nor infinite."""
    bad = 0
    if itemsize == 4:
        singles = int32_pointer(values)
        for index in range(count):
            bad += 1 if singles[index] & 0x7F800000 == 0x7F800000 else 0
    else:
        doubles = int64_pointer(values)
        for index in range(count):
            bad += 1 if doubles[index] & 0x7FF0000000000000 == 0x7FF0000000000000 else 0
    return bad == 0


@helper
def first_not_finite(values: int, count: int, itemsize: int) -> int:
    """Return the index of the first number that is NaN or infinite, -1 where there is none."""
    for index in range(count):
        if not _finite(values + index * itemsize, 1, itemsize):
            return index
    return -1


@helper
def real_at(values: int, index: int, itemsize: int) -> float:
    if itemsize == 4:
        return float(float32_pointer(values)[index])
    return float64_pointer(values)[index]


@helper
def first_refused(code: int, y: int, n: int) -> int:
    """Return the index of the first target of n rows that the loss does not accept, -1 if it accepts all.

    Kernels read the scores at the labels' indices. For a row whose sum is wrong it is the last index of the row.
    """
    words, numbers = int64_pointer(code), float64_pointer(code)
    count, columns = n * words[TARGET_BYTES] // 8, words[COLUMNS]
    if words[LABELLED] != 0:
        labels, bad = int64_pointer(y), 0
        for index in range(count):
            bad += 1 if labels[index] < 0 or labels[index] >= columns else 0
        if bad == 0:
            return -1
        for index in range(count):
            if labels[index] < 0 or labels[index] >= columns:
                return index
        return 0  # another thread has written there since
    itemsize, tolerance, allowed = words[ITEM_BYTES], numbers[TOLERANCE], words[ALLOWED_COUNT]
    count = n * words[TARGET_BYTES] // itemsize
    if not _finite(y, count, itemsize):
        return first_not_finite(y, count, itemsize)
    total = 0.0
    for index in range(count):
        value = real_at(y, index, itemsize)
        if value < numbers[LOWEST] or value > numbers[HIGHEST]:
            return index
        found = allowed == 0
        for each in range(allowed):
            found = found or value == numbers[ALLOWED + each]
        if not found:
            return index
        total += value
        if tolerance > 0.0 and (index + 1) % columns == 0:
            if abs(total - 1.0) > tolerance:
                return index
            total = 0.0
    return -1


@helper
def _fits(code: int, shape: int, ndim: int, batched: int, n: int) -> bool:
    """Return whether targets have the shape for n samples; a last axis of length 1 may be missing."""
    words, sizes = int64_pointer(code), int64_pointer(shape)
    axes = words[TARGET_NDIM]
    if ndim - batched == axes - 1 and axes > 0 and words[TARGET_SHAPE + axes - 1] == 1:
        axes -= 1
    if ndim - batched != axes or (batched == 1 and sizes[0] != n):
        return False
    bad = 0
    for axis in range(axes):
        bad += 1 if sizes[batched + axis] != words[TARGET_SHAPE + axis] else 0
    return bad == 0


@helper
def _rows_given(
    code: int, labels: int, x: int, x_shape: int, x_ndim: int, y: int, y_shape: int, y_ndim: int, weights: int,
    weights_shape: int, weights_ndim: int,
) -> int:  # fmt: skip
    """Return the number of given samples, or an error as the negative of an `Outcome`."""
    words = int64_pointer(code)
    n, itemsize = rows_in(code, x_ndim, x_shape, INPUT_NDIM, INPUT_SHAPE), words[ITEM_BYTES]
    batched = x_ndim - words[INPUT_NDIM]
    if n < 0:
        return -INPUT
    if n == 0:
        return -EMPTY
    if labels != words[LABELLED]:
        return -LABELS
    if not _fits(code, y_shape, y_ndim, batched, n):
        return -TARGETS
    if weights != 0 and (weights_ndim != batched or (batched == 1 and int64_pointer(weights_shape)[0] != n)):
        return -WEIGHTS
    if not _finite(x, n * words[INPUT_BYTES] // itemsize, itemsize):
        return -NOT_FINITE
    if weights != 0 and not _finite(weights, n, itemsize):
        return -NOT_FINITE
    return n if first_refused(code, y, n) < 0 else -TARGET_VALUES


@exact
def _next_row(code: int, progress: int) -> None:
    """Write the hyper row of the next step, with the bits of `Optimizer.hyper_rows`."""
    words, counters, p = int64_pointer(code), int64_pointer(progress), float64_pointer(progress)
    kind, steps = words[CORRECTION], words[ACCUMULATED]
    if steps > 1 and (counters[AT_OPTIMIZER_STEP] + 1) % steps != 0:
        return  # no weight is updated
    if kind == _ADAM:
        p[POWER_1] *= p[BETA_1]
        p[POWER_2] *= p[BETA_2]
        p[UNIT_ROW + _STEP_COLUMN] = _adam(p[POWER_1], p[POWER_2])
    elif kind == _NADAM:
        p[POWER] *= NADAM_DECAY
        p[POWER_2] *= p[BETA_2]
        now, following = _momentum(p[BETA_1], p[POWER]), _momentum(p[BETA_1], p[POWER] * NADAM_DECAY)
        p[PRODUCT] *= now
        p[UNIT_ROW + _STEP_COLUMN], p[UNIT_ROW + _STEP_G_COLUMN] = _nadam(now, following, p[PRODUCT])
        p[UNIT_ROW + _V_COLUMN] = _unbiased(p[POWER_2])
    elif kind == _COUNT:  # the first column after the rates
        p[UNIT_ROW + words[RATES]] = counters[AT_OPTIMIZER_STEP] // steps + 1.0
    rate = p[RATE] if counters[CONSTANT] != 0 else p[RATES_AT + counters[AT_OPTIMIZER_STEP]]
    for column in range(HYPER_COLUMNS):
        p[ROW + column] = p[UNIT_ROW + column] * (rate if column < words[RATES] else 1.0)


@exact
def _loss(code: int, totals: int, n: int) -> float:
    """Return the mean loss of n samples, with the bits of `Objective.loss`."""
    words, sums = int64_pointer(code), float64_pointer(totals)
    at = words[LOSS_AT]
    weight = float64_pointer(code)[LOSS_WEIGHT]
    return sums[words[PENALTY_AT]] / n + (weight * sums[at] / sums[at + 1] if weight != 0.0 else 0.0)


@helper
def _step(
    code: int, parameters: int, state: int, progress: int, records: int, stack: int, parts: int, x: int, y: int,
    weights: int, n: int, loss: int,
) -> int:  # fmt: skip
    """Do the parts of a step on checked rows; returns the program's status."""
    words, counters = int64_pointer(code), int64_pointer(progress)
    context, totals = stack_bytes(_CONTEXT_BYTES), stack_bytes(_TOTALS_BYTES)
    c, sums = int64_pointer(context), float64_pointer(totals)
    for index in range(MOST_TOTALS):
        sums[index] = 0.0
    nbytes = words[COUNT] * words[ITEM_BYTES]
    c[_PARAMETERS], c[_GRADIENTS], c[_OPTIMIZER] = parameters, state, state + nbytes
    c[_ACCUMULATORS], c[_HYPER], c[_INDEX], c[_SCRATCH] = totals, progress + ROW * 8, 0, 0
    c[_DATA], c[_DATA + 1], c[_DATA + 2] = x, y, weights
    c[_STATUS] = c[_CURSOR] = c[_CHUNK_STEP] = 0
    c[_STEP], c[_SEED] = counters[AT_STEP], counters[AT_SEED]
    c[_FIRST_STEP] = counters[AT_STEP] - counters[AT_OPTIMIZER_STEP]
    if n == 1:
        c[_ARENA] = stack if words[ONE_ARENA] <= STACK_BYTES else records
        records, count, update = code + words[ONE_AT] * 8, words[ONE_COUNT], words[UPDATE_ONE]
    else:
        patch(code, records, n)
        c[_ARENA] = records + words[MANY_COUNT] * _RECORD_BYTES
        count, update = words[MANY_COUNT], words[UPDATE_MANY]
    if parts & _GRADIENTS_PART != 0:
        run_records(records, update, context)
        float64_pointer(loss)[0] = _loss(code, totals, n)
    if parts & _UPDATE_PART != 0 and c[_STATUS] == 0:
        _next_row(code, progress)
        run_records(records + update * _RECORD_BYTES, count - update, context)
        counters[AT_STEP] = c[_STEP]
        counters[AT_OPTIMIZER_STEP] += 1
    return c[_STATUS]


@kernel("run_learner", arguments=21, returns=True)
def run_learner(kit: Kit, variant: str) -> Callable[..., Any]:
    """Check a training step, and take it; returns an `Outcome`.

    The arguments: address of the code; of the parameters, and their number; of the state (gradients, then the
    optimizer's slots), and its number of elements; of the progress, and its words; of a workspace, and its bytes (both
    0 without one); the parts of the step to do; the address for the loss; whether y holds labels; then address,
    shape and number of dimensions of x, of y, and of the sample weights (all 0 without).
    """

    def run_learner(
        code, parameters, count, state, state_count, progress, progress_count, work, work_bytes, parts, loss, labels,
        x, x_shape, x_ndim, y, y_shape, y_ndim, weights, weights_shape, weights_ndim,
    ):  # fmt: skip
        words, counters = int64_pointer(code), int64_pointer(progress)
        wrong = count != words[COUNT] or state_count != count * (1 + words[SLOTS])
        if wrong or progress_count < RATES_AT or progress_count != RATES_AT + counters[SCHEDULED]:
            return call_note(code, PARAMETERS, count, state_count, 0, 0, 0, -1, 0, -1, 0, -1)
        late = counters[AT_OPTIMIZER_STEP] < 0 or counters[AT_OPTIMIZER_STEP] >= counters[SCHEDULED]
        if parts & _UPDATE_PART != 0 and counters[CONSTANT] == 0 and late:
            done, scheduled = counters[AT_OPTIMIZER_STEP], counters[SCHEDULED]
            return call_note(code, SCHEDULE, done, scheduled, 0, 0, 0, -1, 0, -1, 0, -1)
        n = 1
        if parts & _GRADIENTS_PART != 0:
            n = _rows_given(code, labels, x, x_shape, x_ndim, y, y_shape, y_ndim, weights, weights_shape, weights_ndim)
            if n < 0:
                rows = max(0, rows_in(code, x_ndim, x_shape, INPUT_NDIM, INPUT_SHAPE))
                return call_note(
                    code, -n, x, y, weights, rows, x_shape, x_ndim, y_shape, y_ndim, weights_shape,
                    weights_ndim if weights != 0 else -1,
                )  # fmt: skip
            itemsize = words[ITEM_BYTES]
            for given, nbytes in (
                (x, n * words[INPUT_BYTES]), (y, n * words[TARGET_BYTES]), (weights, n * itemsize),
            ):  # fmt: skip
                if overlap(given, nbytes, parameters, count * itemsize) or overlap(given, nbytes, work, work_bytes):
                    return SHARED
                if overlap(given, nbytes, state, state_count * itemsize):
                    return SHARED
        elif not _finite(state, count, words[ITEM_BYTES]):
            return call_note(code, NOT_FINITE, state, 0, 0, count, 0, -1, 0, -1, 0, -1)
        needed = _learner_bytes(words[MANY_COUNT], words[MANY_ARENA], words[ONE_ARENA], n)
        if work != 0 and work_bytes < needed:
            return call_note(code, WORKSPACE, n, needed, work_bytes, 0, 0, -1, 0, -1, 0, -1)
        memory = 0
        if work == 0 and needed > 0:
            memory = allocate(needed)
            if memory == 0:
                return call_note(code, MEMORY, n, needed, 0, 0, 0, -1, 0, -1, 0, -1)
            work = memory
        stack, records = stack_bytes(STACK_BYTES), aligned(work)
        mode = enter_kernel_mode()
        status = _step(code, parameters, state, progress, records, stack, parts, x, y, weights, n, loss)
        restore_mode(mode)
        if memory != 0:
            release(memory)
        return DONE if status == 0 else RAISED

    return run_learner
