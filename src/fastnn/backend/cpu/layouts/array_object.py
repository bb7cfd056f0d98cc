"""The memory layout of array objects in NumPy's binary interface, for native code that reads them."""

from __future__ import annotations

import ctypes
import sys

import numpy as np

from fastnn.addresses import OFFSET

#: Bytes from the word that holds the address of the data. The number of dimensions and the flags are C integers, the
#: shape and the dtype pointers.
NDIM, SHAPE, DTYPE, FLAGS = 8, 16, 40, 48
#: Bits of the flags: C-contiguous and aligned; and also writeable.
READABLE, WRITEABLE = 0x101, 0x501

_read = ctypes.c_size_t.from_address
_read_int = ctypes.c_int.from_address


def layout() -> tuple[int, int]:
    """Return the offsets of an object's type and of an array's data address; zeros if unknown.

    They are unknown if NumPy's values for an array differ from those at the offsets above. They are also zero without
    the GIL: another thread could reshape an array while native code reads it.
    """
    if not OFFSET or not getattr(sys, "_is_gil_enabled", lambda: True)():
        return 0, 0
    kind = object.__basicsize__ - ctypes.sizeof(ctypes.c_void_p)
    for array in (np.zeros(3), np.zeros((5, 2), np.float32)[1:], np.zeros((2, 3, 4))[:, ::2].T):
        at = id(array) + OFFSET
        if (
            _read(id(array) + kind).value != id(type(array))
            or _read_int(at + NDIM).value != array.ndim
            or _read(at + DTYPE).value != id(array.dtype)
            or _read_int(at + FLAGS).value != array.flags.num
        ):
            return 0, 0
        shape = _read(at + SHAPE).value
        if tuple(_read(shape + 8 * axis).value for axis in range(array.ndim)) != array.shape:
            return 0, 0
    return kind, OFFSET
