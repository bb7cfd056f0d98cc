"""Sine, cosine, tangent and arc tangent, free of branches, so that loops around them are vectorised."""

# The formulas take and return scalars of one type, which the compiler infers; annotations would add nothing.
# mypy: disable-error-code=no-untyped-def

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np

from fastnn.formulas.single import Jit

# pi / 2 in parts: the first two have 33 bits each, so their products with numbers below 2**20 are exact
_FIRST, _SECOND, _THIRD = 1.5707963267341256, 6.077100506303966e-11, 2.0222662487959506e-21
_INVERSE = 2.0 / math.pi
# adding 1.5 * 2**52 and subtracting it rounds to an integer
_ROUNDER = 6755399441055744.0


def define(real: type, jit: Jit) -> SimpleNamespace:
    """Define the functions of one floating-point type.

    Parameters
    ----------
    real : type
        ``numpy.float32`` or ``numpy.float64``: the type of every argument and result.
    jit : callable
        Compiles a scalar function; it may contract multiplications and additions, nothing else.

    Returns
    -------
    types.SimpleNamespace
        ``sin``, ``cos``, ``tan``, ``arctan``.

    Notes
    -----
    Up to ``|x| = 1.6e6`` sine and cosine stay within 1.5 ulp and the tangent within 3 ulp. Beyond, the error of the
    angle grows to about ``|x| * 2**-53``; results stay between -1 and 1. The arc tangent is within 2 ulp. The angle
    is reduced as by Cody and Waite (1980), in float64 for float32. The coefficients are our own minimax fits.
    """
    return _single(jit) if real is np.float32 else _double(jit)


def _turns(jit: Jit) -> Any:
    @jit
    def turns(x):
        """Return the nearest number of quarter turns, and its remainder by 4, from -2 to 2."""
        k = (x * _INVERSE + _ROUNDER) - _ROUNDER
        return k, k - 4.0 * ((k * 0.25 + _ROUNDER) - _ROUNDER)

    return turns


def _single(jit: Jit) -> SimpleNamespace:
    real = np.float32
    turns = _turns(jit)

    @jit
    def reduced(x):
        """Return the quarter turns by 4, and the rest of the angle, which is at most pi / 4."""
        wide = np.float64(x)
        k, q = turns(wide)
        r = ((wide - k * _FIRST) - k * _SECOND) - k * _THIRD
        # of angles whose quarter turns are no float64 the rest has no meaning, but stays small
        r = 0.7854 if r > 0.7854 else r
        return real(q), real(-0.7854 if r < -0.7854 else r)

    @jit
    def sine(r, z):
        q = real(-0.00019839309) + z * real(2.7180840e-06)
        y = r + r * z * (real(-0.16666667) + z * (real(0.008333329) + z * q))
        return r if z == real(0.0) else y  # the sign of zero

    @jit
    def cosine(z):
        q = real(0.041666646) + z * (real(-0.0013887313) + z * real(2.4432785e-05))
        half = real(0.5) * z
        head = real(1.0) - half
        # the rounding error of 1 - z / 2 goes into the tail
        return head + (((real(1.0) - head) - half) + z * z * q)

    @jit
    def sin(x):
        q, r = reduced(x)
        z = r * r
        y = cosine(z) if abs(q) == real(1.0) else sine(r, z)
        return -y if abs(q - real(0.5)) > real(1.0) else y

    @jit
    def cos(x):
        q, r = reduced(x)
        z = r * r
        y = sine(r, z) if abs(q) == real(1.0) else cosine(z)
        return -y if abs(q + real(0.5)) > real(1.0) else y

    @jit
    def tan(x):
        q, r = reduced(x)
        z = r * r
        s, c = sine(r, z), cosine(z)
        odd = abs(q) == real(1.0)
        return (-c if odd else s) / (s if odd else c)

    @jit
    def arctan(x):
        a = abs(x)
        far, middle = a > real(2.4142135), a > real(0.41421357)
        over = real(-1.0) if far else (a - real(1.0) if middle else a)
        under = a if far else (a + real(1.0) if middle else real(1.0))
        t = over / under
        z = t * t
        q = real(-0.14243487) + z * (real(0.10593454) + z * real(-0.060772655))
        tail = t * z * (real(-0.33333315) + z * (real(0.19998469) + z * q))
        base = real(1.5707964) if far else (real(0.7853982) if middle else real(0.0))
        rest = real(-4.371139e-08) if far else (real(-2.1855694e-08) if middle else real(0.0))
        y = base + (t + (tail + rest))
        return -y if x < real(0.0) else (y if a > real(0.0) else x)

    return SimpleNamespace(sin=sin, cos=cos, tan=tan, arctan=arctan)


