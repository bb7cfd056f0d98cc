"""A learner on the caller's rows: checks of the arguments, then a training step or a part of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
from fastnn.backend.cpu.codegen.options import exact, helper, inlined
from fastnn.backend.cpu.layouts.call import DTYPE_SHIFT, Held, Live, Outcome, Part
from fastnn.backend.cpu.layouts.code import (
    MOST_ROWS,
    MOST_SLOTS,
    MOST_TOTALS,
    REAL_DTYPES,
    STACK_BYTES,
    CodeWord,
    Progress,
    Slot,
    learner_bytes,
)
from fastnn.backend.cpu.native.convert import dtype_of
from fastnn.backend.cpu.native.hyper_row import next_row
from fastnn.backend.cpu.native.live import (
    check_live,
    forget_records,
    patch_once,
    place_owners,
    run_call,
    start_metrics,
)
from fastnn.backend.cpu.native.memory import reserve
from fastnn.backend.cpu.native.patch import RECORD_BYTES, aligned, patch
from fastnn.backend.cpu.native.slots import (
    ADDRESS,
    GIVEN_BYTES,
    KIND,
    SLOT_BYTES,
    description,
    samples,
    shared_by,
    span,
)
from fastnn.backend.cpu.native.values import check_gradients, check_values
from fastnn.backend.cpu.processor.blocking import SCRATCH_BYTES
from fastnn.program.layout import CONTEXT_WORDS, Buffer, Counter

_CONTEXT_BYTES, _TOTALS_BYTES, _PLACES_BYTES = CONTEXT_WORDS * 8, MOST_TOTALS * 8, MOST_SLOTS * 8
_PARAMETERS, _GRADIENTS, _OPTIMIZER, _ARENA, _ACCUMULATORS, _HYPER, _INDEX, _SCRATCH, _DATA = (
    int(one) for one in Buffer
)
_STATUS, _CURSOR, _CHUNK_STEP = int(Counter.STATUS), int(Counter.CURSOR), int(Counter.CHUNK_STEP)
_STEP, _SEED, _FIRST_STEP = int(Counter.STEP), int(Counter.SEED), int(Counter.FIRST_STEP)
(
    _COUNT, _GRADIENTS_COUNT, _ITEM_BYTES, _SLOTS_COUNT, _ONE_AT, _ONE_COUNT, _ONE_ARENA, _MANY_COUNT, _MANY_RUN,
    _MANY_ARENA, _BLOCKS_FROM, _UPDATE_ONE, _UPDATE_MANY, _PENALTY_AT, _TOTALS, _LOSS_TOTALS, _OPTIMIZER_SLOTS,
    _ROWS,
) = (
    int(CodeWord[name])
    for name in (
        "PARAMETERS", "GRADIENTS", "ITEM_BYTES", "SLOTS_COUNT", "ONE_AT", "ONE_COUNT", "ONE_ARENA", "MANY_COUNT",
        "MANY_RUN", "MANY_ARENA", "BLOCKS_FROM", "UPDATE_ONE", "UPDATE_MANY", "PENALTY_AT", "TOTALS", "LOSS_TOTALS",
        "OPTIMIZER_SLOTS", "ROWS",
    )
)  # fmt: skip
_SLOT_DTYPE, _BYTES, _ELEMENTS, _LOSS_WEIGHT, _LOSS_AT = (
    int(Slot[name]) for name in ("DTYPE", "BYTES", "ELEMENTS", "LOSS_WEIGHT", "LOSS_AT")
)
_AT_STEP, _AT_OPTIMIZER_STEP, _AT_SEED, _SCHEDULED, _CONSTANT, _ROW, _RATES_AT = (
    int(Progress[name])
    for name in ("STEP", "OPTIMIZER_STEP", "SEED", "SCHEDULED", "CONSTANT", "ROW", "RATES_AT")
)  # fmt: skip
(
    _H_PARAMETERS, _H_COUNT, _H_GRADIENTS, _H_OPTIMIZER, _H_STATE, _H_PROGRESS, _H_PROGRESS_COUNT, _H_TOTALS,
    _H_TOTALS_COUNT, _H_LOSS,
) = (int(one) for one in list(Held)[:10])  # fmt: skip
(
    _DONE, _RAISED, _WRONG_PARAMETERS, _WRONG_SHAPE, _WORKSPACE, _MEMORY, _NO_INTEGERS, _EMPTY, _SCHEDULE, _SHARED,
) = (
    int(Outcome[name])
    for name in (
        "DONE", "RAISED", "PARAMETERS", "SHAPE", "WORKSPACE", "MEMORY", "INTEGERS", "EMPTY", "SCHEDULE", "SHARED",
    )
)  # fmt: skip
_GRADIENTS_PART, _UPDATE_PART, _CHECK, _LIVE = (
    int(Part.GRADIENTS), int(Part.UPDATE), int(Part.CHECK), int(Part.LIVE),
)  # fmt: skip
_H_CONTEXT = int(Live.CONTEXT)

_learner_bytes = helper(learner_bytes)


@helper
def _is_read_in_place(slot_at: int, given_at: int, n: int) -> bool:
    """Return whether the program can read an array as it is, or there is none."""
    slot, given = int64_pointer(slot_at), int64_pointer(given_at)
    if given[ADDRESS] == 0:
        return True
    return given[KIND] >> DTYPE_SHIFT == slot[_SLOT_DTYPE] and shared_by(slot_at, given_at, n) == 1


# parts of a call are inlined here: as functions they took 27 of 570 ns
@inlined
def _shares(code: int, held: int, slots: int, work: int, work_bytes: int) -> bool:
    """Return whether an array shares memory with what the step writes."""
    words, h = int64_pointer(code), int64_pointer(held)
    parameters, nbytes = words[_COUNT] * words[_ITEM_BYTES], words[_GRADIENTS_COUNT] * words[_ITEM_BYTES]
    for index in range(words[_SLOTS_COUNT]):
        given = slots + index * GIVEN_BYTES
        if int64_pointer(given)[ADDRESS] != 0:
            start, size = span(given)
            if overlap(start, size, h[_H_PARAMETERS], parameters) or overlap(start, size, work, work_bytes):
                return True
            if overlap(start, size, h[_H_GRADIENTS], nbytes):
                return True
            if overlap(start, size, h[_H_OPTIMIZER], words[_OPTIMIZER_SLOTS] * nbytes):
                return True
    return False


@inlined
def _look(code: int, slots: int, places: int, n: int) -> tuple[int, int]:
    """Write the address of each array.

    Returns
    -------
    nbytes : int
        Of the arrays that have to be converted.
    reals : int
        The number of the first array that holds real numbers instead of integers, -1 if there is none.
    """
    at, nbytes, reals = int64_pointer(places), 0, -1
    slot_at = description(code, 0)
    for index in range(int64_pointer(code)[_SLOTS_COUNT]):
        slot, given_at = int64_pointer(slot_at), slots + index * GIVEN_BYTES
        given = int64_pointer(given_at)
        at[index] = given[ADDRESS]
        if not _is_read_in_place(slot_at, given_at, n):
            nbytes += aligned(n * slot[_BYTES])
            if slot[_SLOT_DTYPE] >= REAL_DTYPES and dtype_of(given[KIND]) < REAL_DTYPES and reals < 0:
                reals = index
        slot_at += SLOT_BYTES
    return nbytes, reals


@helper
def _repeat(values: int, count: int, times: int, itemsize: int) -> None:
    """Repeat every number, in the same memory."""
    for back in range(1, count + 1):
        source = count - back
        for each in range(times):
            target = (source + 1) * times - 1 - each
            if itemsize == 4:
                float32_pointer(values)[target] = float32_pointer(values)[source]
            else:
                float64_pointer(values)[target] = float64_pointer(values)[source]


@helper
def _convert(code: int, slots: int, n: int, places: int, free: int) -> None:
    """Write copies, in the dtype that the program reads, of the arrays that it cannot read in place."""
    at = int64_pointer(places)
    for index in range(int64_pointer(code)[_SLOTS_COUNT]):
        slot_at, given_at = description(code, index), slots + index * GIVEN_BYTES
        if not _is_read_in_place(slot_at, given_at, n):
            slot, times = int64_pointer(slot_at), shared_by(slot_at, given_at, n)
            count = n * slot[_ELEMENTS] // times
            call_convert(code, free, slot_at, given_at, 0, count)
            if times > 1:
                _repeat(free, count, times, int64_pointer(code)[_ITEM_BYTES])
            at[index] = free
            free += aligned(n * slot[_BYTES])


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
        # the number of rows, or the sum of their weights
        count = sums[at + 1] if weight != 0.0 else 0.0
        if count != 0.0:
            value += weight * sums[at] / count
    return value


@exact
def _add_up(code: int, totals: int, n: int) -> None:
    """Add a step's losses, and its samples, to the sums of all steps."""
    words, sums = int64_pointer(code), float64_pointer(totals)
    first, count = words[_TOTALS], words[_LOSS_TOTALS]
    for index in range(count):
        sums[first + index] += sums[index]
    sums[first + count] += n


