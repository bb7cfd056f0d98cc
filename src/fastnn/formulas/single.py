"""Elementary functions of float32: branch-free polynomials that vectorise, within 2 ulp."""

# The formulas take and return scalars of one type, which the compiler infers; annotations would add nothing.
# mypy: disable-error-code=no-untyped-def

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

Jit = Callable[[Callable[..., Any]], Any]

real, integer = np.float32, np.int32
infinity, nan = real(np.inf), real(np.nan)
# 16 significant bits, so that k * ln2_high is exact for every exponent k, fused multiply-add or not.
ln2_high, ln2_low = real(0.693145751953125), real(1.428606765330187e-06)


def define(jit: Jit, bits: Any) -> SimpleNamespace:
    """Define all functions, as `fastnn.formulas.elementary.define` describes them."""
    exponentials, logarithms = _exponentials(jit, bits), _logarithms(jit, bits)
    found = SimpleNamespace(**vars(exponentials), **vars(logarithms), **vars(_quotients(jit, bits)), sqrt=_sqrt(jit))
    (found.tanh, found.tanh_near), found.erf = _tanh(jit, found), _erf(jit, found)
    found.sigmoid, found.softplus = _sigmoid(jit, found), _softplus(jit, found)
    found.cos2pi = _cos2pi(jit)
    del found.exp_normal, found.log_reduced  # parts of the others
    return found


def _exponentials(jit: Jit, bits: Any) -> SimpleNamespace:
    float_as_int, int_as_float = bits.float_as_int, bits.int_as_float
    log2_e = real(1.4426950408889634)
    # Adding 1.5 * 2**23 rounds to an integer and leaves it in the low bits.
    rounder, rounder_bits = real(12582912.0), integer(0x4B400000)

    @jit
    def power_of_two(n):
        return int_as_float(integer((n + integer(127)) << integer(23)))

    @jit
    def reduce(x, low):
        """``x + low = n ln 2 + r + rest`` with ``|r| <= ln 2 / 2``."""
        shifted = (x + low) * log2_e + rounder
        k = shifted - rounder
        high = x - k * ln2_high
        correction = k * ln2_low - low
        r = high - correction
        return integer(float_as_int(shifted) - rounder_bits), r, (high - r) - correction

    @jit
    def reduce_single(x):
        """``reduce(x, 0)`` with fewer instructions."""
        shifted = x * log2_e + rounder
        k = shifted - rounder
        high = x - k * ln2_high
        correction = k * ln2_low
        r = high - correction
        return integer(float_as_int(shifted) - rounder_bits), r, (high - r) - correction

    @jit
    def expm1_rest(r):
        """``expm1(r) - r`` for ``|r| <= 0.347``, relative error 2**-31 of the whole."""
        # Pairs, not Horner's chain: the latency of such chains limits the loops around them.
        square = r * r
        low = real(0.5) + r * real(0.16666666)
        q = real(0.041666493) + r * real(0.008333543)
        high = real(0.0013932365) + r * real(0.0001976433)
        return square * (low + square * (q + square * high))

    @jit
    def expm1_tail(r, rest):
        """``expm1(r + rest) - r`` for ``|r| <= 0.347``."""
        return expm1_rest(r) + rest

    @jit
    def exp_reduced(r, rest):
        # The rounding error of 1 + r goes into the tail: 0.56 ulp instead of 0.82.
        y = real(1.0) + r
        return y + (((real(1.0) - y) + r) + expm1_tail(r, rest))

    @jit
    def exp_parts(x, low):
        n, r, rest = reduce(x, low)
        half = integer(n >> integer(1))
        return exp_reduced(r, rest), power_of_two(half), power_of_two(integer(n - half))

    @jit
    def exp(x):
        x = real(-104.0) if x < real(-104.0) else x
        x = real(89.0) if x > real(89.0) else x
        n, r, rest = reduce_single(x)
        half = integer(n >> integer(1))
        return exp_reduced(r, rest) * power_of_two(half) * power_of_two(integer(n - half))

    @jit
    def exp_normal(x):
        """``exp(x)``, if neither it nor its reciprocal leaves the normal range, within 0.9 ulp."""
        n, r, _ = reduce_single(x)
        return (real(1.0) + (r + expm1_rest(r))) * power_of_two(n)

    @jit
    def exp_weight(x):
        # The scale of n = -127 has no bits: it is 0.
        return exp_normal(real(-88.0) if x < real(-88.0) else x)

    @jit
    def expm1(x):
        y = real(-20.0) if x < real(-20.0) else x
        y = real(89.0) if y > real(89.0) else y
        n, r, rest = reduce_single(y)
        # Half of the scale, doubled last: 2**128 is out of range although expm1(88.7) is not.
        scale = power_of_two(integer(n - integer(1)))
        y = (scale * (r + expm1_tail(r, rest)) + (scale - real(0.5))) * real(2.0)
        return x if abs(x) < real(1e-8) else y

    return SimpleNamespace(exp=exp, exp_normal=exp_normal, exp_parts=exp_parts, exp_weight=exp_weight, expm1=expm1)


