"""Functions of one to three numbers, which are applied element by element."""

# The formulas take and return scalars of one type, which the compiler infers; annotations would add nothing.
# mypy: disable-error-code=no-untyped-def

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np

from fastnn.formulas import trigonometric
from fastnn.formulas.single import Jit

ARITY: dict[str, int] = {
    **dict.fromkeys(
        (
            "identity", "negative", "absolute", "sign", "square", "reciprocal", "sqrt", "rsqrt", "exp", "expm1",
            "log", "log1p", "sin", "cos", "tan", "arctan", "sinh", "cosh", "tanh", "sigmoid", "erf", "floor", "ceil",
            "round", "logical_not", "isfinite", "isnan",
        ), 1,
    ),
    **dict.fromkeys(
        (
            "add", "subtract", "multiply", "divide", "power", "mod", "maximum", "minimum", "equal", "not_equal",
            "less", "less_equal", "greater", "greater_equal", "logical_and", "logical_or", "above",
        ), 2,
    ),
    "where": 3,
}  # fmt: skip
"""Name of a function -> the number of its arguments."""

#: Functions of a few instructions: they take as long as memory does, so kernels have a loop for each kind of operands.
SHORT = frozenset({
    "identity", "negative", "absolute", "square", "add", "subtract", "multiply", "divide", "maximum", "minimum",
    "equal", "not_equal", "less", "less_equal", "greater", "greater_equal",
})  # fmt: skip

#: Functions whose value is 1 or 0, or constant between jumps: they have no gradient.
FLAT = frozenset({
    "sign", "floor", "ceil", "round", "logical_not", "isfinite", "isnan", "equal", "not_equal", "less", "less_equal",
    "greater", "greater_equal", "logical_and", "logical_or", "above",
})  # fmt: skip


def define(real: type, jit: Jit, elementary: SimpleNamespace) -> dict[str, Any]:
    """Define every function of one floating-point type.

    Parameters
    ----------
    real : type
        ``numpy.float32`` or ``numpy.float64``: the type of every argument and result.
    jit : callable
        Compiles a scalar function; it may contract multiplications and additions, nothing else.
    elementary : types.SimpleNamespace
        The result of ``fastnn.formulas.elementary.define`` for the same type.

    Returns
    -------
    dict of str to callable
        They take as many numbers as `ARITY` says.

    Raises
    ------
    ValueError
        If `real` is neither of the two types.

    Notes
    -----
    Names and values are those of NumPy, but conditions are 1 or 0, and any number except 0 is true, NaN too. `round`
    rounds halves to even numbers, `mod` has the sign of the divisor. `above` is 1 if the first number is larger, 1/2 if
    both are equal, and 0 otherwise: the slope of `maximum`. The arithmetic functions, roots and conditions are rounded
    as by IEEE 754, `rsqrt` twice. Errors of the others were measured: up to 0.6 ulp for `power`, 1.5 ulp for sine and
    cosine, 1.8 for the arc tangent, 2.8 for the tangent (for arguments up to 1.6e6, see `trigonometric`), 2.2 for the
    hyperbolic sine and cosine, and those of `elementary` for the rest.
    """
    if real is not np.float32 and real is not np.float64:
        raise ValueError(f"real: expected numpy.float32 or numpy.float64, got {real!r}")
    table = {**_arithmetic(real, jit), **_rounding(real, jit), **_conditions(real, jit)}
    table.update(_transcendental(real, jit, elementary))
    table.update(vars(trigonometric.define(real, jit)))
    return table


