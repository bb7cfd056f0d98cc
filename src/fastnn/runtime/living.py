"""The runtimes that exist, which a fork or another number of threads makes unusable as they are."""

from __future__ import annotations

import os
import weakref
from typing import Protocol

from fastnn.threads import watch


class Renewable(Protocol):
    """Base of objects that hold locks, or calls that were prepared for a number of threads."""

    def renew(self) -> None:
        """Make it usable in the child process of a fork, which has no other threads."""

    def forget_quick(self) -> None:
        """Drop the prepared calls."""


_all: dict[weakref.ref[Renewable], None] = {}


def keep_usable(runtime: Renewable) -> None:
    """Renew a runtime in the child processes of forks, and drop its prepared calls with the number of threads."""
    _all[weakref.ref(runtime, _forgotten)] = None


def _forgotten(reference: weakref.ref[Renewable]) -> None:
    _all.pop(reference, None)


def _living() -> list[Renewable]:
    """Return the existing runtimes, while other threads may make new ones."""
    # a set of weak references cannot be iterated meanwhile; the dictionary's keys are copied in one operation
    return [runtime for reference in list(_all) if (runtime := reference()) is not None]


def _renew() -> None:
    # locks that other threads held when the process was forked would never be released
    for runtime in _living():
        runtime.renew()


def _forget_quick(threads: int) -> None:
    for runtime in _living():
        runtime.forget_quick()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
watch(_forget_quick)
