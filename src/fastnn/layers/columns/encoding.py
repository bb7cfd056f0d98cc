"""Integers as rows of zeros and ones, or of counts: CategoryEncoding, and the output modes that other layers share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.checks import shorten, size
from fastnn.config import register
from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.indexing import one_hot
from fastnn.graph.ops.pointwise import pointwise
from fastnn.graph.ops.reductions import reduce
from fastnn.graph.ops.strided import reshape
from fastnn.layers.base import Scope, Shape
from fastnn.layers.columns.arrays import ArrayLayer, integers, numbers
from fastnn.layers.operators import Value

__all__ = ["CategoryEncoding"]

#: output modes that make rows
ROWS = ("one_hot", "multi_hot", "count")


def output_mode(given: Any, modes: Sequence[str]) -> str:
    """Return an output mode, checked."""
    if given not in modes:
        raise ValueError(f"output_mode: expected {', '.join(map(repr, modes))}, got {shorten(given)}")
    return str(given)


def rows_shape(shape: Shape, depth: int, mode: str) -> Shape:
    """Return the shape of a sample's rows, as Keras 3 has it.

    An axis of rows is added for "one_hot", or replaces a last axis of size 1; otherwise it replaces the last axis,
    which is counted.
    """
    if mode == "one_hot" and shape[-1:] != (1,):
        return (*shape, depth)
    return (*shape[:-1], depth)


def rows(
    graph: Graph, index: Tensor, depth: int, mode: str, label: str, weights: Tensor | None = None
) -> Tensor:  # fmt: skip
    """Make rows of integers; those that are not from 0 to depth - 1 are left out."""
    hot = one_hot(graph, index, depth, label)
    axis = len(index.whole) - 1
    if weights is not None:
        hot = pointwise(graph, "multiply", (hot, reshape(graph, weights, (*weights.whole, 1), label)), label)
    if not axis or (mode == "one_hot" and index.whole[-1] != 1):
        return hot
    return reduce(graph, "max" if mode == "multi_hot" else "sum", hot, axis, False, label)


def rows_of_array(
    index: NDArray[np.int64], depth: int, mode: str, weights: NDArray[Any] | None = None
) -> NDArray[np.float32]:  # fmt: skip
    """Make rows of an array, whose first axis is that of the batch, as `rows` does."""
    index = np.atleast_1d(index)
    shape = rows_shape(index.shape[1:], depth, mode)
    made = np.zeros((index.size, depth) if mode == "one_hot" else (int(np.prod((len(index), *shape[:-1]))), depth))
    flat = index.ravel()
    known = np.flatnonzero((flat >= 0) & (flat < depth))
    row = known // (1 if mode == "one_hot" or index.ndim == 1 else index.shape[-1])
    if mode == "count":
        np.add.at(made, (row, flat[known]), 1.0 if weights is None else weights.ravel()[known])
    else:
        made[row, flat[known]] = 1.0
    return made.reshape((len(index), *shape)).astype(np.float32)


@register("layer")
@dataclass(eq=False, repr=False)
class CategoryEncoding(ArrayLayer):
    """Turn integers into rows of zeros and ones, or count them.

    ::

        topics = fnn.Input(5, dtype="int64")
        model = fnn.Model(topics, fnn.Dense(1)(fnn.CategoryEncoding(20)(topics)))

    Parameters
    ----------
    num_tokens : int
        The length of a row: integers are from 0 to num_tokens - 1.
    output_mode : {"multi_hot", "one_hot", "count"}
        "one_hot": a row for each integer; a last axis of size 1 is replaced by the rows' axis. "multi_hot": one row
        for the integers along the last axis, with 1 for those that occur. "count": how often they occur.

    Raises
    ------
    TypeError, ValueError
        When an argument is invalid. When the model runs, also for integers out of range, before anything is computed.

    Notes
    -----
    Inputs have shape (...) or (..., n), outputs (..., num_tokens). For "count", the layer may be called on
    [integers, weights] of the same shape, or with ``count_weights=weights``: then weights are added up. No gradient
    reaches the integers. Names and arguments are Keras 3's. The first axis is always that of the batch, also that of
    arrays: an array of shape (n,) gives n rows.
    """

    num_tokens: int
    output_mode: str = "multi_hot"

    arity = (1, 2)

    def prepare(self) -> None:
        self.num_tokens = size("num_tokens", self.num_tokens)
        self.output_mode = output_mode(self.output_mode, ROWS)

    def __call__(self, inputs: Any, count_weights: Any = None) -> Any:
        """Return the symbol of the rows, or the rows of an array."""
        if count_weights is None:
            return super().__call__(inputs)
        if isinstance(inputs, Value):
            return super().__call__([inputs, count_weights])
        return self.on_array(inputs, count_weights)

    def accepts(self, kind: str, position: int) -> bool:
        return kind == "int64" if position == 0 else kind == "real"

    def input_range(self, position: int, *shapes: Shape) -> tuple[int, int]:
        return 0, self.num_tokens - 1

    def output_shape(self, *shapes: Shape) -> Shape:
        self._check_weights(*shapes)
        return rows_shape(shapes[0], self.num_tokens, self.output_mode)

    def _check_weights(self, shape: Shape, weights: Shape | None = None) -> None:
        if weights is not None and self.output_mode != "count":
            raise self.fail(f"takes weights for output_mode='count' only, not for {self.output_mode!r}")
        if weights not in (None, shape):
            raise self.fail(f"takes weights of the shape of the integers, got {weights} for {shape}")

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        index, *factors = inputs
        return rows(graph, index, self.num_tokens, self.output_mode, scope.label, factors[0] if factors else None)

    def on_array(self, inputs: Any, count_weights: Any = None) -> NDArray[np.float32]:
        """Make rows of an array of shape (n, ...)."""
        index = integers(self.label, inputs)
        factors = None if count_weights is None else numbers(f"{self.label}: count_weights", count_weights)
        self._check_weights(index.shape, None if factors is None else factors.shape)
        bad = index[(index < 0) | (index >= self.num_tokens)]
        if bad.size:
            raise self.fail(f"takes integers from 0 to {self.num_tokens - 1}, got {bad[0]}")
        return rows_of_array(index, self.num_tokens, self.output_mode, factors)
