"""The records of a program with chains as the CPU runs them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cpu.layouts.chain import LOCAL, MOST_AHEAD, PIECE_BYTES, ChainWord
from fastnn.backend.cpu.processor import cost
from fastnn.program.chains import Chain, locals_of, touched
from fastnn.program.layout import FLAGS_WORD, KERNEL_WORD, PARTS_SHIFT, RECORD_WORDS, encode
from fastnn.program.program import Program
from fastnn.program.record import ITEM_SIZES, KernelKey, dims_of, op_of, operands_of

CHAIN = KernelKey("chain", "int64")
RECORD_BYTES = RECORD_WORDS * 8


class Arranged(NamedTuple):
    """Records in the order in which the CPU has them.

    Attributes
    ----------
    records : ndarray of int64
        Those that the executor runs, with one for each chain, and then the records of the chains.
    count : int
        How many the executor runs.
    numbers : ndarray of int64
        The number that each record has in the program; -1 for those that stand for a chain.
    more : float
        Nanoseconds of work that threads share because it is in one record.
    """

    records: NDArray[np.int64]
    count: int
    numbers: NDArray[np.int64]
    more: float


def arrange(program: Program, records: NDArray[np.int64], kernel: int) -> Arranged:
    """Replace each chain by one record, and put its own records behind all others.

    Parameters
    ----------
    records : ndarray of int64
        The program's, with addresses and numbers of parts.
    kernel : int
        The address of the kernel that runs chains.
    """
    order: list[int] = []
    done = 0
    for chain in program.chains:
        order += [*range(done, chain.first), -1]
        done = chain.last + 1
    order += range(done, len(records))
    count = len(order)
    starts = [place for place, number in enumerate(order) if number < 0]
    for chain in program.chains:
        order += range(chain.first, chain.last + 1)
    numbers = np.array(order, np.int64)
    arranged = records[numbers]
    at, more = count, 0.0
    for chain, start in zip(program.chains, starts, strict=True):
        members = arranged[at : at + chain.last - chain.first + 1]
        made = _record(program, members, (at - start) * RECORD_BYTES, kernel)
        if made[FLAGS_WORD] >> PARTS_SHIFT > 1:
            alone = [record for record in members if record[FLAGS_WORD] >> PARTS_SHIFT < 2]
            more += sum(cost.nanoseconds(record, program.dtype) for record in alone)
        _redirect(program, records, chain, members)
        ahead = _in_memory(program, members)[:MOST_AHEAD]
        made[ChainWord.AHEAD_COUNT] = len(ahead)
        made[ChainWord.AHEAD : ChainWord.AHEAD + len(ahead)] = ahead
        arranged[start] = made
        at += len(members)
    return Arranged(arranged, count, numbers, more)


def _record(program: Program, members: NDArray[np.int64], distance: int, kernel: int) -> NDArray[np.int64]:
    """Return the record that runs a chain."""
    n, piece = dims_of(members[0])["n"], PIECE_BYTES // ITEM_SIZES[program.dtype]
    made = np.zeros(RECORD_WORDS, np.int64)
    made[KERNEL_WORD] = kernel
    made[ChainWord.DISTANCE], made[ChainWord.COUNT], made[ChainWord.ELEMENTS] = distance, len(members), n
    made[ChainWord.PIECE] = piece
    time = sum(cost.nanoseconds(record, program.dtype) for record in members)
    parts = min(int(time / cost.PART_NANOSECONDS), -(-n // piece), cost.MOST_PARTS)
    made[FLAGS_WORD] = max(parts, 1) << PARTS_SHIFT
    return made


def _redirect(program: Program, records: NDArray[np.int64], chain: Chain, members: NDArray[np.int64]) -> None:
    """Let the records of a chain find its local values in the buffer of these."""
    places = locals_of(chain, program.values)
    for record, word, value in touched(chain, records, program.values):
        if value in places:
            members[record - chain.first, word] = encode(LOCAL, places[value] * PIECE_BYTES)


def _in_memory(program: Program, members: NDArray[np.int64]) -> list[int]:
    """Return the operands, as words, that the records of a chain find in memory, element by element."""
    found: dict[int, None] = {}
    for record in members:
        op, n = op_of(record), dims_of(record)["n"]
        for view in operands_of(record, program.dtype):
            if view.buffer != LOCAL and view.shape == (n,):
                found[int(record[op.word(view.spec.name)])] = None
    return list(found)
