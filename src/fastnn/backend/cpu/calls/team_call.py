"""Calls of a code whose records a team of threads shares."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.addresses import address
from fastnn.backend.cpu.executor import sharing
from fastnn.backend.cpu.executor.engine import RUN
from fastnn.backend.cpu.layouts.call import Live
from fastnn.backend.cpu.loading import library
from fastnn.backend.cpu.threads import thread_pool
from fastnn.threads import get_num_threads

_RUN, _THREADS = int(Live.RUN), int(Live.THREADS)
#: numbers of rows whose calls are measured at a time
_MEASURED = 8


def shared_words(table: NDArray[np.int64]) -> dict[int, int]:
    """Return the words of a table of buffers with which a team may share calls; see `Share`."""
    return {
        Live.TEAM: ctypes.addressof(thread_pool.present),
        Live.SHARES_AT: address(table),
        Live.SHARES_COUNT: len(table),
    }


class TeamCall:
    """A call that gathers the team first, if the work is worth it: short calls measure that.

    Parameters
    ----------
    call : callable
        From `code_call`, with `shared_words` among its buffers.
    buffers : ndarray of int64
        The table of buffers of the call.
    lock : lock
        Held during the call: its thread may take it again.
    rows : int
        Calls on fewer rows are not worth sharing.
    nanoseconds : callable
        Returns the time of the records that are worth sharing, for a number of rows.
    """

    def __init__(
        self, call: Callable[..., Any], buffers: NDArray[np.int64], lock: Any, rows: int,
        nanoseconds: Callable[[int], float],
    ) -> None:  # fmt: skip
        self._call, self._words, self._lock = call, memoryview(buffers.data), lock
        self._rows, self._nanoseconds, self._run = rows, nanoseconds, library.address(RUN)
        self._measured: dict[int, tuple[float, sharing.Sharing | None]] = {}

    def __call__(self, *arrays: Any) -> Any:
        """Return what the call returns."""
        first = arrays[0] if arrays else None
        rows = len(first) if type(first) is np.ndarray and first.ndim > 0 else 0
        threads = get_num_threads()
        if threads == 1 or rows < self._rows:
            return self._call(*arrays)
        nanoseconds, measured = self._measured.get(rows) or self._known(rows)
        alone = measured is not None and measured.alone(threads)
        if measured is None or measured.decided:
            return self._call(*arrays) if alone else self._shared(arrays, threads, nanoseconds)
        started = measured.start()
        result = self._call(*arrays) if alone else self._shared(arrays, threads, nanoseconds)
        if result is not False:
            measured.finish(started, 1, shared=not alone)
        return result

    def _shared(self, arrays: tuple[Any, ...], threads: int, nanoseconds: float) -> Any:
        """Return what the call with the team returns, or alone, if workers would have to wake for little."""
        words = self._words
        with self._lock:
            together = thread_pool.gather(threads, nanoseconds)
            try:
                # the last word last: a signal handler whose call comes in between sets and empties them, too
                words[_THREADS] = threads
                words[_RUN] = self._run if together else 0
                return self._call(*arrays)
            finally:
                words[_RUN] = 0
                thread_pool.ended()

    def _known(self, rows: int) -> tuple[float, sharing.Sharing | None]:
        """Return what can be shared of a call on a number of rows, in nanoseconds, and for short ones its times."""
        if len(self._measured) >= _MEASURED:
            self._measured.clear()
        nanoseconds = self._nanoseconds(rows)
        found = self._measured[rows] = nanoseconds, sharing.of_work(nanoseconds)
        return found
