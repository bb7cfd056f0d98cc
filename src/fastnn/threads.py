"""The number of parts that kernels cut their work into.

Every kernel works on part `ith` of `nth` of its outputs, and no result depends on `nth`. In this version the parts
run one after the other on the calling thread.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable

_MOST = 256
_parts = 1
_listeners: list[Callable[[], None]] = []


def set_num_threads(n: int) -> None:
    """Set into how many parts kernels cut their work.

    Parameters
    ----------
    n : int
        At least 1. Results are bit-identical for every n; in this version the parts run one after the other.
    """
    global _parts
    _parts = checked(n, "n")
    for listener in _listeners:
        listener()


def get_num_threads() -> int:
    """Return into how many parts kernels cut their work."""
    return _parts


def on_change(listener: Callable[[], None]) -> None:
    """Call a function whenever the number is set: it forgets what was prepared for another one."""
    _listeners.append(listener)


def checked(n: object, what: str) -> int:
    """Return a number of threads or raise an error that names it."""
    if isinstance(n, bool) or not isinstance(n, numbers.Integral):
        raise TypeError(f"{what}: expected an integer number of threads, got {n!r}")
    if not 1 <= int(n) <= _MOST:
        raise ValueError(f"{what}: expected from 1 to {_MOST} threads, got {n}")
    return int(n)
