"""An exponential function of float64 that becomes vectors: the C library's takes one number at a time.

With the library's, attention over 512 steps ran at 0.33 of the speed of products, and half of the time of an LSTM of
100 units was in it.
"""

# The formulas take and return scalars of one type, which the compiler infers; annotations would add nothing.
# mypy: disable-error-code=no-untyped-def

from __future__ import annotations

from math import factorial
from types import SimpleNamespace
from typing import Any

import numpy as np

from fastnn.formulas.single import Jit

# Added to a number below 2^51 it rounds it to an integer, whose bits are then the lowest ones.
_ROUNDER = 6755399441055744.0
_LOG2_E = 1.4426950408889634
# ln 2 in two parts; multiples of the first, of up to 11 bits, are exact
_LN2_HIGH, _LN2_LOW = float.fromhex("0x1.62e42fefa3800p-1"), float.fromhex("0x1.ef35793c76730p-45")


def define(jit: Jit, bits: Any) -> SimpleNamespace:
    """Define the functions.

    Parameters
    ----------
    jit : callable
        Compiles a scalar function.
    bits : object
        Has ``double_as_int`` and ``int_as_double``.

    Returns
    -------
    types.SimpleNamespace
        ``expm1_parts(x) = (s, p)`` for ``-709.4 <= x <= 708``: ``exp(x)`` is ``s (1 + p)``, where s is a power of two,
        or 0 where exp(x) would be subnormal, and ``|log(1 + p)| <= log(2) / 2``; ``exp_weight(x)``, which is ``exp(x)``
        for ``x <= 700`` with 0 in place of subnormal results, within 0.8 ulp.

    Notes
    -----
    The series of exp: for ``|r| <= log(2) / 2`` the next term is below 2^-57.
    """
    double_as_int, int_as_double = bits.double_as_int, bits.int_as_double
    exponent, places = np.int64(1023), np.int64(52)
    t2, t3, t4, t5, t6, t7, t8, t9, t10, t11, t12, t13 = (1.0 / factorial(n) for n in range(2, 14))

    @jit
    def expm1_parts(x):
        shifted = x * _LOG2_E + _ROUNDER
        n = shifted - _ROUNDER
        r = (x - n * _LN2_HIGH) - n * _LN2_LOW
        square = r * r
        fourth = square * square
        low = (t2 + r * t3) + square * (t4 + r * t5)
        middle = (t6 + r * t7) + square * (t8 + r * t9)
        high = (t10 + r * t11) + square * (t12 + r * t13)
        # the scale of n = -1023 has no bits: it is 0
        scale = int_as_double(np.int64((double_as_int(shifted) + exponent) << places))
        return scale, r + square * (low + fourth * (middle + fourth * high))

    @jit
    def exp_weight(x):
        s, p = expm1_parts(-709.4 if x < -709.4 else x)
        return s + s * p

    return SimpleNamespace(expm1_parts=expm1_parts, exp_weight=exp_weight)