def _logarithms(jit: Jit, bits: Any) -> SimpleNamespace:
    float_as_int, int_as_float = bits.float_as_int, bits.int_as_float
    half_sqrt_bits, smallest_normal = integer(0x3F3504F3), real(1.1754943508222875e-38)

    @jit
    def log_reduced(f, k):
        """``k ln 2 + log(1 + f)`` for ``sqrt(1/2) <= 1 + f <= sqrt(2)``, relative error 2**-30."""
        square = f * f
        fourth = square * square
        q = real(0.118838735) + f * real(-0.11671176) + square * real(0.06749857)
        low = (real(0.33333313) + f * real(-0.2500001)) + square * (real(0.20002073) + f * real(-0.16667992))
        q = low + fourth * ((real(0.14220311) + f * real(-0.124061145)) + square * q)
        tail = k * ln2_low + f * square * q
        return k * ln2_high + (f + (tail - real(0.5) * square))

    @jit
    def log(x):
        small = x < smallest_normal
        y = x * real(33554432.0) if small else x
        i = integer(float_as_int(y) - half_sqrt_bits)
        k = real(integer(i >> integer(23))) - (real(25.0) if small else real(0.0))
        m = int_as_float(integer((i & integer(0x7FFFFF)) + half_sqrt_bits))
        y = log_reduced(m - real(1.0), k)
        y = y if x < infinity else x
        return y if x > real(0.0) else (-infinity if x == real(0.0) else nan)

    @jit
    def log1p_finite(x):
        """``log1p(x)`` for ``-1 < x < inf``."""
        i = integer(float_as_int(real(1.0) + x) - half_sqrt_bits)
        n = integer(i >> integer(23))
        m = int_as_float(integer((i & integer(0x7FFFFF)) + half_sqrt_bits))
        scale = int_as_float(integer((integer(127) - n) << integer(23)))
        # (1 + x) / 2**n - 1 without the rounding of 1 + x; from 2**25 on that is below half an ulp of x.
        f = scale * x + (scale - real(1.0)) if x < real(33554432.0) else m - real(1.0)
        return log_reduced(f, real(n))

    @jit
    def log1p(x):
        y = log1p_finite(x)
        y = y if x < infinity else x
        y = x if abs(x) < real(1e-8) else y
        return y if x > real(-1.0) else (-infinity if x == real(-1.0) else nan)

    return SimpleNamespace(log=log, log1p=log1p, log_reduced=log_reduced)


def _tanh(jit: Jit, parts: SimpleNamespace) -> Any:
    exp_normal = parts.exp_normal

    @jit
    def tanh_near(x):
        """``tanh(x)`` for ``|x| < 0.6``, relative error 2**-33."""
        z = x * x
        square = z * z
        q = real(-0.05394971) + z * real(0.021717662) + square * (real(-0.0082214195) + z * real(0.0021852173))
        q = (real(-0.3333333) + z * real(0.13333228)) + square * q
        return x * (real(1.0) + z * q)

    @jit
    def tanh(x):
        a = abs(x)
        b = real(10.0) if a > real(10.0) else a
        far = real(1.0) - real(2.0) / (exp_normal(b + b) + real(1.0))
        return tanh_near(x) if a < real(0.6) else (-far if x < real(0.0) else far)

    return tanh, tanh_near


