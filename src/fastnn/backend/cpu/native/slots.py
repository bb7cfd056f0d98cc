"""The arrays of a call: their shapes, the memory that they take, and what is wrong with their values."""

from __future__ import annotations

import math

from fastnn.backend.cpu.codegen.intrinsics import (
    SOURCE_POINTERS,
    float32_pointer,
    float64_pointer,
    int64_pointer,
    stack_bytes,
)
from fastnn.backend.cpu.codegen.options import helper, inlined
from fastnn.backend.cpu.layouts.call import NDIM_MASK, STRIDED_SHIFT, Given
from fastnn.backend.cpu.layouts.code import DTYPES, CodeWord, Role, Slot
from fastnn.backend.cpu.native.convert import dtype_of, item_bytes

GIVEN_BYTES, SLOT_BYTES = int(Given.WORDS) * 8, int(Slot.WORDS) * 8
ADDRESS, KIND, SHAPE = int(Given.ADDRESS), int(Given.KIND), int(Given.SHAPE)
_ROLE, _ELEMENTS, _NDIM, _SHAPE, _COLUMNS, _LOWEST, _HIGHEST, _TOLERANCE, _ALLOWED_COUNT, _ALLOWED = (
    int(Slot[name])
    for name in (
        "ROLE", "ELEMENTS", "NDIM", "SHAPE", "COLUMNS", "LOWEST", "HIGHEST", "TOLERANCE", "ALLOWED_COUNT", "ALLOWED",
    )
)  # fmt: skip
_TARGET, _LABEL, _WEIGHT = int(Role.TARGET), int(Role.LABEL), int(Role.WEIGHT)
_UINT64 = DTYPES.index("uint64")
_SLOTS_AT, _SLOTS_COUNT, _ROWS = int(CodeWord.SLOTS_AT), int(CodeWord.SLOTS_COUNT), int(CodeWord.ROWS)

int32_pointer = SOURCE_POINTERS["int32"]


@helper
def description(code: int, index: int) -> int:
    """Return the address of a slot's description."""
    return code + int64_pointer(code)[_SLOTS_AT] * 8 + index * SLOT_BYTES


@helper
def _may_lack_axis(slot_at: int) -> bool:
    """Return whether an array may be given without its last axis: targets may if its length is 1."""
    slot = int64_pointer(slot_at)
    axes, role = slot[_NDIM], slot[_ROLE]
    return (role == _TARGET or role == _LABEL) and axes > 0 and slot[_SHAPE + axes - 1] == 1


@inlined
def samples(code: int, slots: int) -> int:
    """Return the number of samples that all arrays hold, or -1 - i where array i does not fit."""
    slot_at = description(code, 0)
    n, batched = 0, 0
    only = int64_pointer(code)[_ROWS] > 0
    for index in range(int64_pointer(code)[_SLOTS_COUNT]):
        slot, given = int64_pointer(slot_at), int64_pointer(slots + index * GIVEN_BYTES)
        axes, role = slot[_NDIM], slot[_ROLE]
        skip = (given[KIND] & NDIM_MASK) - axes
        if index == 0:
            if skip != 0 and (skip != 1 or only):
                return -1
            n, batched = int64_pointer(given[SHAPE])[0] if skip == 1 else 1, skip
        elif given[ADDRESS] == 0 and role == _WEIGHT:
            skip, axes = batched, -1
        elif skip < batched and role == _WEIGHT:
            # the rows along the axes that are missing share a weight
            axes += skip - batched
            skip = batched if axes >= (1 if only else 0) else -1
        elif skip == batched - 1 and _may_lack_axis(slot_at):
            skip, axes = batched, axes - 1
        if skip != batched:
            return -1 - index
        if axes >= 0:
            sizes = int64_pointer(given[SHAPE])
            bad = 1 if batched == 1 and sizes[0] != n else 0
            for axis in range(axes):
                bad += 1 if sizes[skip + axis] != slot[_SHAPE + axis] else 0
            if bad != 0:
                return -1 - index
        slot_at += SLOT_BYTES
    return n


@helper
def elements_of(given_at: int) -> int:
    """Return the number of elements of an array."""
    given = int64_pointer(given_at)
    sizes, count = int64_pointer(given[SHAPE]), 1
    for axis in range(given[KIND] & NDIM_MASK):
        count *= sizes[axis]
    return count


