"""Functions of one to three broadcast arrays, conversions, and random numbers: `PACK` elements per thread."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda

from fastnn.backend.cuda.codegen.kernel import Kit, Stage, elements, kernel, packs, ptx
from fastnn.backend.cuda.codegen.options import formula
from fastnn.backend.cuda.codegen.sizes import PACK, SIZES
from fastnn.backend.cuda.kernels.moves import split
from fastnn.backend.cuda.kernels.philox import BLOCKS, GROUP, box_muller, one_per_block, philox
from fastnn.formulas.pointwise import ARITY, define
from fastnn.program.layout import Counter

_SEED, _STEP = int(Counter.SEED), int(Counter.STEP)
_THREADS = SIZES.threads
load_int64, store_int64, as_double = ptx.LOADS["int64"], ptx.STORES["int64"], ptx.int_as_double


def _argument(kit: Kit, number: int) -> tuple[Any, Any]:
    """Make functions that find elements of an argument: one element, and a pack of neighbours."""
    N, N1, N2, N3, A, A0, P0 = kit.words("n n1 n2 n3 a a0 p0")
    at, parameter = A + number, P0 + number
    s0, s1, s2, s3 = (A0 + 4 * number + axis for axis in range(4))
    real, load, load_pack = kit.real, kit.load, kit.load_pack

    @formula
    def place(record, i):
        """Return where the operand has what belongs to an element of y."""
        rest, i3 = split(i, record[N3])
        rest, i2 = split(rest, record[N2])
        i0, i1 = split(rest, record[N1])
        return i0 * record[s0] + i1 * record[s1] + i2 * record[s2] + i3 * record[s3]

    @formula
    def one(record, i):
        if record[at] == 0:
            return real(as_double(record[parameter]))
        return load(record[at], place(record, i))

    @formula
    def pack(record, i):
        # all threads take the same branch
        if record[at] == 0:
            value = real(as_double(record[parameter]))
            return value, value, value, value
        if record[s3] == 1 and record[N] == record[N3]:
            return load_pack(record[at], i)
        if record[s0] == 0 and record[s1] == 0 and record[s2] == 0 and record[s3] == 0:
            value = load(record[at], 0)
            return value, value, value, value
        first, second = load(record[at], place(record, i)), load(record[at], place(record, i + 1))
        return first, second, load(record[at], place(record, i + 2)), load(record[at], place(record, i + 3))

    return one, pack


@kernel("pointwise", variants=lambda algorithm: tuple(ARITY))
def pointwise(kit: Kit) -> list[Stage]:
    """Make y = f(a, b, c)."""
    Y, N = kit.words("y n")
    store, store_pack, arity = kit.store, kit.store_pack, ARITY[kit.variant]
    function = define(kit.real, formula, kit.math)[kit.variant]
    (a_one, a_pack), (b_one, b_pack), (c_one, c_pack) = (_argument(kit, number) for number in range(3))

    def unary(record, context):
        n, i = record[N], PACK * (cuda.blockIdx.x * _THREADS + cuda.threadIdx.x)
        if i + PACK <= n:
            a = a_pack(record, i)
            store_pack(record[Y], i, (function(a[0]), function(a[1]), function(a[2]), function(a[3])))
        else:
            for e in range(i, n):
                store(record[Y], e, function(a_one(record, e)))

    def binary(record, context):
        n, i = record[N], PACK * (cuda.blockIdx.x * _THREADS + cuda.threadIdx.x)
        if i + PACK <= n:
            a, b = a_pack(record, i), b_pack(record, i)
            store_pack(record[Y], i, (
                function(a[0], b[0]), function(a[1], b[1]), function(a[2], b[2]), function(a[3], b[3]),
            ))  # fmt: skip
        else:
            for e in range(i, n):
                store(record[Y], e, function(a_one(record, e), b_one(record, e)))

    def ternary(record, context):
        n, i = record[N], PACK * (cuda.blockIdx.x * _THREADS + cuda.threadIdx.x)
        if i + PACK <= n:
            a, b, c = a_pack(record, i), b_pack(record, i), c_pack(record, i)
            store_pack(record[Y], i, (
                function(a[0], b[0], c[0]), function(a[1], b[1], c[1]),
                function(a[2], b[2], c[2]), function(a[3], b[3], c[3]),
            ))  # fmt: skip
        else:
            for e in range(i, n):
                store(record[Y], e, function(a_one(record, e), b_one(record, e), c_one(record, e)))

    return [Stage((unary, binary, ternary)[arity - 1], packs(), _THREADS)]


@kernel("to_real")
def to_real(kit: Kit) -> list[Stage]:
    """Convert integers to the program's dtype."""
    Y, X, N = kit.words("y x n")
    real, store = kit.real, kit.store

    def to_real(record, context):
        i = cuda.blockIdx.x * _THREADS + cuda.threadIdx.x
        if i < record[N]:
            store(record[Y], i, real(load_int64(record[X], i)))

    return [Stage(to_real, elements("n"), _THREADS)]


