"""Chains: elementwise records that run piece by piece, so that what they pass to each other stays in the cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnn.backend.cpu.codegen.intrinsics import address, call_kernel, int64_pointer, prefetch, smaller, stack_bytes
from fastnn.backend.cpu.codegen.kernel import Kit, kernel, note_raised, rows_part
from fastnn.backend.cpu.processor.pieces import LOCAL, LOCAL_BYTES, ChainWord
from fastnn.program.layout import CONTEXT_WORDS, KERNEL_WORD, RECORD_WORDS, Counter, Status

_RECORD_BYTES, _CONTEXT_BYTES = RECORD_WORDS * 8, CONTEXT_WORDS * 8
_DISTANCE, _COUNT, _ELEMENTS, _PIECE, _PIECE_BYTES, _MOST, _, _AHEAD_COUNT, _AHEAD = (int(word) for word in ChainWord)
_LOCAL, _STATUS, _RUNNING = int(LOCAL), int(Counter.STATUS), int(Status.RUNNING)
LINE = 64  # bytes that the processor fetches at once
_DETAIL, _ERROR = int(Counter.STATUS_DETAIL), int(Counter.ERROR)


@kernel("chain")
def chain(kit: Kit, variant: str) -> Callable[..., Any]:
    """Run all records of a chain on one piece after the other.

    Pieces begin at multiples of 64 elements, so that bits do not depend on them, as they do not on parts. The records
    see a context in which the buffer of local values begins so far before this thread's memory that the piece's
    elements are there. It is a copy, unless no other thread uses the context. While they compute a piece, the next one
    is fetched from memory, some lines before each record: otherwise memory would wait while the records compute. Six
    records with two inputs on 10^6 elements of float32 took 0.63 instead of 0.46 ms.
    """

    def chain(record, context, ith, nth):
        r, given = int64_pointer(record), int64_pointer(context)
        members, count = record + r[_DISTANCE], r[_COUNT]
        piece, piece_bytes = r[_PIECE], r[_PIECE_BYTES]
        first, last = 0, 1
        if nth == 1 and r[_ELEMENTS] <= r[_MOST]:
            piece = r[_MOST]  # one piece saves calls
        else:
            first, last = rows_part((r[_ELEMENTS] + piece - 1) // piece, ith, nth)
        local, seen, kept = stack_bytes(LOCAL_BYTES), context, given[_LOCAL]
        if nth != 1:
            seen = stack_bytes(_CONTEXT_BYTES)
            for word in range(CONTEXT_WORDS):
                int64_pointer(seen)[word] = given[word]
        words = int64_pointer(seen)
        words[_LOCAL] = local - first * piece_bytes
        stretch = (piece_bytes // LINE + count - 1) // count * LINE
        for number in range(first, last):
            begin = piece_bytes if number + 1 == last else 0
            for member in range(members, members + count * _RECORD_BYTES, _RECORD_BYTES):
                end = smaller(begin + stretch, piece_bytes)
                for word in range(_AHEAD, _AHEAD + r[_AHEAD_COUNT]):
                    ahead = address(members, context, r[word]) + (number + 1) * piece_bytes
                    for line in range(begin, end, LINE):
                        prefetch(ahead + line)
                begin = end
                if call_kernel(int64_pointer(member)[KERNEL_WORD], member, seen, number, -piece) != 0:
                    note_raised(member, seen)
            if words[_STATUS] != _RUNNING:
                given[_DETAIL], given[_ERROR], given[_STATUS] = words[_DETAIL], words[_ERROR], words[_STATUS]
                break
            words[_LOCAL] -= piece_bytes
        if nth == 1:
            words[_LOCAL] = kept

    return chain
