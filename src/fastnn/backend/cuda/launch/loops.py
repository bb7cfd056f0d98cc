"""Loops as launches: their rounds one after the other, each with its own addresses of windows.

In a round a window begins at a multiple of the size of its array. Kernels load and store real numbers by 16 bytes, at
addresses that are multiples of 16. If the array's size is none, the body works on a copy of the window: one that is
read is copied when a round begins, one that is written when it ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cuda.codegen.kernel import Key, Stage
from fastnn.backend.cuda.launch.launches import Launch, Work
from fastnn.backend.cuda.launch.rewriting import Parts, rewritten
from fastnn.program.layout import DIMS_AT, OPERANDS_AT, WINDOWS, Buffer, align, decode, encode, is_window
from fastnn.program.loop_rules import Loop, loops_of
from fastnn.program.opcodes import OPS
from fastnn.program.program import Program, RecordDraft, Value
from fastnn.program.record import dims_of, op_of, operands_of

_WINDOW = OPS["window"]
#: kernels load and store so many bytes at once, of real numbers
_PACK = 16


def with_aligned_windows(program: Program) -> Program:
    """Return a program in which records of loops read and write windows at multiples of 16 bytes."""
    records, parts, values = program.records.copy(), dict[int, Parts](), list[Value]()
    for loop in loops_of(program.records):
        _align(program, loop, records, parts, values)
    return rewritten(program, records, parts, values) if parts else program


def _align(
    program: Program, loop: Loop, records: NDArray[np.int64], parts: dict[int, Parts], values: list[Value]
) -> None:
    """Copy the windows of one loop that are not aligned: change its operands, and add records and values."""
    before: list[RecordDraft] = []
    after: list[RecordDraft] = []
    body, end = records[loop.start + 1 : loop.last + 1, OPERANDS_AT:DIMS_AT], align(program.arena_bytes)
    index = loop.start + 1
    while index <= loop.last and op_of(program.records[index]) is _WINDOW:
        dims, (view,) = dims_of(program.records[index]), operands_of(program.records[index], program.dtype)
        size, window, place = dims["size"], encode(WINDOWS + dims["number"], 0), encode(Buffer.ARENA, end)
        if view.spec.kind == "real" and (dims["first"] * dims["item"] % _PACK or dims["step"] * dims["item"] % _PACK):
            body[body == window] = place
            if view.spec.access == "read":
                before.append(_copy(place, window, size))
            else:
                after.append(_copy(window, place, size))
            values.append(Value(f"window {dims['number']}", end, size * dims["item"], index, loop.last))
            end += align(size * dims["item"])
        index += 1
    if before or after:
        # windows are the first records of a body; one record may be the last window and the end
        parts[index - 1] = [None, *before]
        parts[loop.last] = [*parts.get(loop.last, [None]), *after]


def _copy(y: int, x: int, size: int) -> RecordDraft:
    dims = {"rows": 1, "cols": size, "target_cols": size, "target_first": 0, "source_cols": size, "source_first": 0}
    return RecordDraft("copy_columns", {"y": y, "x": x}, dims)


def launches_of(
    works: Sequence[Work], stages: Mapping[Key, Sequence[Stage]], addresses: Mapping[int, int], scratch: int
) -> Iterator[Launch]:
    """Iterate over the launches of kernels, in order, those of a loop's body in every round.

    Parameters
    ----------
    works : sequence of Work
        The works of a body follow that of its `repeat` record.
    addresses : mapping of buffer to address
    scratch : int
    """
    at = 0
    while at < len(works):
        work = works[at]
        at += 1
        if work.key.op != "repeat":
            yield from work.launches(stages[work.key], addresses, scratch)
            continue
        body = works[at : at + work.dims["body"]]
        at += len(body)
        windows = [each for each in body if each.key.op == "window"]
        moving = [any(is_window(decode(word)[0]) for word in each.operands) for each in body]
        still = [
            [] if moves else each.launches(stages[each.key], addresses, scratch)
            for each, moves in zip(body, moving, strict=True)
        ]
        for number in range(work.dims["times"]):
            places = dict(addresses) | {
                WINDOWS + each.dims["number"]: _begin(each, addresses, number) for each in windows
            }
            for each, moves, same in zip(body, moving, still, strict=True):
                yield from each.launches(stages[each.key], places, scratch) if moves else same


def _begin(window: Work, addresses: Mapping[int, int], number: int) -> int:
    """Return where a window begins in a round."""
    (word,) = window.operands
    buffer, offset = decode(word)
    dims = window.dims
    return addresses[buffer] + offset + (dims["first"] + number * dims["step"]) * dims["item"]
