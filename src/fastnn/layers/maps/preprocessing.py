"""Layers that bring images into the form that a network takes, in training and prediction: Rescaling, Resizing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastnn.checks import flag, number, size
from fastnn.config import register
from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.joins import pad
from fastnn.graph.ops.pointwise import pointwise
from fastnn.graph.ops.resizing import INTERPOLATIONS, centres, resampled
from fastnn.graph.ops.strided import sliced
from fastnn.layers.base import Layer, Scope, Shape
from fastnn.layers.maps.windows import Windows, choice
from fastnn.layers.tracing import LARGEST_CONSTANT, Place

__all__ = ["Rescaling", "Resizing"]

Numbers = float | Sequence[float]


def _numbers(name: str, given: Numbers) -> Numbers:
    """Return a number, or one for each channel."""
    if not isinstance(given, (tuple, list, np.ndarray)) or np.ndim(given) == 0:
        return number(name, given)
    if not 1 <= len(given) <= LARGEST_CONSTANT:
        raise ValueError(f"{name}: expected a number, or 1 to {LARGEST_CONSTANT} of them, got {len(given)}")
    return tuple(number(f"{name}[{channel}]", each) for channel, each in enumerate(given))


@register("layer")
@dataclass(eq=False, repr=False)
class Rescaling(Layer):
    """Multiply by a number and add another one: x scale + offset.

    ::

        fnn.Rescaling(1.0 / 127.5, offset=-1.0)

    Parameters
    ----------
    scale : float or sequence of float
        A number for all inputs, or one for each entry of the last axis, such as the channels of images.
    offset : float or sequence of float
        The same for what is added.
    """

    scale: Numbers
    offset: Numbers = 0.0

    passes_mask = True

    def prepare(self) -> None:
        self.scale, self.offset = _numbers("scale", self.scale), _numbers("offset", self.offset)

    def output_shape(self, *shapes: Shape) -> Shape:
        (shape,) = shapes
        for name, given in (("scale", self.scale), ("offset", self.offset)):
            if isinstance(given, tuple) and (not shape or len(given) not in (1, shape[-1])):
                raise self.fail(f"has {len(given)} numbers as {name}, which are not those of a last axis of {shape}")
        return shape

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        (x,) = inputs
        place = Place(graph, scope.label, scope.number)
        for function, given, neutral in (("multiply", self.scale, 1.0), ("add", self.offset, 0.0)):
            if given != neutral:
                operand = place.tensor(np.array(given)) if isinstance(given, tuple) else given
                x = pointwise(graph, function, (x, operand), scope.label)  # type: ignore[arg-type]
        return x


@register("layer")
@dataclass(eq=False, repr=False)
class Resizing(Windows):
    """Bring images to a height and a width.

    ::

        fnn.Resizing(64, 64)

    Entry i of an axis of n pixels that gets m of them is at (i + 1/2) n / m - 1/2 among them: the images' edges stay
    where they are, and beyond the outer centres is the outer pixel.

    Parameters
    ----------
    height, width : int
        Pixels of the output.
    interpolation : {"bilinear", "nearest"}
        Whether a new pixel lies on the lines between its four neighbours, or is the nearest of them.
    crop_to_aspect_ratio : bool
        Whether the largest part in the middle is taken that has the shape of the output.
    pad_to_aspect_ratio : bool
        Whether borders are put around images, so that they have the shape of the output.
    fill_value : float
        The value of these borders.
    data_format : {"channels_last", "channels_first"}
        Where the channels are; see `Conv2D`.

    Notes
    -----
    Keras also has the interpolations "bicubic", "lanczos3" and "lanczos5", and `antialias`. Without it, an output that
    is much smaller than its input depends on four pixels for each of its own alone: `AveragePooling2D` before it takes
    all of them into account.
    """

    height: int
    width: int
    interpolation: str = "bilinear"
    crop_to_aspect_ratio: bool = False
    pad_to_aspect_ratio: bool = False
    fill_value: float = 0.0
    data_format: str | None = None

    def prepare(self) -> None:
        super().prepare()
        self.height, self.width = size("height", self.height), size("width", self.width)
        self.interpolation = choice("interpolation", self.interpolation, INTERPOLATIONS)
        flag("crop_to_aspect_ratio", self.crop_to_aspect_ratio)
        flag("pad_to_aspect_ratio", self.pad_to_aspect_ratio)
        if self.crop_to_aspect_ratio and self.pad_to_aspect_ratio:
            raise ValueError("pad_to_aspect_ratio: expected False with crop_to_aspect_ratio=True, got True")
        self.fill_value = number("fill_value", self.fill_value)

    def output_shape(self, *shapes: Shape) -> Shape:
        return self.ordered((self.height, self.width, self.sizes(shapes[0])[-1]))

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        (x,) = inputs
        x = self._shaped(graph, x, scope.label)
        for axis, count in zip(self.batch_axes, (self.height, self.width), strict=True):
            before = x.whole[axis]
            if before != count:
                assert isinstance(before, int)
                places = centres(graph, before, count, scope.label)
                x = resampled(graph, x, places, axis, scope.label, self.interpolation)
        return x

    def _shaped(self, graph: Graph, x: Tensor, label: str) -> Tensor:
        """Bring images to the shape of the output, in other sizes."""
        high, wide, _ = self.sizes(x.shape)
        # with the other axis as it is
        fitting = wide * self.height // self.width, high * self.width // self.height
        if self.crop_to_aspect_ratio:
            ranges = [(0, 1, each) for each in x.whole]
            for axis, before, most in zip(self.batch_axes, (high, wide), fitting, strict=True):
                count = max(1, min(before, most))
                ranges[axis] = ((before - count) // 2, 1, count)
            return sliced(graph, x, ranges, [count for _, _, count in ranges], label)
        if self.pad_to_aspect_ratio:
            pairs = [(0, 0)] * len(x.whole)
            for axis, before, least in zip(self.batch_axes, (high, wide), fitting, strict=True):
                more = max(0, least - before)
                pairs[axis] = more // 2, more - more // 2
            return pad(graph, x, pairs, label, value=self.fill_value)
        return x
