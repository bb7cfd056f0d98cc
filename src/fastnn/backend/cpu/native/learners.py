"""A learner on the caller's rows: checks of the arguments, then a training step or a part of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.backend.cpu.codegen.float_mode import enter_kernel_mode, restore_mode
from fastnn.backend.cpu.codegen.intrinsics import (
    call_convert,
    call_note,
    float32_pointer,
    float64_pointer,
    int64_pointer,
    release,
    stack_bytes,
)
from fastnn.backend.cpu.codegen.kernel import Kit, kernel, overlap
from fastnn.backend.cpu.codegen.options import exact, helper
from fastnn.backend.cpu.layouts.call import DTYPE_SHIFT, Held, Live, Outcome, Part
from fastnn.backend.cpu.layouts.code import (
    MOST_SLOTS,
    MOST_TOTALS,
    REAL_DTYPES,
    STACK_BYTES,
    WEIGHT_WORDS,
    Progress,
    Role,
    Slot,
    Word,
    learner_bytes,
)
from fastnn.backend.cpu.native.convert import dtype_of
from fastnn.backend.cpu.native.executor import run_records
from fastnn.backend.cpu.native.hyper_row import next_row
from fastnn.backend.cpu.native.live import check_live, forget_records, patch_once, start_metrics
from fastnn.backend.cpu.native.memory import reserve
from fastnn.backend.cpu.native.patch import RECORD_BYTES, aligned, patch
from fastnn.backend.cpu.native.slots import (
    ADDRESS,
    GIVEN_BYTES,
    KIND,
    SLOT_BYTES,
    description,
    finite,
    first_not_finite,
    first_refused,
    items,
    real_at,
    samples,
    span,
)
from fastnn.backend.cpu.processor.blocking import SCRATCH_BYTES
from fastnn.program.layout import CONTEXT_WORDS, Buffer, Counter

_CONTEXT_BYTES, _TOTALS_BYTES, _PLACES_BYTES = CONTEXT_WORDS * 8, MOST_TOTALS * 8, MOST_SLOTS * 8
_PARAMETERS, _GRADIENTS, _OPTIMIZER, _ARENA, _ACCUMULATORS, _HYPER, _INDEX, _SCRATCH, _DATA = (
    int(one) for one in Buffer
)
_STATUS, _CURSOR, _CHUNK_STEP = int(Counter.STATUS), int(Counter.CURSOR), int(Counter.CHUNK_STEP)
_STEP, _SEED, _FIRST_STEP = int(Counter.STEP), int(Counter.SEED), int(Counter.FIRST_STEP)
(
    _COUNT, _ITEM_BYTES, _SLOTS_COUNT, _ONE_AT, _ONE_COUNT, _ONE_ARENA, _MANY_COUNT, _MANY_ARENA, _BLOCKS_FROM,
    _UPDATE_ONE, _UPDATE_MANY, _PENALTY_AT, _TOTALS, _LOSS_TOTALS, _OPTIMIZER_SLOTS, _WEIGHTS_AT, _WEIGHTS_COUNT,
) = (
    int(Word[name])
    for name in (
        "PARAMETERS", "ITEM_BYTES", "SLOTS_COUNT", "ONE_AT", "ONE_COUNT", "ONE_ARENA", "MANY_COUNT", "MANY_ARENA",
        "BLOCKS_FROM", "UPDATE_ONE", "UPDATE_MANY", "PENALTY_AT", "TOTALS", "LOSS_TOTALS", "OPTIMIZER_SLOTS",
        "WEIGHTS_AT", "WEIGHTS_COUNT",
    )
)  # fmt: skip
_ROLE, _SLOT_DTYPE, _BYTES, _COLUMNS, _TOLERANCE, _LOSS_WEIGHT, _LOSS_AT, _FILLED = (
    int(Slot[name]) for name in ("ROLE", "DTYPE", "BYTES", "COLUMNS", "TOLERANCE", "LOSS_WEIGHT", "LOSS_AT", "FILLED")
)
_TARGET, _LABEL = int(Role.TARGET), int(Role.LABEL)
_AT_STEP, _AT_OPTIMIZER_STEP, _AT_SEED, _SCHEDULED, _CONSTANT, _ROW, _RATES_AT = (
    int(Progress[name])
    for name in ("STEP", "OPTIMIZER_STEP", "SEED", "SCHEDULED", "CONSTANT", "ROW", "RATES_AT")
)  # fmt: skip
(
    _H_PARAMETERS, _H_COUNT, _H_GRADIENTS, _H_OPTIMIZER, _H_STATE, _H_PROGRESS, _H_PROGRESS_COUNT, _H_TOTALS,
    _H_TOTALS_COUNT, _H_LOSS,
) = (int(one) for one in list(Held)[:10])  # fmt: skip
(
    _DONE, _RAISED, _WRONG_PARAMETERS, _WRONG_SHAPE, _WORKSPACE, _MEMORY, _LABELS, _EMPTY, _NOT_FINITE, _TARGET_VALUES,
    _SCHEDULE, _SHARED,
) = (
    int(Outcome[name])
    for name in (
        "DONE", "RAISED", "PARAMETERS", "SHAPE", "WORKSPACE", "MEMORY", "LABELS", "EMPTY", "NOT_FINITE",
        "TARGET_VALUES", "SCHEDULE", "SHARED",
    )
)  # fmt: skip
_GRADIENTS_PART, _UPDATE_PART, _CHECK, _LIVE = (
    int(Part.GRADIENTS), int(Part.UPDATE), int(Part.CHECK), int(Part.LIVE),
)  # fmt: skip
_H_CONTEXT = int(Live.CONTEXT)

_learner_bytes = helper(learner_bytes)


@helper
def _is_read_in_place(code: int, slots: int, index: int) -> bool:
    """Return whether the program can read an array as it is, or does not read it."""
    slot, given = int64_pointer(description(code, index)), int64_pointer(slots + index * GIVEN_BYTES)
    if given[ADDRESS] == 0:
        return slot[_FILLED] == 0
    return given[KIND] >> DTYPE_SHIFT == slot[_SLOT_DTYPE]


@helper
def _shares(code: int, held: int, slots: int, n: int, work: int, work_bytes: int) -> bool:
    """Return whether an array shares memory with what the step writes."""
    words, h = int64_pointer(code), int64_pointer(held)
    nbytes = words[_COUNT] * words[_ITEM_BYTES]
    slot_at = description(code, 0)
    for index in range(words[_SLOTS_COUNT]):
        given = slots + index * GIVEN_BYTES
        sample_bytes = int64_pointer(slot_at)[_BYTES]
        slot_at += SLOT_BYTES
        if int64_pointer(given)[ADDRESS] != 0:
            start, size = span(given, n * sample_bytes)
            if overlap(start, size, h[_H_PARAMETERS], nbytes) or overlap(start, size, work, work_bytes):
                return True
            if overlap(start, size, h[_H_GRADIENTS], nbytes):
                return True
            if overlap(start, size, h[_H_OPTIMIZER], words[_OPTIMIZER_SLOTS] * nbytes):
                return True
    return False


@helper
def _look(code: int, slots: int, places: int, n: int) -> tuple[int, int]:
    """Write the address of each array.

    Returns
    -------
    nbytes : int
        Of the arrays that have to be converted.
    labels : int
        The number of the first array of labels that are not integers, -1 if there is none.
    """
    at, nbytes, labels = int64_pointer(places), 0, -1
    slot_at = description(code, 0)
    for index in range(int64_pointer(code)[_SLOTS_COUNT]):
        slot, given = int64_pointer(slot_at), int64_pointer(slots + index * GIVEN_BYTES)
        at[index] = given[ADDRESS]
        if given[ADDRESS] == 0:
            nbytes += aligned(n * slot[_BYTES]) if slot[_FILLED] != 0 else 0
        elif given[KIND] >> DTYPE_SHIFT != slot[_SLOT_DTYPE]:
            nbytes += aligned(n * slot[_BYTES])
            if slot[_ROLE] == _LABEL and dtype_of(given[KIND]) < REAL_DTYPES and labels < 0:
                labels = index
        slot_at += SLOT_BYTES
    return nbytes, labels


@helper
def _fill(target: int, nbytes: int, itemsize: int) -> None:
    """Write ones."""
    for index in range(nbytes // itemsize):
        if itemsize == 4:
            float32_pointer(target)[index] = np.float32(1.0)
        else:
            float64_pointer(target)[index] = 1.0


@helper
def _convert(code: int, slots: int, n: int, places: int, free: int) -> None:
    """Write copies, in the dtype that the program reads, of the arrays that it cannot read in place."""
    at = int64_pointer(places)
    for index in range(int64_pointer(code)[_SLOTS_COUNT]):
        if not _is_read_in_place(code, slots, index):
            nbytes = n * int64_pointer(description(code, index))[_BYTES]
            if at[index] == 0:
                _fill(free, nbytes, int64_pointer(code)[_ITEM_BYTES])
            else:
                call_convert(code, free, description(code, index), slots + index * GIVEN_BYTES, 0, n)
            at[index] = free
            free += aligned(nbytes)


@helper
def _bits(value: float) -> int:
    place = stack_bytes(8)
    float64_pointer(place)[0] = value
    return int64_pointer(place)[0]


@helper
def _note_refused(code: int, slots: int, index: int, values: int, element: int, itemsize: int) -> int:
    """Note a target that the loss does not accept: its place and value, and the sum of a row that has to be 1."""
    slot_at = description(code, index)
    slot = int64_pointer(slot_at)
    if element < 0:
        return call_note(code, _TARGET_VALUES, -1, 0, 0, 0, slots, index)
    if slot[_ROLE] == _LABEL:
        return call_note(code, _TARGET_VALUES, element, int64_pointer(values)[element], 0, 0, slots, index)
    total, columns = 1.0, slot[_COLUMNS]
    if float64_pointer(slot_at)[_TOLERANCE] > 0.0:
        total, start = 0.0, element // columns * columns
        for column in range(columns):
            total += real_at(values, start + column, itemsize)
    found = _bits(real_at(values, element, itemsize))
    return call_note(code, _TARGET_VALUES, element, found, _bits(total), 0, slots, index)


@helper
def _check_values(code: int, slots: int, places: int, n: int) -> int:
    """Check the values of all arrays, and return an `Outcome`."""
    words, at = int64_pointer(code), int64_pointer(places)
    itemsize = words[_ITEM_BYTES]
    following = description(code, 0)
    for index in range(words[_SLOTS_COUNT]):
        slot_at, values = following, at[index]
        slot = int64_pointer(slot_at)
        following += SLOT_BYTES
        if values == 0:
            continue
        if slot[_ROLE] == _TARGET or slot[_ROLE] == _LABEL:
            element = first_refused(slot_at, values, n, itemsize)
            if element >= 0:
                return _note_refused(code, slots, index, values, element, itemsize)
        elif slot[_SLOT_DTYPE] < REAL_DTYPES and not finite(values, items(n * slot[_BYTES], itemsize), itemsize):
            element = first_not_finite(values, items(n * slot[_BYTES], itemsize), itemsize)
            found = _bits(real_at(values, max(0, element), itemsize))
            return call_note(code, _NOT_FINITE, element, found, 0, 0, slots, index)
    return _DONE


@helper
def _check_gradients(code: int, gradients: int) -> int:
    """Check gradients that the caller has set, and return an `Outcome`."""
    words = int64_pointer(code)
    count, itemsize = words[_COUNT], words[_ITEM_BYTES]
    if finite(gradients, count, itemsize):
        return _DONE
    element = first_not_finite(gradients, count, itemsize)
    found = _bits(real_at(gradients, max(0, element), itemsize))
    at, first = words[_WEIGHTS_AT], 0  # the place in a vector of all weights
    for _ in range(words[_WEIGHTS_COUNT]):
        start, size = words[at], words[at + 1]
        if start <= element and element < start + size:
            return call_note(code, _NOT_FINITE, first + element - start, found, 0, 0, 0, -1)
        first += size
        at += WEIGHT_WORDS
    return call_note(code, _NOT_FINITE, -1, 0, 0, 0, 0, -1)


@exact
def _loss(code: int, totals: int, n: int) -> float:
    """Return the mean loss of n samples, with the bits of `Objective.loss`."""
    words, sums = int64_pointer(code), float64_pointer(totals)
    value = sums[words[_PENALTY_AT]]
    if value != 0.0:  # a division takes 5 of 500 ns
        value /= n
    slot_at = description(code, 0) - SLOT_BYTES
    for _ in range(words[_SLOTS_COUNT]):
        slot_at += SLOT_BYTES
        weight, at = float64_pointer(slot_at)[_LOSS_WEIGHT], int64_pointer(slot_at)[_LOSS_AT]
        if weight != 0.0:
            value += weight * sums[at] / sums[at + 1]
    return value


@exact
def _add_up(code: int, totals: int, n: int) -> None:
    """Add a step's losses, and its samples, to the sums of all steps."""
    words, sums = int64_pointer(code), float64_pointer(totals)
    first, count = words[_TOTALS], words[_LOSS_TOTALS]
    for index in range(count):
        sums[first + index] += sums[index]
    sums[first + count] += n


