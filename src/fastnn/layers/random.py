"""Layers that act in training only: Dropout, of single numbers or whole channels, and GaussianNoise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastnn.checks import number
from fastnn.config import register
from fastnn.graph.extent import BATCH
from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.elementwise import dropout, gaussian_noise
from fastnn.graph.ops.pointwise import pointwise, random
from fastnn.layers.base import Layer, Scope, Shape
from fastnn.layers.maps.windows import Windows

__all__ = ["Dropout", "GaussianNoise", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D"]


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

    passes_mask = True

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
class SpatialDropout2D(Windows):
    """Set whole channels of images to zero in training and scale the others by 1 / (1 - rate).

    ::

        fnn.SpatialDropout2D(0.2)

    Parameters
    ----------
    rate : float
        Fraction of the channels to drop, in [0, 1).
    data_format : {"channels_last", "channels_first"}
        Where the channels are; see `Conv2D`.

    Notes
    -----
    Tompson et al. 2015: neighbouring pixels are alike, so dropping single ones takes little away.
    """

    rate: float
    data_format: str | None = None

    def prepare(self) -> None:
        super().prepare()
        self.rate = number("rate", self.rate, at_least=0.0, below=1.0)

    def output_shape(self, *shapes: Shape) -> Shape:
        self.sizes(shapes[0])
        return shapes[0]

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        (x,) = inputs
        if not scope.training or self.rate == 0.0:
            return x
        ones = (BATCH, *self.ordered((*(1,) * self.rank, self.sizes(x.shape)[-1])))
        kept = random(graph, "bernoulli", ones, scope.number, scope.label, p=1.0 - self.rate)
        scaled = pointwise(graph, "multiply", (kept, 1.0 / (1.0 - self.rate)), scope.label)
        return pointwise(graph, "multiply", (x, scaled), scope.label)


@register("layer")
@dataclass(eq=False, repr=False)
class SpatialDropout1D(SpatialDropout2D):
    """Set whole channels of sequences to zero in training; the arguments are those of `SpatialDropout2D`.

    ::

        fnn.SpatialDropout1D(0.2)
    """

    passes_mask = True
    rank = 1


@register("layer")
@dataclass(eq=False, repr=False)
class SpatialDropout3D(SpatialDropout2D):
    """Set whole channels of volumes to zero in training; the arguments are those of `SpatialDropout2D`.

    ::

        fnn.SpatialDropout3D(0.2)
    """

    rank = 3


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

    passes_mask = True

    stddev: float

    def prepare(self) -> None:
        self.stddev = number("stddev", self.stddev, at_least=0.0)

    def output_shape(self, *shapes: Shape) -> Shape:
        return shapes[0]

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        if not scope.training or self.stddev == 0.0:
            return inputs[0]
        return gaussian_noise(graph, inputs[0], self.stddev, scope.number, scope.label)
