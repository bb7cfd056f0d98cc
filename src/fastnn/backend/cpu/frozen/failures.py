"""Notes of failed calls of frozen networks: compiled code writes the arguments' shapes, an exception's text names them.

An exception that compiled code raises is a constant of that code, so numbers need another way to Python. They lie in a
table with a slot for each thread that a call has failed in: the exception is made in the thread that failed, which
finds its own slot. Numba's exceptions with computed arguments would be allocated, and leak where compiled code catches
them; and each way to fail would be more code in every function that calls a network.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cpu.layouts.call import Outcome
from fastnn.backend.cpu.layouts.code import Slot
from fastnn.backend.cpu.layouts.failure import NOTED_DIMS, NOTED_NUMBERS, NOTED_SHAPES, TABLE_HEAD, TABLE_SLOTS, Failed
from fastnn.backend.cpu.loading import library
from fastnn.program.program import aligned_zeros

_table: NDArray[np.int64] = aligned_zeros((TABLE_HEAD + TABLE_SLOTS * Failed.WORDS) * 8).view(np.int64)


@dataclass(frozen=True)
class Noted:
    """The arguments of a failed call.

    Attributes
    ----------
    numbers : ndarray of int64
        By outcome; some are the bits of a float64.
    shapes : list of tuple of int, or None
        Of arrays; None where the call has none; -1 stands after the first sizes where there are more than are noted.
    head : ndarray of int64
        Of the network's code, by `CodeWord`.
    array : int
        The number of the wrong array among the code's slots; -1 if it is none of them.
    before, among : int
        How many arrays of its role come before it, and how many there are.
    slots : ndarray of int64, shape (2, Slot.WORDS)
        The descriptions of the first array and of the wrong one.
    """

    numbers: NDArray[np.int64]
    shapes: list[tuple[int, ...] | None]
    head: NDArray[np.int64]
    array: int
    before: int
    among: int
    slots: NDArray[np.int64]


@functools.cache
def table_address() -> int:
    """Return the address of the table, for codes; it stays for the life of the process."""
    ident = ctypes.cast(ctypes.pythonapi.PyThread_get_thread_ident, ctypes.c_void_p).value
    _table[0] = ident or 0
    library.keep_for_good(_table)
    return int(_table.ctypes.data)


def latest(outcome: Outcome) -> Noted | None:
    """Return what the calling thread's latest failed call was given; None unless it ended in this outcome."""
    thread = np.uint64(threading.get_ident()).astype(np.int64)
    slots = _table[TABLE_HEAD:].reshape(TABLE_SLOTS, Failed.WORDS)
    for slot in slots[slots[:, Failed.THREAD] == thread]:
        if slot[Failed.OUTCOME] == outcome:
            return _read(slot.copy())
    return None


def _read(slot: NDArray[np.int64]) -> Noted:
    shapes: list[tuple[int, ...] | None] = []
    for ndim, *sizes in slot[Failed.SHAPES : Failed.HEAD].reshape(NOTED_SHAPES, 1 + NOTED_DIMS).tolist():
        more = (-1,) if ndim > NOTED_DIMS else ()
        shapes.append((*sizes[:ndim], *more) if ndim >= 0 else None)
    numbers, described = slot[Failed.NUMBERS : Failed.NUMBERS + NOTED_NUMBERS], slot[Failed.SLOT : Failed.WORDS]
    array, before, among = (int(slot[word]) for word in (Failed.ARRAY, Failed.ROLES, Failed.ROLES + 1))
    return Noted(
        numbers, shapes, slot[Failed.HEAD : Failed.ROLES], array, before, among, described.reshape(2, Slot.WORDS)
    )
