"""Masking: sequences with fewer steps than others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastnn.checks import number
from fastnn.config import register
from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.pointwise import pointwise
from fastnn.graph.ops.reductions import reduce
from fastnn.layers.base import Layer, Scope, Shape

__all__ = ["Masking"]


@register("layer")
@dataclass(eq=False, repr=False)
class Masking(Layer):
    """Leave out the steps of sequences whose features all have one value.

    ::

        model = fnn.Sequential([fnn.Input((20, 3)), fnn.Masking(), fnn.LSTM(16), fnn.Dense(1)])

    Parameters
    ----------
    mask_value : float
        The value.

    Notes
    -----
    Input and output have shape (steps, features); the features of a step that is left out become zero. The result has a
    mask, which layers such as `Dense`, `Dropout` and recurrent ones pass on. Recurrent layers carry their states over
    steps that are left out, `GlobalAveragePooling1D` averages over the others, and losses and metrics of a model whose
    output has the mask do not count them.
    """

    mask_value: float = 0.0

    makes_mask = True

    def prepare(self) -> None:
        self.mask_value = number("mask_value", self.mask_value)

    def output_shape(self, *shapes: Shape) -> Sequence[Shape]:
        if len(shapes[0]) != 2:
            raise self.fail(f"takes sequences of shape (batch, steps, features), got {('batch', *shapes[0])}")
        return [shapes[0], (shapes[0][0], 1)]

    def apply(
        self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope
    ) -> Sequence[Tensor]:
        (x,), label = inputs, scope.label
        mask = reduce(graph, "max", pointwise(graph, "not_equal", [x, self.mask_value], label), (2,), True, label)
        return [pointwise(graph, "multiply", [x, mask], label), mask]