@inlined
def _step(code: int, held: int, records: int, stack: int, parts: int, places: int, n: int, scratch: int) -> int:
    """Do the parts of a step on n checked samples; returns the program's status."""
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
        place_owners(held, context)
    c[_PARAMETERS], c[_GRADIENTS], c[_OPTIMIZER] = h[_H_PARAMETERS], h[_H_GRADIENTS], h[_H_OPTIMIZER]
    c[_ACCUMULATORS], c[_HYPER], c[_INDEX], c[_SCRATCH] = totals, progress + _ROW * 8, 0, scratch
    for index in range(words[_SLOTS_COUNT]):
        c[_DATA + index] = at[index]
    c[_STATUS] = c[_CURSOR] = c[_CHUNK_STEP] = 0
    if not live:
        c[_STEP], c[_SEED] = counters[_AT_STEP], counters[_AT_SEED]
        c[_FIRST_STEP] = counters[_AT_STEP] - counters[_AT_OPTIMIZER_STEP]
    if n == 1 and words[_ROWS] == 0:
        c[_ARENA] = stack if words[_ONE_ARENA] <= STACK_BYTES else records
        records, count, update = code + words[_ONE_AT] * 8, words[_ONE_COUNT], words[_UPDATE_ONE]
    else:
        if live:
            patch_once(code, held, records, n, scratch != 0)
        else:
            patch(code, records, n, scratch != 0)
        c[_ARENA] = records + words[_MANY_COUNT] * RECORD_BYTES
        count, update = words[_MANY_RUN], words[_UPDATE_MANY]
    if parts & _GRADIENTS_PART != 0:
        run_call(held, parts, records, update, context)
        rows = words[_ROWS] if words[_ROWS] > 0 else n
        float64_pointer(h[_H_LOSS])[0] = _loss(code, totals, rows)
        if h[_H_TOTALS] != 0 and not live:
            _add_up(code, totals, rows)
    if parts & _UPDATE_PART != 0 and c[_STATUS] == 0:
        next_row(code, progress)
        run_call(held, parts, records + update * RECORD_BYTES, count - update, context)
        counters[_AT_STEP] = c[_STEP]
        counters[_AT_OPTIMIZER_STEP] += 1
        c[_CURSOR] = 0
    return c[_STATUS]


