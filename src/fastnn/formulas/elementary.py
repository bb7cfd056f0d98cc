"""Elementary functions: fastnn's own polynomials, and the C library's erf and pow for float64."""

# The formulas take and return scalars of one type, which the compiler infers; annotations would add nothing.
# mypy: disable-error-code=no-untyped-def

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np

from fastnn.formulas import double, powers, single, trigonometric
from fastnn.formulas.single import Jit


def define(real: type, jit: Jit, bits: Any) -> SimpleNamespace:
    """Define the elementary functions of one floating-point type.

    Parameters
    ----------
    real : type
        ``numpy.float32`` or ``numpy.float64``: the type of every argument and result.
    jit : callable
        Compiles a scalar function; it may contract multiplications and additions, nothing else.
    bits : object
        Has ``float_as_int`` (float32 to int32) and ``int_as_float`` (int32 to float32), and ``double_as_int`` and
        ``int_as_double`` likewise for 64 bits.

    Returns
    -------
    types.SimpleNamespace
        ``exp, expm1, log, log1p, tanh, sigmoid, softplus, erf, sqrt``, ``power(a, b)`` and
        ``cos2pi(u) = cos(2 pi u)``. Also, for formulas with a tail that underflows, ``exp_parts(x, low) = (m, s, t)``:
        ``exp(x + low)`` is ``m * s * t`` for ``-150 <= x <= 89``, with ``m`` near 1 and ``s``, ``t`` powers of two to
        multiply by last (in float64 both are 1); ``exp_weight(x)``: ``exp(x)`` for ``x <= 0``, with 0 in place of
        subnormal results, for softmax; ``split(x) = (head, rest)``, where products of two heads are exact;
        and ``quotient(x, d)``, which is ``x / d`` for ``0 < d <= 2**126`` or infinite d, such as the roots that
        optimizers divide by: in float32 within 2 ulp, and NaN for 0.

    Raises
    ------
    ValueError
        If `real` is neither of the two types.

    Notes
    -----
    The float32 functions stay within 2 ulp of the true value over the whole range, subnormal results included
    (measured by ``benchmarks/ulp.py``). The coefficients are our own minimax fits. Those of float64: `double`.
    """
    if real is np.float32:
        found = single.define(jit, bits)
        found.power = powers.define(jit, bits)
        return found
    if real is np.float64:
        found = double.define(jit, bits)
        _add_scalar(found, jit)
        return found
    raise ValueError(f"real: expected numpy.float32 or numpy.float64, got {real!r}")


def _add_scalar(found: SimpleNamespace, jit: Jit) -> None:
    """Add the functions of float64 that take one number at a time, from the C library, and trivial ones."""
    exp, sin = found.exp, trigonometric.define(np.float64, jit).sin

    @jit
    def erf(x):
        return math.erf(x)

    @jit
    def square_root(x):
        return math.sqrt(x)

    @jit
    def cos2pi(u):
        a = abs(u)
        r = a - a if a >= 4503599627370496.0 else a - ((a + 4503599627370496.0) - 4503599627370496.0)
        return sin(6.283185307179586 * (0.25 - abs(r)))

    @jit
    def exp_parts(x, low):
        return exp(x + low), 1.0, 1.0

    @jit
    def power(a, b):
        return math.pow(a, b)

    @jit
    def split(x):
        return x, 0.0

    @jit
    def quotient(x, d):
        return x / d

    found.erf, found.sqrt, found.cos2pi, found.exp_parts = erf, square_root, cos2pi, exp_parts
    found.power, found.split, found.quotient = power, split, quotient
