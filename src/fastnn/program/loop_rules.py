"""The rules of loops: what makes it right to run records again and again, on windows that move.

A loop is a record `repeat` and the records that follow it, its body. The first records of the body are its windows. In
round t a window is one array of a stack of arrays, and the other records of the body name it as a buffer. So they are
checked once. What the body touches of the arena is of two kinds. A value that lives within the body is made anew in
every round. Any other value keeps what a round has left there for the next one: it lives from the `repeat` record to
the end of the body at least, so that nothing takes its place meanwhile. A stack that the loop writes is read by no
other window.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastnn.program.layout import MOST_WINDOWS, OP_WORD, WINDOWS, is_window
from fastnn.program.opcodes import OPS
from fastnn.program.record import ITEM_SIZES, OperandView, dims_of
from fastnn.program.value import Value

_REPEAT, _WINDOW = OPS["repeat"].code, OPS["window"].code


class Loop(NamedTuple):
    """The number of a `repeat` record, that of the last record of its body, and how often these run."""

    start: int
    last: int
    times: int


def loops_of(records: NDArray[np.int64]) -> Iterator[Loop]:
    """Iterate over the loops of a program, in order."""
    for index in np.flatnonzero(records[:, OP_WORD] == _REPEAT).tolist():
        dims = dims_of(records[index])
        yield Loop(index, index + dims["body"], dims["times"])


def rounds_of(records: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how often each record of a program runs in a step."""
    rounds = np.ones(len(records), np.int64)
    for loop in loops_of(records):
        rounds[loop.start + 1 : loop.last + 1] = loop.times
    return rounds


def in_loops(records: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return for each record of a program whether it is in the body of a loop."""
    found = np.zeros(len(records), bool)
    for loop in loops_of(records):
        found[loop.start + 1 : loop.last + 1] = True
    return found


class LoopState:
    """What the verifier knows about loops while it goes through a program's records.

    Parameters
    ----------
    records : ndarray of int64
    dtype : str
    """

    def __init__(self, records: NDArray[np.int64], dtype: str) -> None:
        self._records, self._dtype = records, dtype
        self.loop: Loop | None = None
        self._sizes: dict[int, int] = {}  # bytes of each window
        self._ready: set[int] = set()  # windows whose array has been written in the round
        self._given: set[int] = set()  # windows that are only read
        self._made: set[tuple[int, int]] = set()
        self._read: set[tuple[int, int]] = set()
        self._windows_end = False

    def broken(self, index: int, views: list[OperandView]) -> str | None:
        """Return what is wrong with a record as a part of a loop, or None; records come in order."""
        code = int(self._records[index, OP_WORD])
        if self.loop is not None and index > self.loop.last:
            self.loop = None
        if code == _REPEAT:
            return self._begin(index)
        if code == _WINDOW:
            return self._window(index, views[0])
        self._windows_end = True
        for view in views:
            if not is_window(view.buffer):
                if (view.buffer, view.offset) in self._made and self.loop is not None:
                    return f"touches a stack of the loop's windows by {view.spec.name!r}"
                continue
            why = self._of_window(view)
            if why is not None:
                return why
        return None

    def _begin(self, index: int) -> str | None:
        if self.loop is not None:
            return "begins a loop within another one"
        dims = dims_of(self._records[index])
        self.loop = Loop(index, index + dims["body"], dims["times"])
        self._sizes, self._windows_end = {}, False
        self._ready, self._given, self._made, self._read = set(), set(), set(), set()
        return "has a body past the last record" if self.loop.last >= len(self._records) else None

    def _window(self, index: int, view: OperandView) -> str | None:
        if self.loop is None or self._windows_end:
            return "is a window, but not at the beginning of a loop's body"
        dims = dims_of(self._records[index])
        number, place = dims["number"], (view.buffer, view.offset)
        if number >= MOST_WINDOWS or number in self._sizes:
            return f"is the window number {number}, of which there is one already, or which there cannot be"
        if dims["times"] != self.loop.times:
            return f"has a stack of {dims['times']} arrays in a loop of {self.loop.times} rounds"
        if dims["item"] != ITEM_SIZES[self._dtype if view.spec.kind == "real" else view.spec.kind]:
            return f"has elements of {dims['item']} bytes"
        written = view.spec.access == "write"
        if place in self._made or (written and place in self._read):
            return "is over a stack that another window writes, or reads what this one writes"
        if written and dims["times"] > 1 and abs(dims["step"]) < dims["size"]:
            return "is written over the array of another round"
        self._sizes[number] = dims["size"] * dims["item"]
        if written:
            self._made.add(place)
        else:
            self._read.add(place)
            self._given.add(number)
            self._ready.add(number)
        return None

    def _of_window(self, view: OperandView) -> str | None:
        number = view.buffer - WINDOWS
        name = view.spec.name
        size = self._sizes.get(number) if self.loop is not None else None
        if size is None:
            return f"has {name!r} in the window number {number}, which its loop does not have"
        if view.offset + view.nbytes > size:
            return f"takes bytes {view.offset} to {view.offset + view.nbytes} by {name!r} of a window of {size}"
        if view.offset:
            return f"has {name!r} within a window, not at its beginning"
        if view.spec.access == "write":
            if number in self._given:
                return f"overwrites the window number {number} by {name!r}"
            self._ready.add(number)
        elif number not in self._ready:
            return f"reads the window number {number} by {name!r} before the round wrote it"
        return None

    def broken_life(self, index: int, value: Value) -> str | None:
        """Return what is wrong with the life of a value that a record touches, or None."""
        loop = self.loop
        if loop is None or not loop.start <= index <= loop.last:
            return None
        within = loop.start < value.first and value.last <= loop.last
        if not within and not (value.first <= loop.start and loop.last <= value.last):
            return f"touches {value.name!r}, which does not live through all rounds"
        return None
