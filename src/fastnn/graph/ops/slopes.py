"""Gradients of elementwise functions, made of elementwise functions and sums, so that they have gradients, too."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from fastnn.formulas.pointwise import FLAT
from fastnn.graph.graph import Graph, Node, Tensor
from fastnn.graph.ops.pointwise import Value, pointwise, summed_to
from fastnn.graph.rules import Gradients, gradient

#: Applies a function: its name, its operands.
Apply = Callable[..., Tensor]
#: The gradients for the operands: how to apply functions, the node's output, its gradient, the operands, which are
#: wanted. They may be wider than the operands.
Slope = Callable[[Apply, Tensor, Tensor, Sequence[Value], Sequence[bool]], Sequence[Value | None]]

_TWO_BY_ROOT_PI = 2.0 / math.sqrt(math.pi)


def _add(f: Apply, y: Tensor, dy: Tensor, x: Sequence[Value], needs: Sequence[bool]) -> Sequence[Value | None]:
    return dy, dy


def _subtract(f: Apply, y: Tensor, dy: Tensor, x: Sequence[Value], needs: Sequence[bool]) -> Sequence[Value | None]:
    return dy, f("negative", dy) if needs[1] else None


def _multiply(f: Apply, y: Tensor, dy: Tensor, x: Sequence[Value], needs: Sequence[bool]) -> Sequence[Value | None]:
    return [f("multiply", dy, other) if need else None for other, need in zip(x[::-1], needs, strict=True)]


def _divide(f: Apply, y: Tensor, dy: Tensor, x: Sequence[Value], needs: Sequence[bool]) -> Sequence[Value | None]:
    by = f("divide", dy, x[1])
    return by, f("negative", f("multiply", by, y)) if needs[1] else None


def _power(f: Apply, y: Tensor, dy: Tensor, x: Sequence[Value], needs: Sequence[bool]) -> Sequence[Value | None]:
    """As JAX: a power of zero has the slope 0, and a base of zero as well, for the exponent."""
    base, exponent = x
    da = db = None
    if needs[0]:
        if isinstance(exponent, Tensor):
            lower = f("where", exponent, f("subtract", exponent, 1.0), 1.0)
            slope = f("where", exponent, f("multiply", exponent, f("power", base, lower)), 0.0)
        else:
            return _constant_power(f, dy, base, exponent), None
        da = f("multiply", dy, slope)
    if needs[1]:
        db = f("multiply", dy, f("multiply", y, _log(f, base, exponent)))
    return da, db


def _constant_power(f: Apply, dy: Tensor, base: Value, exponent: float) -> Value | None:
    if exponent in (0.0, 1.0):
        return dy if exponent else None
    return f("multiply", dy, f("multiply", f("power", base, exponent - 1.0), exponent))


def _log(f: Apply, base: Value, exponent: Value) -> Value:
    """Return the logarithm of a base, 0 for that of zero, NaN for those of negative numbers."""
    if isinstance(base, Tensor):
        return f("log", f("where", base, base, 1.0))
    if base >= 0.0:
        return math.log(base) if base else 0.0
    return f("log", f("add", f("multiply", exponent, 0.0), base))


def _maximum(f: Apply, y: Tensor, dy: Tensor, x: Sequence[Value], needs: Sequence[bool]) -> Sequence[Value | None]:
    """As JAX: half to each of two equal numbers."""
    pairs = (x[0], x[1]), (x[1], x[0])
    return [f("multiply", dy, f("above", *pair)) if need else None for pair, need in zip(pairs, needs, strict=True)]


def _minimum(f: Apply, y: Tensor, dy: Tensor, x: Sequence[Value], needs: Sequence[bool]) -> Sequence[Value | None]:
    pairs = (x[1], x[0]), (x[0], x[1])
    return [f("multiply", dy, f("above", *pair)) if need else None for pair, need in zip(pairs, needs, strict=True)]


def _mod(f: Apply, y: Tensor, dy: Tensor, x: Sequence[Value], needs: Sequence[bool]) -> Sequence[Value | None]:
    times = f("floor", f("divide", *x)) if needs[1] else None
    return dy, f("negative", f("multiply", dy, times)) if times is not None else None


def _where(f: Apply, y: Tensor, dy: Tensor, x: Sequence[Value], needs: Sequence[bool]) -> Sequence[Value | None]:
    condition = x[0]
    return (
        None,
        f("where", condition, dy, 0.0) if needs[1] else None,
        f("where", condition, 0.0, dy) if needs[2] else None,
    )


def _of_one(slope: Callable[[Apply, Tensor, Value], Value]) -> Slope:
    """Make the gradient of a function of one argument from its slope: a function of y and x."""

    def rule(f: Apply, y: Tensor, dy: Tensor, x: Sequence[Value], needs: Sequence[bool]) -> Sequence[Value | None]:
        return (f("multiply", dy, slope(f, y, x[0])),)

    return rule


_SLOPES: dict[str, Slope] = {
    "identity": lambda f, y, dy, x, needs: (dy,),
    "negative": lambda f, y, dy, x, needs: (f("negative", dy),),
    "add": _add,
    "subtract": _subtract,
    "multiply": _multiply,
    "divide": _divide,
    "power": _power,
    "maximum": _maximum,
    "minimum": _minimum,
    "mod": _mod,
    "where": _where,
    "absolute": _of_one(lambda f, y, x: f("sign", x)),
    "square": _of_one(lambda f, y, x: f("multiply", x, 2.0)),
    "reciprocal": _of_one(lambda f, y, x: f("negative", f("square", y))),
    "sqrt": _of_one(lambda f, y, x: f("divide", 0.5, y)),
    "rsqrt": _of_one(lambda f, y, x: f("multiply", f("divide", y, x), -0.5)),
    "exp": _of_one(lambda f, y, x: y),
    "expm1": _of_one(lambda f, y, x: f("add", y, 1.0)),
    "log": lambda f, y, dy, x, needs: (f("divide", dy, x[0]),),
    "log1p": lambda f, y, dy, x, needs: (f("divide", dy, f("add", x[0], 1.0)),),
    "sin": _of_one(lambda f, y, x: f("cos", x)),
    "cos": _of_one(lambda f, y, x: f("negative", f("sin", x))),
    "tan": _of_one(lambda f, y, x: f("add", f("square", y), 1.0)),
    "arctan": lambda f, y, dy, x, needs: (f("divide", dy, f("add", f("square", x[0]), 1.0)),),
    "sinh": _of_one(lambda f, y, x: f("cosh", x)),
    "cosh": _of_one(lambda f, y, x: f("sinh", x)),
    "tanh": _of_one(lambda f, y, x: f("subtract", 1.0, f("square", y))),
    "sigmoid": _of_one(lambda f, y, x: f("multiply", y, f("subtract", 1.0, y))),
    "erf": _of_one(lambda f, y, x: f("multiply", f("exp", f("negative", f("square", x))), _TWO_BY_ROOT_PI)),
}


@gradient("pointwise")
def _pointwise(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    formula = node.attrs["formula"]
    if formula in FLAT:
        return (None,) * len(node.inputs)

    def apply(function: str, *operands: Value) -> Tensor:
        return pointwise(graph, function, operands, node.label)

    numbers = node.attrs["numbers"]
    values = [number if x is None else x for x, number in zip(node.inputs, numbers, strict=True)]
    slopes = _SLOPES[formula](apply, node.outputs[0], dy, values, needs)
    return [
        summed_to(graph, dx, x.whole, node.label) if need and x is not None and isinstance(dx, Tensor) else None
        for x, dx, need in zip(node.inputs, slopes, needs, strict=True)
    ]


@gradient("to_real", "to_integer")
def _cast(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    return (None,)
