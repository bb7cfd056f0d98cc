"""The functions of `ptx.py` for Numba's simulator: memory with checked addresses, and shuffles over barriers.

Only registered memory may be accessed, so an index out of bounds raises, while a GPU would read garbage. A
shuffle is a barrier of the whole block here: every thread of a block has to call it equally often.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cuda.simulator.memory import LOAD_PACKS, LOADS, STORE_PACKS, STORES, register  # noqa: F401, kernels find them here
from fastnn.backend.cuda.simulator.ptx_mma import (  # noqa: F401, kernels find them here
    COPIES,
    COPIES_IF,
    MMA,
    commit_copies,
    load_matrices,
    to_bf16,
    to_tf32,
    wait_for_copies,
)
from fastnn.backend.cuda.simulator.ptx_wgmma import (  # noqa: F401, the same
    begin_products,
    clear_sums,
    commit_products,
    copy_block,
    expect_bytes,
    has_opened,
    make_barrier,
    multiply_matrices,
    show_barriers,
    wait_for_products,
)


def _host(array: Any) -> NDArray[Any]:
    """Return the memory of an array as kernels use it: flat, and never a copy."""
    found: NDArray[Any] = getattr(getattr(array, "_item", array), "_ary", array)
    return found.reshape(-1).view()


def address_of(array: Any) -> int:
    """Return the address of an array, whose memory is registered for kernels."""
    return register(_host(array).view(np.uint8))


def memory_of(array: Any) -> NDArray[Any]:
    """Return an array's memory, for loads and stores of memory of any kind."""
    return _host(array)


def _check_any(memory: NDArray[Any], index: int) -> None:
    if not 0 <= index < len(memory):
        raise IndexError(f"a kernel touches element {index} of {len(memory)}")


def _any_load(memory: NDArray[Any], index: int) -> Any:
    _check_any(memory, index)
    return memory[index]


def _any_store(memory: NDArray[Any], index: int, value: Any) -> None:
    _check_any(memory, index)
    memory[index] = value


ANY_LOADS = dict.fromkeys(LOADS, _any_load)
ANY_STORES = dict.fromkeys(("float32", "float64"), _any_store)


def float_as_int(value: Any) -> Any:
    """Reinterpret the bits of a float32 as an int32."""
    return np.float32(value).view(np.int32)


def int_as_float(value: Any) -> Any:
    """Reinterpret the bits of an int32 as a float32."""
    return np.int32(value).view(np.float32)


def int_as_double(value: Any) -> Any:
    """Reinterpret the bits of an int64 as a float64."""
    return np.float64(struct.unpack("d", struct.pack("q", int(value)))[0])


def double_as_int(value: Any) -> Any:
    """Reinterpret the bits of a float64 as an int64."""
    return np.float64(value).view(np.int64)


_exchange: dict[int, Any] = {}


def _shuffle_xor(value: Any, mask: int) -> Any:
    thread: Any = threading.current_thread()
    _exchange[thread.thread_id] = value
    thread.syncthreads()
    found = _exchange[thread.thread_id ^ int(mask)]
    thread.syncthreads()
    return found


SHUFFLES = dict.fromkeys(("float32", "float64", "int32"), _shuffle_xor)


def high_product(a: Any, b: Any) -> Any:
    """Return the upper half of the product of two uint32."""
    return np.uint32(int(a) * int(b) >> 32)


_lock = threading.Lock()


def atomic_min(address: int, index: int, value: int) -> None:
    """Replace an int64 by a smaller one."""
    with _lock:
        held = LOADS["int64"](address, index)
        STORES["int64"](address, index, min(held, value))


Shared = tuple[NDArray[Any], int]


def shared(elements: int, dtype: str, dynamic: bool = False, alignment: int = 16) -> Callable[[], Shared]:
    """Make a function that returns a block's shared memory: blocks run one by one, so it is always the same."""
    memory = np.full(elements, np.nan, dtype)
    return lambda: (memory, 0)


def _shared_at(address: Shared, index: int) -> Shared:
    return address[0], address[1] + int(index)


def _shared_load(address: Shared, index: int) -> Any:
    memory, start = address
    return memory[start + index]


def _shared_store(address: Shared, index: int, value: Any) -> None:
    memory, start = address
    memory[start + index] = value


def _check_shared(memory: NDArray[Any], index: int, wide: int) -> None:
    if index % wide or not 0 <= index <= len(memory) - wide:
        raise IndexError(f"a kernel touches {wide} elements at {index} of {len(memory)} in shared memory")


def _shared_load_pack(dtype: str) -> Callable[[Shared, int], tuple[Any, ...]]:
    wide = 16 // np.dtype(dtype).itemsize

    def load_pack(address: Shared, index: int) -> tuple[Any, ...]:
        memory, at = address[0], address[1] + index
        _check_shared(memory, at, wide)
        return tuple(memory[at : at + wide])

    return load_pack


def _shared_store_pack(dtype: str) -> Callable[[Shared, int, Any], None]:
    wide = 16 // np.dtype(dtype).itemsize

    def store_pack(address: Shared, index: int, values: Any) -> None:
        memory, at = address[0], address[1] + index
        _check_shared(memory, at, wide)
        memory[at : at + wide] = values

    return store_pack


SHARED_AT = dict.fromkeys(("float32", "float64"), _shared_at)
SHARED_LOADS = dict.fromkeys(("float32", "float64"), _shared_load)
SHARED_STORES = dict.fromkeys(("float32", "float64"), _shared_store)
SHARED_LOAD_PACKS = {dtype: _shared_load_pack(dtype) for dtype in ("float32", "float64")}
SHARED_STORE_PACKS = {dtype: _shared_store_pack(dtype) for dtype in ("float32", "float64")}


def store_shared_pair(address: Shared, index: int, values: Any) -> None:
    """Store two float32."""
    memory, at = address[0], address[1] + index
    _check_shared(memory, at, 2)
    memory[at : at + 2] = values


def keep(value: Any) -> Any:
    """Return a value unchanged."""
    return value


def stay_rolled() -> None:
    """Do nothing: nothing is compiled."""
