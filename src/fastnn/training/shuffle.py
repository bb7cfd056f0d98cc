"""The order of the rows in each epoch, a function of the seed and the epoch's number only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cpu.executor.epoch import shuffled
from fastnn.data.lengths import Lengths
from fastnn.program.layout import Counter
from fastnn.runtime.runtime import Runtime
from fastnn.seeding import key

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

Order = NDArray[np.int64]

_EPOCH = int(Counter.EPOCH)
#: shuffling fewer rows takes less time (5 ns per row) than starting another thread
LEAST_AHEAD = 2**15


def key_of(runtime: Runtime, later: int = 0, purpose: str = "shuffle") -> bytes:
    """Return the key of the order of the rows in the next epoch, or in a later one."""
    return key(runtime.seed, purpose, int(runtime.training[_EPOCH]) + later)


class Shuffler:
    """The order of n rows in each epoch; with `lengths`, rows of similar lengths are in a batch.

    While a GPU trains, another thread makes the next epoch's order: 262144 rows take a millisecond, and four steps on
    them hardly more.
    """

    def __init__(self, n: int, shuffle: bool, batch: int = 1, lengths: Lengths | None = None) -> None:
        self._n, self._shuffle, self._batch, self._lengths = n, shuffle, batch, lengths
        self._pool: ThreadPoolExecutor | None = None
        self._ahead: tuple[bytes, Future[Order]] | None = None
        self._latest: tuple[bytes, Order | None] = (b"", None)

    def part_of(self, runtime: Runtime, part: int) -> Order | None:
        """Return the order of the pass that began `part` epochs ago, or None if rows are not shuffled."""
        if not self._shuffle:
            return None
        wanted = key_of(runtime, -part)
        if self._latest[0] != wanted:
            self._latest = wanted, self._arranged(runtime, shuffled(wanted, self._n), -part)
        return self._latest[1]

    def _arranged(self, runtime: Runtime, order: Order, later: int = 0) -> Order:
        if self._lengths is None:
            return order
        places = shuffled(key_of(runtime, later, "shuffle batches"), self._n // self._batch + 1)
        return self._lengths.arranged(order, self._batch, places)

    def next(self, runtime: Runtime, more: bool = False) -> Order | None:
        """Return the order of the next epoch, or None if rows are not shuffled; `more` prefetches the one after it."""
        if not self._shuffle:
            return None
        wanted, ahead, self._ahead = key_of(runtime), self._ahead, None
        found = ahead[1].result() if ahead is not None and ahead[0] == wanted else shuffled(wanted, self._n)
        if more and runtime.placement is not None and self._n >= LEAST_AHEAD:
            if self._pool is None:
                from concurrent.futures import ThreadPoolExecutor  # 3 ms, for GPUs only

                self._pool = ThreadPoolExecutor(1, "fastnn-order")
            later = key_of(runtime, 1)
            self._ahead = later, self._pool.submit(shuffled, later, self._n)
        return self._arranged(runtime, found)
