"""One lock for a model and the models that hold weights of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class JointLock:
    """A reentrant lock of several locks.

    Nothing waits for one of them while it holds others. A thread that is interrupted while it holds a lock may want
    another one in its signal handler, so an order of all locks would not be enough.

    Parameters
    ----------
    own : lock
    owners : sequence of Runtime
        The others'. Their locks are looked up each time: the child process of a fork has new ones.
    """

    def __init__(self, own: Any, owners: Sequence[Any]) -> None:
        self._own, self._owners = own, tuple(owners)
        # changed by the thread that holds all locks
        self._held: list[list[Any]] = []

    def acquire(self) -> bool:
        """Wait for all locks."""
        locks = [self._own, *(owner.own_lock for owner in self._owners)]
        taken: list[Any] = []
        try:
            while len(taken) < len(locks):
                while taken:
                    taken.pop().release()
                # the one that was not free comes first
                locks[0].acquire()
                taken.append(locks[0])
                for lock in locks[1:]:
                    if not lock.acquire(blocking=False):
                        locks.remove(lock)
                        locks.insert(0, lock)
                        break
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
