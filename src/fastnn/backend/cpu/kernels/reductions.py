"""Kernels that reduce an axis, or run along it: sums, extrema, products, their places, recurrences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.backend.cpu.codegen import bits
from fastnn.backend.cpu.codegen.intrinsics import (
    SOURCE_POINTERS,
    address,
    float64_pointer,
    has,
    int64_pointer,
    smaller,
    stack_bytes,
)
from fastnn.backend.cpu.codegen.kernel import Kit, kernel, part, rows_part
from fastnn.backend.cpu.codegen.options import helper, inlined

# columns that are reduced together, so that their results stay in the first-level cache; entries that are added in the
# dtype, along columns and along a row, which has 16 or more parallel sums
_BLOCK, _STRETCH, _ROW = 1024, 64, 2048
# so few columns are reduced one by one; so many of the largest numbers are kept in order instead of in a heap
_NARROW, _SORTED = 8, 32
# numbers of a row of which the extremum is found at once
_PIECE = 256


def _sums(kit: Kit) -> tuple[Any, Any]:
    """Make the sum of a row, and of the columns of a table; the sums of stretches are added up in float64."""
    reals, real, zero = kit.reals, kit.real, kit.real(0.0)
    real_bytes, double_bytes, itemsize = _BLOCK * kit.itemsize, _BLOCK * 8, kit.itemsize

    @helper
    def row(x_at, count, divisor):
        x, total = reals(x_at), 0.0
        for first in range(0, count, _ROW):
            near = zero
            for i in range(first, smaller(count, first + _ROW)):
                near += x[i]
            total += np.float64(near)
        return real(total) if divisor == 1 else real(total / np.float64(divisor))

    @helper
    def columns(x_at, count, inner, y_at, width, divisor):
        if width <= _NARROW and count <= _STRETCH:
            x, y = reals(x_at), reals(y_at)
            for j in range(width):
                few = zero
                for k in range(count):
                    few += x[k * inner + j]
                y[j] = few if divisor == 1 else real(np.float64(few) / np.float64(divisor))
            return
        near, totals = reals(stack_bytes(real_bytes)), float64_pointer(stack_bytes(double_bytes))
        for first in range(0, width, _BLOCK):
            x, y, here = reals(x_at + first * itemsize), reals(y_at + first * itemsize), smaller(_BLOCK, width - first)
            for j in range(here):
                totals[j] = 0.0
            for start in range(0, count, _STRETCH):
                for j in range(here):
                    near[j] = zero
                for k in range(start, smaller(count, start + _STRETCH)):
                    i = k * inner
                    for j in range(here):
                        near[j] += x[i + j]
                for j in range(here):
                    totals[j] += np.float64(near[j])
            if divisor == 1:
                for j in range(here):
                    y[j] = real(totals[j])
            else:
                by = np.float64(divisor)
                for j in range(here):
                    y[j] = real(totals[j] / by)

    return row, columns


def _products(kit: Kit) -> tuple[Any, Any]:
    """Make the product of a row, and of the columns of a table, in float64."""
    reals, real = kit.reals, kit.real
    double_bytes, itemsize = _BLOCK * 8, kit.itemsize

    @helper
    def row(x_at, count, divisor):
        x, total = reals(x_at), 1.0
        for i in range(count):
            total *= np.float64(x[i])
        return real(total)

    @helper
    def columns(x_at, count, inner, y_at, width, divisor):
        totals = float64_pointer(stack_bytes(double_bytes))
        for first in range(0, width, _BLOCK):
            x, y, here = reals(x_at + first * itemsize), reals(y_at + first * itemsize), smaller(_BLOCK, width - first)
            for j in range(here):
                totals[j] = 1.0
            for k in range(count):
                i = k * inner
                for j in range(here):
                    totals[j] *= np.float64(x[i + j])
            for j in range(here):
                y[j] = real(totals[j])

    return row, columns


def _integers(kit: Kit) -> tuple[Any, Any, Any, Any, Any, Any]:
    """Make what compares numbers as integers: type, pointers, cast to numbers, order of bits, magnitude, infinity.

    Floats have the order of their bits, except for the magnitude of negative ones.
    """
    single = kit.dtype == "float32"
    integer, integers = (np.int32, SOURCE_POINTERS["int32"]) if single else (np.int64, int64_pointer)
    as_real = bits.int_as_float if single else bits.int_as_double
    info = np.iinfo(integer)
    sign, magnitude = integer(8 * kit.itemsize - 1), integer(info.max)
    infinity = integer(np.array(np.inf, kit.dtype).view(integer))

    @inlined
    def ordered(i):
        return integer(i ^ integer(integer(i >> sign) & magnitude))

    return integer, integers, as_real, ordered, magnitude, infinity


def _extrema(kit: Kit, largest: bool) -> tuple[Any, Any]:
    """Make the largest or smallest number of a row, and of the columns of a table; NaN if there is any.

    Integers are compared. The maximum of floats would be a chain of scalar instructions, unless NaN is excluded.
    """
    reals, itemsize = kit.reals, kit.itemsize
    integer, integers, as_real, ordered, magnitude, infinity = _integers(kit)
    # of an empty part the result is that infinity which is never chosen
    lowest = integer(int(np.array(-np.inf, kit.dtype).view(integer)) ^ int(magnitude)) if largest else infinity
    integer_bytes = _BLOCK * itemsize

    @inlined
    def better(a, b):
        if largest:
            return a if a > b else b
        return a if a < b else b

    @inlined
    def result(best, worst):
        # magnitudes above infinity's are those of NaN
        return as_real(worst) if worst > infinity else as_real(ordered(best))

    @helper
    def row(x_at, count, divisor):
        x, best, worst = integers(x_at), lowest, integer(0)
        for i in range(count):
            best = better(ordered(x[i]), best)
            size = integer(x[i] & magnitude)
            worst = size if size > worst else worst
        return result(best, worst)

    @helper
    def columns(x_at, count, inner, y_at, width, divisor):
        best, worst = integers(stack_bytes(integer_bytes)), integers(stack_bytes(integer_bytes))
        for first in range(0, width, _BLOCK):
            x, y, here = (
                integers(x_at + first * itemsize), reals(y_at + first * itemsize), smaller(_BLOCK, width - first)
            )  # fmt: skip
            for j in range(here):
                best[j], worst[j] = lowest, integer(0)
            for k in range(count):
                i = k * inner
                for j in range(here):
                    best[j] = better(ordered(x[i + j]), best[j])
                    size = integer(x[i + j] & magnitude)
                    worst[j] = size if size > worst[j] else worst[j]
            for j in range(here):
                y[j] = result(best[j], worst[j])

    return row, columns


@kernel("reduce")
def reduce(kit: Kit, variant: str) -> Callable[..., Any]:
    """Reduce the parts of an axis; each result in an order that its place does not change."""
    Y, X, OUTER, PARTS, REPEAT, INNER, DIVISOR = kit.words("y x outer parts repeat inner divisor")
    itemsize, reals = kit.itemsize, kit.reals
    made = {"sum": _sums, "prod": _products}.get(variant)
    row_of, columns_of = made(kit) if made is not None else _extrema(kit, variant == "max")

    def reduce(record, context, ith, nth):
        r = int64_pointer(record)
        parts, repeat, inner, divisor = r[PARTS], r[REPEAT], r[INNER], r[DIVISOR]
        first, last = rows_part(r[OUTER] * parts * inner, ith, nth)
        y_at, x_at = address(record, context, Y), address(record, context, X)
        y = reals(y_at)
        if inner == 1 and parts == 1:
            for outer in range(first, last):
                y[outer] = row_of(x_at + outer * repeat * itemsize, repeat, divisor)
            return
        while first < last:
            row = first // inner
            j = first - row * inner
            width = smaller(inner - j, last - first)
            outer = row // parts
            p = row - outer * parts
            begin = repeat * p // parts
            count = repeat * (p + 1) // parts - begin
            here = x_at + ((outer * repeat + begin) * inner + j) * itemsize
            if inner == 1:
                y[first] = row_of(here, count, divisor)
            else:
                columns_of(here, count, inner, y_at + first * itemsize, width, divisor)
            first += width

    return reduce


@kernel("arg_reduce")
def arg_reduce(kit: Kit, variant: str) -> Callable[..., Any]:
    """Find the first place of the largest or smallest number of an axis, or of its first NaN."""
    Y, X, OUTER, REPEAT, INNER = kit.words("y x outer repeat inner")
    at, largest, reals, itemsize = kit.at, variant == "max", kit.reals, kit.itemsize
    extremum, _ = _extrema(kit, largest)
    piece_bytes = _PIECE * itemsize

    @inlined
    def better(a, b):
        # the first NaN is kept
        return (a > b if largest else a < b) or (a != a and b == b)

    @helper
    def place_in_row(x_at, count):
        """Find the piece whose extremum comes first, with vectors, and the place in it."""
        x, begin = reals(x_at), 0
        best = extremum(x_at, smaller(count, _PIECE), 1)
        for first in range(_PIECE, count, _PIECE):
            here = extremum(x_at + first * itemsize, smaller(_PIECE, count - first), 1)
            if better(here, best):
                best, begin = here, first
        k = begin
        while k < count - 1 and x[k] != best and (x[k] == x[k] or best == best):
            k += 1
        return k

    def arg_reduce(record, context, ith, nth):
        r = int64_pointer(record)
        repeat, inner = r[REPEAT], r[INNER]
        first, last = rows_part(r[OUTER] * inner, ith, nth)
        y, x, x_at = int64_pointer(address(record, context, Y)), at(record, context, X), address(record, context, X)
        bests = reals(stack_bytes(piece_bytes))
        while first < last:
            if inner == 1:
                y[first] = place_in_row(x_at + first * repeat * itemsize, repeat)
                first += 1
                continue
            outer = first // inner
            j = first - outer * inner
            width = smaller(smaller(inner - j, last - first), _PIECE)
            i = outer * repeat * inner + j
            for j in range(width):
                bests[j], y[first + j] = x[i + j], 0
            for k in range(1, repeat):
                i += inner
                for j in range(width):
                    if better(x[i + j], bests[j]):
                        bests[j], y[first + j] = x[i + j], k
            first += width

    return arg_reduce


@kernel("recurrence")
def recurrence(kit: Kit, variant: str) -> Callable[..., Any]:
    """Make y_t = a_t y_(t-1) + b_t along an axis; y_(t-1) is kept in float64."""
    Y, A, B, OUTER, SIZE, INNER = kit.words("y a b outer size inner")
    REVERSE, EXCLUSIVE, INITIAL = kit.words("reverse exclusive initial")
    at, real = kit.at, kit.real
    double_bytes = _BLOCK * 8

    @helper
    def run(y, factors, summands, a, b, size, inner, width, i, step, exclusive, initial):
        """Run along `width` neighbouring columns, from the element i on."""
        state = float64_pointer(stack_bytes(double_bytes))
        for j in range(width):
            state[j] = initial
        for _ in range(size):
            if exclusive:
                for j in range(width):
                    y[i + j] = real(state[j])
            if factors and summands:
                for j in range(width):
                    state[j] = np.float64(a[i + j]) * state[j] + np.float64(b[i + j])
            elif factors:
                for j in range(width):
                    state[j] = np.float64(a[i + j]) * state[j]
            else:
                for j in range(width):
                    state[j] = state[j] + np.float64(b[i + j])
            if not exclusive:
                for j in range(width):
                    y[i + j] = real(state[j])
            i += step

    @helper
    def row(y, factors, summands, a, b, size, i, step, exclusive, initial):
        """Run along one row."""
        state = initial
        for _ in range(size):
            before = state
            if factors:
                state = np.float64(a[i]) * state
            if summands:
                state = state + np.float64(b[i])
            y[i] = real(before if exclusive else state)
            i += step

    def recurrence(record, context, ith, nth):
        r = int64_pointer(record)
        size, inner, exclusive = r[SIZE], r[INNER], r[EXCLUSIVE] != 0
        initial = float64_pointer(record)[INITIAL]
        first, last = part(r[OUTER] * inner, ith, nth)
        y, factors, summands = at(record, context, Y), has(record, A), has(record, B)
        # what is absent is never read
        a, b = at(record, context, A if factors else Y), at(record, context, B if summands else Y)
        while first < last:
            outer = first // inner
            j = first - outer * inner
            width = smaller(smaller(inner - j, last - first), _BLOCK)
            i, step = outer * size * inner + j, inner
            if r[REVERSE] != 0:
                i, step = i + (size - 1) * inner, -inner
            if width == 1:
                row(y, factors, summands, a, b, size, i, step, exclusive, initial)
            else:
                run(y, factors, summands, a, b, size, inner, width, i, step, exclusive, initial)
            first += width

    return recurrence


@kernel("largest")
def largest(kit: Kit, variant: str) -> Callable[..., Any]:
    """Find the k largest numbers of every row, and their places: few are kept in order, many in a heap."""
    VALUES, INDICES, X, ROWS, COLS, K = kit.words("values indices x rows cols k")
    reals = kit.reals
    integer, integers, _, ordered, magnitude, infinity = _integers(kit)

    @inlined
    def above(a, b):
        # NaN is the largest
        return a > b or (a != a and b == b)

    @inlined
    def key_of(i):
        """Make an integer of the bits of a number, so that integers have the order of numbers: 0 is -0, too."""
        key = ordered(i)
        key = integer(0) if key == integer(-1) else key
        return magnitude if integer(i & magnitude) > infinity else key

    @inlined
    def comes_later(a, i, b, j):
        # without branches, which would be taken at random
        return (a < b) | ((a == b) & (i > j))

    @helper
    def insert(values, indices, to, known, value, index):
        """Insert a number whose place is later than all others'; the last one leaves."""
        place = to + known - 1
        while place > to and above(value, values[place - 1]):
            values[place], indices[place] = values[place - 1], indices[place - 1]
            place -= 1
        values[place], indices[place] = value, index

    @helper
    def sink(keys, indices, to, top, count, key, index):
        """Put a key into a heap, whose first one comes last, at a place or below it: from a leaf upwards.

        Most keys belong near the leaves. So the way down is nearly always of one length, which processors predict.
        """
        place, below = top, 2 * top + 1
        while below < count:
            other = smaller(below + 1, count - 1)
            if comes_later(keys[to + other], indices[to + other], keys[to + below], indices[to + below]):
                below = other
            keys[to + place], indices[to + place] = keys[to + below], indices[to + below]
            place, below = below, 2 * below + 1
        while place > top:
            parent = (place - 1) >> 1
            if not comes_later(key, index, keys[to + parent], indices[to + parent]):
                break
            keys[to + place], indices[to + place] = keys[to + parent], indices[to + parent]
            place = parent
        keys[to + place], indices[to + place] = key, index

    @helper
    def few(values, indices, to, x, source, cols, k):
        for j in range(k):
            insert(values, indices, to, j + 1, x[source + j], j)
        for j in range(k, cols):
            if above(x[source + j], values[to + k - 1]):
                insert(values, indices, to, k, x[source + j], j)

    @helper
    def many(keys, indices, to, x, source, cols, k):
        """Keep keys instead of values in a heap, sort it, and leave the bits of the numbers in their places."""
        for j in range(k):
            keys[to + j], indices[to + j] = key_of(x[source + j]), j
        for j in range(k // 2, -1, -1):
            sink(keys, indices, to, j, k, keys[to + j], indices[to + j])
        for j in range(k, cols):
            key = key_of(x[source + j])
            if key > keys[to]:
                sink(keys, indices, to, 0, k, key, j)
        for left in range(k - 1, 0, -1):
            key, index = keys[to + left], indices[to + left]
            keys[to + left], indices[to + left] = keys[to], indices[to]
            sink(keys, indices, to, 0, left, key, index)
        for j in range(k):
            keys[to + j] = x[source + indices[to + j]]

    def largest(record, context, ith, nth):
        r = int64_pointer(record)
        cols, k = r[COLS], r[K]
        first, last = rows_part(r[ROWS], ith, nth)
        values_at, x_at = address(record, context, VALUES), address(record, context, X)
        values, x, keys, bits_of = reals(values_at), reals(x_at), integers(values_at), integers(x_at)
        indices = int64_pointer(address(record, context, INDICES))
        for row in range(first, last):
            if k <= _SORTED:
                few(values, indices, row * k, x, row * cols, cols, k)
            else:
                many(keys, indices, row * k, bits_of, row * cols, cols, k)

    return largest


@kernel("divide_by")
def divide_by(kit: Kit, variant: str) -> Callable[..., Any]:
    """Divide by a size."""
    Y, X, N, DIVISOR = kit.words("y x n divisor")
    at, real = kit.at, kit.real

    def divide_by(record, context, ith, nth):
        r = int64_pointer(record)
        first, last = part(r[N], ith, nth)
        y, x, divisor = at(record, context, Y), at(record, context, X), real(r[DIVISOR])
        for i in range(first, last):
            y[i] = x[i] / divisor

    return divide_by
