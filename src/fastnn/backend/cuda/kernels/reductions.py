"""Kernels that reduce an axis, or run along it: a thread or a block for each result, in a fixed order."""

from __future__ import annotations

from math import prod
from types import SimpleNamespace
from typing import Any

import numpy as np
from numba import cuda

from fastnn.backend.cuda.codegen.kernel import Dims, Kit, Stage, elements, kernel, packs, ptx
from fastnn.backend.cuda.codegen.options import formula, helper
from fastnn.backend.cuda.codegen.sizes import PACK, SIZES
from fastnn.backend.cuda.kernels.moves import split
from fastnn.program.layout import Flag

_THREADS, _TEAM = SIZES.threads, SIZES.team
store_int64, as_double = ptx.STORES["int64"], ptx.int_as_double
KINDS = ("sum", "max", "min", "prod")
# numbers that are added in the dtype; from how many on a block shares a result, and also one of many results
_STRETCH, _LONG, _VERY_LONG, _MANY = 64, 64, 1024, 1 << 16


def _algorithm(dims: Dims, flags: Flag) -> str:
    """Choose between a thread and a block for each result."""
    results = dims["outer"] * dims.get("parts", 1) * dims["inner"]
    count = dims["repeat"] // dims.get("parts", 1)
    return "block" if count >= (_LONG if results < _MANY else _VERY_LONG) else "thread"


def _functions(kit: Kit) -> SimpleNamespace:
    """Make `some(address, i, step, count)`, the reduction of numbers `step` apart, and `combine` for two of those."""
    load, zero, variant = kit.load, kit.real(0.0), kit.variant

    @formula
    def add(a, b):
        return a + b

    @formula
    def multiply(a, b):
        return a * b

    @formula
    def larger(a, b):
        # NaN is kept
        return a if a > b or a != a else b

    @formula
    def less(a, b):
        return a if a < b or a != a else b

    @helper
    def total(address, i, step, count):
        found = 0.0
        while count > 0:
            near, few = zero, min(count, _STRETCH)
            for _ in range(few):
                near += load(address, i)
                i += step
            found += np.float64(near)
            count -= few
        return found

    @helper
    def product(address, i, step, count):
        found = 1.0
        for _ in range(count):
            found *= np.float64(load(address, i))
            i += step
        return found

    combine = {"sum": add, "prod": multiply, "max": larger, "min": less}[variant]
    if variant in ("sum", "prod"):
        return SimpleNamespace(some=total if variant == "sum" else product, combine=combine, real=np.float64)
    nothing = kit.real(-np.inf if variant == "max" else np.inf)

    @helper
    def extremum(address, i, step, count):
        found = nothing
        for _ in range(count):
            found = combine(load(address, i), found)
            i += step
        return found

    return SimpleNamespace(some=extremum, combine=combine, real=kit.real)


@kernel("reduce", algorithms=("thread", "block"), algorithm=_algorithm, variants=lambda algorithm: KINDS)
def reduce(kit: Kit) -> list[Stage]:
    """Reduce the parts of an axis."""
    Y, X, OUTER, PARTS, REPEAT, INNER, DIVISOR = kit.words("y x outer parts repeat inner divisor")
    store, real, f = kit.store, kit.real, _functions(kit)
    some, combine, held = f.some, f.combine, f.real
    divides = kit.variant == "sum"

    @helper
    def place(record, i):
        """Return the first element of a result, and how many it has."""
        row, j = split(i, record[INNER])
        outer, part = split(row, record[PARTS])
        begin = record[REPEAT] * part // record[PARTS]
        count = record[REPEAT] * (part + 1) // record[PARTS] - begin
        return (outer * record[REPEAT] + begin) * record[INNER] + j, count

    @helper
    def write(record, i, value):
        if divides:
            value = value / np.float64(record[DIVISOR])
        store(record[Y], i, real(value))

    def thread(record, context):
        i = cuda.blockIdx.x * _THREADS + cuda.threadIdx.x
        if i < record[OUTER] * record[PARTS] * record[INNER]:
            first, count = place(record, i)
            write(record, i, some(record[X], first, record[INNER], count))

    def block(record, context):
        lane, held_by = cuda.threadIdx.x, cuda.shared.array(_TEAM, held)
        first, count = place(record, cuda.blockIdx.x)
        inner = record[INNER]
        mine = (count - lane + _TEAM - 1) // _TEAM if lane < count else 0
        held_by[lane] = some(record[X], first + lane * inner, _TEAM * inner, mine)
        cuda.syncthreads()
        half = _TEAM // 2
        while half > 0:
            if lane < half:
                held_by[lane] = combine(held_by[lane], held_by[lane + half])
            cuda.syncthreads()
            half //= 2
        if lane == 0:
            write(record, cuda.blockIdx.x, held_by[0])

    return _stages(kit, thread, block, "outer", "parts", "inner")


def _stages(kit: Kit, thread: Any, block: Any, *axes: str) -> list[Stage]:
    if kit.algorithm == "block":
        return [Stage(block, lambda dims: (prod(dims[axis] for axis in axes), 1), _TEAM)]
    return [Stage(thread, elements(*axes), _THREADS)]


