"""Titles of asv's benchmarks on its pages."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeVar

Class = TypeVar("Class", bound=type[Any])


def titled(title: str) -> Callable[[Class], Class]:
    """Give the measuring methods of a class, including inherited ones, a title.

    asv reads a title only from the function, so a method that several classes inherit is copied for each of them.
    """

    def decorate(measured: Class) -> Class:
        for name in dir(measured):
            if name.startswith(("time_", "peakmem_")):
                old = getattr(measured, name)
                own = FunctionType(old.__code__, old.__globals__, name, old.__defaults__, old.__closure__)
                own.__doc__, own.__qualname__ = measured.__doc__, f"{measured.__name__}.{name}"
                own.pretty_name = title  # type: ignore[attr-defined]
                setattr(measured, name, own)
        return measured

    return decorate
