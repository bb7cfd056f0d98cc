"""Arrays that describe themselves by DLPack: the capsule is read without consuming it.

The structures are those of version 0 of the protocol, which every producer returns unless a newer one is requested
(https://dmlc.github.io/dlpack/latest/c_api.html).
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import numpy as np

CUDA = 2
_KINDS = {0: "i", 1: "u", 2: "f", 6: "b"}


class _Device(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int32), ("number", ctypes.c_int32))


class _DataType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _DataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class Described(NamedTuple):
    """A capsule's description of an array; strides are in bytes, None if it is contiguous.

    `owner` keeps the memory alive: a capsule that has not been consumed frees it when it is freed.
    """

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    dtype: Any
    owner: Any


def is_on_gpu(value: Any) -> bool:
    """Return whether an object supports DLPack and is in the memory of an NVIDIA GPU."""
    where = getattr(value, "__dlpack_device__", None)
    return where is not None and hasattr(value, "__dlpack__") and int(where()[0]) == CUDA


def describe(value: Any, what: str) -> Described:
    """Read the capsule of an array on a GPU.

    Raises
    ------
    TypeError
        When its elements are not numbers.
    """
    # -1: no synchronisation, because the caller waits for the whole device
    capsule = value.__dlpack__(stream=-1)
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    tensor = _Tensor.from_address(pointer(capsule, b"dltensor"))
    kind = _KINDS.get(tensor.dtype.code)
    if kind is None or tensor.dtype.lanes != 1 or tensor.dtype.bits not in (8, 16, 32, 64):
        raise TypeError(
            f"{what}: expected float32, float64 or integer numbers on the GPU, got DLPack's type code "
            f"{tensor.dtype.code} of {tensor.dtype.bits} bits"
        )
    dtype = np.dtype(np.bool_ if kind == "b" else f"{kind}{tensor.dtype.bits // 8}")
    shape = tuple(tensor.shape[axis] for axis in range(tensor.ndim))
    strides = None
    if tensor.strides:
        strides = tuple(tensor.strides[axis] * dtype.itemsize for axis in range(tensor.ndim))
    return Described((tensor.data or 0) + tensor.byte_offset, shape, strides, dtype, (capsule, value))
