"""Elementary functions of float64 that become vectors: those of the C library take one number at a time.

With the library's, tanh takes 10.6 ns a number in a loop, with these 2.8 (`benchmarks/ulp.py --double`); attention over
512 steps ran at 0.33 of the speed of products, and half of the time of an LSTM of 100 units was in them.
"""

# The formulas take and return scalars of one type, which the compiler infers; annotations would add nothing.
# mypy: disable-error-code=no-untyped-def

from __future__ import annotations

from math import factorial, inf, nan, sqrt
from types import SimpleNamespace
from typing import Any

import numpy as np

from fastnn.formulas.single import Jit

# Added to a number below 2^51 it rounds it to an integer, whose bits are then the lowest ones.
_ROUNDER, _ROUNDER_BITS = 6755399441055744.0, 0x4338000000000000
_LOG2_E = 1.4426950408889634
# ln 2 in two parts; multiples of the first, of up to 11 bits, are exact
_LN2_HIGH, _LN2_LOW = float.fromhex("0x1.62e42fefa3800p-1"), float.fromhex("0x1.ef35793c76730p-45")
# smaller numbers are their own tanh, log1p and expm1
_TINY = 1e-17


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
        ``exp, expm1, log, log1p, tanh, sigmoid, softplus``, within 2.5 ulp; sigmoid and softplus give 0 in place of
        subnormal results. ``expm1_parts(x) = (s, p)`` for ``-709.4 <= x <= 708``: ``exp(x)`` is ``s (1 + p)``, where s
        is a power of two, or 0 where exp(x) would be subnormal, and ``|log(1 + p)| <= log(2) / 2``; ``exp_weight(x)``,
        which is ``exp(x)`` for ``x <= 700`` with 0 in place of subnormal results, within 0.8 ulp.
    """
    found = _exponentials(jit, bits)
    for name, function in vars(_logarithms(jit, bits)).items():
        setattr(found, name, function)
    found.tanh, found.sigmoid = _tanh(jit, found), _sigmoid(jit, found)
    found.softplus = _softplus(jit, found)
    del found.expm1_below, found.log_reduced  # parts of the others
    return found


def _exponentials(jit: Jit, bits: Any) -> SimpleNamespace:
    double_as_int, int_as_double = bits.double_as_int, bits.int_as_double
    exponent, places = np.int64(1023), np.int64(52)
    t2, t3, t4, t5, t6, t7, t8, t9, t10, t11, t12, t13 = (1.0 / factorial(n) for n in range(2, 14))
    far, small, large = 600.0, 2.0**-100, 2.0**100

    @jit
    def power_of_two(shifted):
        """``2**n`` for ``shifted = n + _ROUNDER``; 0 for n = -1023, whose scale has no bits."""
        return int_as_double(np.int64((double_as_int(shifted) + exponent) << places))

    @jit
    def expm1_rest(r):
        """``expm1(r) - r`` for ``|r| <= log(2) / 2``: the series, whose next term is below 2^-57."""
        square = r * r
        fourth = square * square
        low = (t2 + r * t3) + square * (t4 + r * t5)
        middle = (t6 + r * t7) + square * (t8 + r * t9)
        high = (t10 + r * t11) + square * (t12 + r * t13)
        return square * (low + fourth * (middle + fourth * high))

    @jit
    def reduce(x):
        """``x = n ln 2 + r + rest`` with ``|r| <= log(2) / 2``; returns ``n + _ROUNDER``, r, rest."""
        shifted = x * _LOG2_E + _ROUNDER
        n = shifted - _ROUNDER
        high = x - n * _LN2_HIGH
        correction = n * _LN2_LOW
        r = high - correction
        return shifted, r, (high - r) - correction

    @jit
    def expm1_parts(x):
        shifted, r, _ = reduce(x)
        return power_of_two(shifted), r + expm1_rest(r)

    @jit
    def exp_weight(x):
        s, p = expm1_parts(-709.4 if x < -709.4 else x)
        return s + s * p

    @jit
    def exp(x):
        x = -746.0 if x < -746.0 else x
        x = 710.0 if x > 710.0 else x
        shifted, r, rest = reduce(x)
        # where the power of two has no bits, or too many, it is moved by 2^100, and the result back
        move = 100.0 if x < -far else (-100.0 if x > far else 0.0)
        back = small if x < -far else (large if x > far else 1.0)
        y = 1.0 + r
        y = y + (((1.0 - y) + r) + (expm1_rest(r) + rest))
        return y * power_of_two(shifted + move) * back

    @jit
    def expm1(x):
        y = -50.0 if x < -50.0 else x
        y = 710.0 if y > 710.0 else y
        shifted, r, rest = reduce(y)
        # half of the scale, doubled last: 2^1024 is out of range although expm1(709.7) is not
        scale = power_of_two(shifted - 1.0)
        y = (scale * (r + (expm1_rest(r) + rest)) + (scale - 0.5)) * 2.0
        return x if abs(x) < _TINY else y

    @jit
    def expm1_below(x):
        """``expm1(x)`` for ``0 <= x <= 700``."""
        shifted, r, rest = reduce(x)
        scale = power_of_two(shifted)
        return scale * (r + (expm1_rest(r) + rest)) + (scale - 1.0)

    return SimpleNamespace(
        exp=exp, expm1=expm1, expm1_below=expm1_below, expm1_parts=expm1_parts, exp_weight=exp_weight
    )


def _logarithms(jit: Jit, bits: Any) -> SimpleNamespace:
    double_as_int, int_as_double = bits.double_as_int, bits.int_as_double
    places, fraction, exponent = np.int64(52), np.int64(2**52 - 1), np.int64(1023)
    half_sqrt_bits, rounder_bits = np.int64(0x3FE6A09E667F3BCD), np.int64(_ROUNDER_BITS)
    smallest_normal, raise_by = 2.2250738585072014e-308, 2.0**54
    # (2 atanh(s) / s - 2) / s**2 as a polynomial of s**2: our own minimax fit for |s| <= 0.1716, error 2^-58.5
    c0, c1, c2, c3, c4, c5, c6 = (
        0.66666666666667344122, 0.39999999999414678358, 0.28571428742387622729, 0.22222198573184524793,
        0.18183564326119675229, 0.15314050552112713639, 0.14795949700582858274,
    )  # fmt: skip

    @jit
    def log_reduced(f, k):
        """``k ln 2 + log(1 + f)`` for ``sqrt(1/2) <= 1 + f <= sqrt(2)``; log(1 + f) is 2 atanh(f / (2 + f))."""
        s = f / (2.0 + f)
        z = s * s
        square = z * z
        q = (c0 + z * c1) + square * ((c2 + z * c3) + square * ((c4 + z * c5) + square * c6))
        half = 0.5 * f * f
        return k * _LN2_HIGH - ((half - (s * (half + z * q) + k * _LN2_LOW)) - f)

    @jit
    def parted(x):
        """``x = 2**n (1 + f)`` for normal x: n as an integer and as a number, and 1 + f."""
        i = double_as_int(x) - half_sqrt_bits
        n = np.int64(i >> places)
        # not a conversion, for which processors before AVX-512 have no vectors
        return n, int_as_double(n + rounder_bits) - _ROUNDER, int_as_double(np.int64((i & fraction) + half_sqrt_bits))

    @jit
    def log(x):
        low = x < smallest_normal
        _, k, m = parted(x * raise_by if low else x)
        y = log_reduced(m - 1.0, k - (54.0 if low else 0.0))
        y = y if x < inf else x
        return y if x > 0.0 else (-inf if x == 0.0 else nan)

    @jit
    def log1p(x):
        n, k, m = parted(1.0 + x)
        scale = int_as_double(np.int64((exponent - n) << places))
        # (1 + x) / 2**n - 1 without the rounding of 1 + x; from 2**54 on that is below half an ulp of x
        f = scale * x + (scale - 1.0) if x < raise_by else m - 1.0
        y = log_reduced(f, k)
        y = y if x < inf else x
        y = x if abs(x) < _TINY else y
        return y if x > -1.0 else (-inf if x == -1.0 else nan)

    return SimpleNamespace(log=log, log1p=log1p, log_reduced=log_reduced)


def _tanh(jit: Jit, parts: SimpleNamespace) -> Any:
    expm1_below = parts.expm1_below

    @jit
    def tanh(x):
        a = abs(x)
        a = 20.0 if a > 20.0 else a
        e = expm1_below(a + a)
        y = e / (e + 2.0)
        return y if x > 0.0 else (-y if x < 0.0 else x)

    return tanh


def _sigmoid(jit: Jit, parts: SimpleNamespace) -> Any:
    exp_weight = parts.exp_weight

    @jit
    def sigmoid(x):
        e = exp_weight(-abs(x))
        y = e if x < 0.0 else 1.0
        # y (1 - e / (1 + e)): the errors of the quotient weigh less than in y / (1 + e)
        return y - y * (e / (1.0 + e))

    return sigmoid


def _softplus(jit: Jit, parts: SimpleNamespace) -> Any:
    exp_weight, log_reduced = parts.exp_weight, parts.log_reduced
    most = sqrt(2.0) - 1.0

    @jit
    def softplus(x):
        e = exp_weight(-abs(x))
        # log1p(e) for 0 <= e <= 1: the exponent of 1 + e is 0 or 1
        above = e > most
        f = 0.5 * e - 0.5 if above else e
        return (0.0 if x < 0.0 else x) + log_reduced(f, 1.0 if above else 0.0)

    return softplus
