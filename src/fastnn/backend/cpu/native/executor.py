"""The executor: the loop that runs programs, N steps without Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnn.backend.cpu.codegen.float_mode import enter_kernel_mode, restore_mode
from fastnn.backend.cpu.codegen.intrinsics import call_kernel, int64_pointer, smaller
from fastnn.backend.cpu.codegen.kernel import Kit, kernel, note_raised
from fastnn.backend.cpu.codegen.options import helper, inlined
from fastnn.backend.cpu.layouts.team import FINER
from fastnn.backend.cpu.native.team import contended, enter, leave, run_together
from fastnn.program.layout import FLAGS_WORD, KERNEL_WORD, PARTS_SHIFT, RECORD_WORDS, Counter, Status
from fastnn.program.opcodes import OPS

_RECORD_BYTES = RECORD_WORDS * 8
_STATUS = int(Counter.STATUS)
_ROUND = int(Counter.ROUND)
_RUNNING, _RAISED, _REPEATS = int(Status.RUNNING), int(Status.KERNEL_RAISED), int(Status.REPEATS)
_TIMES, _BODY = OPS["repeat"].words("times", "body")


@inlined
def run_in_turn(record: int, context: int, nth: int) -> None:
    """Run all parts of a record on the calling thread."""
    kernel_address = int64_pointer(record)[KERNEL_WORD]
    for ith in range(nth):
        if call_kernel(kernel_address, record, context, ith, nth) != 0:
            note_raised(record, context)


@inlined
def _run_alone(record: int, context: int, nth: int, team: int) -> None:
    run_in_turn(record, context, nth)


@helper
def _run_shared(record: int, context: int, nth: int, team: int) -> None:
    """Run a record on a team of `nth` threads, if that pays."""
    parts = smaller(int64_pointer(record)[FLAGS_WORD] >> PARTS_SHIFT, nth)
    if parts >= 2 and contended(team):
        parts = smaller(int64_pointer(record)[FLAGS_WORD] >> PARTS_SHIFT, nth * FINER)
    if parts < 2:
        run_in_turn(record, context, 1)
        return
    counters = int64_pointer(context)
    run_together(team, record, context, parts)
    if counters[_STATUS] != _RUNNING and counters[_STATUS] != _RAISED:
        # once more in order, so that the error names the first row (gathering can be repeated)
        counters[_STATUS] = _RUNNING
        run_in_turn(record, context, 1)


def _loop(run_record: Any) -> Any:
    """Make the loop over records, which ends where one sets the context's status; it returns whether none did.

    It is inlined, since most callers have constant arguments: as a call, a step of 4-16-2 took 1.2 times as long.
    """

    @helper
    def run_rounds(record, context, nth, team):
        """Run the body of the loop that begins at a record, and return how many records it has."""
        counters, words = int64_pointer(context), int64_pointer(record)
        body = words[_BODY]
        counters[_STATUS] = _RUNNING
        for number in range(words[_TIMES]):
            counters[_ROUND] = number
            for index in range(1, body + 1):
                run_record(record + index * _RECORD_BYTES, context, nth, team)
                if counters[_STATUS] != _RUNNING:
                    return body
        return body

    @inlined
    def run_records(records, count, context, nth, team):
        status = int64_pointer(context)
        index = 0
        while index < count:
            record = records + index * _RECORD_BYTES
            run_record(record, context, nth, team)
            index += 1
            if status[_STATUS] != _RUNNING:
                if status[_STATUS] == _REPEATS:
                    index += run_rounds(record, context, nth, team)
                if status[_STATUS] != _RUNNING:
                    return False
        return True

    return run_records


#: (records, count, context, nth, 0): run `nth` parts of every record on the calling thread.
run_records = _loop(_run_alone)
#: (records, count, context, nth, team): likewise, sharing records with a team of `nth` threads.
_run_records_shared = _loop(_run_shared)


@kernel("run", arguments=6, returns=True)
def run(kit: Kit, variant: str) -> Callable[..., Any]:
    """Run `count` records `steps` times and return the number of finished steps.

    With a team, `nth` is the number of threads, and each record is cut into as many parts as pay, at most one per
    thread. (Two per thread balance the load, but made a training step of 784-256-128-10 on two threads slower,
    1.33 instead of 1.11 ms, because every part of a matrix product packs the other matrix.) Without a team (0), or
    if another run has it, the calling thread works alone, on `nth` parts of every record one by one (1 if the team
    is taken). The results do not depend on any of this. A record that sets the context's status stops the program
    there.
    """

    def run(records, count, context, steps, nth, team):
        counters = int64_pointer(context)
        if team != 0 and not enter(team, nth):
            team, nth = 0, 1
        mode = enter_kernel_mode()
        finished = 0
        if counters[_STATUS] == _RUNNING:
            if team == 0:
                while finished < steps and run_records(records, count, context, nth, 0):
                    finished += 1
            else:
                while finished < steps and _run_records_shared(records, count, context, nth, team):
                    finished += 1
        restore_mode(mode)
        if team != 0:
            leave(team)
        return finished

    return run
