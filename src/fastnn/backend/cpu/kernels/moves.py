"""Kernels that move values: blocks of columns, strided views and their transposes, entries by number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.backend.cpu.codegen.intrinsics import address, float64_pointer, int64_pointer, smaller
from fastnn.backend.cpu.codegen.kernel import Kit, kernel, part, rows_part


@kernel("copy_columns")
def copy_columns(kit: Kit, variant: str) -> Callable[..., Any]:
    """Copy a block of columns; a part may begin within a row."""
    Y, X, ROWS, COLS = kit.words("y x rows cols")
    TARGET_COLS, TARGET_FIRST = kit.words("target_cols target_first")
    SOURCE_COLS, SOURCE_FIRST = kit.words("source_cols source_first")
    at = kit.at

    def copy_columns(record, context, ith, nth):
        r = int64_pointer(record)
        cols = r[COLS]
        first, last = part(r[ROWS] * cols, ith, nth)
        y, x = at(record, context, Y), at(record, context, X)
        row = first // cols
        begin = first - row * cols
        while first < last:
            end = smaller(cols, begin + last - first)
            target, source = row * r[TARGET_COLS] + r[TARGET_FIRST], row * r[SOURCE_COLS] + r[SOURCE_FIRST]
            for j in range(begin, end):
                y[target + j] = x[source + j]
            first += end - begin
            row, begin = row + 1, 0

    return copy_columns


@kernel("strided", "strided_integers")
def strided(kit: Kit, variant: str) -> Callable[..., Any]:
    """Fill the rows of y from elements of x that are `stride` apart; a part may begin within a row."""
    Y, X, ROWS, COLS, FIRST = kit.words("y x rows cols first")
    N1, N2, N3, N4 = kit.words("n1 n2 n3 n4")
    S0, S1, S2, S3, S4, STRIDE = kit.words("stride0 stride1 stride2 stride3 stride4 stride")
    pointer = kit.reals if kit.op == "strided" else int64_pointer

    def strided(record, context, ith, nth):
        r = int64_pointer(record)
        cols, stride, start = r[COLS], r[STRIDE], r[FIRST]
        first, last = part(r[ROWS] * cols, ith, nth)
        y, x = pointer(address(record, context, Y)), pointer(address(record, context, X))
        n1, n2, n3, n4 = r[N1], r[N2], r[N3], r[N4]
        # the row's place along each axis is counted on, because a division takes as long as copying ten elements
        rest = first // cols
        begin = first - rest * cols
        rest, i4 = rest // n4, rest % n4
        rest, i3 = rest // n3, rest % n3
        rest, i2 = rest // n2, rest % n2
        i0, i1 = rest // n1, rest % n1
        while first < last:
            end = smaller(cols, begin + last - first)
            source = start + i0 * r[S0] + i1 * r[S1] + i2 * r[S2] + i3 * r[S3] + i4 * r[S4]
            target = first - begin
            if stride == 1:
                for j in range(begin, end):
                    y[target + j] = x[source + j]
            elif stride == 0:
                value = x[source]
                for j in range(begin, end):
                    y[target + j] = value
            else:
                for j in range(begin, end):
                    y[target + j] = x[source + j * stride]
            first += end - begin
            begin = 0
            i4 += 1
            if i4 == n4:
                i4, i3 = 0, i3 + 1
                if i3 == n3:
                    i3, i2 = 0, i2 + 1
                    if i2 == n2:
                        i2, i1 = 0, i1 + 1
                        if i1 == n1:
                            i1, i0 = 0, i0 + 1

    return strided


@kernel("place")
def place(kit: Kit, variant: str) -> Callable[..., Any]:
    """Make some entries of an axis those of x, and fill the others."""
    Y, X, OUTER, COUNT, INNER = kit.words("y x outer count inner")
    SIZE, FIRST, STEP, FILL = kit.words("size first step fill")
    at, real = kit.at, kit.real

    def place(record, context, ith, nth):
        r = int64_pointer(record)
        count, inner, size, start, step = r[COUNT], r[INNER], r[SIZE], r[FIRST], r[STEP]
        fill = real(float64_pointer(record)[FILL])
        first, last = rows_part(r[OUTER] * size, ith, nth)
        y, x = at(record, context, Y), at(record, context, X)
        outer = first // size
        begin = first - outer * size
        while first < last:
            end = smaller(size, begin + last - first)
            target, source = outer * size * inner, outer * count * inner
            if step == 1:
                # up to three stretches: what is before x, x, and what is after it
                low = smaller(end, start) if begin < start else begin
                high = smaller(end, start + count)
                for j in range(begin * inner, low * inner):
                    y[target + j] = fill
                for j in range(low * inner, high * inner):
                    y[target + j] = x[source + j - start * inner]
                for j in range((high if high > low else low) * inner, end * inner):
                    y[target + j] = fill
            else:
                for entry in range(begin, end):
                    number = (entry - start) // step if step != 0 else 0
                    to = target + entry * inner
                    if number >= 0 and number < count and start + number * step == entry:
                        for j in range(inner):
                            y[to + j] = x[source + number * inner + j]
                    else:
                        for j in range(inner):
                            y[to + j] = fill
            first += end - begin
            outer, begin = outer + 1, 0

    return place


@kernel("take")
def take(kit: Kit, variant: str) -> Callable[..., Any]:
    """Take entries of an axis by their numbers."""
    Y, X, INDEX, COUNT, INNER, SIZE = kit.words("y x index count inner size")
    OUTER, OF_OUTER, OF_COUNT, OF_INNER = kit.words("outer index_outer index_count index_inner")
    at, nan = kit.at, kit.real(np.nan)

    def take(record, context, ith, nth):
        r = int64_pointer(record)
        count, inner, size, stride = r[COUNT], r[INNER], r[SIZE], r[OF_INNER]
        first, last = rows_part(r[OUTER] * count, ith, nth)
        y, x = at(record, context, Y), at(record, context, X)
        index = int64_pointer(address(record, context, INDEX))
        for row in range(first, last):
            outer = row // count
            numbers = outer * r[OF_OUTER] + (row - outer * count) * r[OF_COUNT]
            target, source = row * inner, outer * size * inner
            if stride == 0:
                number = index[numbers]
                number = number + size if number < 0 else number
                if number >= 0 and number < size:
                    for j in range(inner):
                        y[target + j] = x[source + number * inner + j]
                else:
                    for j in range(inner):
                        y[target + j] = nan
            else:
                for j in range(inner):
                    number = index[numbers + j * stride]
                    number = number + size if number < 0 else number
                    if number >= 0 and number < size:
                        y[target + j] = x[source + number * inner + j]
                    else:
                        y[target + j] = nan

    return take


@kernel("scatter_add")
def scatter_add(kit: Kit, variant: str) -> Callable[..., Any]:
    """Add entries to those of an axis that numbers name, one after the other; a part owns a slice of these."""
    Y, X, INDEX, COUNT, INNER, SIZE = kit.words("y x index count inner size")
    OUTER, OF_OUTER, OF_COUNT, OF_INNER = kit.words("outer index_outer index_count index_inner")
    at, zero = kit.at, kit.real(0.0)

    def scatter_add(record, context, ith, nth):
        r = int64_pointer(record)
        count, inner, size, stride = r[COUNT], r[INNER], r[SIZE], r[OF_INNER]
        first, last = rows_part(r[OUTER] * size, ith, nth)
        y, x = at(record, context, Y), at(record, context, X)
        index = int64_pointer(address(record, context, INDEX))
        for j in range(first * inner, last * inner):
            y[j] = zero
        outer = first // size
        begin = first - outer * size
        while first < last:
            end = smaller(size, begin + last - first)
            target = outer * size * inner
            for entry in range(count):
                numbers, source = outer * r[OF_OUTER] + entry * r[OF_COUNT], (outer * count + entry) * inner
                if stride == 0:
                    number = index[numbers]
                    number = number + size if number < 0 else number
                    if number >= begin and number < end:
                        to = target + number * inner
                        for j in range(inner):
                            y[to + j] += x[source + j]
                else:
                    for j in range(inner):
                        number = index[numbers + j * stride]
                        number = number + size if number < 0 else number
                        if number >= begin and number < end:
                            y[target + number * inner + j] += x[source + j]
            first += end - begin
            outer, begin = outer + 1, 0

    return scatter_add
