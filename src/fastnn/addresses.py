"""Addresses of arrays, at a tenth of the cost of `array.ctypes.data` (0.3 instead of 3 µs)."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

_read = ctypes.c_size_t.from_address


def _find_offset() -> int:
    """Return the offset of the data's address in an array object, 0 if unknown.

    In NumPy's binary interface it has always come first after the object's header. This reads the word there from two
    arrays, and uses the offset only if both agree with NumPy.
    """
    if sys.implementation.name != "cpython":
        return 0
    arrays = np.zeros(3), np.zeros((5, 2), np.float32)[1:]
    for offset in range(object.__basicsize__, object.__basicsize__ + 32, 8):
        if all(_read(id(array) + offset).value == array.ctypes.data for array in arrays):
            return offset
    return 0


#: Bytes from an array object's start to the word with the address of its data; 0 if unknown.
OFFSET = _find_offset()

if OFFSET:

    def address(array: NDArray[Any]) -> int:
        """Return the address of an array's first element."""
        return _read(id(array) + OFFSET).value

else:

    def address(array: NDArray[Any]) -> int:
        """Return the address of an array's first element."""
        return int(array.ctypes.data)


def place(array: Any) -> int:
    """Return the address of an array's first element, in the memory of the host or of a GPU."""
    found = getattr(array, "device_address", None)
    return address(array) if found is None else int(found)
