"""One lock for a model and the models that hold weights of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastnn.backend.cpu.calls.lock_call import joint_calls
from fastnn.locks import Uninterrupted


class JointLock(Uninterrupted):
    """A reentrant lock of several locks.

    Nothing waits for one of them while it holds others. A thread that is interrupted while it holds a lock may want
    another one in its signal handler, so an order of all locks would not be enough.

    Parameters
    ----------
    locks : sequence of threading.RLock
    """

    __slots__ = ("acquire", "release")

    def __init__(self, locks: Sequence[Any]) -> None:
        self.acquire, self.release = joint_calls(locks)
        self.use(self.acquire, self.release)
