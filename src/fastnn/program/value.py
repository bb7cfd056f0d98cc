"""The values of a program's arena."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Value:
    """One value of the arena: its place, and the first and last record that touch it, or whose chain does."""

    name: str
    offset: int
    nbytes: int
    first: int
    last: int
