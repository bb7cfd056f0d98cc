"""Notes of the arguments of a failed call, for the exception's text (`frozen/failures.py`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnn.backend.cpu.codegen.atomics import atomic_load, call_thread_ident, compare_exchange
from fastnn.backend.cpu.codegen.intrinsics import int64_pointer, smaller
from fastnn.backend.cpu.codegen.kernel import Kit, kernel
from fastnn.backend.cpu.codegen.options import helper
from fastnn.backend.cpu.layouts.call import NDIM_MASK
from fastnn.backend.cpu.layouts.code import CodeWord, Role, Slot
from fastnn.backend.cpu.layouts.failure import NOTED_DIMS, NOTED_NUMBERS, TABLE_HEAD, TABLE_SLOTS, Failed
from fastnn.backend.cpu.native.slots import ADDRESS, GIVEN_BYTES, KIND, SHAPE, SLOT_BYTES, description

_FAILURES, _SLOTS_COUNT, _CODE_HEAD = int(CodeWord.FAILURES), int(CodeWord.SLOTS_COUNT), int(CodeWord.HEAD)
_OUTCOME, _ARRAY, _NUMBERS, _SHAPES, _HEAD, _ROLES, _SLOT, _WORDS = (
    int(one)
    for one in (
        Failed.OUTCOME, Failed.ARRAY, Failed.NUMBERS, Failed.SHAPES, Failed.HEAD, Failed.ROLES, Failed.SLOT,
        Failed.WORDS,
    )
)  # fmt: skip
_ROLE, _TARGET, _LABEL = int(Slot.ROLE), int(Role.TARGET), int(Role.LABEL)
_SLOT_WORDS = SLOT_BYTES // 8


@helper
def _slot(table: int) -> int:
    """Return the address of the calling thread's slot; 0 where all belong to others."""
    thread = call_thread_ident(int64_pointer(table)[0])
    for index in range(TABLE_SLOTS):
        slot = table + (TABLE_HEAD + index * _WORDS) * 8
        owner = atomic_load(slot)
        if owner == 0:
            owner = compare_exchange(slot, 0, thread)
            if owner == 0:
                return slot
        if owner == thread:
            return slot
    return 0


@helper
def _note_shape(target: int, slots: int, array: int) -> None:
    words = int64_pointer(target)
    if slots == 0 or array < 0 or int64_pointer(slots + array * GIVEN_BYTES)[ADDRESS] == 0:
        words[0] = -1
        return
    given = int64_pointer(slots + array * GIVEN_BYTES)
    sizes, ndim = int64_pointer(given[SHAPE]), given[KIND] & NDIM_MASK
    words[0] = ndim
    for axis in range(smaller(ndim, NOTED_DIMS)):
        words[1 + axis] = sizes[axis]


@helper
def _role(code: int, array: int) -> int:
    """Return what an array is; labels are targets."""
    role = int64_pointer(description(code, array))[_ROLE]
    return _TARGET if role == _LABEL else role


@helper
def _note_slot(target: int, code: int, array: int) -> None:
    words, described = int64_pointer(target), int64_pointer(description(code, array))
    for index in range(_SLOT_WORDS):
        words[index] = described[index]


@kernel("note_failure", arguments=2 + NOTED_NUMBERS + 2, returns=True)
def note_failure(kit: Kit, variant: str) -> Callable[..., Any]:
    """Note what a failed call was given, and return the outcome; `call_note` names the arguments."""

    def note_failure(code, outcome, first, second, third, fourth, slots, array):
        slot = _slot(int64_pointer(code)[_FAILURES])
        if slot == 0:
            return outcome
        words, head = int64_pointer(slot), int64_pointer(code)
        words[_OUTCOME], words[_ARRAY] = outcome, array
        words[_NUMBERS], words[_NUMBERS + 1], words[_NUMBERS + 2], words[_NUMBERS + 3] = first, second, third, fourth
        for index in range(_CODE_HEAD):
            words[_HEAD + index] = head[index]
        _note_shape(slot + _SHAPES * 8, slots, 0)
        _note_shape(slot + (_SHAPES + 1 + NOTED_DIMS) * 8, slots, array)
        # which of the arrays of its kind it is, and how many there are
        wrong = max(0, smaller(array, head[_SLOTS_COUNT] - 1))
        role, before, among = _role(code, wrong), 0, 0
        for index in range(head[_SLOTS_COUNT]):
            if _role(code, index) == role:
                among += 1
                before += 1 if index < wrong else 0
        words[_ROLES], words[_ROLES + 1] = before, among
        _note_slot(slot + _SLOT * 8, code, 0)
        _note_slot(slot + (_SLOT + _SLOT_WORDS) * 8, code, wrong)
        return outcome

    return note_failure