def _sigmoid(jit: Jit, parts: SimpleNamespace) -> Any:
    exp = parts.exp

    @jit
    def sigmoid(x):
        e = exp(-abs(x))
        y = e if x < real(0.0) else real(1.0)
        # y (1 - e / (1 + e)): the errors of the quotient weigh less than in y / (1 + e).
        return y - y * (e / (real(1.0) + e))

    return sigmoid


def _softplus(jit: Jit, parts: SimpleNamespace) -> Any:
    exp, log_reduced = parts.exp, parts.log_reduced

    @jit
    def softplus(x):
        e = exp(-abs(x))
        # log1p_finite(e) for 0 <= e <= 1: the exponent is 0 or 1.
        above = e > real(0.41421357)
        f = real(0.5) * e - real(0.5) if above else e
        return (real(0.0) if x < real(0.0) else x) + log_reduced(f, real(1.0) if above else real(0.0))

    return softplus


def _erf(jit: Jit, parts: SimpleNamespace) -> Any:
    exp_normal = parts.exp_normal

    @jit
    def erf(x):
        a = abs(x)
        z = a * a
        # |x| < 1, relative error 2**-29.
        square = z * z
        q = real(0.005187162) + z * real(-0.0007997853) + square * real(7.806904e-05)
        q = (real(0.11283579) + z * real(-0.026853347)) + square * q
        near = x + x * (real(0.12837917) + z * (real(-0.37612626) + z * q))
        # log(erfc(a)) for 1 <= a <= 4: the result is within 2**-29; erf(4) rounds to 1.
        b = real(4.0) if a > real(4.0) else a
        square = b * b
        q = real(0.021837832) + b * real(-0.0029475745) + square * real(0.0001863675)
        q = real(-1.1270891) + b * real(-0.638145) + square * (real(-0.10310645) + b * q)
        far = real(1.0) - exp_normal(real(-0.0003415222) + b * q)
        return near if a < real(1.0) else (-far if x < real(0.0) else far)

    return erf


def _cos2pi(jit: Jit) -> Any:
    @jit
    def cos2pi(u):
        a = abs(u)
        # From 2**23 on every float32 is an integer; inf - inf gives the NaN that cos(inf) has.
        r = a - a if a >= real(8388608.0) else a - ((a + real(8388608.0)) - real(8388608.0))
        r = abs(r)
        beyond = r > real(0.25)
        r = real(0.5) - r if beyond else r
        # Up to 1/8 the cosine, relative error 2**-31; then the sine of the exact distance to the zero at 1/4,
        # relative error 2**-28 (6.28125 is the short head of 2 pi).
        v = real(0.25) - r
        z = r * r
        near = z * (real(64.93914) + z * (real(-85.42311) + z * real(58.560097)))
        near = real(1.0) + z * (real(-19.739208) + near)
        z = v * v
        far = z * (real(-41.34166) + z * (real(81.59189) + z * real(-75.36886)))
        far = v * real(6.28125) + v * (real(0.0019352867) + far)
        y = near if r < real(0.125) else far
        return -y if beyond else y

    return cos2pi


def _sqrt(jit: Jit) -> Any:
    @jit
    def sqrt(x):
        return real(math.sqrt(x))

    return sqrt


def _quotients(jit: Jit, bits: Any) -> SimpleNamespace:
    float_as_int, int_as_float = bits.float_as_int, bits.int_as_float
    # The bits of 1 / d are about these minus the bits of d.
    most, inverse_bits = real(2.0**126), integer(0x7EF311C7)

    @jit
    def split(x):
        head = int_as_float(integer(float_as_int(x) & integer(-4096)))
        return head, x - head

    @jit
    def quotient(x, d):
        # A guess from the bits, within 5 %, and three Newton steps: an Adam step of 17,226 weights took 7.6 us with
        # divisions, and takes 5.0. Infinity has no such guess; NaN fails the comparison and stays.
        d = most if d > most else d
        y = int_as_float(integer(inverse_bits - float_as_int(d)))
        y = y + y * (real(1.0) - d * y)
        y = y + y * (real(1.0) - d * y)
        y = y + y * (real(1.0) - d * y)
        return x * y

    return SimpleNamespace(split=split, quotient=quotient)
