"""Layers that change images at random in training, and nothing in prediction: RandomFlip and changes of values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastnn.checks import number, shorten
from fastnn.config import register
from fastnn.graph.algebra import Term, terms
from fastnn.graph.extent import BATCH
from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.pointwise import random
from fastnn.graph.ops.strided import flip, getitem
from fastnn.layers.base import Scope, Shape
from fastnn.layers.maps.windows import Windows, choice

__all__ = ["RandomBrightness", "RandomContrast", "RandomFlip"]

Factor = float | Sequence[float]
Bounds = tuple[float, float]


def factor_of(name: str, given: Factor, least: float, most: float) -> Factor:
    """Return a number, or two in rising order.

    Raises
    ------
    TypeError, ValueError
        If they are something else, or out of bounds.
    """
    if not isinstance(given, (tuple, list)):
        return number(name, given, at_least=least, at_most=most)
    if len(given) != 2:
        raise ValueError(f"{name}: expected a number or two, got {shorten(given)}")
    return tuple(
        sorted(number(f"{name}[{place}]", each, at_least=least, at_most=most) for place, each in enumerate(given))
    )


def bounds_of(factor: Factor) -> Bounds:
    """Return the least and the largest number that may be drawn."""
    if isinstance(factor, Sequence):
        return factor[0], factor[1]
    return -abs(factor), abs(factor)


class Augmentation(Windows):
    """A layer that changes images in training."""

    def output_shape(self, *shapes: Shape) -> Shape:
        self.sizes(shapes[0])
        return shapes[0]

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        (x,) = inputs
        return self.changed(graph, x, scope) if scope.training else x

    def changed(self, graph: Graph, x: Tensor, scope: Scope) -> Tensor:
        """Add the nodes that change a batch of images."""
        raise NotImplementedError

    def drawn(self, graph: Graph, scope: Scope, *bounds: Bounds) -> list[Term]:
        """Draw numbers for each sample, one within each pair of bounds, as tensors (B, 1)."""
        # one node, because a second one would need a stream of random numbers that no other layer has
        numbers = random(graph, "uniform", (BATCH, len(bounds)), scope.number, scope.label, low=0.0, high=1.0)
        found = []
        for column, (low, high) in enumerate(bounds):
            (one,) = terms(graph, scope.label, getitem(graph, numbers, (slice(None), slice(column, column + 1)),
                                                       scope.label))  # fmt: skip
            found.append(one * (high - low) + low)
        return found


@register("layer")
@dataclass(eq=False, repr=False)
class RandomFlip(Augmentation):
    """Flip every other image in training, chosen at random.

    ::

        fnn.RandomFlip("horizontal")

    Parameters
    ----------
    mode : {"horizontal_and_vertical", "horizontal", "vertical"}
        Exchange left and right, top and bottom, or each of the two with a probability of 1/2. (In Keras 3 either both
        or none are exchanged.)
    data_format : {"channels_last", "channels_first"}
        Where the channels are; see `Conv2D`.

    Notes
    -----
    All random numbers depend only on the model's seed, the step, the layer and the sample's place in the batch.
    """

    mode: str = "horizontal_and_vertical"
    data_format: str | None = None

    def prepare(self) -> None:
        super().prepare()
        self.mode = choice("mode", self.mode, ("horizontal_and_vertical", "horizontal", "vertical"))

    def changed(self, graph: Graph, x: Tensor, scope: Scope) -> Tensor:
        down, right = self.batch_axes
        axes = {"horizontal": [right], "vertical": [down]}.get(self.mode, [down, right])
        for axis, drawn in zip(axes, self.drawn(graph, scope, *[(0.0, 1.0)] * len(axes)), strict=True):
            chosen = drawn.apply("less", 0.5).reshaped((BATCH, 1, 1, 1))
            other, same = terms(graph, scope.label, flip(graph, x, axis, scope.label), x)
            x = chosen.where(other, same).tensor
        return x


class _Valued(Augmentation):
    """A layer that changes the values of pixels within a range."""

    value_range: Sequence[float]

    def prepare(self) -> None:
        super().prepare()
        given = self.value_range
        if not isinstance(given, (tuple, list)) or len(given) != 2:
            raise ValueError(f"value_range: expected two numbers, got {shorten(given)}")
        low, high = (number(f"value_range[{place}]", each) for place, each in enumerate(given))
        if low >= high:
            raise ValueError(f"value_range: expected the lower number first, got {shorten(given)}")
        self.value_range = low, high

    def clipped(self, values: Term) -> Tensor:
        """Return values within the range."""
        return values.apply("maximum", self.value_range[0]).apply("minimum", self.value_range[1]).tensor


@register("layer")
@dataclass(eq=False, repr=False)
class RandomContrast(_Valued):
    """Multiply the differences from each channel's mean in training, for each image by another number.

    ::

        fnn.RandomContrast(0.2, value_range=(0.0, 1.0))

    (x - mean) c + mean, with the mean of a channel of an image.

    Parameters
    ----------
    factor : float or (float, float)
        c is drawn from 1 - lower to 1 + upper, with the two numbers (lower, upper), or a number f for both. They are
        within [0, 1].
    value_range : (float, float)
        The least and the largest value that pixels may have: results beyond them are clipped. The default is for
        images of the values 0 to 255.
    data_format : {"channels_last", "channels_first"}
        Where the channels are; see `Conv2D`.
    """

    factor: Factor
    value_range: Sequence[float] = (0.0, 255.0)
    data_format: str | None = None

    def prepare(self) -> None:
        super().prepare()
        if not isinstance(self.factor, (tuple, list)):
            self.factor = number("factor", self.factor, at_least=0.0, at_most=1.0)
            return
        if len(self.factor) != 2:
            raise ValueError(f"factor: expected a number or two, got {shorten(self.factor)}")
        self.factor = tuple(
            number(f"factor[{place}]", each, at_least=0.0, at_most=1.0) for place, each in enumerate(self.factor)
        )

    def changed(self, graph: Graph, x: Tensor, scope: Scope) -> Tensor:
        lower, upper = self.factor if isinstance(self.factor, tuple) else (self.factor, self.factor)
        (times,) = self.drawn(graph, scope, (1.0 - lower, 1.0 + upper))
        (pixels,) = terms(graph, scope.label, x)
        mean = pixels.reduce("mean", self.batch_axes, keepdims=True)
        return self.clipped((pixels - mean) * times.reshaped((BATCH, 1, 1, 1)) + mean)


@register("layer")
@dataclass(eq=False, repr=False)
class RandomBrightness(_Valued):
    """Add a number to all pixels in training, for each image another one.

    ::

        fnn.RandomBrightness(0.1, value_range=(0.0, 1.0))

    Parameters
    ----------
    factor : float or (float, float)
        The least and the largest number, as parts of the range of values. A number f stands for (-f, f). They are
        within [-1, 1].
    value_range, data_format
        Those of `RandomContrast`.
    """

    factor: Factor
    value_range: Sequence[float] = (0.0, 255.0)
    data_format: str | None = None

    def prepare(self) -> None:
        super().prepare()
        self.factor = factor_of("factor", self.factor, -1.0, 1.0)

    def changed(self, graph: Graph, x: Tensor, scope: Scope) -> Tensor:
        low, high = bounds_of(self.factor)
        size = self.value_range[1] - self.value_range[0]
        (more,) = self.drawn(graph, scope, (low * size, high * size))
        (pixels,) = terms(graph, scope.label, x)
        return self.clipped(pixels + more.reshaped((BATCH, 1, 1, 1)))
