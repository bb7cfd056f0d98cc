"""The context of a run on a GPU, with accumulators and hyper rows, in one block of memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fastnn.errors import DeviceError
from fastnn.program.layout import BAD_ROW, CONTEXT_WORDS, NO_ROW, Buffer, Counter, Status
from fastnn.runtime.bindings import Bindings


class DeviceContext:
    """The block of a run on the host.

    Parameters
    ----------
    work : Bindings
    shift : int
        The row of the pass that is row 0 on the device.
    index : ndarray, optional
        The order of the rows; it maps the number of a bad row to its row in the data.
    allocate : function
        Makes an array of a given number of bytes.

    Attributes
    ----------
    block : ndarray, int64
        The words that are copied to the device.
    answered : int
        The number of its words that are copied back.
    """

    def __init__(
        self,
        work: Bindings,
        shift: int = 0,
        index: NDArray[np.int64] | None = None,
        allocate: Callable[[int], NDArray[np.uint8]] = lambda nbytes: np.empty(nbytes, np.uint8),
    ) -> None:
        self._totals = None if work.accumulators is None else work.accumulators.reshape(-1).view(np.int64)
        self._hyper = None if work.hyper is None else work.hyper.reshape(-1).view(np.int64)
        self._shift, self._index = shift, work.index if index is None else index
        self.answered = CONTEXT_WORDS + (0 if self._totals is None else self._totals.size)
        size = self.answered + (0 if self._hyper is None else self._hyper.size)
        self.block: NDArray[np.int64] = allocate(8 * size).view(np.int64)
        self.block[:] = 0

    def places(self, address: int) -> dict[int, int]:
        """Return the addresses of accumulators and hyper rows in a block on the device."""
        found = {}
        if self._totals is not None:
            found[int(Buffer.ACCUMULATORS)] = address + 8 * CONTEXT_WORDS
        if self._hyper is not None:
            found[int(Buffer.HYPER)] = address + 8 * self.answered
        return found

    def fill(self, context: NDArray[np.int64]) -> None:
        """Write the initial state of a run: counters of a context on the host, accumulators, hyper rows."""
        block = self.block
        block[_STEP:_AFTER] = context[_STEP:_AFTER]
        block[_FIRST_STEP] = context[_FIRST_STEP]
        block[_CURSOR] -= self._shift
        block[_CHUNK_STEP] = block[_BAD_LOSS_STEP] = 0
        block[BAD_ROW] = NO_ROW
        if self._totals is not None:
            block[CONTEXT_WORDS : self.answered] = self._totals
        if self._hyper is not None:
            block[self.answered :] = self._hyper

    def take(self, context: NDArray[np.int64], steps: int) -> int:
        """Copy a run's results to the context and the accumulators; returns the number of finished steps."""
        block = self.block
        block[_CURSOR] += self._shift
        context[_STATUS:_EPOCH] = block[_STATUS:_EPOCH]
        if self._totals is not None:
            self._totals[:] = block[CONTEXT_WORDS : self.answered]
        if block[BAD_ROW] != NO_ROW:
            row = int(block[_CURSOR] + block[BAD_ROW])
            context[_STATUS] = Status.NOT_FINITE_INPUT
            context[Counter.STATUS_DETAIL] = row if self._index is None else self._index[row]
        done = int(block[_CHUNK_STEP])
        if done != steps and block[BAD_ROW] == NO_ROW:
            raise DeviceError(f"the GPU finished {done} of {steps} steps, and reported no error")
        return done


# Plain integers: an enumeration's member costs 0.15 µs as an index.
_STEP, _CURSOR, _CHUNK_STEP, _BAD_LOSS_STEP, _STATUS, _EPOCH, _FIRST_STEP = (
    int(one)
    for one in (
        Counter.STEP, Counter.CURSOR, Counter.CHUNK_STEP, Counter.BAD_LOSS_STEP, Counter.STATUS, Counter.EPOCH,
        Counter.FIRST_STEP,
    )
)  # fmt: skip
_AFTER = _EPOCH + 1
