"""Cancellation of a thread at its next return from compiled code."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


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
