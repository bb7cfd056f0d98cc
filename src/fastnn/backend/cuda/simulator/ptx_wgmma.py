"""The functions of `ptx_wgmma.py` for Numba's simulator: barriers that count bytes, and late products.

The target of a copy is NaN until a thread has waited at its barrier, and sums are NaN until all products have been
waited for; these are computed from the contents of shared memory at that time. So a kernel that reads too early, or
overwrites a tile that is still read, gets NaN. A barrier that can never open raises.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cuda.codegen.fragments import DEPTH, place_along
from fastnn.backend.cuda.codegen.sizes import WARPGROUP, WARPGROUP_ROWS
from fastnn.backend.cuda.simulator.memory import place
from fastnn.backend.cuda.simulator.ptx_mma import c_places, elements_of

#: words of a line that one multiplication takes
_STEP_WORDS = 8
_PATIENCE = 20.0


@dataclass
class _Barrier:
    """A barrier's state: how often it has opened, the announced bytes, and running copies."""

    opened: int = 0
    expected: int = 0
    arrived: bool = False
    copies: list[tuple[NDArray[Any], int, NDArray[np.uint32]]] = field(default_factory=list)


_barriers: dict[tuple[int, int], _Barrier] = {}
_lock = threading.Lock()


def _at(barrier: Any) -> _Barrier:
    return _barriers[id(barrier[0]), barrier[1]]


def make_barrier(barrier: Any) -> None:
    """Make a barrier, at which one thread announces the bytes that it waits for."""
    if barrier[1] % 2:
        raise IndexError(f"a kernel makes a barrier at {barrier[1]} in shared memory, not aligned to eight bytes")
    _barriers[id(barrier[0]), barrier[1]] = _Barrier()


def _nothing() -> None:
    """Do nothing: the simulator needs no such instruction."""


show_barriers = begin_products = _nothing


def expect_bytes(barrier: Any, nbytes: int) -> None:
    """Announce `nbytes` bytes at a barrier."""
    with _lock:
        held = _at(barrier)
        if held.arrived:
            raise RuntimeError("a kernel announces bytes at a barrier that has not opened since the last time")
        held.arrived, held.expected = True, int(nbytes)


def copy_block(target: Any, address: int, nbytes: int, barrier: Any) -> None:
    """Copy bytes from an address into shared memory."""
    nbytes, (memory, at) = int(nbytes), target
    if at % 4 or int(address) % 16 or nbytes % 16:
        raise IndexError(f"a kernel copies {nbytes} bytes from {address:#x} to {at} in shared memory: not aligned")
    source, offset = place(address, 0, nbytes)
    words = source[offset : offset + nbytes].view(np.uint32).copy()
    with _lock:
        memory[at : at + len(words)] = np.nan
        _at(barrier).copies.append((memory, at, words))


def has_opened(barrier: Any, parity: int) -> bool:
    """Return whether a barrier has opened, for the first, third, ... time (parity 0) or the others."""
    thread: Any = threading.current_thread()
    with _lock:
        held = _at(barrier)
        due = sum(words.nbytes for _, _, words in held.copies)
        if held.arrived and due > held.expected:
            raise RuntimeError(f"a kernel copies {due} bytes for a barrier that expects {held.expected}")
        if held.arrived and due == held.expected:
            for memory, at, words in held.copies:
                memory.view(np.uint32)[at : at + len(words)] = words
            held.opened, held.arrived, held.copies = held.opened + 1, False, []
        found = held.opened % 2 != int(parity)
    if found:
        thread.__dict__.pop("since", None)
        return True
    if time.monotonic() - thread.__dict__.setdefault("since", time.monotonic()) > _PATIENCE:
        raise RuntimeError("a kernel waits at a barrier that does not open")
    time.sleep(0)
    return False


def clear_sums(count: int) -> Callable[[Any], None]:
    """Make clear(sums), which sets all of them to 0."""

    def clear(sums: Any) -> None:
        sums[:count] = 0.0

    return clear


def lines_of(matrix: Any, count: int, step: int, precision: str) -> NDArray[np.float32]:
    """Return part `step` of `count` lines of a matrix in shared memory."""
    memory, start = matrix
    if start % (8 * DEPTH):
        raise IndexError(f"a kernel multiplies a matrix at {start} in shared memory, not aligned to 1024 bytes")
    line = np.arange(count)[:, None]
    words = _STEP_WORDS * int(step) + np.arange(_STEP_WORDS)
    places = start + place_along(line, words)  # type: ignore[no-untyped-call]
    return elements_of(memory.view(np.uint32)[places], precision)


@dataclass
class _Sums:
    """A thread's true sums, and its groups of products that have not been waited for; the last group is open."""

    sums: Any = None
    true: Any = None
    groups: list[list[tuple[Any, Any, int]]] = field(default_factory=lambda: [[]])
    kind: tuple[str, int] = ("", 0)


def _mine() -> _Sums:
    held: _Sums = threading.current_thread().__dict__.setdefault("products", _Sums())
    return held


def multiply_matrices(precision: str, cols: int) -> Callable[[Any, Any, Any, int], None]:
    """Make multiply(sums, a, b, step): start to add the product of 64 lines of a and `cols` lines of b to the sums."""

    def multiply(sums: Any, a: Any, b: Any, step: int) -> None:
        held = _mine()
        if held.true is None:
            held.sums, held.true, held.kind = sums, sums.copy(), (precision, cols)
            sums[:] = np.nan
        held.groups[-1].append((a, b, step))

    return multiply


def commit_products() -> None:
    """Close a group of multiplications."""
    _mine().groups.append([])


def own_places(thread: int, cols: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows of 64 and columns of the sums of a thread of a warpgroup, in order."""
    rows, within = (each[thread % 32] for each in c_places())
    eights = 8 * np.arange(cols // 8)[:, None]
    return np.tile(thread // 32 * 16 + rows, cols // 8), (eights + within).reshape(-1)


def wait_for_products(but: int) -> Callable[[], None]:
    """Make a function that finishes the thread's groups of multiplications, except the last `but` ones."""

    def wait() -> None:
        thread: Any = threading.current_thread()
        held = _mine()
        while len(held.groups) - 1 > but:
            precision, cols = held.kind
            rows, columns = own_places(thread.thread_id % WARPGROUP, cols)
            for a, b, step in held.groups.pop(0):
                left, right = lines_of(a, WARPGROUP_ROWS, step, precision), lines_of(b, cols, step, precision)
                products = left[rows].astype(np.float64) * right[columns]
                held.true[:] = (held.true + products.sum(axis=1)).astype(np.float32)
        if len(held.groups) == 1 and not held.groups[0] and held.true is not None:
            held.sums[:] = held.true
            held.true = None

    return wait
