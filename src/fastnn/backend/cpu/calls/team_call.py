"""Calls of a code whose records a team of threads shares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cpu.executor.engine import RUN
from fastnn.backend.cpu.layouts.call import Live
from fastnn.backend.cpu.loading import library
from fastnn.backend.cpu.threads import thread_pool
from fastnn.threads import get_num_threads

_RUN, _THREADS, _TEAM = int(Live.RUN), int(Live.THREADS), int(Live.TEAM)


class TeamCall:
    """A call that gathers the team first, if the work is worth it.

    Parameters
    ----------
    call : callable
        From `code_call`, for a network.
    buffers : ndarray of int64
        The table of buffers of the call.
    lock : lock
        Of the call.
    rows : (int, int)
        A call with fewer or more rows is not taken.
    nanoseconds : callable
        Returns the time of the records that are worth sharing, for a number of rows.
    """

    def __init__(
        self, call: Callable[..., Any], buffers: NDArray[np.int64], lock: Any, rows: tuple[int, int],
        nanoseconds: Callable[[int], float],
    ) -> None:  # fmt: skip
        self._call, self._words, self._lock = call, memoryview(buffers.data), lock
        self._least, self._most = rows
        self._nanoseconds, self._run = nanoseconds, library.address(RUN)

    def __call__(self, *arrays: Any) -> Any:
        """Return what the call returns, False if it does not take the arrays."""
        first = arrays[0] if arrays else None
        if type(first) is not np.ndarray or first.ndim == 0 or not self._least <= len(first) <= self._most:
            return False
        threads, words = get_num_threads(), self._words
        with self._lock:
            team = thread_pool.gather(threads, self._nanoseconds(len(first))) if threads > 1 else 0
            try:
                # the last word last: a signal handler that predicts here sets and empties them, too
                words[_TEAM], words[_THREADS] = team, threads
                words[_RUN] = self._run if team else 0
                return self._call(*arrays)
            finally:
                words[_RUN] = 0
                if threads > 1:
                    thread_pool.ended()
