"""Locks that survive a fork, and a property that needs none.

A child process has only the thread that forked. A lock that another thread held would stay locked there forever, and
the guarded work may be half done. So locks are replaced in the child. For work that takes long to repeat, or cannot be
repeated (compilation, the import of a module), a fork waits at most `PATIENCE` seconds.
"""

from __future__ import annotations

import logging  # noqa: F401
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

T = TypeVar("T")

#: Seconds that a fork waits for other threads' compilations or imports. A kernel takes 0.1 to 2 s.
PATIENCE = 30.0

_all: weakref.WeakSet[ForkSafeLock | Shared] = weakref.WeakSet()
_held: list[Callable[[], Any]] = []


class Uninterrupted:
    """Context managers whose entry and exit are no functions in Python.

    A signal handler may raise where a method in Python begins; nobody would release a lock then. So each object has a
    class of its own, where `with` finds the functions.
    """

    __slots__ = ()

    def __new__(cls, *arguments: Any, **options: Any) -> Self:
        return super().__new__(type(cls.__name__, (cls,), {"__slots__": ()}))

    def use(self, enter: Callable[[], Any], leave: Callable[..., Any]) -> None:
        """Say what enters, and what leaves: it takes what `__exit__` does."""
        kind: Any = type(self)
        kind.__enter__, kind.__exit__ = enter, leave

    if TYPE_CHECKING:

        def __enter__(self) -> bool: ...

        def __exit__(self, *error: object) -> None: ...


class ForkSafeLock(Uninterrupted):
    """A reentrant lock that is free in the child of a fork, unless the thread that forked holds it.

    Parameters
    ----------
    held : bool
        Whether a fork waits until no other thread holds it.
    """

    __slots__ = ("__weakref__", "_lock")

    def __init__(self, *, held: bool = False) -> None:
        self._renewed()
        _all.add(self)
        if held:
            hold(lambda: self._lock)

    def _renewed(self) -> None:
        self._lock = threading.RLock()
        self.use(self._lock.acquire, self._lock.__exit__)

    @property
    def owned(self) -> bool:
        """Whether the calling thread holds it."""
        return bool(self._lock._is_owned())  # type: ignore[attr-defined]

    def renew(self) -> None:
        """Free the lock in a child process if the thread that held it does not exist there."""
        if not self.owned:
            self._renewed()


class Shared:
    """Work that several threads may do at once, and that a fork waits for."""

    def __init__(self) -> None:
        self._depths: dict[int, int] = {}
        _all.add(self)
        hold(lambda: self)

    def __enter__(self) -> None:
        me = threading.get_ident()
        self._depths[me] = self._depths.get(me, 0) + 1

    def __exit__(self, *error: object) -> None:
        me = threading.get_ident()
        self._depths[me] -= 1
        if not self._depths[me]:
            del self._depths[me]

    def acquire(self, timeout: float) -> bool:
        """Wait until no other thread is at work, at most some seconds; returns whether that is so."""
        deadline, me = time.monotonic() + timeout, threading.get_ident()
        while set(self._depths) - {me}:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.001)
        return True

    def release(self) -> None:
        """Do nothing: work may begin at any time."""

    def renew(self) -> None:
        """Forget the other threads, in a child process."""
        me = threading.get_ident()
        self._depths = {one: depth for one, depth in self._depths.items() if one == me}


def hold(lock: Callable[[], Any]) -> None:
    """Make forks wait for a lock, and hold it while they make the child.

    Parameters
    ----------
    lock : callable
        Returns a reentrant lock, or None if it does not exist yet. Locks are taken in the order of these calls.
    """
    _held.append(lock)


class cached_property(Generic[T]):
    """A property that is computed once for each object, without a lock.

    Before Python 3.12 the one in `functools` has a lock, which all objects of a class share. Where another thread was
    computing such a property, the child of a fork would wait for it forever. Here two threads may both compute the
    value; they get the same one.
    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self.compute, self.__doc__ = compute, compute.__doc__

    @overload
    def __get__(self, owner: None, kind: type) -> Self: ...

    @overload
    def __get__(self, owner: object, kind: type) -> T: ...

    def __get__(self, owner: Any, kind: type) -> Any:
        # Python looks into the object's dictionary before it comes here
        return self if owner is None else owner.__dict__.setdefault(self.compute.__name__, self.compute(owner))


#: Held while a module is imported at its first use: a child would wait forever for a module whose import another thread
#: has begun. Threads that import modules of this package by name wait for no lock but those of Python's modules.
imports = Shared()
importing = ForkSafeLock(held=True)


class _Taken(threading.local):
    """The locks that the calling thread has taken for its fork."""

    def __init__(self) -> None:
        self.locks: list[Any] = []


_taken = _Taken()


def _before() -> None:
    deadline = time.monotonic() + PATIENCE
    for find in _held:
        lock = find()
        if lock is not None and lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            _taken.locks.append(lock)


def _release() -> None:
    while _taken.locks:
        _taken.locks.pop().release()


def _in_child() -> None:
    for lock in list(_all):
        lock.renew()
    _release()


# The function registered last is called first. `logging` holds its own lock in a fork: if it were imported later, a
# fork would hold that lock while it waits here for a thread whose imports need a logger.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_release, after_in_child=_in_child)