@helper
def _step(code: int, held: int, records: int, stack: int, parts: int, places: int, n: int, scratch: int) -> int:
    """Do the parts of a step on checked rows; returns the program's status."""
    words, h, at = int64_pointer(code), int64_pointer(held), int64_pointer(places)
    progress, live = h[_H_PROGRESS], parts & _LIVE != 0
    counters = int64_pointer(progress)
    own_context, own_totals = stack_bytes(_CONTEXT_BYTES), stack_bytes(_TOTALS_BYTES)
    context = h[_H_CONTEXT] if live else own_context
    totals = own_totals if h[_H_TOTALS] == 0 else h[_H_TOTALS]
    c, sums = int64_pointer(context), float64_pointer(totals)
    for index in range(words[_LOSS_TOTALS]):
        sums[index] = 0.0
    if live:
        start_metrics(code, held)
    c[_PARAMETERS], c[_GRADIENTS], c[_OPTIMIZER] = h[_H_PARAMETERS], h[_H_GRADIENTS], h[_H_OPTIMIZER]
    c[_ACCUMULATORS], c[_HYPER], c[_INDEX], c[_SCRATCH] = totals, progress + _ROW * 8, 0, scratch
    for index in range(words[_SLOTS_COUNT]):
        c[_DATA + index] = at[index]
    c[_STATUS] = c[_CURSOR] = c[_CHUNK_STEP] = 0
    if not live:
        c[_STEP], c[_SEED] = counters[_AT_STEP], counters[_AT_SEED]
        c[_FIRST_STEP] = counters[_AT_STEP] - counters[_AT_OPTIMIZER_STEP]
    if n == 1:
        c[_ARENA] = stack if words[_ONE_ARENA] <= STACK_BYTES else records
        records, count, update = code + words[_ONE_AT] * 8, words[_ONE_COUNT], words[_UPDATE_ONE]
    else:
        if live:
            patch_once(code, held, records, n, scratch != 0)
        else:
            patch(code, records, n, scratch != 0)
        c[_ARENA] = records + words[_MANY_COUNT] * RECORD_BYTES
        count, update = words[_MANY_COUNT], words[_UPDATE_MANY]
    if parts & _GRADIENTS_PART != 0:
        run_records(records, update, context, 1, 0)
        float64_pointer(h[_H_LOSS])[0] = _loss(code, totals, n)
        if h[_H_TOTALS] != 0 and not live:
            _add_up(code, totals, n)
    if parts & _UPDATE_PART != 0 and c[_STATUS] == 0:
        next_row(code, progress)
        run_records(records + update * RECORD_BYTES, count - update, context, 1, 0)
        counters[_AT_STEP] = c[_STEP]
        counters[_AT_OPTIMIZER_STEP] += 1
        c[_CURSOR] = 0
    return c[_STATUS]


