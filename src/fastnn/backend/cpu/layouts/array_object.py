"""The memory layout of array objects in NumPy's binary interface, for native code that reads them."""

from __future__ import annotations

import ctypes
import importlib
import sys

import numpy as np

from fastnn.addresses import OFFSET

#: Bytes from the word that holds the address of the data. The number of dimensions and the flags are C integers, the
#: shape, the strides and the dtype pointers.
NDIM, SHAPE, STRIDES, DTYPE, FLAGS = 8, 16, 24, 40, 48
#: Bits of the flags: C-contiguous; aligned; both; and also writeable.
CONTIGUOUS, ALIGNED, READABLE, WRITEABLE = 0x1, 0x100, 0x101, 0x501
#: Bytes from the word of a dtype object's type to a character, its byte order, and to NumPy's number of its type, a C
#: integer.
BYTE_ORDER, TYPE_NUMBER = 18, 20
#: The byte orders of numbers that need no swap: of the machine, and of numbers of one byte.
NATIVE_ORDERS = ord("="), ord("|")
#: The index of PyArray_New in the table of NumPy's functions for C.
_NEW = 93

_read = ctypes.c_size_t.from_address
_read_int = ctypes.c_int.from_address
_read_byte = ctypes.c_ubyte.from_address


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
        for words, numbers in ((SHAPE, array.shape), (STRIDES, array.strides)):
            found = _read(at + words).value
            if tuple(_read(found + 8 * axis).value for axis in range(array.ndim)) != numbers:
                return 0, 0
    for name in ("float32", "int64", "bool", ">f8", "<f8", "U3"):
        dtype = np.dtype(name)
        at = id(dtype) + kind
        if _read_int(at + TYPE_NUMBER).value != dtype.num or _read_byte(at + BYTE_ORDER).value != ord(dtype.byteorder):
            return 0, 0
    return kind, OFFSET


def new_array() -> int:
    """Return the address of NumPy's PyArray_New, 0 if unknown."""
    for name in ("numpy._core.multiarray", "numpy.core.multiarray"):  # since NumPy 2, and before
        try:
            functions = getattr(importlib.import_module(name), "_ARRAY_API", None)
        except ImportError:
            continue
        if functions is not None:
            pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)
            table = pointer(("PyCapsule_GetPointer", ctypes.pythonapi))(functions, None)
            return _read(table + 8 * _NEW).value
    return 0
