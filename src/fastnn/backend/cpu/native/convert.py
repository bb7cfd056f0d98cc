"""Arrays of calls that programs cannot read in place: of other dtypes, or not contiguous."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnn.backend.cpu.codegen.intrinsics import int64_pointer, stack_bytes
from fastnn.backend.cpu.codegen.kernel import Kit, kernel
from fastnn.backend.cpu.codegen.options import helper
from fastnn.backend.cpu.codegen.reading import READ_REAL, read_int64
from fastnn.backend.cpu.layouts.call import DTYPE_SHIFT, NDIM_MASK, STRIDED_SHIFT, Given
from fastnn.backend.cpu.layouts.code import DTYPES, MOST_DIMS, Slot

_ADDRESS, _KIND, _SHAPE = int(Given.ADDRESS), int(Given.KIND), int(Given.SHAPE)
_WANTED, _SAMPLE_NDIM, _ELEMENTS = int(Slot.DTYPE), int(Slot.NDIM), int(Slot.ELEMENTS)
_INT64 = DTYPES.index("int64")
_ITEM_BYTES = {"float64": 8, "int64": 8, "uint64": 8, "float32": 4, "int32": 4, "uint32": 4, "int16": 2, "uint16": 2}
_SIZES = tuple(_ITEM_BYTES.get(dtype, 1) for dtype in DTYPES)
_AXES_BYTES = (MOST_DIMS + 1) * 8


@helper
def dtype_of(kind: int) -> int:
    """Return the number of an array's dtype."""
    return (kind >> DTYPE_SHIFT) & 0xFF


@helper
def item_bytes(dtype: int) -> int:
    """Return the size of an element."""
    return _SIZES[dtype]


@kernel("convert", arguments=5)
def convert(kit: Kit, variant: str) -> Callable[..., Any]:
    """Convert rows of an array in a call to contiguous ones of the dtype that the program reads, as gathering does.

    The arguments: the target's address; addresses of the slot's description and of the array's words in the call; the
    first row (one sample without a batch axis is row 0), and the number of elements of all rows.
    """
    read_real, reals, itemsize_of_reals = READ_REAL[kit.dtype], kit.reals, kit.itemsize

    @helper
    def copy(target, wanted, dtype, source, count, stride):
        """Convert elements that are `stride` bytes apart."""
        if wanted == _INT64:
            integers = int64_pointer(target)
            for index in range(count):
                integers[index] = read_int64(dtype, source + index * stride)
        else:
            numbers = reals(target)
            for index in range(count):
                numbers[index] = read_real(dtype, source + index * stride)

    def convert(target, description, given, first, elements):
        slot, words = int64_pointer(description), int64_pointer(given)
        dtype, ndim, wanted = dtype_of(words[_KIND]), words[_KIND] & NDIM_MASK, slot[_WANTED]
        sizes, size = int64_pointer(words[_SHAPE]), 8 if wanted == _INT64 else itemsize_of_reals
        batched = ndim - slot[_SAMPLE_NDIM]
        itemsize = item_bytes(dtype)
        if words[_KIND] >> STRIDED_SHIFT == 0:
            source = words[_ADDRESS] + first * slot[_ELEMENTS] * itemsize
            copy(target, wanted, dtype, source, elements, itemsize)
            return
        strides = int64_pointer(words[_SHAPE] + 8 * ndim)
        place = stack_bytes(_AXES_BYTES)
        at = int64_pointer(place)
        source = words[_ADDRESS]
        if batched > 0:
            source += first * strides[0]
        for axis in range(ndim):
            at[axis] = 0
        # lines along the last axis, one after the other; without one a single element
        count = 1
        stride = 0
        if ndim > 0:
            count = elements if ndim == 1 and batched > 0 else sizes[ndim - 1]
            stride = strides[ndim - 1]
        left = elements
        while left > 0:
            copy(target, wanted, dtype, source, count, stride)
            target += count * size
            left -= count
            axis = ndim - 2
            while axis >= 0:
                at[axis] += 1
                source += strides[axis]
                if axis == 0 and batched > 0:
                    break
                if at[axis] < sizes[axis]:
                    break
                source -= at[axis] * strides[axis]
                at[axis] = 0
                axis -= 1

    return convert