@kernel(
    "arg_reduce", algorithms=("thread", "block"), algorithm=_algorithm, variants=lambda algorithm: ("max", "min")
)  # fmt: skip
def arg_reduce(kit: Kit) -> list[Stage]:
    """Find the first place of the largest or smallest number of an axis, or of its first NaN."""
    Y, X, OUTER, REPEAT, INNER = kit.words("y x outer repeat inner")
    load, real, largest = kit.load, kit.real, kit.variant == "max"

    @formula
    def better(a, b):
        """Return whether a comes before b wherever they are."""
        return (a > b if largest else a < b) or (a != a and b == b)

    @helper
    def first(record, i):
        outer, j = split(i, record[INNER])
        return outer * record[REPEAT] * record[INNER] + j

    @helper
    def search(record, at, begin, step):
        """Return the best number from `begin` on, and its place."""
        inner = record[INNER]
        best, found = load(record[X], at + begin * inner), begin
        k = begin + step
        while k < record[REPEAT]:
            value = load(record[X], at + k * inner)
            if better(value, best):
                best, found = value, k
            k += step
        return best, found

    def thread(record, context):
        i = cuda.blockIdx.x * _THREADS + cuda.threadIdx.x
        if i < record[OUTER] * record[INNER]:
            _, found = search(record, first(record, i), np.int64(0), np.int64(1))
            store_int64(record[Y], i, found)

    def block(record, context):
        lane = np.int64(cuda.threadIdx.x)
        bests = cuda.shared.array(_TEAM, real)
        places = cuda.shared.array(_TEAM, np.int64)
        begin = lane if lane < record[REPEAT] else np.int64(0)
        best, found = search(record, first(record, cuda.blockIdx.x), begin, np.int64(_TEAM))
        bests[lane], places[lane] = best, found
        cuda.syncthreads()
        half = _TEAM // 2
        while half > 0:
            if lane < half:
                other, place = bests[lane + half], places[lane + half]
                mine = bests[lane]
                if better(other, mine) or (not better(mine, other) and place < places[lane]):
                    bests[lane], places[lane] = other, place
            cuda.syncthreads()
            half //= 2
        if lane == 0:
            store_int64(record[Y], cuda.blockIdx.x, places[0])

    return _stages(kit, thread, block, "outer", "inner")


@kernel("recurrence")
def recurrence(kit: Kit) -> list[Stage]:
    """Make y_t = a_t y_(t-1) + b_t along an axis: one thread for each of its columns."""
    Y, A, B, OUTER, SIZE, INNER = kit.words("y a b outer size inner")
    REVERSE, EXCLUSIVE, INITIAL = kit.words("reverse exclusive initial")
    load, store, real = kit.load, kit.store, kit.real

    def recurrence(record, context):
        column, inner, size = cuda.blockIdx.x * _THREADS + cuda.threadIdx.x, record[INNER], record[SIZE]
        if column < record[OUTER] * inner:
            outer, j = split(column, inner)
            i, step, state = outer * size * inner + j, inner, as_double(record[INITIAL])
            if record[REVERSE] != 0:
                i, step = i + (size - 1) * inner, -inner
            for _ in range(size):
                before = state
                if record[A] != 0:
                    state = np.float64(load(record[A], i)) * state
                if record[B] != 0:
                    state = state + np.float64(load(record[B], i))
                store(record[Y], i, real(before if record[EXCLUSIVE] != 0 else state))
                i += step

    return [Stage(recurrence, elements("outer", "inner"), _THREADS)]


@kernel("largest")
def largest(kit: Kit) -> list[Stage]:
    """Find the k largest numbers of every row, and their places: one thread for each row."""
    VALUES, INDICES, X, ROWS, COLS, K = kit.words("values indices x rows cols k")
    load, store, load_int64 = kit.load, kit.store, ptx.LOADS["int64"]

    @formula
    def comes_before(a, b):
        # NaN is the largest; of equal ones the first stays first
        return a > b or (a != a and b == b)

    def largest(record, context):
        row, cols, k = cuda.blockIdx.x * _THREADS + cuda.threadIdx.x, record[COLS], record[K]
        if row < record[ROWS]:
            to, known = row * k, 0
            for j in range(cols):
                value = load(record[X], row * cols + j)
                if known < k or comes_before(value, load(record[VALUES], to + k - 1)):
                    known = min(known + 1, k)
                    place = to + known - 1
                    while place > to and comes_before(value, load(record[VALUES], place - 1)):
                        store(record[VALUES], place, load(record[VALUES], place - 1))
                        store_int64(record[INDICES], place, load_int64(record[INDICES], place - 1))
                        place -= 1
                    store(record[VALUES], place, value)
                    store_int64(record[INDICES], place, np.int64(j))

    return [Stage(largest, elements("rows"), _THREADS)]


@kernel("divide_by")
def divide_by(kit: Kit) -> list[Stage]:
    """Divide by a size."""
    Y, X, N, DIVISOR = kit.words("y x n divisor")
    load, store, real, load_pack, store_pack = kit.load, kit.store, kit.real, kit.load_pack, kit.store_pack

    def divide_by(record, context):
        n, i = record[N], PACK * (cuda.blockIdx.x * _THREADS + cuda.threadIdx.x)
        divisor = real(record[DIVISOR])
        if i + PACK <= n:
            x = load_pack(record[X], i)
            store_pack(record[Y], i, (x[0] / divisor, x[1] / divisor, x[2] / divisor, x[3] / divisor))
        else:
            for e in range(i, n):
                store(record[Y], e, load(record[X], e) / divisor)

    return [Stage(divide_by, packs(), _THREADS)]
