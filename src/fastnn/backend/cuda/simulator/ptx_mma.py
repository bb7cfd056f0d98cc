"""The functions of `ptx_mma.py` for Numba's simulator: fragments laid out as in the PTX specification, late copies.

A copy's target is NaN until the thread waits for it. So a kernel that waits too little, or overwrites memory that
others still read, gets NaN.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cuda.simulator.memory import LOAD_PACKS, LOADS

_LANES = 32
_LANE = np.arange(_LANES)[:, None]


def a_places(precision: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows and columns of the elements in every lane's registers of a, four of one tf32 or of two bf16."""
    number = np.arange(4 if precision == "tf32" else 8)
    group, member = _LANE // 4, _LANE % 4
    if precision == "tf32":
        return group + number % 2 * 8, member + number // 2 * 4
    return group + number // 2 % 2 * 8, member * 2 + number % 2 + number // 4 * 8


def b_places(precision: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows (of k) and columns of the elements in every lane's registers of b, two of one tf32 or of two bf16."""
    number = np.arange(2 if precision == "tf32" else 4)
    group, member = _LANE // 4, _LANE % 4
    if precision == "tf32":
        return member + number * 4, group + 0 * number
    return member * 2 + number % 2 + number // 2 * 8, group + 0 * number


def c_places() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows and columns of every lane's four sums."""
    number = np.arange(4)
    return _LANE // 4 + number // 2 * 8, _LANE % 4 * 2 + number % 2


def elements_of(words: Any, precision: str) -> NDArray[np.float32]:
    """Return the numbers in registers: one or two in each."""
    bits = np.asarray(words, np.uint32)
    if precision == "tf32":
        return bits.view(np.float32)
    halves = np.stack([bits << np.uint32(16), bits & np.uint32(0xFFFF0000)], axis=-1)
    return halves.reshape(len(bits), -1).view(np.float32)


_PLACES = {precision: (a_places(precision), b_places(precision), c_places()) for precision in ("tf32", "bf16")}


def multiply_fragments(a: Any, b: Any, c: Any, precision: str) -> NDArray[np.float32]:
    """Multiply the fragments of 32 lanes, a row of registers each, and return the sums of each."""
    at_a, at_b, at_c = _PLACES[precision]
    depth = 8 if precision == "tf32" else 16
    left, right, sums = np.zeros((16, depth)), np.zeros((depth, 8)), np.zeros((16, 8))
    left[at_a], right[at_b], sums[at_c] = elements_of(a, precision), elements_of(b, precision), c
    return (sums + left @ right).astype(np.float32)[at_c]


_given: dict[int, Any] = {}
_taken: dict[int, Any] = {}


def _mma(precision: str) -> Callable[[Any, Any, Any], Any]:
    def mma(a: Any, b: Any, c: Any) -> Any:
        thread: Any = threading.current_thread()
        number = thread.thread_id
        _given[number] = a, b, c
        thread.syncthreads()
        if number % _LANES == 0:
            left, right, sums = zip(*(_given[number + lane] for lane in range(_LANES)), strict=True)
            found = multiply_fragments(left, right, sums, precision)
            _taken.update(zip(range(number, number + _LANES), found, strict=True))
        thread.syncthreads()
        return _taken[number]

    return mma


MMA = {precision: _mma(precision) for precision in ("tf32", "bf16")}


def load_matrices(address: Any, index: int) -> tuple[Any, ...]:
    """Load four matrices of 8 x 4 float32 from shared memory, and return an element of each."""
    thread: Any = threading.current_thread()
    number, at = thread.thread_id, address[1] + int(index)
    if at % 4:
        raise IndexError(f"a kernel loads a line of a matrix at {at} in shared memory")
    _given[number] = address[0], at
    thread.syncthreads()
    lane, found = number % _LANES, []
    for matrix in range(4):
        memory, line = _given[number - lane + 8 * matrix + lane // 4]
        found.append(memory[line + lane % 4])
    thread.syncthreads()
    return tuple(found)


def to_tf32(value: Any) -> Any:
    """Round a float32 to 10 bits of fraction, halves away from zero."""
    bits = int(np.float32(value).view(np.uint32))
    if bits & 0x7F800000 != 0x7F800000:
        bits = (bits + 0x1000) & 0xFFFFE000
    return np.uint32(bits)


def _bf16(value: Any) -> int:
    bits = int(np.float32(value).view(np.uint32))
    if bits & 0x7FFFFFFF > 0x7F800000:
        return 0x7FFF
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16


def to_bf16(low: Any, high: Any) -> Any:
    """Round two float32 to bfloat16, halves to even, and put them into one register."""
    return np.uint32(_bf16(low) | _bf16(high) << 16)


def _copy(elements: int) -> Callable[..., None]:
    def copy(target: Any, address: int, index: int, wanted: bool = True) -> None:
        memory, at = target
        if at % elements:
            raise IndexError(f"a kernel copies {elements} elements to {at} in shared memory")
        values = np.zeros(elements, np.float32)
        if wanted:
            read = LOAD_PACKS["float32"] if elements == 4 else LOADS["float32"]
            values[:] = read(address, index)
        memory[at : at + elements] = np.nan
        thread: Any = threading.current_thread()
        thread.__dict__.setdefault("copies", [[]])[-1].append((memory, at, values))

    return copy


COPIES = {1: _copy(1), 4: _copy(4)}
COPIES_IF = COPIES


def commit_copies() -> None:
    """Close a group of copies."""
    threading.current_thread().__dict__.setdefault("copies", [[]]).append([])


def wait_for_copies(but: int) -> Callable[[], None]:
    """Make a function that finishes this thread's groups of copies, except the last `but` ones."""

    def wait() -> None:
        groups = threading.current_thread().__dict__.setdefault("copies", [[]])
        while len(groups) - 1 > but:
            for memory, at, values in groups.pop(0):
                memory[at : at + len(values)] = values

    return wait
