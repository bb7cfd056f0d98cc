"""Kernels that move data: gather a batch, one-hot rows, store results, advance the counters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.backend.cpu.codegen.intrinsics import SOURCE_POINTERS, address, flags_of, has, int64_pointer
from fastnn.backend.cpu.codegen.kernel import Kit, kernel, rows_part
from fastnn.backend.cpu.codegen.options import helper
from fastnn.program.layout import Counter, Flag, Status

_STATUS, _DETAIL = int(Counter.STATUS), int(Counter.STATUS_DETAIL)
_CURSOR, _STEP, _CHUNK = int(Counter.CURSOR), int(Counter.STEP), int(Counter.CHUNK_STEP)
_NOT_FINITE = int(Status.NOT_FINITE_INPUT)
_CHECK, _TRAINING = int(Flag.CHECK_FINITE), int(Flag.TRAINING)


def _gather(kit: Kit, variant: str, target_pointer: Any, convert: Any) -> Callable[..., Any]:
    """Make a gather from the variant's dtype; `convert` casts one element."""
    BATCH, SOURCE, INDEX = kit.words("batch source index")
    ROWS, SIZE, ROW_STRIDE, SIZE0, SIZE1, SIZE2 = kit.words("rows size row_stride size0 size1 size2")
    STRIDE0, STRIDE1, STRIDE2 = kit.words("stride0 stride1 stride2")
    source_pointer = SOURCE_POINTERS[variant]
    floating = kit.op == "gather" and variant.startswith("float")
    largest = kit.real(np.finfo(kit.real).max)

    @helper
    def copy_checked(n, target, source):
        # LLVM would simplify a sum of x - x to 0, since kernels allow reassociation
        x, bad = source_pointer(source), np.int32(0)
        for j in range(n):
            value = convert(x[j])
            target[j] = value
            bad |= np.int32(0) if abs(value) <= largest else np.int32(1)
        return bad != 0

    @helper
    def copy(n, target, source):
        x = source_pointer(source)
        for j in range(n):
            target[j] = convert(x[j])

    @helper
    def copy_row(r, target, source):
        if r[SIZE0] == 0:
            copy(r[SIZE], target, source)
        else:
            j = 0
            for i0 in range(r[SIZE0]):
                for i1 in range(r[SIZE1]):
                    for i2 in range(r[SIZE2]):
                        x = source_pointer(source + i0 * r[STRIDE0] + i1 * r[STRIDE1] + i2 * r[STRIDE2])
                        target[j] = convert(x[0])
                        j += 1

    def gather(record, context, ith, nth):
        r, counters = int64_pointer(record), int64_pointer(context)
        size, cursor = r[SIZE], counters[_CURSOR]
        source, batch = address(record, context, SOURCE), address(record, context, BATCH)
        indexed = has(record, INDEX)
        check = floating and flags_of(record) & _CHECK != 0
        first, last = rows_part(r[ROWS], ith, nth)
        if not indexed and r[SIZE0] == 0 and r[ROW_STRIDE] == size * source_itemsize:
            # consecutive rows are one long row; a value that is not finite is located below
            target, rows = target_pointer(batch + first * size * target_itemsize), last - first
            x = source + (cursor + first) * r[ROW_STRIDE]
            if not check:
                copy(rows * size, target, x)
                return
            if not copy_checked(rows * size, target, x):
                return
        for i in range(first, last):
            row = cursor + i
            if indexed:
                row = int64_pointer(address(record, context, INDEX))[row]
            target = target_pointer(batch + i * size * target_itemsize)
            if check and r[SIZE0] == 0:
                bad = copy_checked(size, target, source + row * r[ROW_STRIDE])
            else:
                copy_row(r, target, source + row * r[ROW_STRIDE])
                bad = False
                if check:
                    for j in range(size):
                        bad |= not abs(target[j]) <= largest
            if bad and counters[_STATUS] == 0:
                counters[_STATUS] = _NOT_FINITE
                counters[_DETAIL] = row

    source_itemsize = np.dtype(variant).itemsize
    target_itemsize = 8 if kit.op == "gather_labels" else kit.itemsize
    return gather


@kernel("gather")
def gather(kit: Kit, variant: str) -> Callable[..., Any]:
    """Fetch rows of features, dense targets or weights, converted to reals."""
    real = kit.real

    @helper
    def convert(value):
        return real(value)

    return _gather(kit, variant, kit.reals, convert)


@kernel("gather_labels")
def gather_labels(kit: Kit, variant: str) -> Callable[..., Any]:
    """Fetch integer labels, converted to int64."""

    @helper
    def convert(value):
        return np.int64(value)

    return _gather(kit, variant, int64_pointer, convert)


@kernel("store")
def store(kit: Kit, variant: str) -> Callable[..., Any]:
    """Copy a batch of results to its rows of an output array."""
    TARGET, X, ROWS, SIZE = kit.words("target x rows size")
    at, reals, itemsize = kit.at, kit.reals, kit.itemsize

    def store(record, context, ith, nth):
        r, counters = int64_pointer(record), int64_pointer(context)
        size = r[SIZE]
        first, last = rows_part(r[ROWS], ith, nth)
        x = at(record, context, X)
        out = reals(address(record, context, TARGET) + counters[_CURSOR] * size * itemsize)
        for i in range(first * size, last * size):
            out[i] = x[i]

    return store


@kernel("one_hot")
def one_hot(kit: Kit, variant: str) -> Callable[..., Any]:
    """Make rows of zeros with a one."""
    Y, INDEX, ROWS, COLS = kit.words("y index rows cols")
    at, zero, one = kit.at, kit.real(0.0), kit.real(1.0)

    def one_hot(record, context, ith, nth):
        r = int64_pointer(record)
        cols = r[COLS]
        first, last = rows_part(r[ROWS], ith, nth)
        y, index = at(record, context, Y), int64_pointer(address(record, context, INDEX))
        for i in range(first * cols, last * cols):
            y[i] = zero
        for row in range(first, last):
            # integers are checked before a run, but the user may change the array during it
            if 0 <= index[row] < cols:
                y[row * cols + index[row]] = one

    return one_hot


@kernel("tick")
def tick(kit: Kit, variant: str) -> Callable[..., Any]:
    """Advance the counters by one batch, and the training step if the program trains."""
    (ROWS,) = kit.words("rows")

    def tick(record, context, ith, nth):
        if ith == 0:
            r, counters = int64_pointer(record), int64_pointer(context)
            counters[_CURSOR] += r[ROWS]
            counters[_CHUNK] += 1
            if flags_of(record) & _TRAINING != 0:
                counters[_STEP] += 1

    return tick
