"""The call that shuffles the rows of an epoch and runs its programs, in turn, on the calling thread."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fastnn.addresses import address
from fastnn.backend.cpu import engine, library
from fastnn.backend.cpu.engine import BoundProgram
from fastnn.backend.cpu.entry import Entry
from fastnn.program.layout import Buffer
from fastnn.program.program import KernelKey

EPOCH = KernelKey("epoch", "int64")
#: Full batches, and what is left.
MOST_PROGRAMS = 2
_KEY, _ORDER, _ROWS, _COUNT, _PROGRAMS = range(5)
_SCRATCH = int(Buffer.SCRATCH)


class Epoch:
    """Runs epochs on one context.

    Parameters
    ----------
    context : ndarray of int64, optional
        As for `Runner`; without one it only shuffles.
    """

    def __init__(self, context: NDArray[np.int64] | None = None) -> None:
        self._table = memoryview(bytearray(8 * (_PROGRAMS + 3 * MOST_PROGRAMS))).cast("q")
        self._context = context
        place = address(np.frombuffer(self._table, np.int64))
        self._entry = Entry(library.address(EPOCH), place, 0 if context is None else address(context))

    def run(
        self, parts: Sequence[tuple[BoundProgram, int]], key: bytes = b"", order: NDArray[np.int64] | None = None
    ) -> int:
        """Run programs so many times each, one after the other, and return how many steps were finished.

        Parameters
        ----------
        parts : sequence of (BoundProgram, int)
        key : bytes
            256 bits, which decide the order.
        order : ndarray of int64, optional
            Is filled with the order of the rows, before the first program runs.
        """
        table = self._table
        if order is not None:
            keyed = np.frombuffer(key, np.uint32)
            table[_KEY], table[_ORDER] = address(keyed), address(order)
        table[_ROWS], table[_COUNT] = 0 if order is None else len(order), len(parts)
        for place, (bound, steps) in enumerate(parts):
            at = _PROGRAMS + 3 * place
            table[at], table[at + 1], table[at + 2] = bound.address, len(bound.program), steps
            if bound.scratches and self._context is not None:
                self._context[_SCRATCH] = engine.scratch(1)
        return self._entry.start()


def shuffled(key: bytes, n: int) -> NDArray[np.int64]:
    """Return the numbers below n in the order that a key of 256 bits decides."""
    order = np.empty(n, np.int64)
    Epoch().run((), key, order)
    return order
