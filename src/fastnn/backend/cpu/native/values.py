"""Checks of the values in a learner's arrays: all of them, before a step changes anything."""

from __future__ import annotations

from fastnn.backend.cpu.codegen.intrinsics import call_note, float64_pointer, int64_pointer
from fastnn.backend.cpu.codegen.options import helper, inlined
from fastnn.backend.cpu.layouts.call import Outcome
from fastnn.backend.cpu.layouts.code import REAL_DTYPES, WEIGHT_WORDS, CodeWord, Role, Slot
from fastnn.backend.cpu.native.slots import (
    GIVEN_BYTES,
    SLOT_BYTES,
    bits_of,
    description,
    finite,
    first_not_finite,
    first_outside,
    first_refused,
    is_unsigned,
    real_at,
    shared_by,
)

_COUNT, _ITEM_BYTES, _SLOTS_COUNT, _WEIGHTS_AT, _WEIGHTS_COUNT = (
    int(CodeWord[name]) for name in ("GRADIENTS", "ITEM_BYTES", "SLOTS_COUNT", "WEIGHTS_AT", "WEIGHTS_COUNT")
)
_ROLE, _SLOT_DTYPE, _ELEMENTS, _COLUMNS, _TOLERANCE = (
    int(Slot[name]) for name in ("ROLE", "DTYPE", "ELEMENTS", "COLUMNS", "TOLERANCE")
)
_TARGET = int(Role.TARGET)
_DONE, _NOT_FINITE, _TARGET_VALUES, _OUT_OF_RANGE = (
    int(Outcome[name]) for name in ("DONE", "NOT_FINITE", "TARGET_VALUES", "RANGE")
)


@helper
def _note_refused(code: int, slots: int, index: int, values: int, element: int, itemsize: int) -> int:
    """Note a target that the loss does not accept: its place and value, and the sum of a row that has to be 1."""
    slot_at = description(code, index)
    slot = int64_pointer(slot_at)
    if element < 0:
        return call_note(code, _TARGET_VALUES, -1, 0, 0, 0, slots, index)
    total, columns = 1.0, slot[_COLUMNS]
    if float64_pointer(slot_at)[_TOLERANCE] > 0.0:
        total, start = 0.0, element // columns * columns
        for column in range(columns):
            total += real_at(values, start + column, itemsize)
    found = bits_of(real_at(values, element, itemsize))
    return call_note(code, _TARGET_VALUES, element, found, bits_of(total), 0, slots, index)


@inlined
def check_values(code: int, slots: int, places: int, n: int) -> int:
    """Check the values of all arrays, and return an `Outcome`."""
    words, at = int64_pointer(code), int64_pointer(places)
    itemsize = words[_ITEM_BYTES]
    following = description(code, 0)
    for index in range(words[_SLOTS_COUNT]):
        slot_at, values, given_at = following, at[index], slots + index * GIVEN_BYTES
        slot = int64_pointer(slot_at)
        following += SLOT_BYTES
        if values == 0:
            continue
        count = n * slot[_ELEMENTS]
        if slot[_SLOT_DTYPE] >= REAL_DTYPES:
            element = first_outside(slot_at, given_at, values, count)
            if element >= 0:
                value, unsigned = int64_pointer(values)[element], 1 if is_unsigned(given_at) else 0
                return call_note(code, _OUT_OF_RANGE, element, value, unsigned, 0, slots, index)
        elif slot[_ROLE] == _TARGET:
            element = first_refused(slot_at, values, n, itemsize)
            if element >= 0:
                return _note_refused(code, slots, index, values, element, itemsize)
        elif not finite(values, count, itemsize):
            element = first_not_finite(values, count, itemsize)
            found = bits_of(real_at(values, max(0, element), itemsize))
            # a weight is one of the caller's, who has fewer of them if rows share them
            element //= shared_by(slot_at, given_at, n)
            return call_note(code, _NOT_FINITE, element, found, 0, 0, slots, index)
    return _DONE


@helper
def check_gradients(code: int, gradients: int) -> int:
    """Check gradients that the caller has set, and return an `Outcome`."""
    words = int64_pointer(code)
    count, itemsize = words[_COUNT], words[_ITEM_BYTES]
    if finite(gradients, count, itemsize):
        return _DONE
    element = first_not_finite(gradients, count, itemsize)
    found = bits_of(real_at(gradients, max(0, element), itemsize))
    at, first = words[_WEIGHTS_AT], 0  # the place in a vector of all weights
    for _ in range(words[_WEIGHTS_COUNT]):
        start, size = words[at], words[at + 1]
        if start <= element and element < start + size:
            return call_note(code, _NOT_FINITE, first + element - start, found, 0, 0, 0, -1)
        first += size
        at += WEIGHT_WORDS
    return call_note(code, _NOT_FINITE, -1, 0, 0, 0, 0, -1)
