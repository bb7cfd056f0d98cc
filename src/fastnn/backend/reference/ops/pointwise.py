"""Functions of one to three broadcast arrays, conversions, and random numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.backend.reference.instruction import Array, Counters, Instruction, executes
from fastnn.backend.reference.philox import normals, random_words


def _condition(function: Callable[..., Any]) -> Callable[..., Array]:
    return lambda *x: np.asarray(function(*x), np.float64)


def _where(condition: Array, a: Array, b: Array) -> Array:
    return np.where(condition != 0.0, a, b)


_FUNCTIONS: dict[str, Callable[..., Array]] = {
    "identity": np.positive, "negative": np.negative, "absolute": np.absolute, "sign": np.sign, "square": np.square,
    "reciprocal": np.reciprocal, "sqrt": np.sqrt, "rsqrt": lambda x: 1.0 / np.sqrt(x), "exp": np.exp,
    "expm1": np.expm1, "log": np.log, "log1p": np.log1p, "sin": np.sin, "cos": np.cos, "tan": np.tan,
    "arctan": np.arctan, "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh,
    "sigmoid": lambda x: np.exp(-np.logaddexp(0.0, -x)), "erf": np.vectorize(math.erf, otypes=[np.float64]),
    "floor": np.floor, "ceil": np.ceil, "round": np.rint, "logical_not": _condition(np.logical_not),
    "isfinite": _condition(np.isfinite), "isnan": _condition(np.isnan),
    "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.divide, "power": np.power,
    "mod": np.mod, "maximum": np.maximum, "minimum": np.minimum,
    **{
        name: _condition(getattr(np, name))
        for name in (
            "equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "logical_and", "logical_or",
        )
    },
    "above": lambda a, b: (np.greater(a, b) + np.greater_equal(a, b).astype(np.float64)) / 2.0,
    "where": _where,
}  # fmt: skip


_OF_TWO = {
    "add", "subtract", "multiply", "divide", "power", "mod", "maximum", "minimum", "above", "equal", "not_equal",
    "less", "less_equal", "greater", "greater_equal", "logical_and", "logical_or",
}  # fmt: skip


@executes("pointwise")
def pointwise(i: Instruction, counters: Counters) -> None:
    """Apply the mapped function to broadcast operands; one that is missing is a parameter."""
    assert i.mapped is not None
    function = _FUNCTIONS[i.mapped.variant]
    count = _arguments(i.mapped.variant)
    dims, sizes = i.dims, [i.dims[f"n{axis}"] for axis in range(1, 4)]
    shape = [dims["n"] // int(np.prod(sizes)), *sizes]
    values = []
    for number, name in enumerate("abc"[:count]):
        x = i.get(name)
        if x is None:
            values.append(np.full(shape, i.params[f"p{number}"]))
            continue
        strides = [x.itemsize * dims[f"{name}{axis}"] for axis in range(4)]
        values.append(np.lib.stride_tricks.as_strided(x, shape, strides))
    i.write("y", function(*values).reshape(-1))


def _arguments(name: str) -> int:
    return 3 if name == "where" else 2 if name in _OF_TWO else 1


@executes("to_real")
def to_real(i: Instruction, counters: Counters) -> None:
    """Convert integers to the program's dtype."""
    i.write("y", i["x"].astype(i.dtype))


@executes("to_integer")
def to_integer(i: Instruction, counters: Counters) -> None:
    """Convert numbers to integers, towards zero; NaN becomes the smallest, what is beyond them the nearest."""
    x, ends = i["x"], np.iinfo(np.int64)
    inside = np.abs(x) < 2.0**63
    whole = np.where(inside, x, 0.0).astype(np.int64)
    i.write("y", np.where(inside, whole, np.where(x > 0.0, ends.max, ends.min)))


@executes("random")
def random(i: Instruction, counters: Counters) -> None:
    """Draw numbers: normal ones as those of `gaussian_noise`; the others from one word for each element."""
    first, second = i.params["p0"], i.params["p1"]
    key = i.dims["n"], i.dims["node"], counters.step, counters.seed
    if i.variant == "normal":
        i.write("y", first + second * normals(*key))
    elif i.variant == "uniform":
        bits = 24 if i.dtype == "float32" else 32
        i.write("y", first + (second - first) * ((random_words(*key) >> np.uint64(32 - bits)) / 2.0**bits))
    else:
        i.write("y", (random_words(*key) < first * 2.0**32).astype(np.float64))