def _double(jit: Jit) -> SimpleNamespace:
    turns = _turns(jit)

    @jit
    def reduced(x):
        """Return the quarter turns by 4, and the rest of the angle in two parts."""
        k, q = turns(x)
        t = x - k * _FIRST
        high = t - k * _SECOND
        low = k * _THIRD - ((t - high) - k * _SECOND)
        r = high - low
        rest = (high - r) - low
        inside = abs(r) <= 0.7854
        # of angles whose quarter turns are no float64 the rest has no meaning, but stays small
        return q, r if inside else (r - r), rest if inside else (r - r)

    @jit
    def sine(r, rest):
        z = r * r
        q = 2.7557319214024548e-06 + z * (-2.5052104871217513e-08 + z * 1.6058361762004803e-10)
        q = 0.008333333333333322 + z * (-0.00019841269841254723 + z * (q + z * z * z * -7.578471322378864e-13))
        y = r + (r * z * (-0.16666666666666666 + z * q) + rest * (1.0 - 0.5 * z))
        return r if z == 0.0 else y  # the sign of zero

    @jit
    def cosine(r, rest):
        z = r * r
        q = -2.7557314163988007e-07 + z * (2.08756987099403247e-09 + z * -1.1358423582452602e-11)
        q = 0.041666666666666595 + z * (-0.0013888888888872976 + z * (2.480158728880007e-05 + z * q))
        half = 0.5 * z
        head = 1.0 - half
        # the rounding error of 1 - z / 2 goes into the tail
        return head + (((1.0 - head) - half) + (z * z * q - r * rest))

    @jit
    def sin(x):
        q, r, rest = reduced(x)
        y = cosine(r, rest) if abs(q) == 1.0 else sine(r, rest)
        return -y if abs(q - 0.5) > 1.0 else y

    @jit
    def cos(x):
        q, r, rest = reduced(x)
        y = sine(r, rest) if abs(q) == 1.0 else cosine(r, rest)
        return -y if abs(q + 0.5) > 1.0 else y

    @jit
    def tan(x):
        q, r, rest = reduced(x)
        s, c = sine(r, rest), cosine(r, rest)
        odd = abs(q) == 1.0
        return (-c if odd else s) / (s if odd else c)

    @jit
    def arctan(x):
        a = abs(x)
        far, middle = a > 2.414213562373095, a > 0.41421356237309503
        over = -1.0 if far else (a - 1.0 if middle else a)
        under = a if far else (a + 1.0 if middle else 1.0)
        t = over / under
        z = t * t
        q = 0.0587700603900490297 + z * (-0.0521831197344011592 + z * 0.0450320670154085347)
        q = q + z * z * z * (-0.0334671747387480008 + z * 0.0151884013161803265)
        q = -0.0909090813807604025 + z * (0.0769228262663419522 + z * (-0.066662249879684744 + z * q))
        q = 0.199999999999976372 + z * (-0.142857142853844559 + z * (0.111111110879793805 + z * q))
        tail = t * z * (-0.333333333333333274 + z * q)
        base = 1.5707963267948966 if far else (0.7853981633974483 if middle else 0.0)
        rest = 6.123233995736766e-17 if far else (3.061616997868383e-17 if middle else 0.0)
        y = base + (t + (tail + rest))
        return -y if x < 0.0 else (y if a > 0.0 else x)

    return SimpleNamespace(sin=sin, cos=cos, tan=tan, arctan=arctan)