@helper
def _learn(
    code: int, held: int, slots: int, parts: int, n: int, places: int, converted: int, work: int, work_bytes: int
) -> int:
    """Find memory for a step on n rows of the right shapes, check their values, and take it; returns an `Outcome`."""
    words = int64_pointer(code)
    needed = _learner_bytes(words[_MANY_COUNT], words[_MANY_ARENA], words[_ONE_ARENA], n)
    if work != 0 and work_bytes < needed:
        return call_note(code, _WORKSPACE, n, needed, work_bytes, 0, 0, -1)
    learns = parts & _GRADIENTS_PART != 0
    if n == 1 and parts & _LIVE != 0:
        forget_records(held)
    packs = SCRATCH_BYTES if learns and words[_BLOCKS_FROM] > 0 and words[_BLOCKS_FROM] <= n else 0
    memory, records, converted_at, scratch = 0, aligned(work), 0, 0
    if converted + packs > 0 or (work == 0 and needed > 0):
        memory, records, _, converted_at, scratch = reserve(work, work_bytes, needed, 0, converted, packs)
        if memory < 0:
            return call_note(code, _MEMORY, n, needed + converted, 0, 0, 0, -1)
    stack = stack_bytes(STACK_BYTES)
    mode = enter_kernel_mode()
    outcome = _DONE
    if learns:
        if converted > 0:
            _convert(code, slots, n, places, converted_at)
        outcome = _check_values(code, slots, places, n)
    if outcome == _DONE and parts & _CHECK == 0:
        outcome = _DONE if _step(code, held, records, stack, parts, places, n, scratch) == 0 else _RAISED
    restore_mode(mode)
    if memory != 0:
        release(memory)
    return outcome


