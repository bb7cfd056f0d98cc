"""Memory: values with disjoint lives share the arena's bytes."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from fastnn.program.layout import align
from fastnn.program.program import Value

#: Values begin at least this many bytes apart. Compiled loops that read one and write another leave their vector code
#: if the two are nearer than a few vectors, and then add in another order: results depended on the plan.
APART = 512


@dataclass
class Life:
    """A value's size and the first and last record that touch it."""

    name: str
    nbytes: int
    first: int
    last: int


def plan(lives: Mapping[int, Life]) -> tuple[dict[int, int], list[Value], int]:
    """Give every value an offset: the largest first, each in the lowest gap among those alive at the same time.

    Parameters
    ----------
    lives : mapping of tensor id to Life

    Returns
    -------
    offsets, values, total
        Byte offsets by tensor id, the plan, and the arena's size in bytes.

    Notes
    -----
    The greedy-by-size heuristic of Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net
    Inference", 2020.
    """
    taken = _Taken(1 + max((life.last for life in lives.values()), default=0))
    offsets: dict[int, int] = {}
    total = 0
    for tensor, life in sorted(lives.items(), key=lambda item: (-item[1].nbytes, item[1].first, item[0])):
        size = max(align(life.nbytes), APART)
        offset = offsets[tensor] = taken.gap(life.first, life.last, size)
        taken.add(life.first, life.last, offset, offset + size)
        total = max(total, offset + size)
    values = [Value(life.name, offsets[tensor], life.nbytes, life.first, life.last) for tensor, life in lives.items()]
    values.sort(key=lambda value: (value.first, value.offset))
    return offsets, values, total


class _Runs:
    """Occupied bytes, as separate ranges in order."""

    __slots__ = ("ends", "starts")

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.ends: list[int] = []

    def add(self, start: int, end: int) -> bool:
        """Add a range, which is merged with those that it touches; return whether any of it was free."""
        first, last = bisect_left(self.ends, start), bisect_right(self.starts, end)
        if first < last:
            if self.starts[first] <= start and end <= self.ends[first]:
                return False
            start, end = min(start, self.starts[first]), max(end, self.ends[last - 1])
        self.starts[first:last], self.ends[first:last] = [start], [end]
        return True


class _Taken:
    """The occupied bytes by record: a tree over the records, so that planning takes time n log n.

    Each node stands for a range of records, and has the bytes that are occupied at any of them, and those of
    values that live through all of them. Comparing each value with all others took 31 of the 64 s in which a learner
    of 1,000 layers was made.
    """

    def __init__(self, records: int) -> None:
        self._size = 1 << (records - 1).bit_length()
        self._any: defaultdict[int, _Runs] = defaultdict(_Runs)
        self._all: defaultdict[int, _Runs] = defaultdict(_Runs)

    def _parts(self, first: int, last: int) -> list[int]:
        """Return the largest nodes that together cover the records from first to last."""
        low, high, found = first + self._size, last + self._size + 1, []
        while low < high:
            if low & 1:
                found.append(low)
                low += 1
            if high & 1:
                high -= 1
                found.append(high)
            low, high = low >> 1, high >> 1
        return found

    def _above(self, parts: list[int]) -> set[int]:
        """Return all ancestors of some nodes."""
        found: set[int] = set()
        for node in parts:
            node >>= 1
            while node and node not in found:
                found.add(node)
                node >>= 1
        return found

    def add(self, first: int, last: int, start: int, end: int) -> None:
        """Occupy bytes from start to end while the records from first to last run."""
        for node in self._parts(first, last):
            self._all[node].add(start, end)
            # what is taken at a node is taken at all nodes above it
            while node and self._any[node].add(start, end):
                node >>= 1

    def gap(self, first: int, last: int, size: int) -> int:
        """Return the lowest offset of `size` bytes that are free while the records from first to last run."""
        parts = self._parts(first, last)
        runs = [self._any[node] for node in parts if node in self._any]
        runs += [self._all[node] for node in self._above(parts) if node in self._all]
        offset = 0
        # sorting is faster than merging: most nodes have one stretch
        pairs: list[tuple[int, int]] = []
        for each in runs:
            pairs.extend(zip(each.starts, each.ends, strict=True))
        pairs.sort()
        for start, end in pairs:
            if offset + size <= start:
                break
            offset = max(offset, end)
        return offset
