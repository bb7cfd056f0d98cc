"""One lock for a model and the models that hold weights of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class JointLock:
    """A reentrant lock of several locks, acquired in one order everywhere: no two threads wait for each other.

    Parameters
    ----------
    key : int
        The place of the model's own lock in that order.
    own : lock
    owners : sequence of Runtime
        The others'. Their locks are looked up each time: the child process of a fork has new ones.
    """

    def __init__(self, key: int, own: Any, owners: Sequence[Any]) -> None:
        parts = [(key, None), *((id(owner), owner) for owner in owners)]
        self._own, self._parts = own, [part for _, part in sorted(parts, key=lambda part: part[0])]
        # changed by the thread that holds all locks
        self._held: list[list[Any]] = []

    def acquire(self) -> bool:
        """Wait for all locks."""
        taken: list[Any] = []
        try:
            for part in self._parts:
                lock = self._own if part is None else part.own_lock
                lock.acquire()
                taken.append(lock)
            self._held.append(taken)
        except BaseException:
            for lock in reversed(taken):
                lock.release()
            raise
        return True

    def release(self) -> None:
        """Give all locks back."""
        for lock in reversed(self._held.pop()):
            lock.release()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()