@inlined
def _learn(
    code: int, held: int, slots: int, parts: int, n: int, places: int, converted: int, work: int, work_bytes: int
) -> int:
    """Find memory for a step on n rows of the right shapes, check their values, and take it; returns an `Outcome`."""
    words = int64_pointer(code)
    needed = _learner_bytes(words[_MANY_COUNT], words[_MANY_ARENA], words[_ONE_ARENA], words[_ROWS], n)
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
        outcome = check_values(code, slots, places, n)
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
        counters = int64_pointer(h[_H_PROGRESS])
        wrong = h[_H_COUNT] != words[_COUNT] or h[_H_STATE] != words[_GRADIENTS_COUNT] * (1 + words[_OPTIMIZER_SLOTS])
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
            outcome = check_gradients(code, h[_H_GRADIENTS])
            if outcome != _DONE:
                return outcome
        else:
            n = samples(code, slots)
            if n <= 0:
                return call_note(code, _EMPTY if n == 0 else _WRONG_SHAPE, 0, 0, 0, 0, slots, -1 - n if n < 0 else 0)
            # an array of one row that is repeated takes no memory, whatever the number; its copy would
            if n > MOST_ROWS:
                return call_note(code, _MEMORY, n, 0, 0, 0, 0, -1)
            converted, reals = _look(code, slots, places, n)
            if reals >= 0:
                return call_note(code, _NO_INTEGERS, 0, 0, 0, 0, slots, reals)
            if _shares(code, held, slots, work, work_bytes):
                return _SHARED
        return _learn(code, held, slots, parts, n, places, converted, work, work_bytes)

    return call_learner
