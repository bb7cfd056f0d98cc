"""Layers that take integers: OneHot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastnn.checks import size
from fastnn.config import register
from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.indexing import one_hot
from fastnn.layers.base import Layer, Scope, Shape

__all__ = ["OneHot"]


@register("layer")
@dataclass(eq=False, repr=False)
class OneHot(Layer):
    """Turn every integer into a row of zeros with a one at its place.

    ::

        weekday = fnn.Input((), dtype="int64")
        model = fnn.Model(weekday, fnn.Dense(1)(fnn.OneHot(7)(weekday)))

    Parameters
    ----------
    depth : int
        The length of a row: integers are from 0 to depth - 1.

    Notes
    -----
    The input has shape (...), the output (..., depth). No gradient reaches the integers. A `Dense` layer after it looks
    up rows of its kernel, but multiplies by all the zeros: it costs depth times as much as reading a row.
    """

    depth: int

    def prepare(self) -> None:
        self.depth = size("depth", self.depth)

    def accepts(self, kind: str, position: int) -> bool:
        return kind == "int64"

    def input_range(self, position: int, *shapes: Shape) -> tuple[int, int]:
        return 0, self.depth - 1

    def output_shape(self, *shapes: Shape) -> Shape:
        return (*shapes[0], self.depth)

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        return one_hot(graph, inputs[0], self.depth, scope.label)
