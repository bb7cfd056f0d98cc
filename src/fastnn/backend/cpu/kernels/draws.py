"""Kernels of numbers that come from nothing, and from integers: random numbers, conversions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.backend.cpu.codegen.intrinsics import address, float64_pointer, int64_pointer, smaller, stack_bytes
from fastnn.backend.cpu.codegen.kernel import Kit, kernel, part
from fastnn.backend.cpu.codegen.options import helper
from fastnn.backend.cpu.kernels.philox import GROUP, WORDS_BYTES, box_muller, fill_group, uint32_pointer
from fastnn.program.layout import Counter

_SEED, _STEP = int(Counter.SEED), int(Counter.STEP)
# the smallest integer, and the first one that is too large
_LEAST, _BEYOND = -(2**63), 2.0**63


@kernel("to_real")
def to_real(kit: Kit, variant: str) -> Callable[..., Any]:
    """Convert integers to the program's dtype."""
    Y, X, N = kit.words("y x n")
    at, real = kit.at, kit.real

    def to_real(record, context, ith, nth):
        first, last = part(int64_pointer(record)[N], ith, nth)
        y, x = at(record, context, Y), int64_pointer(address(record, context, X))
        for i in range(first, last):
            y[i] = real(x[i])

    return to_real


@kernel("to_integer")
def to_integer(kit: Kit, variant: str) -> Callable[..., Any]:
    """Convert numbers to integers, towards zero; NaN becomes the smallest one, what is beyond them the nearest."""
    Y, X, N = kit.words("y x n")
    at = kit.at
    least, most = np.int64(_LEAST), np.int64(2**63 - 1)

    def to_integer(record, context, ith, nth):
        first, last = part(int64_pointer(record)[N], ith, nth)
        y, x = int64_pointer(address(record, context, Y)), at(record, context, X)
        for i in range(first, last):
            value = np.float64(x[i])
            inside = abs(value) < _BEYOND
            number = np.int64(value if inside else 0.0)
            number = most if value >= _BEYOND else number
            y[i] = number if inside or value >= _BEYOND else least

    return to_integer


@kernel("random")
def random(kit: Kit, variant: str) -> Callable[..., Any]:
    """Draw numbers of a distribution, keyed by seed, step, node and element as those of dropout and noise are."""
    Y, N, NODE, P0, P1 = kit.words("y n node p0 p1")
    at, reals = kit.at, kit.reals
    draw = _DISTRIBUTIONS[variant](kit)
    drawn_bytes = GROUP * kit.itemsize

    def random(record, context, ith, nth):
        r, counters, params = int64_pointer(record), int64_pointer(context), float64_pointer(record)
        first, last = part(r[N], ith, nth)
        y = at(record, context, Y)
        words_at, drawn_at = stack_bytes(WORDS_BYTES), stack_bytes(drawn_bytes)
        drawn = reals(drawn_at)
        for i in range(first, last, GROUP):
            fill_group(i // GROUP, r[NODE], counters[_STEP], counters[_SEED], words_at)
            draw(words_at, drawn_at, params[P0], params[P1])
            for e in range(smaller(GROUP, last - i)):
                y[i + e] = drawn[e]

    return random


def _uniform(kit: Kit) -> Any:
    real, reals = kit.real, kit.reals
    # as many bits as the dtype has: no number is rounded up to 1
    shift, unit = (np.uint32(8), real(2.0**-24)) if kit.dtype == "float32" else (np.uint32(0), real(2.0**-32))

    @helper
    def uniform(words_at, drawn_at, low, high):
        words, drawn = uint32_pointer(words_at), reals(drawn_at)
        begin, width = real(low), real(high - low)
        for e in range(GROUP):
            drawn[e] = begin + width * (real(words[e] >> shift) * unit)

    return uniform


def _bernoulli(kit: Kit) -> Any:
    reals, zero, one = kit.reals, kit.real(0.0), kit.real(1.0)

    @helper
    def bernoulli(words_at, drawn_at, p, _):
        words, drawn = uint32_pointer(words_at), reals(drawn_at)
        below = p * 4294967296.0
        for e in range(GROUP):
            drawn[e] = one if np.float64(words[e]) < below else zero

    return bernoulli


_DISTRIBUTIONS = {"normal": box_muller, "uniform": _uniform, "bernoulli": _bernoulli}
