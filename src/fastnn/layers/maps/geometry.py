"""Layers that move, zoom and rotate images at random in training, and do nothing in prediction."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fastnn.checks import number
from fastnn.config import register
from fastnn.graph.algebra import Term, terms
from fastnn.graph.extent import BATCH
from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.resizing import FILL_MODES, INTERPOLATIONS, counted, resampled, sampled
from fastnn.layers.base import Scope
from fastnn.layers.maps.augmentation import Augmentation, Factor, bounds_of, factor_of
from fastnn.layers.maps.windows import choice

__all__ = ["RandomRotation", "RandomTranslation", "RandomZoom"]


class _Moved(Augmentation):
    """A layer whose images are those of other places."""

    fill_mode: str
    interpolation: str
    fill_value: float

    def prepare(self) -> None:
        super().prepare()
        self.fill_mode = choice("fill_mode", self.fill_mode, FILL_MODES)
        self.interpolation = choice("interpolation", self.interpolation, INTERPOLATIONS)
        self.fill_value = number("fill_value", self.fill_value)

    def along(self, graph: Graph, x: Tensor, places: Term, axis: int) -> Tensor:
        """Take what is at places (B, n) of an axis."""
        filled = self.interpolation, self.fill_mode, self.fill_value
        return resampled(graph, x, places.tensor, axis, places.label, *filled)


@register("layer")
@dataclass(eq=False, repr=False)
class RandomTranslation(_Moved):
    """Move images in training, each by other distances.

    ::

        fnn.RandomTranslation(0.1, 0.1, fill_mode="nearest")

    Parameters
    ----------
    height_factor : float or (float, float)
        The least and the largest distance, as parts of the height; positive ones move images down. A number f stands
        for (-f, f). They are within [-1, 1].
    width_factor : float or (float, float)
        The same for the width; positive ones move images to the right.
    fill_mode : {"reflect", "constant", "nearest", "wrap"}
        What comes in at the edges: the image in a mirror (d c b a | a b c d | d c b a), `fill_value`, the outermost
        pixel, or the image once more.
    interpolation : {"bilinear", "nearest"}
        What is taken between pixels: numbers on the lines between the four around, or the nearest of them.
    fill_value : float
        What is beyond the edges with ``fill_mode="constant"``.
    data_format : {"channels_last", "channels_first"}
        Where the channels are; see `Conv2D`.
    """

    height_factor: Factor
    width_factor: Factor
    fill_mode: str = "reflect"
    interpolation: str = "bilinear"
    fill_value: float = 0.0
    data_format: str | None = None

    def prepare(self) -> None:
        super().prepare()
        self.height_factor = factor_of("height_factor", self.height_factor, -1.0, 1.0)
        self.width_factor = factor_of("width_factor", self.width_factor, -1.0, 1.0)

    def changed(self, graph: Graph, x: Tensor, scope: Scope) -> Tensor:
        ranges = bounds_of(self.height_factor), bounds_of(self.width_factor)
        drawn = self.drawn(graph, scope, *ranges)
        for axis, bounds, part, size in zip(self.batch_axes, ranges, drawn, self.sizes(x.shape)[:-1], strict=True):
            if bounds != (0.0, 0.0):
                (place,) = terms(graph, scope.label, counted(graph, size, scope.label))
                x = self.along(graph, x, place - part * float(size), axis)
        return x


@register("layer")
@dataclass(eq=False, repr=False)
class RandomZoom(_Moved):
    """Make images larger or smaller in training, each by another factor; their middle stays where it is.

    ::

        fnn.RandomZoom(0.2)

    Parameters
    ----------
    height_factor : float or (float, float)
        The least and the largest change of the height that is seen: 0.2 shows a height of 1.2 images, in which the
        image is smaller, and -0.2 four fifths of it. A number f stands for (-f, f). They are within [-1, 1].
    width_factor : float or (float, float), optional
        The same for the width; None takes the number that has been drawn for the height.
    fill_mode, interpolation, fill_value, data_format
        Those of `RandomTranslation`.
    """

    height_factor: Factor
    width_factor: Factor | None = None
    fill_mode: str = "reflect"
    interpolation: str = "bilinear"
    fill_value: float = 0.0
    data_format: str | None = None

    def prepare(self) -> None:
        super().prepare()
        self.height_factor = factor_of("height_factor", self.height_factor, -1.0, 1.0)
        if self.width_factor is not None:
            self.width_factor = factor_of("width_factor", self.width_factor, -1.0, 1.0)

    def changed(self, graph: Graph, x: Tensor, scope: Scope) -> Tensor:
        ranges = [bounds_of(self.height_factor)]
        if self.width_factor is not None:
            ranges.append(bounds_of(self.width_factor))
        drawn = self.drawn(graph, scope, *ranges)
        for order, (axis, size) in enumerate(zip(self.batch_axes, self.sizes(x.shape)[:-1], strict=True)):
            bounds, part = ranges[min(order, len(ranges) - 1)], drawn[min(order, len(ranges) - 1)]
            if bounds != (0.0, 0.0):
                (place,) = terms(graph, scope.label, counted(graph, size, scope.label))
                middle = 0.5 * (size - 1)
                x = self.along(graph, x, (part + 1.0) * (place - middle) + middle, axis)
        return x


@register("layer")
@dataclass(eq=False, repr=False)
class RandomRotation(_Moved):
    """Rotate images around their middle in training, each by another angle.

    ::

        fnn.RandomRotation(0.05)

    Parameters
    ----------
    factor : float or (float, float)
        The least and the largest angle, as parts of a full turn; positive ones are counter-clockwise. A number f
        stands for (-f, f). They are within [-1, 1].
    fill_mode, interpolation, fill_value, data_format
        Those of `RandomTranslation`.
    """

    factor: Factor
    fill_mode: str = "reflect"
    interpolation: str = "bilinear"
    fill_value: float = 0.0
    data_format: str | None = None

    def prepare(self) -> None:
        super().prepare()
        self.factor = factor_of("factor", self.factor, -1.0, 1.0)

    def changed(self, graph: Graph, x: Tensor, scope: Scope) -> Tensor:
        label, (height, width, _) = scope.label, self.sizes(x.shape)
        (turn,) = self.drawn(graph, scope, bounds_of(self.factor))
        angle = (turn * (2.0 * math.pi)).reshaped((BATCH, 1, 1))
        cos, sin = angle.apply("cos"), angle.apply("sin")
        row, column = terms(graph, label, counted(graph, height, label), counted(graph, width, label))
        # from the middle of the image
        down = (row - 0.5 * (height - 1)).reshaped((1, height, 1))
        right = (column - 0.5 * (width - 1)).reshaped((1, 1, width))
        rows = cos * down + sin * right + 0.5 * (height - 1)
        columns = cos * right - sin * down + 0.5 * (width - 1)
        filled = self.interpolation, self.fill_mode, self.fill_value
        images = self.channels_last(graph, x, scope)
        turned = self.fitting(sampled, graph, images, rows.tensor, columns.tensor, label, *filled)
        return self.own_order(graph, turned, scope)
