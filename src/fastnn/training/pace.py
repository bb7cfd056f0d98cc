"""How many steps to run before the next return to Python, and stopping a thread there."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# A return at least every 100 ms shows progress and lets Ctrl-C work; half of it leaves room for a slower machine.
TARGET_SECONDS = 0.05
_GROWTH = 16


class Stopped(BaseException):
    """A training ends here because another thread says so; like Ctrl-C, it is no error to be handled on the way."""


class _Here(threading.local):
    """What the calling thread asks whether it has to stop; None where nothing stops it."""

    asked: Callable[[], bool] | None = None


_here = _Here()


@contextmanager
def stopped_by(asked: Callable[[], bool]) -> Iterator[None]:
    """Have the calling thread stop, at the next return from compiled code, when a function says so."""
    before = _here.asked
    _here.asked = asked if before is None else lambda: before() or asked()
    try:
        yield
    finally:
        _here.asked = before


def stop_if_asked() -> None:
    """Raise Stopped where the calling thread has to stop."""
    if _here.asked is not None and _here.asked():
        raise Stopped


class Pacer:
    """Chooses the number of steps a call from the time that earlier steps took."""

    def __init__(self) -> None:
        self._next = 1

    def steps(self, most: int) -> int:
        """Return the number of steps for the next call, from 1 to `most`."""
        return max(1, min(self._next, most))

    @contextmanager
    def timing(self, steps: int, *, stops: bool = True) -> Iterator[None]:
        """Measure a call of `steps` steps, and stop the thread behind it if another one says so."""
        begin = time.perf_counter()
        yield
        seconds = max(time.perf_counter() - begin, 1e-9)
        wanted = int(steps * TARGET_SECONDS / seconds)
        # a short call, such as the last batch of an epoch, is no reason to grow anew: on 1437 rows that had made three
        # calls an epoch of two, and an epoch 0.37 instead of 0.33 ms
        self._next = max(1, min(wanted, max(self._next, _GROWTH * steps)))
        if stops and _here.asked is not None:
            stop_if_asked()
