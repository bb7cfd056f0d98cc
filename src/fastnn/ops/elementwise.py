"""Element by element: arithmetic, elementary functions, comparisons, logic. Numbers and arrays may stand for symbols.

Shapes are broadcast as NumPy's are; the batch axis is the first one.
Integers are taken as numbers of the model's dtype; float32 holds those up to 2^24 exactly.
"""

from __future__ import annotations

from typing import Any

from fastnn.graph.graph import Tensor
from fastnn.graph.ops import pointwise, strided
from fastnn.layers.tracing import Place
from fastnn.ops.definition import Operand, op

__all__ = [
    "absolute",
    "add",
    "arctan",
    "cast",
    "ceil",
    "clip",
    "cos",
    "cosh",
    "divide",
    "equal",
    "erf",
    "exp",
    "expm1",
    "floor",
    "greater",
    "greater_equal",
    "isfinite",
    "isnan",
    "less",
    "less_equal",
    "log",
    "log1p",
    "logical_and",
    "logical_not",
    "logical_or",
    "maximum",
    "minimum",
    "mod",
    "multiply",
    "negative",
    "not_equal",
    "power",
    "reciprocal",
    "round",
    "rsqrt",
    "sign",
    "sin",
    "sinh",
    "sqrt",
    "square",
    "stop_gradient",
    "subtract",
    "tan",
    "where",
]


def _apply(place: Place, function: str, *values: Any) -> Tensor:
    """Add a pointwise function; numbers stay numbers."""
    given = [
        one if isinstance(one, (int, float)) and not isinstance(one, bool) else place.tensor(one) for one in values
    ]
    if not any(isinstance(one, Tensor) for one in given):
        given[0] = place.tensor(given[0])
    return pointwise.pointwise(place.graph, function, given, place.label)


@op()
def negative(place: Place, x: Operand) -> Tensor:
    """Return -x."""
    return _apply(place, "negative", x)


@op()
def absolute(place: Place, x: Operand) -> Tensor:
    """Return absolute values; the gradient at 0 is 0."""
    return _apply(place, "absolute", x)


@op()
def sign(place: Place, x: Operand) -> Tensor:
    """Return -1, 0 or 1 by the sign; without a gradient."""
    return _apply(place, "sign", x)


@op()
def exp(place: Place, x: Operand) -> Tensor:
    """Return e to the power x."""
    return _apply(place, "exp", x)


@op()
def log(place: Place, x: Operand) -> Tensor:
    """Return natural logarithms."""
    return _apply(place, "log", x)


@op()
def log1p(place: Place, x: Operand) -> Tensor:
    """Return log(1 + x), accurate near 0."""
    return _apply(place, "log1p", x)


@op()
def expm1(place: Place, x: Operand) -> Tensor:
    """Return exp(x) - 1, accurate near 0."""
    return _apply(place, "expm1", x)


@op()
def sqrt(place: Place, x: Operand) -> Tensor:
    """Return square roots."""
    return _apply(place, "sqrt", x)


@op(numpy="1 / numpy.sqrt")
def rsqrt(place: Place, x: Operand) -> Tensor:
    """Return 1 / sqrt(x)."""
    return _apply(place, "rsqrt", x)


@op()
def square(place: Place, x: Operand) -> Tensor:
    """Return x * x."""
    return _apply(place, "square", x)


@op()
def reciprocal(place: Place, x: Operand) -> Tensor:
    """Return 1 / x."""
    return _apply(place, "reciprocal", x)


@op()
def sin(place: Place, x: Operand) -> Tensor:
    """Return sines of angles in radians."""
    return _apply(place, "sin", x)


@op()
def cos(place: Place, x: Operand) -> Tensor:
    """Return cosines of angles in radians."""
    return _apply(place, "cos", x)


@op()
def tan(place: Place, x: Operand) -> Tensor:
    """Return tangents of angles in radians."""
    return _apply(place, "tan", x)


@op()
def sinh(place: Place, x: Operand) -> Tensor:
    """Return hyperbolic sines."""
    return _apply(place, "sinh", x)


@op()
def cosh(place: Place, x: Operand) -> Tensor:
    """Return hyperbolic cosines."""
    return _apply(place, "cosh", x)


@op()
def arctan(place: Place, x: Operand) -> Tensor:
    """Return inverse tangents, in radians."""
    return _apply(place, "arctan", x)


@op(numpy="scipy.special.erf")
def erf(place: Place, x: Operand) -> Tensor:
    """Return the error function."""
    return _apply(place, "erf", x)


@op()
def floor(place: Place, x: Operand) -> Tensor:
    """Return the greatest integers below or equal; without a gradient."""
    return _apply(place, "floor", x)


@op()
def ceil(place: Place, x: Operand) -> Tensor:
    """Return the least integers above or equal; without a gradient."""
    return _apply(place, "ceil", x)


