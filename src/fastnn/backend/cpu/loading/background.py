"""Kernels that another process compiles while this one does without them.

Small calls of a model are calls of a code, which needs functions that the general path does not: they take seconds to
compile. So the general path goes on until the disk has them. A process that needs them at once compiles them itself.
"""

from __future__ import annotations

import atexit
import math
import os
import time

from fastnn.backend.cpu.loading import helpers, library
from fastnn.backend.cpu.loading.helpers import Absent
from fastnn.locks import ForkSafeLock
from fastnn.program.record import KernelKey

#: If it is "0", this process waits for all its kernels.
VARIABLE = "FASTNN_BACKGROUND"
# A process that is not used for as long as this would end before its helper has done anything.
_PATIENCE = 1.0

_lock = ForkSafeLock()


class _Background:
    """The work in the background.

    Attributes
    ----------
    absent : Absent
        The latest kernels, and their helper.
    asked : set of KernelKey
        All those that helpers were to compile.
    begin : float, optional
        The time before which no helper starts, once one was asked for.
    """

    def __init__(self) -> None:
        self.absent = Absent([])
        self.asked: set[KernelKey] = set()
        self.begin: float | None = None


_now = _Background()


def busy() -> bool:
    """Return whether nothing becomes ready by asking now: a helper works, or does not start yet."""
    return _now.absent.working or (_now.begin is not None and time.monotonic() < _now.begin)


def ready(keys: set[KernelKey]) -> bool:
    """Return whether functions should be used now; if some have to be compiled first, a helper begins to.

    They are also ready if this process has to compile them itself, because no helper can, or has failed to.
    """
    if _lock.owned:
        return False  # a signal handler in the middle of this function
    with _lock:
        if busy():
            return False
        absent, place = helpers.longest_first(library.missing(keys)), helpers.folder()
        if place is None or _now.asked.issuperset(absent) or os.environ.get(VARIABLE) == "0":
            return True
        if _now.begin is None:
            _now.begin = time.monotonic() + _PATIENCE
            return False
        _now.absent.stop()
        _now.asked.update(absent)
        _now.absent = Absent(absent, len(absent))
        _now.absent.start(1, place, idle=True)
        return not _now.absent.working


def _stop() -> None:
    """End the helper with the process, and start no other."""
    _now.begin = math.inf
    _now.absent.stop()


def _forget() -> None:
    """Begin again in the child of a fork, which has no helper."""
    global _now
    _now.absent.leave()
    _now = _Background()


atexit.register(_stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
