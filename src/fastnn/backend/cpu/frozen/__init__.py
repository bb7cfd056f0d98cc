"""Networks and learners as plain arrays, for users' compiled code and C."""

from __future__ import annotations

from typing import Any


def _restore(*parts: Any) -> None:
    """Refuse networks that were pickled when this room was one file; their pickles name this function."""
    raise ValueError("the network was frozen by another version of fastnn: freeze its model again")


# Indices of Numba's caches from then name these classes. Numba reads a whole index before it looks for a type in it.
class FrozenNetwork(tuple[Any, ...]):
    """The type of a network in an index of that time; no network has it any more."""


class FrozenNetworks(tuple[Any, ...]):
    """The type of several networks in an index of that time."""
