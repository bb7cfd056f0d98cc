"""Layers that join several inputs: Add, Multiply, Concatenate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastnn.config import register
from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.elementwise import elementwise
from fastnn.graph.ops.moves import concatenate
from fastnn.layers.base import Layer, Scope, Shape

__all__ = ["Add", "Concatenate", "Multiply"]


class _Elementwise(Layer):
    arity = (2, None)
    op = ""

    def output_shape(self, *shapes: Shape) -> Shape:
        largest = max(shapes, key=len)
        if any(shape != largest[len(largest) - len(shape) :] for shape in shapes):
            said = ", ".join(map(str, shapes))
            raise self.fail(f"takes inputs of one shape, or of shapes that are the end of the longest, got {said}")
        return largest

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        return elementwise(graph, self.op, inputs, scope.label)


@register("layer")
@dataclass(eq=False, repr=False)
class Add(_Elementwise):
    """Add two or more inputs, element by element, from left to right.

    ::

        fnn.Add()([a, b])

    Notes
    -----
    Inputs have one shape; or some are shorter, and their shape is the end of the longest: samples of shape (features,)
    are used again for each of the rows of samples of shape (rows, features).
    """

    op = "add"


@register("layer")
@dataclass(eq=False, repr=False)
class Multiply(_Elementwise):
    """Multiply two or more inputs, element by element, from left to right.

    ::

        fnn.Multiply()([a, b])

    Notes
    -----
    Inputs have one shape; or some are shorter, and their shape is the end of the longest: samples of shape (features,)
    are used again for each of the rows of samples of shape (rows, features).
    """

    op = "multiply"


@register("layer")
@dataclass(eq=False, repr=False)
class Concatenate(Layer):
    """Join two or more inputs along their last axis; all other axes must agree.

    ::

        fnn.Concatenate()([a, b])
    """

    arity = (2, None)

    def output_shape(self, *shapes: Shape) -> Shape:
        if any(not shape or shape[:-1] != shapes[0][:-1] for shape in shapes):
            raise self.fail(f"takes inputs that differ in the last axis only, got {', '.join(map(str, shapes))}")
        return (*shapes[0][:-1], sum(shape[-1] for shape in shapes))

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        return concatenate(graph, inputs, scope.label)
