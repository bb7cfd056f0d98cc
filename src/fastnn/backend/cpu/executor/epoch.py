"""The call that trains whole epochs: it shuffles rows and runs programs, alternating, on the calling thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastnn.addresses import address
from fastnn.backend.cpu.executor.engine import BoundProgram, scratch
from fastnn.backend.cpu.layouts.epoch import MOST_EPOCHS as MOST_EPOCHS
from fastnn.backend.cpu.layouts.epoch import Place
from fastnn.backend.cpu.loading import library
from fastnn.backend.cpu.loading.entry_point import EntryPoint
from fastnn.program.record import KernelKey

EPOCH = KernelKey("epoch", "int64")
# plain integers: an enumeration's member costs 0.15 µs as an index
_ROWS, _N_PROGRAMS, _N_EPOCHS, _PROGRAMS, _EPOCHS, _WORDS = (int(place) for place in Place)


class Lap(NamedTuple):
    """The arguments of one epoch.

    Attributes
    ----------
    key : bytes or None
        256 bits that determine the order of the rows; None if it is given, in all epochs of a call.
    order : ndarray of int64, or None
        The order of the rows, which a key fills; None if they are not shuffled.
    totals : ndarray of float64
        Accumulators of losses and metrics.
    """

    key: bytes | None
    order: NDArray[np.int64] | None
    totals: NDArray[np.float64] | None


class Epochs:
    """Trains epochs on one context.

    Parameters
    ----------
    context : ndarray of int64, optional
        As for `Runner`; without one it only shuffles.
    """

    def __init__(self, context: NDArray[np.int64] | None = None) -> None:
        self._table = memoryview(bytearray(8 * _WORDS)).cast("q")
        self._context = context
        place = address(np.frombuffer(self._table, np.int64))
        self._entry = EntryPoint(library.address(EPOCH), place, 0 if context is None else address(context))

    def run(self, parts: Sequence[tuple[BoundProgram, int]], laps: Sequence[Lap]) -> int:
        """Train at most MOST_EPOCHS epochs, and return the number of finished steps.

        Parameters
        ----------
        parts : sequence of (BoundProgram, int)
            Programs, and the number of steps of an epoch that each one runs.
        """
        table = self._table
        key, order, _ = laps[0]
        rows = 0 if key is None or order is None else len(order)
        table[_ROWS], table[_N_PROGRAMS], table[_N_EPOCHS] = rows, len(parts), len(laps)
        for number, (bound, steps) in enumerate(parts):
            at = _PROGRAMS + 3 * number
            table[at], table[at + 1], table[at + 2] = bound.address, bound.count, steps
        keys = np.frombuffer(b"".join([lap.key or b"" for lap in laps]), np.uint8)
        first = address(keys)
        for number, lap in enumerate(laps):
            at = _EPOCHS + 3 * number
            table[at] = first + 32 * number
            table[at + 1] = 0 if lap.order is None else address(lap.order)
            table[at + 2] = 0 if lap.totals is None else address(lap.totals)
        if self._context is None or not any(bound.scratches for bound, _ in parts):
            return self._entry.start()
        with scratch(self._context, 1):
            return self._entry.start()


def shuffled(key: bytes, n: int) -> NDArray[np.int64]:
    """Return the numbers below n in the order determined by a key of 256 bits."""
    order = np.empty(n, np.int64)
    Epochs().run((), [Lap(key, order, None)])
    return order
