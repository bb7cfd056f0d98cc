"""Kernels that move values: strided views and their transposes, entries by number; one thread per element of y."""

from __future__ import annotations

import numpy as np
from numba import cuda

from fastnn.backend.cuda.codegen import windows
from fastnn.backend.cuda.codegen.kernel import Kit, Stage, elements, kernel, ptx
from fastnn.backend.cuda.codegen.options import formula
from fastnn.backend.cuda.codegen.sizes import SIZES

_THREADS = SIZES.threads
load_int64, as_double = ptx.LOADS["int64"], ptx.int_as_double
split = formula(windows.split)


@kernel("copy_columns")
def copy_columns(kit: Kit) -> list[Stage]:
    """Copy a block of columns."""
    Y, X, ROWS, COLS = kit.words("y x rows cols")
    TARGET_COLS, TARGET_FIRST = kit.words("target_cols target_first")
    SOURCE_COLS, SOURCE_FIRST = kit.words("source_cols source_first")
    load, store = kit.load, kit.store

    def copy_columns(record, context):
        i, cols = cuda.blockIdx.x * _THREADS + cuda.threadIdx.x, record[COLS]
        if i < record[ROWS] * cols:
            row, j = split(i, cols)
            value = load(record[X], row * record[SOURCE_COLS] + record[SOURCE_FIRST] + j)
            store(record[Y], row * record[TARGET_COLS] + record[TARGET_FIRST] + j, value)

    return [Stage(copy_columns, elements("rows", "cols"), _THREADS)]


@kernel("strided", "strided_integers")
def strided(kit: Kit) -> list[Stage]:
    """Fill y from the elements of x that its strides name."""
    Y, X, ROWS, COLS, FIRST = kit.words("y x rows cols first")
    N1, N2, N3, N4 = kit.words("n1 n2 n3 n4")
    S0, S1, S2, S3, S4, STRIDE = kit.words("stride0 stride1 stride2 stride3 stride4 stride")
    load, store = kit.load, kit.store
    if kit.op == "strided_integers":
        load, store = load_int64, ptx.STORES["int64"]

    def strided(record, context):
        i, cols = cuda.blockIdx.x * _THREADS + cuda.threadIdx.x, record[COLS]
        if i < record[ROWS] * cols:
            row, j = split(i, cols)
            row, i4 = split(row, record[N4])
            row, i3 = split(row, record[N3])
            row, i2 = split(row, record[N2])
            i0, i1 = split(row, record[N1])
            source = record[FIRST] + i0 * record[S0] + i1 * record[S1] + i2 * record[S2] + i3 * record[S3]
            store(record[Y], i, load(record[X], source + i4 * record[S4] + j * record[STRIDE]))

    return [Stage(strided, elements("rows", "cols"), _THREADS)]


@kernel("place")
def place(kit: Kit) -> list[Stage]:
    """Make some entries of an axis those of x, and fill the others."""
    Y, X, OUTER, COUNT, INNER = kit.words("y x outer count inner")
    SIZE, FIRST, STEP, FILL = kit.words("size first step fill")
    load, store, real = kit.load, kit.store, kit.real

    def place(record, context):
        i, inner, size = cuda.blockIdx.x * _THREADS + cuda.threadIdx.x, record[INNER], record[SIZE]
        if i < record[OUTER] * size * inner:
            row, j = split(i, inner)
            outer, entry = split(row, size)
            distance, step = entry - record[FIRST], record[STEP]
            if step < 0:
                distance, step = -distance, -step
            value = real(as_double(record[FILL]))
            if distance >= 0:
                number, rest = split(distance, max(step, 1))
                if rest == 0 and number < record[COUNT]:
                    value = load(record[X], (outer * record[COUNT] + number) * inner + j)
            store(record[Y], i, value)

    return [Stage(place, elements("outer", "size", "inner"), _THREADS)]


@kernel("take")
def take(kit: Kit) -> list[Stage]:
    """Take entries of an axis by their numbers; NaN where there is none."""
    Y, X, INDEX, OUTER, COUNT, INNER = kit.words("y x index outer count inner")
    SIZE, OF_OUTER, OF_COUNT, OF_INNER = kit.words("size index_outer index_count index_inner")
    load, store, nan = kit.load, kit.store, kit.real(np.nan)

    def take(record, context):
        i, inner, size = cuda.blockIdx.x * _THREADS + cuda.threadIdx.x, record[INNER], record[SIZE]
        if i < record[OUTER] * record[COUNT] * inner:
            row, j = split(i, inner)
            outer, entry = split(row, record[COUNT])
            at = outer * record[OF_OUTER] + entry * record[OF_COUNT] + j * record[OF_INNER]
            number = load_int64(record[INDEX], at)
            number = number + size if number < 0 else number
            value = nan
            if number >= 0 and number < size:
                value = load(record[X], (outer * size + number) * inner + j)
            store(record[Y], i, value)

    return [Stage(take, elements("outer", "count", "inner"), _THREADS)]


@kernel("scatter_add")
def scatter_add(kit: Kit) -> list[Stage]:
    """Add entries to those that numbers name: each thread looks for the numbers of its own element, in their order."""
    Y, X, INDEX, OUTER, COUNT, INNER = kit.words("y x index outer count inner")
    SIZE, OF_OUTER, OF_COUNT, OF_INNER = kit.words("size index_outer index_count index_inner")
    load, store, zero = kit.load, kit.store, kit.real(0.0)

    def scatter_add(record, context):
        i, inner, size = cuda.blockIdx.x * _THREADS + cuda.threadIdx.x, record[INNER], record[SIZE]
        if i < record[OUTER] * size * inner:
            row, j = split(i, inner)
            outer, entry = split(row, size)
            at, source = outer * record[OF_OUTER] + j * record[OF_INNER], outer * record[COUNT] * inner + j
            total = zero
            for _ in range(record[COUNT]):
                number = load_int64(record[INDEX], at)
                if number == entry or number + size == entry:
                    total += load(record[X], source)
                at += record[OF_COUNT]
                source += inner
            store(record[Y], i, total)

    return [Stage(scatter_add, elements("outer", "size", "inner"), _THREADS)]
