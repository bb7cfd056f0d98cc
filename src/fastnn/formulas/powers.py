"""Powers of float32 with real exponents: free of branches, in float64 within."""

# The formulas take and return scalars of one type, which the compiler infers; annotations would add nothing.
# mypy: disable-error-code="no-untyped-def,assignment"

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn.formulas.single import Jit

real, integer = np.float32, np.int32
# adding 1.5 * 2**52 and subtracting it rounds to an integer
_ROUNDER = 6755399441055744.0


def define(jit: Jit, bits: Any) -> Any:
    """Define ``power(a, b)``, ``a`` to the power ``b``, as C's ``pow`` defines it, within 0.6 ulp.

    Parameters
    ----------
    jit, bits
        As for ``fastnn.formulas.elementary.define``.
    """
    float_as_int, int_as_float = bits.float_as_int, bits.int_as_float
    half_sqrt_bits, smallest_normal = integer(0x3F3504F3), real(1.1754943508222875e-38)
    zero, one, half, infinity, nan = real(0.0), real(1.0), real(0.5), real(np.inf), real(np.nan)
    whole_from = real(8388608.0)

    @jit
    def log2(a):
        """``log2(a)`` for ``0 <= a``, in float64, relative error 2**-44."""
        small = a < smallest_normal
        y = a * real(33554432.0) if small else a
        i = integer(float_as_int(y) - half_sqrt_bits)
        k = np.float64(integer(i >> integer(23))) - (25.0 if small else 0.0)
        f = np.float64(int_as_float(integer((i & integer(0x7FFFFF)) + half_sqrt_bits))) - 1.0
        s = f / (2.0 + f)
        z = s * s
        q = 0.142860546176446950 + z * (0.110880930303700470 + z * 0.0979209122676724683)
        q = 0.333333333379020858 + z * (0.199999978104747909 + z * q)
        found = k + 2.8853900817779268 * (s + s * z * q)
        finite = -np.inf if a == zero else found
        return np.inf if a == infinity else finite

    @jit
    def exp2(t):
        """``2**t`` for a float64, relative error 2**-34."""
        t = -160.0 if t < -160.0 else t
        t = 160.0 if t > 160.0 else t
        n = (t + _ROUNDER) - _ROUNDER
        r = t - n
        q = 0.009618037199551805 + r * (0.0013333447453967568 + r * (0.0001546706542131027 + r * 1.53121024963295e-05))
        q = 0.2402265107221977 + r * (0.055504109313906386 + r * q)
        y = real(1.0 + (r * 0.6931471805599453 + r * r * q))
        k = integer(n if abs(n) <= 160.0 else 0.0)
        first = integer(k >> integer(1))
        y = y * int_as_float(integer((first + integer(127)) << integer(23)))
        return y * int_as_float(integer((k - first + integer(127)) << integer(23)))

    @jit
    def rounded(x):
        return (x + whole_from) - whole_from

    @jit
    def power(a, b):
        size, length = abs(a), abs(b)
        y = exp2(np.float64(b) * log2(size))
        y = one if size == one else y
        whole = (rounded(length) == length) | (length >= whole_from)
        halved = half * length
        odd = whole & (rounded(halved) != halved) & (length < real(16777216.0))
        # every condition is a choice of its own: `and` makes branches, and loops with these are not vectorised
        turned = -y if odd else y
        y = turned if math.copysign(one, a) < zero else y
        undefined = y if whole else nan
        undefined = undefined if size < infinity else y
        y = undefined if a < zero else y
        y = a if a != a else y
        y = b if b != b else y
        y = one if a == one else y
        return one if b == zero else y

    return power
