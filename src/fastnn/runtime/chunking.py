"""Chunks of steps: how many steps run before the next return to Python."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from fastnn.runtime.cancellation import stop_if_asked

# Python has to run at least every 100 ms to show progress and handle Ctrl-C; half of it leaves room for slow machines.
TARGET_SECONDS = 0.05
_GROWTH = 16


class Pacer:
    """Chooses the number of steps per call from the time that earlier steps took."""

    def __init__(self) -> None:
        self._next = 1

    def steps(self, most: int) -> int:
        """Return the number of steps for the next call, from 1 to `most`."""
        return max(1, min(self._next, most))

    @contextmanager
    def timing(self, steps: int, *, stops: bool = True) -> Iterator[None]:
        """Measure a call of `steps` steps, and then stop the thread if another one asks for it."""
        begin = time.perf_counter()
        yield
        seconds = max(time.perf_counter() - begin, 1e-9)
        wanted = int(steps * TARGET_SECONDS / seconds)
        # a short call, such as the last batch of an epoch, must not restart the growth: on 1437 rows that took three
        # calls per epoch instead of two, and 0.37 instead of 0.33 ms
        self._next = max(1, min(wanted, max(self._next, _GROWTH * steps)))
        if stops:
            stop_if_asked()
