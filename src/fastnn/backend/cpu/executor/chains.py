"""The records of a program with chains, in the order in which the CPU has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cpu.processor import cost
from fastnn.backend.cpu.processor.pieces import CHAIN_OP, LOCAL, MOST_AHEAD, ChainWord, local_bytes, piece_bytes
from fastnn.program.chains import is_whole, locals_of, touched
from fastnn.program.layout import FLAGS_WORD, OP_WORD, RECORD_WORDS, encode
from fastnn.program.program import Program
from fastnn.program.record import ITEM_SIZES, KernelKey, elements_of, op_of, operands_of

#: the kernel that runs a chain
CHAIN = KernelKey("chain", "int64")
#: bytes between local values, so that loops find them apart
APART = 512


class Arranged(NamedTuple):
    """Records in the order in which the CPU has them.

    Attributes
    ----------
    records : ndarray of int64
        Those that the executor runs, with one for each chain in its place, and then the records of the chains.
    run : int
        How many the executor runs.
    numbers : ndarray of int64
        The number that each record has in the program; -1 for those that stand for a chain.
    """

    records: NDArray[np.int64]
    run: int
    numbers: NDArray[np.int64]

    def places(self) -> NDArray[np.int64]:
        """Return the place of each record of the program."""
        found = np.empty(self.numbers.max(initial=-1) + 1, np.int64)
        of_program = self.numbers >= 0
        found[self.numbers[of_program]] = np.flatnonzero(of_program)
        return found

    def chains(self) -> NDArray[np.int64]:
        """Return the places of the records that stand for chains."""
        return np.flatnonzero(self.numbers < 0)


def arrange(program: Program, records: NDArray[np.int64]) -> Arranged:
    """Replace each chain by one record, and put its own records behind all others.

    Parameters
    ----------
    records : ndarray of int64
        The program's, which may have more flags and addresses.
    """
    if not program.chains:
        return Arranged(records, len(records), np.arange(len(records)))
    order: list[int] = []
    done = 0
    for chain in program.chains:
        order += [*range(done, chain.first), -1]
        done = chain.last + 1
    order += range(done, len(records))
    run = len(order)
    starts = [place for place, number in enumerate(order) if number < 0]
    for chain in program.chains:
        order += range(chain.first, chain.last + 1)
    numbers = np.array(order, np.int64)
    arranged = records[numbers]
    at = run
    for chain, start in zip(program.chains, starts, strict=True):
        members = arranged[at : at + chain.last - chain.first + 1]
        places = locals_of(chain, program.values)
        local = [(record - chain.first, word, places[v]) for record, word, v in touched(chain, records, program.values)
                 if v in places]  # fmt: skip
        for number, word, _ in local:
            members[number, word] = encode(LOCAL, 0)
        ahead = _in_memory(program, members)
        at_once = 1 + max(places.values(), default=-1)
        for number, word, place in local:
            members[number, word] = encode(LOCAL, place * local_bytes(at_once))
        arranged[start] = _record(program, members, at_once, ahead, (at - start) * RECORD_WORDS * 8)
        at += len(members)
    return Arranged(arranged, run, numbers)


def _record(
    program: Program, members: NDArray[np.int64], local: int, ahead: Sequence[int], distance: int
) -> NDArray[np.int64]:
    """Return the record that runs a chain, without the address of the kernel."""
    n, itemsize = elements_of(members[0]), ITEM_SIZES[program.dtype]
    nbytes, ahead = piece_bytes(local, len(ahead)), ahead[:MOST_AHEAD]
    made = np.zeros(RECORD_WORDS, np.int64)
    made[OP_WORD], made[FLAGS_WORD] = CHAIN_OP, 0
    made[ChainWord.DISTANCE], made[ChainWord.COUNT], made[ChainWord.ELEMENTS] = distance, len(members), n
    made[ChainWord.PIECE], made[ChainWord.PIECE_BYTES] = nbytes // itemsize, nbytes
    made[ChainWord.MOST] = (local_bytes(local) - APART) // itemsize
    made[ChainWord.AHEAD_COUNT], made[ChainWord.AHEAD : ChainWord.AHEAD + len(ahead)] = len(ahead), ahead
    time = sum(cost.nanoseconds(record, program.dtype) for record in members)
    made.view(np.float64)[ChainWord.TIME] = time / n
    return made


def _in_memory(program: Program, members: NDArray[np.int64]) -> Sequence[int]:
    """Return the words, counted from the first record's on, of operands that are in memory element by element."""
    found: dict[int, int] = {}
    for number, record in enumerate(members):
        op = op_of(record)
        for view in operands_of(record, program.dtype):
            word = op.word(view.spec.name)
            if view.buffer != LOCAL and is_whole(record, view):
                found.setdefault(int(record[word]), number * RECORD_WORDS + word)
    return list(found.values())