@kernel("to_integer")
def to_integer(kit: Kit) -> list[Stage]:
    """Convert numbers to integers, towards zero; NaN becomes the smallest one, what is beyond them the nearest."""
    Y, X, N = kit.words("y x n")
    load, beyond = kit.load, 2.0**63
    least, most = np.int64(-(2**63)), np.int64(2**63 - 1)

    def to_integer(record, context):
        i = cuda.blockIdx.x * _THREADS + cuda.threadIdx.x
        if i < record[N]:
            value = np.float64(load(record[X], i))
            number = most if value >= beyond else least
            if abs(value) < beyond:
                number = np.int64(value)
            store_int64(record[Y], i, number)

    return [Stage(to_integer, elements("n"), _THREADS)]


@kernel("random", variants=lambda algorithm: tuple(_DISTRIBUTIONS))
def random(kit: Kit) -> list[Stage]:
    """Draw numbers of a distribution, from the same random words as on the CPU."""
    Y, N, NODE, P0, P1 = kit.words("y n node p0 p1")
    store, draw = kit.store, _DISTRIBUTIONS[kit.variant](kit)

    def random(record, context):
        block = cuda.blockIdx.x * _THREADS + cuda.threadIdx.x
        n, i = record[N], block // BLOCKS * GROUP + block % BLOCKS
        if i < n:
            words = philox(block, record[NODE], load_int64(context, _STEP), load_int64(context, _SEED))
            for value in draw(words, as_double(record[P0]), as_double(record[P1])):
                if i < n:
                    store(record[Y], i, value)
                i += BLOCKS

    return [Stage(random, one_per_block, _THREADS)]


def _normal(kit: Kit) -> Any:
    real, normals = kit.real, box_muller(kit)

    @formula
    def normal(words, mean, stddev):
        middle, width = real(mean), real(stddev)
        first, second, third, fourth = normals(words)
        return middle + width * first, middle + width * second, middle + width * third, middle + width * fourth

    return normal


def _uniform(kit: Kit) -> Any:
    real = kit.real
    # as many bits as the dtype has: no number is rounded up to 1
    shift, unit = (np.uint64(8), real(2.0**-24)) if kit.dtype == "float32" else (np.uint64(0), real(2.0**-32))

    @formula
    def uniform(words, low, high):
        begin, width = real(low), real(high - low)
        return (
            begin + width * (real(words[0] >> shift) * unit),
            begin + width * (real(words[1] >> shift) * unit),
            begin + width * (real(words[2] >> shift) * unit),
            begin + width * (real(words[3] >> shift) * unit),
        )

    return uniform


def _bernoulli(kit: Kit) -> Any:
    zero, one = kit.real(0.0), kit.real(1.0)

    @formula
    def drawn(word, p):
        return one if np.float64(word) < p * 4294967296.0 else zero

    @formula
    def bernoulli(words, p, _):
        return drawn(words[0], p), drawn(words[1], p), drawn(words[2], p), drawn(words[3], p)

    return bernoulli


_DISTRIBUTIONS: dict[str, Any] = {"normal": _normal, "uniform": _uniform, "bernoulli": _bernoulli}
