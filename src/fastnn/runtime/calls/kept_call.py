"""A call of a model that is prepared once, and what it took to prepare it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn.addresses import address
from fastnn.backend.cpu.layouts.call import Live
from fastnn.runtime.buffers import Buffers


def grown(rows: int, least: int, most: int) -> int:
    """Return the rows to make a call for: it has to take `rows`, and memory doubles whenever it has to grow."""
    return min(most, max(least, 1 << (rows - 1).bit_length()))


def owners_words(runtime: Buffers) -> tuple[dict[int, int], Any]:
    """Return the words of a call's table of buffers for the weights that other models hold, and what to keep for them.

    The addresses are right while all these models are on the CPU.
    """
    buffers = [owner.parameters for owner in runtime.owners]
    addresses = np.array([address(buffer) for buffer in buffers], np.int64)
    return {Live.OWNERS_AT: address(addresses), Live.OWNERS_COUNT: len(addresses)}, (buffers, addresses)


@dataclass(slots=True)
class KeptCall:
    """A prepared call of a model, if there is one.

    Attributes
    ----------
    call : callable, optional
        Takes arrays; returns False if it does not take these.
    together : callable, optional
        Likewise, for calls whose work a team of threads shares.
    rows : int
        They take no more.
    code : BoundCode, optional
        What it runs on the CPU.
    uses : int
        How often the general path did its work while there was no code.
    refused : bool
        Whether there can be no code.
    """

    call: Callable[..., Any] | None = None
    together: Callable[..., Any] | None = None
    rows: int = 0
    code: Any = None
    uses: int = 0
    refused: bool = False

    def forget(self) -> None:
        """Drop the calls, because an address, a lock, or the number of threads has changed; the code stays right."""
        self.call, self.together, self.rows = None, None, 0
