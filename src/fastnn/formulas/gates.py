"""Gates of recurrent layers: several sigmoids and a tanh at once, which share one division.

A division takes as long as a dozen multiplications. Each of these functions divides by a number that is bounded, so the
product of all divisors is, too, and the quotients follow from one reciprocal.
"""

# The formulas take and return scalars of one type, which the compiler infers; annotations would add nothing.
# mypy: disable-error-code=no-untyped-def

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from fastnn.formulas import double
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
        Each function is in two steps, so that loops over the steps overlap in the processor. ``start(x)`` and
        ``start_tanh(x)`` give the exponential e of a sigmoid and of a tanh. Then ``lstm(i, f, g, o, e_i, e_f, e_g,
        e_o)`` gives sigmoid of i and f, tanh of g, sigmoid of o; ``gru(z, r, e_z, e_r)`` the two sigmoids; ``tanh(x,
        e)``. All are within 5 ulp; NaN of an argument is NaN of its result alone.
    """
    parts = _single(real, jit, elementary) if real is np.float32 else _double(jit, bits)
    start, divisor, finish, start_tanh, divisor_tanh, finish_tanh, one = *parts, real(1.0)

    @jit
    def lstm(i, f, g, o, e_i, e_f, e_g, e_o):
        d_i, d_f, d_g, d_o = divisor(e_i), divisor(e_f), divisor_tanh(e_g), divisor(e_o)
        first, second = d_i * d_f, d_o * d_g
        inverse = one / (first * second)
        of_first, of_second = inverse * second, inverse * first
        return (
            finish(i, e_i, of_first * d_f), finish(f, e_f, of_first * d_i), finish_tanh(g, e_g, of_second * d_o),
            finish(o, e_o, of_second * d_g),
        )  # fmt: skip

    @jit
    def gru(z, r, e_z, e_r):
        d_z, d_r = divisor(e_z), divisor(e_r)
        inverse = one / (d_z * d_r)
        return finish(z, e_z, inverse * d_r), finish(r, e_r, inverse * d_z)

    @jit
    def tanh(x, e):
        return finish_tanh(x, e, one / divisor_tanh(e))

    return SimpleNamespace(start=start, start_tanh=start_tanh, lstm=lstm, gru=gru, tanh=tanh)


def _single(real: Any, jit: Jit, elementary: SimpleNamespace) -> tuple[Any, ...]:
    exp_weight, tanh_near = elementary.exp_weight, elementary.tanh_near
    zero, one, two, most, near = real(0.0), real(1.0), real(2.0), real(10.0), real(0.6)

    @jit
    def start(x):
        return exp_weight(-abs(x))

    @jit
    def divisor(e):
        # of NaN it is a number, too
        return one + (e if e < one else one)

    @jit
    def finish(x, e, inverse):
        y = e if x < zero else one
        return y - y * (e * inverse)

    @jit
    def start_tanh(x):
        a = abs(x)
        b = a if a < most else most
        return exp_weight(-(b + b))

    @jit
    def divisor_tanh(e):
        return one + e

    @jit
    def finish_tanh(x, e, inverse):
        far = one - two * (e * inverse)
        return (-far if x < zero else far) if abs(x) >= near else tanh_near(x)

    return start, divisor, finish, start_tanh, divisor_tanh, finish_tanh


def _double(jit: Jit, bits: Any) -> tuple[Any, ...]:
    expm1_parts = double.define(jit, bits).expm1_parts

    @jit
    def start(x):
        a = abs(x)
        s, p = expm1_parts(-(a if a < 708.0 else 708.0))
        # smaller ones are subnormal
        return s + s * p if a < 708.0 else 0.0

    @jit
    def divisor(e):
        return 1.0 + e

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
        return s * p + (s - 1.0)

    @jit
    def divisor_tanh(e):
        return e + 2.0

    @jit
    def finish_tanh(x, e, inverse):
        y = e * inverse
        return y if x > 0.0 else (-y if x < 0.0 else x)

    return start, divisor, finish, start_tanh, divisor_tanh, finish_tanh
