"""Arrays in a GPU's memory: fastnn's own, and those of other libraries, which are used in place."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cuda.driver import dlpack
from fastnn.backend.protocol import Device

__all__ = ["DeviceArray", "foreign", "is_on_gpu"]


class DeviceArray:
    """An array in the memory of a GPU.

    CuPy, PyTorch, JAX and Numba take it without a copy, through ``__cuda_array_interface__``: ``cupy.asarray(a)``,
    ``torch.as_tensor(a, device="cuda")``, ``numba.cuda.as_cuda_array(a)``.

    Attributes
    ----------
    shape, strides : tuple of int
        Strides are in bytes.
    dtype : numpy.dtype
    device_address : int
    """

    def __init__(
        self,
        device: Device,
        address: int,
        shape: tuple[int, ...],
        dtype: Any,
        owner: Any,
        strides: tuple[int, ...] | None = None,
    ) -> None:
        self.device = device
        self.device_address = address
        self.shape = tuple(shape)
        self.dtype = np.dtype(dtype)
        self.strides = strides if strides is not None else _contiguous(self.shape, self.dtype.itemsize)
        self._owner = owner

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return int(self.dtype.itemsize)

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return prod(self.shape) * self.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<DeviceArray: {self.dtype} {self.shape} on 'cuda:{self.device.number}'>"

    def with_unit_axis(self) -> DeviceArray:
        """Return the same memory with a last axis of length 1."""
        return DeviceArray(
            self.device, self.device_address, (*self.shape, 1), self.dtype, self._owner, (*self.strides, self.itemsize)
        )

    def row(self, index: int) -> DeviceArray:
        """Return the memory of one row."""
        place = self.device_address + index * self.strides[0]
        return DeviceArray(self.device, place, self.shape[1:], self.dtype, self._owner, self.strides[1:])

    def copy_to_host(self) -> NDArray[Any]:
        """Return a copy as a NumPy array."""
        low, extent = _extent(self.shape, self.strides, self.itemsize)
        raw = np.empty(extent, np.uint8)
        self.device.read(self.device_address + low, raw)
        view = np.ndarray(self.shape, self.dtype, raw, -low, self.strides)
        return view if self.strides == _contiguous(self.shape, self.itemsize) else np.ascontiguousarray(view)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """The interface for other libraries (version 3)."""
        contiguous = self.strides == _contiguous(self.shape, self.itemsize)
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.device_address, False),
            "strides": None if contiguous else self.strides,
            "version": 3,
        }


def _contiguous(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    strides, step = [], itemsize
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


def _extent(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> tuple[int, int]:
    """Return the offset of the first byte of an array, and the number of bytes from there to its last one."""
    if 0 in shape:
        return 0, 0
    spans = [(size - 1) * stride for size, stride in zip(shape, strides, strict=True)]
    low, high = sum(min(span, 0) for span in spans), sum(max(span, 0) for span in spans)
    return low, high - low + itemsize


def is_on_gpu(value: Any, what: str) -> bool:
    """Return whether a value is an array in the memory of a GPU: of CuPy, PyTorch, Numba or JAX, or fastnn's own."""
    try:
        return hasattr(value, "__cuda_array_interface__") or dlpack.is_on_gpu(value)
    except RuntimeError as error:  # PyTorch raises this for a tensor with a history
        raise TypeError(f"{what}: {error}") from None


def foreign(value: Any, device_of: Callable[[int], Any], what: str) -> DeviceArray:
    """Return another library's array on a GPU as one of ours, after everything that the library has launched there.

    Parameters
    ----------
    device_of : callable
        Returns the device in whose memory an address is.

    Raises
    ------
    TypeError, ValueError
        When its elements are not numbers, or it is masked or not aligned.
    """
    if isinstance(value, DeviceArray):
        return value
    address, shape, strides, dtype, owner = _described(value, what)
    if dtype == np.bool_:
        dtype = np.dtype(np.uint8)
    if dtype.kind not in "iuf" or dtype.itemsize not in (1, 2, 4, 8) or dtype == np.float16:
        raise TypeError(f"{what}: expected float32, float64 or integer numbers on the GPU, got {dtype}")
    device = device_of(address)
    # libraries launch into their own streams, which they do not pass on
    device.settle()
    array = DeviceArray(device, address, shape, dtype, owner, strides)
    if array.nbytes and any(stride % dtype.itemsize for stride in (array.device_address, *array.strides)):
        raise ValueError(f"{what}: elements of the array on the GPU are not aligned to {dtype.itemsize} bytes")
    return array


def _described(value: Any, what: str) -> dlpack.Described:
    described = getattr(value, "__cuda_array_interface__", None)
    if described is None:
        return dlpack.describe(value, what)
    if described.get("mask") is not None:
        raise ValueError(f"{what}: expected numbers, got a masked array on the GPU")
    strides = described.get("strides")
    return dlpack.Described(
        int(described["data"][0]),
        tuple(described["shape"]),
        None if strides is None else tuple(strides),
        np.dtype(described["typestr"]),
        value,
    )
