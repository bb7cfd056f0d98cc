"""Layers that act in training only: Dropout and GaussianNoise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastnn.checks import number
from fastnn.config import register
from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.elementwise import dropout, gaussian_noise
from fastnn.layers.base import Layer, Scope, Shape

__all__ = ["Dropout", "GaussianNoise"]


@register("layer")
@dataclass(eq=False, repr=False)
class Dropout(Layer):
    """Set a fraction of the inputs to zero in training and scale the others by 1 / (1 - rate).

    ::

        fnn.Dropout(0.2)

    Parameters
    ----------
    rate : float
        Fraction to drop, in [0, 1).

    Notes
    -----
    Srivastava et al. 2014. The mask depends only on the model's seed, the step, the layer and the element.
    """

    rate: float

    def prepare(self) -> None:
        self.rate = number("rate", self.rate, at_least=0.0, below=1.0)

    def output_shape(self, *shapes: Shape) -> Shape:
        return shapes[0]

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        if not scope.training or self.rate == 0.0:
            return inputs[0]
        return dropout(graph, inputs[0], self.rate, scope.number, scope.label)


@register("layer")
@dataclass(eq=False, repr=False)
class GaussianNoise(Layer):
    """Add normal noise of mean 0 in training.

    ::

        fnn.GaussianNoise(0.1)

    Parameters
    ----------
    stddev : float
        Standard deviation of the noise, at least 0.
    """

    stddev: float

    def prepare(self) -> None:
        self.stddev = number("stddev", self.stddev, at_least=0.0)

    def output_shape(self, *shapes: Shape) -> Shape:
        return shapes[0]

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        if not scope.training or self.stddev == 0.0:
            return inputs[0]
        return gaussian_noise(graph, inputs[0], self.stddev, scope.number, scope.label)
