"""Chains: neighbouring elementwise records that a backend may run piece by piece instead of one after the other.

Each record of a chain computes elements from the elements at the same place alone. So it makes no difference whether
all records compute one piece of the elements and then the next piece, or each record all elements. Values that live
within a chain are **local** to it: a backend that runs it piece by piece keeps one piece of each, and they never go to
memory. The other values that a chain reads live until its end, since its first record reads the last piece after its
last record has written the first. Backends that know no chains run the records one by one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastnn.program.layout import ABSENT, OPERANDS_AT, Buffer, decode
from fastnn.program.record import OperandView, dims_of, elements_of, op_of
from fastnn.program.value import Value

#: The most local values that a chain has at a time: pieces of all of them have to fit the first-level cache.
MOST_LOCAL = 8


class Chain(NamedTuple):
    """The numbers of the first and the last record of a chain."""

    first: int
    last: int

    def has(self, value: Value) -> bool:
        """Return whether a value is local to the chain."""
        return self.first <= value.first and value.last <= self.last


class Touched(NamedTuple):
    """An operand in the arena: the numbers of its record and its word, and the value that lives there then."""

    record: int
    word: int
    value: Value


def touched(chain: Chain, records: NDArray[np.int64], values: Sequence[Value]) -> Iterator[Touched]:
    """Iterate over the operands in the arena of a chain's records."""
    by_offset: defaultdict[int, list[Value]] = defaultdict(list)
    for value in values:
        if value.first <= chain.last and chain.first <= value.last:
            by_offset[value.offset].append(value)
    for index in range(chain.first, chain.last + 1):
        record = records[index]
        for word in range(OPERANDS_AT, OPERANDS_AT + len(op_of(record).operands)):
            if record[word] == ABSENT:
                continue
            buffer, offset = decode(int(record[word]))
            alive = [each for each in by_offset[offset] if each.first <= index <= each.last]
            if buffer == Buffer.ARENA and alive:
                yield Touched(index, word, alive[0])


def is_whole(record: NDArray[np.int64], view: OperandView) -> bool:
    """Return whether an operand of an elementwise record has the elements of its output, in the same order."""
    dims = dims_of(record)
    below = 1
    for length, stride in reversed(list(zip(view.spec.axes(dims), view.spec.strides, strict=False))):
        if length > 1 and dims[stride] != below:
            return False
        below *= length
    return prod(view.shape) == elements_of(record)


def locals_of(chain: Chain, values: Iterable[Value]) -> dict[Value, int]:
    """Return the local values of a chain, and a number for each: those that live at the same time have different ones.

    The numbers are as small as possible.
    """
    local = sorted((value for value in values if chain.has(value)), key=lambda value: (value.first, value.offset))
    return dict(zip(local, numbers([(value.first, value.last) for value in local]), strict=True))


def numbers(lives: Iterable[tuple[int, int]]) -> list[int]:
    """Return a number for each life, given by its first and last record in order of the first."""
    found: list[int] = []
    ends: list[int] = []  # the last record of the latest life of each number
    for first, last in lives:
        number = next((number for number, end in enumerate(ends) if end < first), len(ends))
        ends[number : number + 1] = [last]
        found.append(number)
    return found