@helper
def shared_by(slot_at: int, given_at: int, n: int) -> int:
    """Return how many rows share each element of an array: of weights there may be fewer than rows."""
    slot = int64_pointer(slot_at)
    return n * slot[_ELEMENTS] // elements_of(given_at) if slot[_ROLE] == _WEIGHT else 1


@helper
def span(given_at: int) -> tuple[int, int]:
    """Return the first address of an array's memory, and its bytes."""
    given = int64_pointer(given_at)
    first, itemsize = given[ADDRESS], item_bytes(dtype_of(given[KIND]))
    if given[KIND] >> STRIDED_SHIFT == 0:
        return first, elements_of(given_at) * itemsize
    ndim = given[KIND] & NDIM_MASK
    sizes, strides = int64_pointer(given[SHAPE]), int64_pointer(given[SHAPE] + 8 * ndim)
    low, high = 0, itemsize
    for axis in range(ndim):
        if sizes[axis] == 0:
            return first, 0
        reach = (sizes[axis] - 1) * strides[axis]
        if reach > 0:
            high += reach
        else:
            low += reach
    return first + low, high - low


@helper
def finite(values: int, count: int, itemsize: int) -> bool:
    """Return whether numbers are neither NaN nor infinite."""
    bad = 0
    if itemsize == 4:
        singles = int32_pointer(values)
        for index in range(count):
            bad += 1 if singles[index] & 0x7F800000 == 0x7F800000 else 0
    else:
        doubles = int64_pointer(values)
        for index in range(count):
            bad += 1 if doubles[index] & 0x7FF0000000000000 == 0x7FF0000000000000 else 0
    return bad == 0


@helper
def first_not_finite(values: int, count: int, itemsize: int) -> int:
    """Return the index of the first number that is NaN or infinite, -1 where there is none."""
    for index in range(count):
        if not finite(values + index * itemsize, 1, itemsize):
            return index
    return -1


@helper
def real_at(values: int, index: int, itemsize: int) -> float:
    if itemsize == 4:
        return float(float32_pointer(values)[index])
    return float64_pointer(values)[index]


@helper
def bits_of(value: float) -> int:
    place = stack_bytes(8)
    float64_pointer(place)[0] = value
    return int64_pointer(place)[0]


@helper
def is_unsigned(given_at: int) -> bool:
    """Return whether an array holds integers that int64 may not hold: the largest are read as negative ones."""
    return dtype_of(int64_pointer(given_at)[KIND]) == _UINT64


@helper
def first_outside(slot_at: int, given_at: int, integers_at: int, count: int) -> int:
    """Return the index of the first integer out of its slot's range, -1 if there is none.

    Kernels read tables at these indices. `given_at` is the array that the integers have been converted from.
    """
    slot, integers, bad = int64_pointer(slot_at), int64_pointer(integers_at), 0
    low, high = slot[_LOWEST], slot[_HIGHEST]
    if low < 0 and is_unsigned(given_at):
        low = 0
    for index in range(count):
        bad += 1 if integers[index] < low or integers[index] > high else 0
    if bad == 0:
        return -1
    for index in range(count):
        if integers[index] < low or integers[index] > high:
            return index
    return 0  # another thread has written there since


@inlined
def first_refused(slot_at: int, values: int, n: int, itemsize: int) -> int:
    """Return the index of the first target of n rows that the loss does not accept, -1 if it accepts all.

    For a row whose sum is wrong it is the last index of the row.
    """
    slot, numbers = int64_pointer(slot_at), float64_pointer(slot_at)
    columns = slot[_COLUMNS]
    tolerance, allowed = numbers[_TOLERANCE], slot[_ALLOWED_COUNT]
    count = n * slot[_ELEMENTS]
    if not finite(values, count, itemsize):
        return first_not_finite(values, count, itemsize)
    if allowed == 0 and tolerance == 0.0 and numbers[_LOWEST] == -math.inf and numbers[_HIGHEST] == math.inf:
        return -1
    total = 0.0
    for index in range(count):
        value = real_at(values, index, itemsize)
        if value < numbers[_LOWEST] or value > numbers[_HIGHEST]:
            return index
        found = allowed == 0
        for each in range(allowed):
            found = found or value == numbers[_ALLOWED + each]
        if not found:
            return index
        total += value
        if tolerance > 0.0 and (index + 1) % columns == 0:
            if abs(total - 1.0) > tolerance:
                return index
            total = 0.0
    return -1
