"""One lock for a model and the models that hold weights of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastnn.backend.cpu.calls.lock_call import joint_calls


class JointLock:
    """A reentrant lock of several locks.

    Nothing waits for one of them while it holds others. A thread that is interrupted while it holds a lock may want
    another one in its signal handler, so an order of all locks would not be enough.

    As with `ForkSafeLock`, each has a class of its own, where `with` finds functions that no signal handler
    interrupts.

    Parameters
    ----------
    locks : sequence of threading.RLock
    """

    __slots__ = ("acquire", "release")

    def __new__(cls, locks: Sequence[Any]) -> JointLock:
        return super().__new__(type(cls.__name__, (cls,), {"__slots__": ()}))

    def __init__(self, locks: Sequence[Any]) -> None:
        self.acquire, self.release = joint_calls(locks)
        kind: Any = type(self)
        kind.__enter__, kind.__exit__ = self.acquire, self.release

    if TYPE_CHECKING:

        def __enter__(self) -> bool: ...

        def __exit__(self, *error: object) -> None: ...
