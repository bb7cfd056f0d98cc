"""The arguments of a call from Python: arrays are described in the call's table, if compiled code can read them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnn.backend.cpu.codegen.intrinsics import SOURCE_POINTERS, int64_pointer
from fastnn.backend.cpu.codegen.kernel import Kit, kernel
from fastnn.backend.cpu.codegen.options import helper
from fastnn.backend.cpu.layouts.arguments import ROOM_WORDS, TYPE_NUMBERS, ArgumentWord
from fastnn.backend.cpu.layouts.array_object import (
    ALIGNED,
    BYTE_ORDER,
    CONTIGUOUS,
    DTYPE,
    FLAGS,
    NATIVE_ORDERS,
    NDIM,
    SHAPE,
    STRIDES,
    TYPE_NUMBER,
)
from fastnn.backend.cpu.layouts.call import DTYPE_SHIFT, NDIM_MASK, STRIDED_SHIFT
from fastnn.backend.cpu.layouts.code import MOST_DIMS, CodeWord, Slot
from fastnn.backend.cpu.native.slots import ADDRESS, GIVEN_BYTES, KIND, SLOT_BYTES, description
from fastnn.backend.cpu.native.slots import SHAPE as GIVEN_SHAPE

_TYPE_AT, _DATA_AT, _NDARRAY, _NONE, _COUNT, _REQUIRED, _MOST_ROWS, _DTYPES = (
    int(word) for word in list(ArgumentWord)[:8]
)
_SLOTS_COUNT, _INPUTS = int(CodeWord.SLOTS_COUNT), int(CodeWord.INPUTS)
_SLOT_DTYPE, _SLOT_NDIM, _SLOT_SHAPE = int(Slot.DTYPE), int(Slot.NDIM), int(Slot.SHAPE)
_ROOM_BYTES = ROOM_WORDS * 8
_BIG, _SMALL = NATIVE_ORDERS

_int32_pointer, _byte_pointer = SOURCE_POINTERS["int32"], SOURCE_POINTERS["uint8"]


@helper
def _dtype(table: int, dtype: int) -> int:
    """Return 1 + the number of a dtype object's dtype, 0 if it is not accepted."""
    order = _byte_pointer(dtype + BYTE_ORDER)[0]
    number = _int32_pointer(dtype + TYPE_NUMBER)[0]
    if (order != _BIG and order != _SMALL) or number < 0 or number >= TYPE_NUMBERS:
        return 0
    return int64_pointer(table)[_DTYPES + number]


@helper
def _describe(array: int, table: int, given_at: int, room: int) -> bool:
    """Write an array's words, and copy its sizes and strides: without the GIL another thread may reshape it."""
    words, given = int64_pointer(table), int64_pointer(given_at)
    if int64_pointer(array + words[_TYPE_AT])[0] != words[_NDARRAY]:
        return False
    at = array + words[_DATA_AT]
    flags, ndim = _int32_pointer(at + FLAGS)[0], _int32_pointer(at + NDIM)[0]
    dtype = _dtype(table, int64_pointer(at + DTYPE)[0] + words[_TYPE_AT])
    if flags & ALIGNED == 0 or dtype == 0 or ndim > MOST_DIMS + 1:
        return False
    sizes, strides = int64_pointer(int64_pointer(at + SHAPE)[0]), int64_pointer(int64_pointer(at + STRIDES)[0])
    copies = int64_pointer(room)
    for axis in range(ndim):
        copies[axis], copies[ndim + axis] = sizes[axis], strides[axis]
    strided = 0 if flags & CONTIGUOUS != 0 else 1
    given[ADDRESS], given[GIVEN_SHAPE] = int64_pointer(at)[0], room
    given[KIND] = ndim | (dtype - 1) << DTYPE_SHIFT | strided << STRIDED_SHIFT
    return True


@helper
def _take(arguments: int, count: int, table: int, code: int, frame: int) -> int:
    """Describe the arguments in a frame; return the rows of the first, 0 if some are not taken."""
    words, objects = int64_pointer(table), int64_pointer(arguments)
    if count != words[_COUNT]:
        return 0
    slots = int64_pointer(code)[_SLOTS_COUNT]
    room = frame + slots * GIVEN_BYTES
    for index in range(count):
        given_at = frame + index * GIVEN_BYTES
        if index >= words[_REQUIRED] and objects[index] == words[_NONE]:
            given = int64_pointer(given_at)
            given[ADDRESS] = given[KIND] = given[GIVEN_SHAPE] = 0
        elif not _describe(objects[index], table, given_at, room + index * _ROOM_BYTES):
            return 0
    first = int64_pointer(frame)
    if first[KIND] & NDIM_MASK == 0:
        return 0
    rows = int64_pointer(first[GIVEN_SHAPE])[0]
    return rows if rows <= words[_MOST_ROWS] else 0


@kernel("take_arrays", arguments=5, returns=True)
def take_arrays(kit: Kit, variant: str) -> Callable[..., Any]:
    """Describe a call's arrays; return the number of rows of the first, 0 if compiled code cannot take the call.

    The arguments: the address of Python's arguments (the caller holds the GIL), their number, a table
    (`ArgumentWord`), the code, and a frame of `frame_bytes`, whose `Given` are written in the order of the arguments.
    Shapes are not checked.
    """

    def take_arrays(arguments, count, table, code, frame):
        return _take(arguments, count, table, code, frame)

    return take_arrays


@kernel("take_rows", arguments=5, returns=True)
def take_rows(kit: Kit, variant: str) -> Callable[..., Any]:
    """Describe the arrays that a network's code reads, and those of its results, but for their addresses.

    The arguments and what it returns are those of `take_arrays`. All arrays have to be batches of the same number of
    rows.
    """

    def take_rows(arguments, count, table, code, frame):
        rows = _take(arguments, count, table, code, frame)
        if rows == 0:
            return 0
        words = int64_pointer(code)
        slots, inputs = words[_SLOTS_COUNT], words[_INPUTS]
        room, slot_at = frame + slots * GIVEN_BYTES, description(code, 0)
        bad = 0
        for index in range(slots):
            slot, given = int64_pointer(slot_at), int64_pointer(frame + index * GIVEN_BYTES)
            axes, sizes = slot[_SLOT_NDIM], int64_pointer(room)
            if index < inputs:
                if given[KIND] & NDIM_MASK != axes + 1:
                    return 0
                bad += 1 if sizes[0] != rows else 0
                for axis in range(axes):
                    bad += 1 if sizes[1 + axis] != slot[_SLOT_SHAPE + axis] else 0
            else:
                given[GIVEN_SHAPE], given[KIND] = room, (axes + 1) | slot[_SLOT_DTYPE] << DTYPE_SHIFT
                sizes[0] = rows
                for axis in range(axes):
                    sizes[1 + axis] = slot[_SLOT_SHAPE + axis]
            slot_at += SLOT_BYTES
            room += _ROOM_BYTES
        return rows if bad == 0 else 0

    return take_rows
