"""The number of steps to run before the next return to Python, and stopping a thread there."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Python has to run at least every 100 ms to show progress and handle Ctrl-C; half of it leaves room for slow machines.
TARGET_SECONDS = 0.05
_GROWTH = 16


class Stopped(BaseException):
    """Raised to cancel training from another thread; no `Exception`, so that nothing handles it on the way."""


class _Here(threading.local):
    """The function that tells the calling thread to stop, or None."""

    asked: Callable[[], bool] | None = None


_here = _Here()


@contextmanager
def stopped_by(asked: Callable[[], bool]) -> Iterator[None]:
    """Cancel the calling thread at its next return from compiled code once `asked()` is true."""
    before = _here.asked
    _here.asked = asked if before is None else lambda: before() or asked()
    try:
        yield
    finally:
        _here.asked = before


def stop_if_asked() -> None:
    """Raise Stopped if the calling thread has to stop."""
    if _here.asked is not None and _here.asked():
        raise Stopped


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
        if stops and _here.asked is not None:
            stop_if_asked()
