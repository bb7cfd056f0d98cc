"""Gates of recurrent layers: several sigmoids and a tanh at once, which share one division.

A division takes as long as a dozen multiplications. Each of these functions divides by a number that is bounded, so the
product of all divisors is, too, and the quotients follow from one reciprocal. In float64 the exponential is a
polynomial of our own: functions of the C library, which take one number at a time, would be most of a layer's time.
"""

# The formulas take and return scalars of one type, which the compiler infers; annotations would add nothing.
# mypy: disable-error-code=no-untyped-def

from __future__ import annotations

from math import factorial
from types import SimpleNamespace
from typing import Any

import numpy as np

from fastnn.formulas.single import Jit


def define(real: Any, jit: Jit, elementary: SimpleNamespace, bits: Any) -> SimpleNamespace:
    """Define the gates of one floating-point type.

    Parameters
    ----------
    real : type
        ``numpy.float32`` or ``numpy.float64``.
    jit : callable
        Compiles a scalar function.
    elementary : types.SimpleNamespace
        The result of ``fastnn.formulas.elementary.define`` for the same type.
    bits : object
        Has ``double_as_int`` and ``int_as_double``, which float64 needs.

    Returns
    -------
    types.SimpleNamespace
        ``lstm(i, f, g, o)`` gives sigmoid of i and f, tanh of g, sigmoid of o; ``gru(z, r)`` the two sigmoids;
        ``tanh(x)``. All are within 5 ulp; NaN of an argument is NaN of its result alone.
    """
    parts = _single(real, jit, elementary) if real is np.float32 else _double(jit, bits)
    start, finish, start_tanh, finish_tanh, one = *parts, real(1.0)

    @jit
    def lstm(i, f, g, o):
        e_i, d_i = start(i)
        e_f, d_f = start(f)
        e_o, d_o = start(o)
        e_g, d_g = start_tanh(g)
        first, second = d_i * d_f, d_o * d_g
        inverse = one / (first * second)
        of_first, of_second = inverse * second, inverse * first
        return (
            finish(i, e_i, of_first * d_f), finish(f, e_f, of_first * d_i), finish_tanh(g, e_g, of_second * d_o),
            finish(o, e_o, of_second * d_g),
        )  # fmt: skip

    @jit
    def gru(z, r):
        e_z, d_z = start(z)
        e_r, d_r = start(r)
        inverse = one / (d_z * d_r)
        return finish(z, e_z, inverse * d_r), finish(r, e_r, inverse * d_z)

    @jit
    def tanh(x):
        e, d = start_tanh(x)
        return finish_tanh(x, e, one / d)

    return SimpleNamespace(lstm=lstm, gru=gru, tanh=tanh)


def _single(real: Any, jit: Jit, elementary: SimpleNamespace) -> tuple[Any, Any, Any, Any]:
    exp_weight, tanh_near = elementary.exp_weight, elementary.tanh_near
    zero, one, two, most, near = real(0.0), real(1.0), real(2.0), real(10.0), real(0.6)

    @jit
    def start(x):
        e = exp_weight(-abs(x))
        # of NaN the divisor is a number, too
        return e, one + (e if e < one else one)

    @jit
    def finish(x, e, inverse):
        y = e if x < zero else one
        return y - y * (e * inverse)

    @jit
    def start_tanh(x):
        a = abs(x)
        b = a if a < most else most
        e = exp_weight(-(b + b))
        return e, one + e

    @jit
    def finish_tanh(x, e, inverse):
        far = one - two * (e * inverse)
        return (-far if x < zero else far) if abs(x) >= near else tanh_near(x)

    return start, finish, start_tanh, finish_tanh


def _double(jit: Jit, bits: Any) -> tuple[Any, Any, Any, Any]:
    double_as_int, int_as_double = bits.double_as_int, bits.int_as_double
    log2_e = 1.4426950408889634
    # so few bits that a multiple up to 1,024 is exact, and the rest
    ln2_high = float.fromhex("0x1.62e42fefa3800p-1")
    ln2_low = float.fromhex("0x1.ef35793c76730p-45")
    # adding it rounds to an integer and leaves that in the low bits
    rounder = 6755399441055744.0
    c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13 = (1.0 / factorial(k) for k in range(2, 14))

    @jit
    def expm1_parts(x):
        """Return s and p with exp(x) = s (1 + p), s a power of two, |log(1 + p)| <= log(2) / 2; for |x| <= 708."""
        shifted = x * log2_e + rounder
        k = shifted - rounder
        r = (x - k * ln2_high) - k * ln2_low
        square = r * r
        fourth = square * square
        low = (c2 + r * c3) + square * (c4 + r * c5)
        middle = (c6 + r * c7) + square * (c8 + r * c9)
        high = (c10 + r * c11) + square * (c12 + r * c13)
        scale = int_as_double(np.int64((double_as_int(shifted) + np.int64(1023)) << np.int64(52)))
        return scale, r + square * (low + fourth * (middle + fourth * high))

    @jit
    def start(x):
        a = abs(x)
        s, p = expm1_parts(-(a if a < 708.0 else 708.0))
        # smaller ones are subnormal
        e = s + s * p if a < 708.0 else 0.0
        return e, 1.0 + e

    @jit
    def finish(x, e, inverse):
        y = e if x < 0.0 else 1.0
        y = y - y * (e * inverse)
        return y if x == x else x

    @jit
    def start_tanh(x):
        a = abs(x)
        b = a if a < 20.0 else 20.0
        s, p = expm1_parts(b + b)
        e = s * p + (s - 1.0)
        return e, e + 2.0

    @jit
    def finish_tanh(x, e, inverse):
        y = e * inverse
        return y if x > 0.0 else (-y if x < 0.0 else x)

    return start, finish, start_tanh, finish_tanh
