"""Kernels that move data: gather a batch, store results, advance the counters."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda

from fastnn.backend.cuda.codegen.kernel import Dims, Kit, Stage, ceil_div, elements, kernel, ptx
from fastnn.backend.cuda.codegen.options import formula, helper
from fastnn.backend.cuda.codegen.sizes import PACK, SIZES
from fastnn.program.layout import BAD_ROW, FLAGS_WORD, NO_ROW, Counter, Flag

_CURSOR, _STEP, _CHUNK = int(Counter.CURSOR), int(Counter.STEP), int(Counter.CHUNK_STEP)
_CHECK, _TRAINING = int(Flag.CHECK_FINITE), int(Flag.TRAINING)
_THREADS = SIZES.threads
_SOURCES = ("float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
load_int64, store_int64, atomic_min = ptx.LOADS["int64"], ptx.STORES["int64"], ptx.atomic_min


def _table(dims: Dims) -> tuple[int, int]:
    """Return the grid of a kernel that copies rows: one thread per `PACK` elements."""
    return ceil_div(dims["rows"] * dims["size"], PACK * _THREADS), 1


def _gather_algorithm(dims: Dims, flags: Flag) -> str:
    return "" if dims["size0"] == 0 else "strided"


def _gather(kit: Kit, target: str, convert: Any) -> list[Stage]:
    """Make a gather from the variant's dtype to a target's; `convert` casts one element.

    A thread has four neighbouring elements if they are in one row and aligned, otherwise four that are a block's
    width apart, so that neighbouring threads access neighbouring memory in both cases.
    """
    BATCH, SOURCE, INDEX = kit.words("batch source index")
    ROWS, SIZE, ROW_STRIDE = kit.words("rows size row_stride")
    SIZE1, SIZE2, STRIDE0, STRIDE1, STRIDE2 = kit.words("size1 size2 stride0 stride1 stride2")
    fetch, fetch_pack = ptx.LOADS[kit.variant], ptx.LOAD_PACKS[kit.variant]
    store, store_pack = ptx.STORES[target], ptx.STORE_PACKS[target]
    strided = kit.algorithm == "strided"
    checked = kit.op == "gather" and kit.variant.startswith("float")
    largest = kit.real(np.finfo(kit.real).max)
    odd_bytes = min(PACK * np.dtype(kit.variant).itemsize, 16) - 1

    @helper
    def row_of(record, i):
        return np.int64(np.uint32(i) // np.uint32(record[SIZE]))

    @helper
    def element(record, i, row, place):
        start, j = record[SOURCE] + place * record[ROW_STRIDE], i - row * record[SIZE]
        if strided:
            outer = np.int64(np.uint32(j) // np.uint32(record[SIZE2]))
            outmost = np.int64(np.uint32(outer) // np.uint32(record[SIZE1]))
            start += (j - outer * record[SIZE2]) * record[STRIDE2]
            start += (outer - outmost * record[SIZE1]) * record[STRIDE1] + outmost * record[STRIDE0]
            j = np.int64(0)
        return convert(fetch(start, j))

    @helper
    def check(record, context, i, value):
        # infinity is either in the data, or a number too large for the network's dtype
        if checked and record[FLAGS_WORD] & _CHECK != 0 and not abs(value) <= largest:
            atomic_min(context, BAD_ROW, row_of(record, i))

    @helper
    def put(record, context, i, value):
        store(record[BATCH], i, value)
        check(record, context, i, value)

    def gather(record, context):
        size, index, cursor = record[SIZE], record[INDEX], load_int64(context, _CURSOR)
        n, first = record[ROWS] * size, np.int64(PACK * _THREADS) * cuda.blockIdx.x
        if not strided and size % PACK == 0 and (record[SOURCE] | record[ROW_STRIDE]) & odd_bytes == 0:
            i = first + PACK * cuda.threadIdx.x
            if i < n:
                row = row_of(record, i)
                place = cursor + row
                if index != 0:
                    place = load_int64(index, place)
                x = fetch_pack(record[SOURCE] + place * record[ROW_STRIDE], i - row * size)
                values = convert(x[0]), convert(x[1]), convert(x[2]), convert(x[3])
                store_pack(record[BATCH], i, values)
                for value in values:
                    check(record, context, i, value)
            return
        i = first + cuda.threadIdx.x
        if first + PACK * _THREADS <= n:
            # all loads before the first store: the compiler cannot know that they do not overlap
            i1, i2, i3 = i + _THREADS, i + 2 * _THREADS, i + 3 * _THREADS
            r0, r1, r2, r3 = row_of(record, i), row_of(record, i1), row_of(record, i2), row_of(record, i3)
            p0, p1, p2, p3 = cursor + r0, cursor + r1, cursor + r2, cursor + r3
            if index != 0:
                p0, p1 = load_int64(index, p0), load_int64(index, p1)
                p2, p3 = load_int64(index, p2), load_int64(index, p3)
            a, b = element(record, i, r0, p0), element(record, i1, r1, p1)
            c, d = element(record, i2, r2, p2), element(record, i3, r3, p3)
            put(record, context, i, a)
            put(record, context, i1, b)
            put(record, context, i2, c)
            put(record, context, i3, d)
            return
        while i < n:
            row = row_of(record, i)
            place = cursor + row
            if index != 0:
                place = load_int64(index, place)
            put(record, context, i, element(record, i, row, place))
            i += _THREADS

    return [Stage(gather, _table, _THREADS)]


@kernel("gather", algorithms=("", "strided"), variants=lambda algorithm: _SOURCES, algorithm=_gather_algorithm)
def gather(kit: Kit) -> list[Stage]:
    """Fetch rows of features, dense targets or weights, converted to reals; note the first row that is not finite."""
    real = kit.real

    @formula
    def convert(value):
        return real(value)

    return _gather(kit, kit.dtype, convert)


@kernel("gather_labels", algorithms=("", "strided"), variants=lambda algorithm: _SOURCES, algorithm=_gather_algorithm)
def gather_labels(kit: Kit) -> list[Stage]:
    """Fetch integer labels, converted to int64."""

    @formula
    def convert(value):
        return np.int64(value)

    return _gather(kit, "int64", convert)


@kernel("store")
def store(kit: Kit) -> list[Stage]:
    """Copy a batch of results to its rows of an output array."""
    TARGET, X, ROWS, SIZE = kit.words("target x rows size")
    load, put, load_pack, put_pack, itemsize = kit.load, kit.store, kit.load_pack, kit.store_pack, kit.itemsize

    def store(record, context):
        if load_int64(context, BAD_ROW) != NO_ROW:
            return
        n, first = record[ROWS] * record[SIZE], np.int64(PACK * _THREADS) * cuda.blockIdx.x
        target = record[TARGET] + load_int64(context, _CURSOR) * record[SIZE] * itemsize
        if target & 15 == 0 and first + PACK * _THREADS <= n:
            i = first + PACK * cuda.threadIdx.x
            put_pack(target, i, load_pack(record[X], i))
            return
        i = first + cuda.threadIdx.x
        if first + PACK * _THREADS <= n:
            a, b = load(record[X], i), load(record[X], i + _THREADS)
            c, d = load(record[X], i + 2 * _THREADS), load(record[X], i + 3 * _THREADS)
            put(target, i, a)
            put(target, i + _THREADS, b)
            put(target, i + 2 * _THREADS, c)
            put(target, i + 3 * _THREADS, d)
            return
        while i < n:
            put(target, i, load(record[X], i))
            i += _THREADS

    return [Stage(store, _table, _THREADS)]


@kernel("one_hot")
def one_hot(kit: Kit) -> list[Stage]:
    """Make rows of zeros with a one: one thread per element."""
    Y, INDEX, ROWS, COLS = kit.words("y index rows cols")
    store, zero, one = kit.store, kit.real(0.0), kit.real(1.0)

    def one_hot(record, context):
        cols, i = record[COLS], np.int64(_THREADS) * cuda.blockIdx.x + cuda.threadIdx.x
        if i < record[ROWS] * cols:
            row = np.int64(np.uint32(i) // np.uint32(cols))
            store(record[Y], i, one if load_int64(record[INDEX], row) == i - row * cols else zero)

    return [Stage(one_hot, elements("rows", "cols"), _THREADS)]


@kernel("tick")
def tick(kit: Kit) -> list[Stage]:
    """Advance the counters by one batch, and the training step if the program trains."""
    (ROWS,) = kit.words("rows")

    def tick(record, context):
        if load_int64(context, BAD_ROW) != NO_ROW:
            return
        store_int64(context, _CURSOR, load_int64(context, _CURSOR) + record[ROWS])
        store_int64(context, _CHUNK, load_int64(context, _CHUNK) + 1)
        if record[FLAGS_WORD] & _TRAINING != 0:
            store_int64(context, _STEP, load_int64(context, _STEP) + 1)

    return [Stage(tick, lambda dims: (1, 1), 1)]
