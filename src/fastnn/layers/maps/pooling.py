"""Pooling: maxima and averages over windows that slide over maps, and over whole maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from fastnn.checks import flag
from fastnn.config import register
from fastnn.graph.extent import BATCH
from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.pointwise import pointwise
from fastnn.graph.ops.reductions import reduce
from fastnn.graph.ops.strided import reshape
from fastnn.graph.ops.windows import PADDINGS, Slidings, pool, slidings
from fastnn.layers.base import Scope, Shape
from fastnn.layers.maps.windows import Windows, choice, each_axis

__all__ = [
    "AveragePooling1D",
    "AveragePooling2D",
    "AveragePooling3D",
    "AvgPool1D",
    "AvgPool2D",
    "AvgPool3D",
    "GlobalAveragePooling1D",
    "GlobalAveragePooling2D",
    "GlobalAveragePooling3D",
    "GlobalAvgPool1D",
    "GlobalAvgPool2D",
    "GlobalAvgPool3D",
    "GlobalMaxPool1D",
    "GlobalMaxPool2D",
    "GlobalMaxPool3D",
    "GlobalMaxPooling1D",
    "GlobalMaxPooling2D",
    "GlobalMaxPooling3D",
    "MaxPool1D",
    "MaxPool2D",
    "MaxPool3D",
    "MaxPooling1D",
    "MaxPooling2D",
    "MaxPooling3D",
]


@dataclass(eq=False, repr=False)
class _Pooling(Windows):
    kind: ClassVar[str]

    pool_size: int | Sequence[int] = 2
    strides: int | Sequence[int] | None = None
    padding: str = "valid"
    data_format: str | None = None

    def prepare(self) -> None:
        super().prepare()
        self.pool_size = each_axis("pool_size", self.pool_size, self.rank)
        self.strides = each_axis("strides", self.pool_size if self.strides is None else self.strides, self.rank)
        self.padding = choice("padding", self.padding, PADDINGS[:2])

    def axes(self, shape: Shape) -> Slidings:
        """Return how the window slides over samples of a shape."""
        found: Slidings = self.fitting(
            slidings, self.sizes(shape)[:-1], self.pool_size, self.strides, (1,) * self.rank, self.padding
        )
        return found

    def output_shape(self, *shapes: Shape) -> Shape:
        return self.ordered((*(each.results for each in self.axes(shapes[0])), self.sizes(shapes[0])[-1]))

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        (x,) = inputs
        y = pool(graph, self.channels_last(graph, x, scope), self.kind, self.axes(x.shape), scope.label)
        return self.own_order(graph, y, scope)


@register("layer")
@dataclass(eq=False, repr=False)
class MaxPooling2D(_Pooling):
    """The largest number of every window of an image, for each channel.

    ::

        fnn.MaxPooling2D()

    Parameters
    ----------
    pool_size : int or tuple of two int
        Height and width of the window.
    strides : int or tuple of two int, optional
        Pixels from one window to the next; None means `pool_size`: windows do not overlap.
    padding : {"valid", "same"}
        With "same" the output has ceil(size / strides) pixels; what lies outside of the image does not count.
    data_format : {"channels_last", "channels_first"}
        Where the channels are; see `Conv2D`.

    Notes
    -----
    Where several numbers are the largest, the first one gets the gradient. NaN is larger than all numbers.
    """

    kind = "max"


@register("layer")
@dataclass(eq=False, repr=False)
class MaxPooling1D(MaxPooling2D):
    """The largest number of every window of a sequence; the arguments are those of `MaxPooling2D`.

    ::

        fnn.MaxPooling1D(2)
    """

    rank = 1


@register("layer")
@dataclass(eq=False, repr=False)
class MaxPooling3D(MaxPooling2D):
    """The largest number of every window of a volume; the arguments are those of `MaxPooling2D`.

    ::

        fnn.MaxPooling3D(2)
    """

    rank = 3


@register("layer")
@dataclass(eq=False, repr=False)
class AveragePooling2D(_Pooling):
    """The mean of every window of an image, for each channel; the arguments are those of `MaxPooling2D`.

    ::

        fnn.AveragePooling2D(2)
    """

    kind = "average"


@register("layer")
@dataclass(eq=False, repr=False)
class AveragePooling1D(AveragePooling2D):
    """The mean of every window of a sequence; the arguments are those of `MaxPooling2D`.

    ::

        fnn.AveragePooling1D(2)
    """

    rank = 1


@register("layer")
@dataclass(eq=False, repr=False)
class AveragePooling3D(AveragePooling2D):
    """The mean of every window of a volume; the arguments are those of `MaxPooling2D`.

    ::

        fnn.AveragePooling3D(2)
    """

    rank = 3


@dataclass(eq=False, repr=False)
class _GlobalPooling(Windows):
    kind: ClassVar[str]

    data_format: str | None = None
    keepdims: bool = False

    def prepare(self) -> None:
        super().prepare()
        flag("keepdims", self.keepdims)

    def output_shape(self, *shapes: Shape) -> Shape:
        channels = self.sizes(shapes[0])[-1]
        return self.ordered((*(1,) * self.rank, channels)) if self.keepdims else (channels,)

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        return reduce(graph, self.kind, inputs[0], self.batch_axes, self.keepdims, scope.label)


@register("layer")
@dataclass(eq=False, repr=False)
class GlobalAveragePooling2D(_GlobalPooling):
    """The mean of every channel of an image.

    ::

        fnn.GlobalAveragePooling2D()

    Parameters
    ----------
    data_format : {"channels_last", "channels_first"}
        Where the channels are; see `Conv2D`.
    keepdims : bool
        Whether the other axes remain, of size 1.
    """

    kind = "mean"


@register("layer")
@dataclass(eq=False, repr=False)
class GlobalAveragePooling1D(GlobalAveragePooling2D):
    """The mean of every channel of a sequence; the arguments are those of `GlobalAveragePooling2D`.

    ::

        fnn.GlobalAveragePooling1D()

    Of sequences with a mask it is the mean over the steps that there are, and 0 where there are none.
    """

    rank = 1
    arity = (1, 2)
    takes_mask = True

    def output_shape(self, *shapes: Shape) -> Shape:
        first, *masks = shapes
        steps = self.sizes(first)[0]
        if masks and masks[0] != (steps, 1):
            raise self.fail(f"takes a mask of shape (batch, {steps}, 1), got {('batch', *masks[0])}")
        return super().output_shape(first)

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        first, *masks = inputs
        if not masks:
            return super().apply(graph, inputs, weights, scope)
        label, steps = scope.label, masks[0].shape[0]
        mask = reshape(graph, masks[0], (BATCH, *self.ordered((steps, 1))), label)
        total = reduce(graph, "sum", pointwise(graph, "multiply", [first, mask], label), self.batch_axes, True, label)
        count = reduce(graph, "sum", mask, self.batch_axes, True, label)
        mean = pointwise(graph, "divide", [total, pointwise(graph, "maximum", [count, 1.0], label)], label)
        return mean if self.keepdims else reshape(graph, mean, (BATCH, mean.size), label)


@register("layer")
@dataclass(eq=False, repr=False)
class GlobalAveragePooling3D(GlobalAveragePooling2D):
    """The mean of every channel of a volume; the arguments are those of `GlobalAveragePooling2D`.

    ::

        fnn.GlobalAveragePooling3D()
    """

    rank = 3


@register("layer")
@dataclass(eq=False, repr=False)
class GlobalMaxPooling2D(_GlobalPooling):
    """The largest number of every channel of an image; the arguments are those of `GlobalAveragePooling2D`.

    ::

        fnn.GlobalMaxPooling2D()
    """

    kind = "max"


@register("layer")
@dataclass(eq=False, repr=False)
class GlobalMaxPooling1D(GlobalMaxPooling2D):
    """The largest number of every channel of a sequence; the arguments are those of `GlobalAveragePooling2D`.

    ::

        fnn.GlobalMaxPooling1D()
    """

    rank = 1


@register("layer")
@dataclass(eq=False, repr=False)
class GlobalMaxPooling3D(GlobalMaxPooling2D):
    """The largest number of every channel of a volume; the arguments are those of `GlobalAveragePooling2D`.

    ::

        fnn.GlobalMaxPooling3D()
    """

    rank = 3


MaxPool1D, MaxPool2D, MaxPool3D = MaxPooling1D, MaxPooling2D, MaxPooling3D
AvgPool1D, AvgPool2D, AvgPool3D = AveragePooling1D, AveragePooling2D, AveragePooling3D
GlobalMaxPool1D, GlobalMaxPool2D, GlobalMaxPool3D = GlobalMaxPooling1D, GlobalMaxPooling2D, GlobalMaxPooling3D
GlobalAvgPool1D = GlobalAveragePooling1D
GlobalAvgPool2D = GlobalAveragePooling2D
GlobalAvgPool3D = GlobalAveragePooling3D
