"""The device's memory in the simulator: registered arrays, and loads and stores with checked addresses."""

from __future__ import annotations

import bisect
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

_lock = threading.Lock()
_starts: list[int] = []
_memory: dict[int, NDArray[np.uint8]] = {}


def register(memory: NDArray[np.uint8]) -> int:
    """Register an array's memory for kernels, and return its address."""
    start = int(memory.ctypes.data)
    with _lock:
        if start not in _memory:
            bisect.insort(_starts, start)
        _memory[start] = memory
    return start


def release(start: int) -> None:
    """Unregister memory."""
    with _lock:
        if _memory.pop(start, None) is not None:
            _starts.remove(start)


def place(address: int, offset: int, nbytes: int) -> tuple[NDArray[np.uint8], int]:
    """Return the array that contains some bytes, and their offset in it."""
    place = int(address) + offset
    found = bisect.bisect_right(_starts, place) - 1
    if found >= 0:
        start = _starts[found]
        memory = _memory[start]
        if place + nbytes <= start + memory.nbytes:
            return memory, place - start
    raise IndexError(f"a kernel touches {nbytes} bytes at {address:#x} + {offset}, which are in no buffer")


def _load(dtype: str) -> Callable[[int, int], Any]:
    kind = np.dtype(dtype)

    def load(address: int, index: int) -> Any:
        memory, offset = place(address, int(index) * kind.itemsize, kind.itemsize)
        return memory[offset : offset + kind.itemsize].view(kind)[0]

    return load


def _store(dtype: str) -> Callable[[int, int, Any], None]:
    kind = np.dtype(dtype)

    def store(address: int, index: int, value: Any) -> None:
        memory, offset = place(address, int(index) * kind.itemsize, kind.itemsize)
        memory[offset : offset + kind.itemsize].view(kind)[0] = value

    return store


DTYPES = ("float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
LOADS = {dtype: _load(dtype) for dtype in DTYPES}
STORES = {dtype: _store(dtype) for dtype in DTYPES}


def _check_pack(address: int, index: int, itemsize: int) -> None:
    alignment = min(4 * itemsize, 16)
    if (int(address) + int(index) * itemsize) % alignment:
        place = f"{address:#x} + {index} x {itemsize}"
        raise IndexError(f"a kernel touches four elements at {place}: not aligned to {alignment} bytes")


def _load_pack(dtype: str) -> Callable[[int, int], tuple[Any, ...]]:
    kind, load = np.dtype(dtype), LOADS[dtype]

    def load_pack(address: int, index: int) -> tuple[Any, ...]:
        _check_pack(address, index, kind.itemsize)
        return tuple(load(address, int(index) + lane) for lane in range(4))

    return load_pack


def _store_pack(dtype: str) -> Callable[[int, int, Any], None]:
    kind, store = np.dtype(dtype), STORES[dtype]

    def store_pack(address: int, index: int, values: Any) -> None:
        _check_pack(address, index, kind.itemsize)
        for lane in range(4):
            store(address, int(index) + lane, values[lane])

    return store_pack


LOAD_PACKS = {dtype: _load_pack(dtype) for dtype in DTYPES}
STORE_PACKS = {dtype: _store_pack(dtype) for dtype in ("float32", "float64", "int64", "uint32")}
