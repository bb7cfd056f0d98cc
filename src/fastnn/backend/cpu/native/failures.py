"""What a failed call of a frozen network was given, noted for the text of its exception (`frozen/failures.py`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnn.backend.cpu.codegen.atomics import atomic_load, call_thread_ident, compare_exchange
from fastnn.backend.cpu.codegen.intrinsics import float64_pointer, int64_pointer, smaller
from fastnn.backend.cpu.codegen.kernel import Kit, kernel
from fastnn.backend.cpu.codegen.options import helper
from fastnn.backend.cpu.layouts.frozen import (
    NOTED_DIMS,
    NOTED_NUMBERS,
    NOTED_SHAPES,
    TABLE_HEAD,
    TABLE_SLOTS,
    WEIGHT_WORDS,
    Failed,
    Outcome,
    Word,
)
from fastnn.backend.cpu.native.learner import first_not_finite, first_refused, real_at

_FAILURES, _ITEM_BYTES, _INPUT_BYTES = int(Word.FAILURES), int(Word.ITEM_BYTES), int(Word.INPUT_BYTES)
_LABELS, _COLUMNS, _TOLERANCE, _CODE_HEAD = int(Word.LABELS), int(Word.COLUMNS), int(Word.TOLERANCE), int(Word.HEAD)
_WEIGHTS_AT, _WEIGHTS_COUNT = int(Word.WEIGHTS_AT), int(Word.WEIGHTS_COUNT)
_OUTCOME, _NUMBERS, _SHAPES, _HEAD, _WORDS = (
    int(one) for one in (Failed.OUTCOME, Failed.NUMBERS, Failed.SHAPES, Failed.HEAD, Failed.WORDS)
)
_NOT_FINITE, _TARGET_VALUES = int(Outcome.NOT_FINITE), int(Outcome.TARGET_VALUES)


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
def _note_shape(target: int, shape: int, ndim: int) -> None:
    words, sizes = int64_pointer(target), int64_pointer(shape)
    words[0] = ndim
    for axis in range(smaller(ndim, NOTED_DIMS)):
        words[1 + axis] = sizes[axis]


@helper
def _among_weights(code: int, element: int) -> int:
    """Return the place of an element of the buffer of parameters in a vector of all weights."""
    words = int64_pointer(code)
    at, first = words[_WEIGHTS_AT], 0
    for _ in range(words[_WEIGHTS_COUNT]):
        start, size = words[at], words[at + 1]
        if start <= element and element < start + size:
            return first + element - start
        first += size
        at += WEIGHT_WORDS
    return -1


@helper
def _note_not_finite(code: int, numbers: int, x: int, weights: int, n: int, gradients: bool) -> None:
    """Note which array (0: x, 1: weights of samples, 2: gradients) holds NaN or infinity, where, and the value."""
    words, noted = int64_pointer(code), int64_pointer(numbers)
    itemsize = words[_ITEM_BYTES]
    which, found = 0, x
    index = first_not_finite(x, n if gradients else n * words[_INPUT_BYTES] // itemsize, itemsize)
    if not gradients and index < 0:
        which, found = 1, weights
        index = first_not_finite(weights, n, itemsize)
    if index >= 0:  # another thread may have written there since
        float64_pointer(numbers)[2] = real_at(found, index, itemsize)
    noted[0], noted[1] = (2, _among_weights(code, index)) if gradients else (which, index)


@helper
def _note_target(code: int, numbers: int, y: int, n: int) -> None:
    """Note which target is refused, its value, and the sum of its row, where that is to be 1."""
    words, noted, reals = int64_pointer(code), int64_pointer(numbers), float64_pointer(numbers)
    index = first_refused(code, y, n)
    noted[0] = index
    if index < 0:  # another thread has written there since
        return
    if words[_LABELS] != 0:
        noted[1] = int64_pointer(y)[index]
        return
    reals[1], reals[2] = real_at(y, index, words[_ITEM_BYTES]), 1.0
    if float64_pointer(code)[_TOLERANCE] > 0.0:
        total, start = 0.0, index // words[_COLUMNS] * words[_COLUMNS]
        for column in range(words[_COLUMNS]):
            total += real_at(y, start + column, words[_ITEM_BYTES])
        reals[2] = total


@kernel("note_failure", arguments=2 + NOTED_NUMBERS + 2 * NOTED_SHAPES, returns=True)
def note_failure(kit: Kit, variant: str) -> Callable[..., Any]:
    """Note what a failed call was given, and return the outcome; `call_note` names the arguments."""

    def note_failure(
        code, outcome, first, second, third, fourth, x_shape, x_ndim, y_shape, y_ndim, z_shape, z_ndim
    ):  # fmt: skip
        slot = _slot(int64_pointer(code)[_FAILURES])
        if slot == 0:
            return outcome
        words, head, numbers = int64_pointer(slot), int64_pointer(code), slot + _NUMBERS * 8
        words[_OUTCOME] = outcome
        for index in range(_CODE_HEAD):
            words[_HEAD + index] = head[index]
        _note_shape(slot + _SHAPES * 8, x_shape, x_ndim)
        _note_shape(slot + (_SHAPES + 1 + NOTED_DIMS) * 8, y_shape, y_ndim)
        _note_shape(slot + (_SHAPES + 2 * (1 + NOTED_DIMS)) * 8, z_shape, z_ndim)
        if outcome == _NOT_FINITE:
            _note_not_finite(code, numbers, first, third, fourth, x_ndim < 0)
        elif outcome == _TARGET_VALUES:
            _note_target(code, numbers, second, fourth)
        else:
            words[_NUMBERS], words[_NUMBERS + 1], words[_NUMBERS + 2], words[_NUMBERS + 3] = (
                first, second, third, fourth,
            )  # fmt: skip
        return outcome

    return note_failure
