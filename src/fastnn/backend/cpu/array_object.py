"""Array objects in memory, as NumPy's binary interface has them: what native code reads them by."""

from __future__ import annotations

import ctypes
import sys

import numpy as np

from fastnn.addresses import OFFSET

#: Bytes from the word that holds the address of the data. The number of dimensions and the flags are C integers, the
#: shape and the dtype pointers.
NDIM, SHAPE, DTYPE, FLAGS = 8, 16, 40, 48
#: Bits of the flags: C-contiguous and aligned; also writeable.
READABLE, WRITEABLE = 0x101, 0x501

_read = ctypes.c_size_t.from_address
_read_int = ctypes.c_int.from_address


def layout() -> tuple[int, int]:
    """Return where any object holds its type, and an array the address of its data; zeros where that is unknown.

    That is where NumPy says something else of an array than is found at the places above, and where there is no
    global lock: another thread could reshape an array while native code reads it.
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
