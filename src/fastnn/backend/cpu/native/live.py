"""Calls on a model's own buffers: its workspace keeps records, and a training step's counters are its context's."""

from __future__ import annotations

from fastnn.backend.cpu.codegen.intrinsics import call_run, float64_pointer, int64_pointer, smaller
from fastnn.backend.cpu.codegen.options import helper, inlined
from fastnn.backend.cpu.layouts.call import NDIM_MASK, SHARE_UNIT, Held, Live, Outcome, Part, Share
from fastnn.backend.cpu.layouts.code import CodeWord, Progress, Slot
from fastnn.backend.cpu.native.executor import run_records
from fastnn.backend.cpu.native.patch import RECORD_BYTES, patch
from fastnn.backend.cpu.native.slots import KIND, description
from fastnn.backend.cpu.processor.cost import MOST_PARTS
from fastnn.program.layout import FLAGS_WORD, PARTS_SHIFT, SHARED, Counter

_PROGRESS, _H_TOTALS = int(Held.PROGRESS), int(Held.TOTALS)
_CONTEXT, _INITIAL, _PATCHED = int(Live.CONTEXT), int(Live.INITIAL), int(Live.PATCHED)
_RUN, _THREADS, _TEAM, _LIVE = int(Live.RUN), int(Live.THREADS), int(Live.TEAM), int(Part.LIVE)
_SHARES_AT, _SHARES_COUNT = int(Live.SHARES_AT), int(Live.SHARES_COUNT)
_OWNERS_AT, _OWNERS_COUNT = int(Live.OWNERS_AT), int(Live.OWNERS_COUNT)
_RECORD, _BY_TIME, _BY_TIME_GROWTH, _BY_SIZE, _BY_SIZE_GROWTH, _SHARE_WORDS = (int(word) for word in list(Share)[:6])
_LOSS_TOTALS, _TOTALS = int(CodeWord.LOSS_TOTALS), int(CodeWord.TOTALS)
_STEP, _FIRST_STEP = int(Counter.STEP), int(Counter.FIRST_STEP)
_AT_STEP, _AT_OPTIMIZER_STEP, _NDIM = int(Progress.STEP), int(Progress.OPTIMIZER_STEP), int(Slot.NDIM)
_DONE, _WRONG_SHAPE, _BEHIND = int(Outcome.DONE), int(Outcome.SHAPE), int(Outcome.BEHIND)


@helper
def check_live(code: int, held: int, slots: int) -> int:
    """Check that the progress is that of the context, and that the first array is a batch; return an `Outcome`."""
    h = int64_pointer(held)
    counters, context = int64_pointer(h[_PROGRESS]), int64_pointer(h[_CONTEXT])
    done = context[_STEP] - context[_FIRST_STEP]
    if counters[_AT_STEP] != context[_STEP] or counters[_AT_OPTIMIZER_STEP] != done:
        return _BEHIND
    axes = int64_pointer(description(code, 0))[_NDIM]
    return _DONE if int64_pointer(slots)[KIND] & NDIM_MASK == axes + 1 else _WRONG_SHAPE


@helper
def place_owners(held: int, context: int) -> None:
    """Write into a context where the weights are that other models hold."""
    h = int64_pointer(held)
    owners, words = int64_pointer(h[_OWNERS_AT]), int64_pointer(context)
    for number in range(h[_OWNERS_COUNT]):
        words[SHARED + number] = owners[number]


@helper
def patch_once(code: int, held: int, records: int, n: int, blocks: bool) -> None:
    """Write the records for n rows as `patch` does, unless they are in the workspace already."""
    h, wanted = int64_pointer(held), 2 * n + (1 if blocks else 0)
    if h[_PATCHED] != wanted:
        h[_PATCHED] = wanted
        patch(code, records, n, blocks)
        _cut(h[_SHARES_AT], h[_SHARES_COUNT], records, n)


@helper
def _cut(shares: int, count: int, records: int, n: int) -> None:
    """Write into how many parts records of n rows are cut."""
    words, at = int64_pointer(shares), 0
    for _ in range(count):
        by_time = (words[at + _BY_TIME] + words[at + _BY_TIME_GROWTH] * n) // SHARE_UNIT
        by_size = (words[at + _BY_SIZE] + words[at + _BY_SIZE_GROWTH] * n) // SHARE_UNIT
        parts = smaller(smaller(by_time, by_size), MOST_PARTS)
        if parts > 1:
            int64_pointer(records + words[at + _RECORD] * RECORD_BYTES)[FLAGS_WORD] |= parts << PARTS_SHIFT
        at += _SHARE_WORDS


@inlined
def is_shared(held: int, parts: int) -> bool:
    """Return whether a team shares the records of a call."""
    return parts & _LIVE != 0 and int64_pointer(held)[_RUN] != 0


@inlined
def run_call(held: int, parts: int, records: int, count: int, context: int) -> None:
    """Run records of a call once, together with the team if it shares them."""
    if is_shared(held, parts):
        h = int64_pointer(held)
        team = int64_pointer(h[_TEAM])[0]  # 0 in the child of a fork
        call_run(h[_RUN], records, count, context, h[_THREADS] if team != 0 else 1, team)
    else:
        run_records(records, count, context, 1, 0)


@helper
def forget_records(held: int) -> None:
    """Say that the workspace does not hold records any more: a step on one row uses their memory."""
    int64_pointer(held)[_PATCHED] = 0


@helper
def start_metrics(code: int, held: int) -> None:
    """Empty the accumulators of metrics, which follow those of losses."""
    words, h = int64_pointer(code), int64_pointer(held)
    sums, initial = float64_pointer(h[_H_TOTALS]), float64_pointer(h[_INITIAL])
    for index in range(words[_LOSS_TOTALS], words[_TOTALS]):
        sums[index] = initial[index]