@op()
def round(place: Place, x: Operand) -> Tensor:
    """Return the nearest integers, halves to even ones; without a gradient."""
    return _apply(place, "round", x)


@op()
def isfinite(place: Place, x: Operand) -> Tensor:
    """Return 1 where x is neither NaN nor infinite, else 0."""
    return _apply(place, "isfinite", x)


@op()
def isnan(place: Place, x: Operand) -> Tensor:
    """Return 1 where x is NaN, else 0."""
    return _apply(place, "isnan", x)


@op()
def logical_not(place: Place, x: Operand) -> Tensor:
    """Return 1 where x is 0, else 0."""
    return _apply(place, "logical_not", x)


@op()
def add(place: Place, x: Operand, y: Operand) -> Tensor:
    """Return x + y."""
    return _apply(place, "add", x, y)


@op()
def subtract(place: Place, x: Operand, y: Operand) -> Tensor:
    """Return x - y."""
    return _apply(place, "subtract", x, y)


@op()
def multiply(place: Place, x: Operand, y: Operand) -> Tensor:
    """Return x * y."""
    return _apply(place, "multiply", x, y)


@op()
def divide(place: Place, x: Operand, y: Operand) -> Tensor:
    """Return x / y."""
    return _apply(place, "divide", x, y)


@op()
def power(place: Place, x: Operand, y: Operand) -> Tensor:
    """Return x to the power y."""
    return _apply(place, "power", x, y)


@op()
def mod(place: Place, x: Operand, y: Operand) -> Tensor:
    """Return the remainder of x / y, with the sign of y, as in Python."""
    return _apply(place, "mod", x, y)


@op()
def maximum(place: Place, x: Operand, y: Operand) -> Tensor:
    """Return the greater one of each pair."""
    return _apply(place, "maximum", x, y)


@op()
def minimum(place: Place, x: Operand, y: Operand) -> Tensor:
    """Return the smaller one of each pair."""
    return _apply(place, "minimum", x, y)


@op()
def equal(place: Place, x: Operand, y: Operand) -> Tensor:
    """Return 1 where x and y are equal, else 0."""
    return _apply(place, "equal", x, y)


@op()
def not_equal(place: Place, x: Operand, y: Operand) -> Tensor:
    """Return 1 where x and y differ, else 0."""
    return _apply(place, "not_equal", x, y)


@op()
def less(place: Place, x: Operand, y: Operand) -> Tensor:
    """Return 1 where x < y, else 0."""
    return _apply(place, "less", x, y)


@op()
def less_equal(place: Place, x: Operand, y: Operand) -> Tensor:
    """Return 1 where x <= y, else 0."""
    return _apply(place, "less_equal", x, y)


@op()
def greater(place: Place, x: Operand, y: Operand) -> Tensor:
    """Return 1 where x > y, else 0."""
    return _apply(place, "greater", x, y)


@op()
def greater_equal(place: Place, x: Operand, y: Operand) -> Tensor:
    """Return 1 where x >= y, else 0."""
    return _apply(place, "greater_equal", x, y)


@op()
def logical_and(place: Place, x: Operand, y: Operand) -> Tensor:
    """Return 1 where neither x nor y is 0, else 0."""
    return _apply(place, "logical_and", x, y)


@op()
def logical_or(place: Place, x: Operand, y: Operand) -> Tensor:
    """Return 1 where x or y is not 0, else 0."""
    return _apply(place, "logical_or", x, y)


@op()
def where(place: Place, condition: Operand, x: Operand, y: Operand) -> Tensor:
    """Return x where a condition is not 0, else y; the gradient goes only to the one that is taken."""
    return _apply(place, "where", place.tensor(condition), x, y)


@op()
def clip(place: Place, x: Operand, x_min: Operand, x_max: Operand) -> Tensor:
    """Return x within bounds, each of which may be None."""
    if x_min is None and x_max is None:
        raise ValueError("clip: expected a lower or an upper bound, got None for both")
    if x_min is not None:
        x = _apply(place, "maximum", x, x_min)
    return x if x_max is None else _apply(place, "minimum", x, x_max)


@op(numpy="x.astype")
def cast(place: Place, x: Operand, dtype: str) -> Tensor:
    """Return integers as numbers of the model's dtype ("float"), or numbers as integers ("int64"), toward zero."""
    kinds = {"float": "real", "real": "real", "float32": "real", "float64": "real", "int": "int64", "int64": "int64"}
    if dtype not in kinds:
        raise ValueError(f"cast: dtype: expected 'float' or 'int64', got {dtype!r}")
    return pointwise.cast(place.graph, place.tensor(x), kinds[dtype], place.label)


@op(numpy="")
def stop_gradient(place: Place, x: Operand) -> Tensor:
    """Return x as a constant of the gradient: nothing is learnt through it."""
    return strided.stop_gradient(place.graph, place.tensor(x), place.label)