def _arithmetic(real: Any, jit: Jit) -> dict[str, Any]:
    zero, one = real(0.0), real(1.0)

    @jit
    def identity(x):
        return x

    @jit
    def negative(x):
        return -x

    @jit
    def absolute(x):
        return abs(x)

    @jit
    def sign(x):
        y = one if x > zero else x
        y = zero if x == zero else y
        return -one if x < zero else y

    @jit
    def square(x):
        return x * x

    @jit
    def reciprocal(x):
        return one / x

    @jit
    def sqrt(x):
        return real(math.sqrt(x))

    @jit
    def rsqrt(x):
        return one / real(math.sqrt(x))

    @jit
    def add(a, b):
        return a + b

    @jit
    def subtract(a, b):
        return a - b

    @jit
    def multiply(a, b):
        return a * b

    @jit
    def divide(a, b):
        return a / b

    @jit
    def maximum(a, b):
        y = a if a > b else b
        return a if a != a else y

    @jit
    def minimum(a, b):
        y = a if a < b else b
        return a if a != a else y

    @jit
    def where(condition, a, b):
        return a if condition != zero else b

    return {
        "identity": identity, "negative": negative, "absolute": absolute, "sign": sign, "square": square,
        "reciprocal": reciprocal, "sqrt": sqrt, "rsqrt": rsqrt, "add": add, "subtract": subtract,
        "multiply": multiply, "divide": divide, "maximum": maximum, "minimum": minimum, "where": where,
    }  # fmt: skip


def _rounding(real: Any, jit: Jit) -> dict[str, Any]:
    one = real(1.0)
    # from here on every number is an integer; adding and subtracting it rounds smaller ones
    whole = real(2.0**23 if real is np.float32 else 2.0**52)

    @jit
    def nearest(x):
        a = abs(x)
        y = (a + whole) - whole
        y = y if a < whole else a
        # the sign, also of zeros
        return math.copysign(y, x)

    @jit
    def floor(x):
        y = nearest(x)
        return math.copysign(y - one, x) if y > x else y

    @jit
    def ceil(x):
        y = nearest(x)
        return math.copysign(y + one, x) if y < x else y

    @jit
    def mod(a, b):
        return a % b

    return {"floor": floor, "ceil": ceil, "round": nearest, "mod": mod}


def _conditions(real: Any, jit: Jit) -> dict[str, Any]:
    zero, half, one = real(0.0), real(0.5), real(1.0)
    infinity = real(np.inf)

    @jit
    def equal(a, b):
        return one if a == b else zero

    @jit
    def not_equal(a, b):
        return one if a != b else zero

    @jit
    def less(a, b):
        return one if a < b else zero

    @jit
    def less_equal(a, b):
        return one if a <= b else zero

    @jit
    def greater(a, b):
        return one if a > b else zero

    @jit
    def greater_equal(a, b):
        return one if a >= b else zero

    @jit
    def above(a, b):
        y = half if a == b else zero
        return one if a > b else y

    @jit
    def logical_and(a, b):
        y = one if a != zero else zero
        return y if b != zero else zero

    @jit
    def logical_or(a, b):
        y = one if a != zero else zero
        return one if b != zero else y

    @jit
    def logical_not(x):
        return one if x == zero else zero

    @jit
    def isfinite(x):
        return one if abs(x) < infinity else zero

    @jit
    def isnan(x):
        return one if x != x else zero

    return {
        "equal": equal, "not_equal": not_equal, "less": less, "less_equal": less_equal, "greater": greater,
        "greater_equal": greater_equal, "above": above, "logical_and": logical_and, "logical_or": logical_or,
        "logical_not": logical_not, "isfinite": isfinite, "isnan": isnan,
    }  # fmt: skip


def _transcendental(real: Any, jit: Jit, elementary: SimpleNamespace) -> dict[str, Any]:
    half, one = real(0.5), real(1.0)
    exp, expm1 = elementary.exp, elementary.expm1

    @jit
    def sinh(x):
        a = abs(x)
        e = expm1(a)
        near = half * (e + e / (e + one))
        # exp(a) overflows before half of it
        root = exp(half * a)
        y = near if a < real(20.0) else (half * root) * root
        return math.copysign(y, x)

    @jit
    def cosh(x):
        a = abs(x)
        root = exp(half * a)
        e = exp(-a)
        e = half * (one / e + e)
        return e if a < real(20.0) else (half * root) * root

    names = ("exp", "expm1", "log", "log1p", "tanh", "sigmoid", "erf", "power")
    return {**{name: getattr(elementary, name) for name in names}, "sinh": sinh, "cosh": cosh}