@kernel("call_learner", arguments=6, returns=True)
def call_learner(kit: Kit, variant: str) -> Callable[..., Any]:
    """Check a training step, or a part of one, and do it; returns an `Outcome`. Arguments: see `call_network`."""

    def call_learner(code, held, slots, parts, work, work_bytes):
        words, h = int64_pointer(code), int64_pointer(held)
        count, counters = words[_COUNT], int64_pointer(h[_H_PROGRESS])
        wrong = h[_H_COUNT] != count or h[_H_STATE] != count * (1 + words[_OPTIMIZER_SLOTS])
        wrong |= h[_H_TOTALS] != 0 and h[_H_TOTALS_COUNT] != words[_TOTALS] + words[_LOSS_TOTALS] + 1
        if wrong or h[_H_PROGRESS_COUNT] < _RATES_AT or h[_H_PROGRESS_COUNT] != _RATES_AT + counters[_SCHEDULED]:
            return call_note(code, _WRONG_PARAMETERS, h[_H_COUNT], h[_H_STATE], 0, 0, 0, -1)
        late = counters[_AT_OPTIMIZER_STEP] < 0 or counters[_AT_OPTIMIZER_STEP] >= counters[_SCHEDULED]
        if parts & _UPDATE_PART != 0 and counters[_CONSTANT] == 0 and late:
            return call_note(
                code, _SCHEDULE, counters[_AT_OPTIMIZER_STEP], counters[_SCHEDULED], 0, 0, 0, -1
            )  # fmt: skip
        if parts & _LIVE != 0:
            outcome = check_live(code, held, slots)
            if outcome != _DONE:
                return outcome
        places = stack_bytes(_PLACES_BYTES)
        n, converted = 1, 0
        if parts & _GRADIENTS_PART == 0:
            outcome = _check_gradients(code, h[_H_GRADIENTS])
            if outcome != _DONE:
                return outcome
        else:
            n = samples(code, slots)
            if n <= 0:
                return call_note(code, _EMPTY if n == 0 else _WRONG_SHAPE, 0, 0, 0, 0, slots, -1 - n if n < 0 else 0)
            converted, labels = _look(code, slots, places, n)
            if labels >= 0:
                return call_note(code, _LABELS, 0, 0, 0, 0, slots, labels)
            if _shares(code, held, slots, n, work, work_bytes):
                return _SHARED
        return _learn(code, held, slots, parts, n, places, converted, work, work_bytes)

    return call_learner
