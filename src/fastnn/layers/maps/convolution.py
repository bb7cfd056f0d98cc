"""Convolutions: Conv, DepthwiseConv, SeparableConv, and transposed ones, along one to three axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from fastnn.activations import Activation as ActivationFunction
from fastnn.checks import size
from fastnn.config import register
from fastnn.constraints import Constraint
from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.strided import reshape
from fastnn.graph.ops.windows import (
    PADDINGS,
    Slidings,
    convolution,
    slidings,
    transposed_convolution,
    transposed_slidings,
)
from fastnn.initializers import Initializer
from fastnn.layers.base import ParameterSpec, Scope, Shape
from fastnn.layers.maps.windows import Windows, choice, each_axis
from fastnn.layers.weighted import Weighted
from fastnn.regularizers import Regularizer

__all__ = [
    "Conv1D",
    "Conv1DTranspose",
    "Conv2D",
    "Conv2DTranspose",
    "Conv3D",
    "Conv3DTranspose",
    "DepthwiseConv1D",
    "DepthwiseConv2D",
    "SeparableConv1D",
    "SeparableConv2D",
]


class _Convolution(Windows, Weighted):
    """What all convolutions have: a window, and how it slides."""

    kernel_size: int | Sequence[int]
    strides: int | Sequence[int]
    padding: str
    dilation_rate: int | Sequence[int]

    def prepare(self) -> None:
        Windows.prepare(self)
        Weighted.prepare(self)
        for name in ("kernel_size", "strides", "dilation_rate"):
            setattr(self, name, each_axis(name, getattr(self, name), self.rank))
        self.padding = choice("padding", self.padding, PADDINGS if self.rank == 1 else PADDINGS[:2])

    @property
    def window(self) -> Shape:
        """The window's sizes."""
        return tuple(self.kernel_size)  # type: ignore[arg-type]

    def axes(self, shape: Shape) -> Slidings:
        """Return how the window slides over samples of a shape."""
        given = self.sizes(shape)[:-1], self.window, self.strides, self.dilation_rate, self.padding
        found: Slidings = self.fitting(slidings, *given)
        return found

    def channels(self, shape: Shape) -> int:
        """Return the number of channels of samples of a shape."""
        return self.sizes(shape)[-1]

    def _divided(self, what: str, number: int, groups: int) -> int:
        if number % groups:
            raise self.fail(f"has {groups} groups, which do not divide {number} {what}")
        return number // groups


class _Conv(_Convolution):
    filters: int
    groups: int

    def prepare(self) -> None:
        self.filters, self.groups = size("filters", self.filters), size("groups", self.groups)
        super().prepare()
        if self.filters % self.groups:
            raise ValueError(f"filters: expected a multiple of groups, {self.groups}, got {self.filters}")

    def output_shape(self, *shapes: Shape) -> Shape:
        axes = self.axes(shapes[0])
        self._divided("channels", self.channels(shapes[0]), self.groups)
        return self.ordered((*(each.results for each in axes), self.filters))

    def parameters(self, *shapes: Shape) -> tuple[ParameterSpec, ...]:
        shape = (*self.window, self._divided("channels", self.channels(shapes[0]), self.groups), self.filters)
        return self.with_bias([self.spec("kernel", shape)], self.filters)

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        (x,) = inputs
        axes = self.axes(x.shape)
        y = convolution(graph, self.channels_last(graph, x, scope), weights[0], axes, self.groups, scope.label)
        return self.own_order(graph, self.finish(graph, y, weights, scope), scope)


@register("layer")
@dataclass(eq=False, repr=False)
class Conv2D(_Conv):
    """Convolution of images: every filter is a small image, laid over each place of the sample and multiplied.

    ::

        fnn.Conv2D(32, 3, activation="relu")

    y[i, j, f] = activation(sum over h, w, c of x[i s + h d, j s + w d, c] kernel[h, w, c, f] + bias[f]), with strides s
    and dilation rates d, each along its axis.

    Parameters
    ----------
    filters : int
        Number of filters, the channels of the output.
    kernel_size : int or tuple of two int
        Height and width of the filters.
    strides : int or tuple of two int
        Pixels from one place of the filters to the next.
    padding : {"valid", "same"}
        "same" puts zeros around the sample, as TensorFlow does: the output has ceil(size / strides) pixels.
    data_format : {"channels_last", "channels_first"}
        Where the channels are. Data of the second kind are best given as `x.transpose(0, 2, 3, 1)`, which is read in
        place: layers that have the channels first copy their inputs and outputs.
    dilation_rate : int or tuple of two int
        Pixels from one weight of a filter to the next.
    groups : int
        Channels and filters are divided into so many groups: filters see the channels of their own group.
    activation : str or activation object, optional
        Applied to the outputs; None means linear.
    use_bias : bool
        Whether to add a bias.
    kernel_initializer, bias_initializer : str or initializer
        Initial values of kernel (height, width, channels / groups, filters) and bias (filters,).
    kernel_regularizer, bias_regularizer : str, regularizer or None
        Penalties added to the loss.
    kernel_constraint, bias_constraint : MaxNorm or None
        Applied after every step.

    Notes
    -----
    The input has shape (height, width, channels), the output (rows, columns, filters). Defaults are Keras 3's. A number
    that is not finite makes all outputs NaN whose window covers it, or zeros beside it.
    """

    filters: int
    kernel_size: int | Sequence[int]
    strides: int | Sequence[int] = 1
    padding: str = "valid"
    data_format: str | None = None
    dilation_rate: int | Sequence[int] = 1
    groups: int = 1
    activation: ActivationFunction | str | None = None
    use_bias: bool = True
    kernel_initializer: Initializer | str = "glorot_uniform"
    bias_initializer: Initializer | str = "zeros"
    kernel_regularizer: Regularizer | str | None = None
    bias_regularizer: Regularizer | str | None = None
    kernel_constraint: Constraint | str | None = field(default=None, kw_only=True)
    bias_constraint: Constraint | str | None = field(default=None, kw_only=True)


@register("layer")
@dataclass(eq=False, repr=False)
class Conv1D(Conv2D):
    """Convolution of sequences and signals; the arguments are those of `Conv2D`.

    ::

        fnn.Conv1D(64, 3, padding="causal", dilation_rate=2)

    Notes
    -----
    The input has shape (steps, channels), the output (steps, filters), the kernel (size, channels / groups, filters).
    With the padding "causal", zeros are before the sample only: an output depends on no later step.
    """

    rank = 1


@register("layer")
@dataclass(eq=False, repr=False)
class Conv3D(Conv2D):
    """Convolution of volumes, or of images over time; the arguments are those of `Conv2D`.

    ::

        fnn.Conv3D(8, 3)

    Notes
    -----
    The input has shape (depth, height, width, channels), the kernel (depth, height, width, channels / groups, filters).
    """

    rank = 3


class _Transposed(_Convolution):
    filters: int
    output_padding: int | Sequence[int] | None

    def prepare(self) -> None:
        self.filters = size("filters", self.filters)
        super().prepare()
        choice("padding", self.padding, PADDINGS[:2])
        if self.output_padding is not None:
            self.output_padding = each_axis("output_padding", self.output_padding, self.rank, at_least=0)

    def axes(self, shape: Shape) -> Slidings:
        """Return how the window slides over the outputs."""
        given = self.sizes(shape)[:-1], self.window, self.strides, self.dilation_rate, self.padding, self.output_padding
        found: Slidings = self.fitting(transposed_slidings, *given)
        return found

    def output_shape(self, *shapes: Shape) -> Shape:
        return self.ordered((*(each.size for each in self.axes(shapes[0])), self.filters))

    def parameters(self, *shapes: Shape) -> tuple[ParameterSpec, ...]:
        shape = (*self.window, self.filters, self.channels(shapes[0]))
        return self.with_bias([self.spec("kernel", shape)], self.filters)

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        (x,) = inputs
        axes = self.axes(x.shape)
        y = transposed_convolution(graph, self.channels_last(graph, x, scope), weights[0], axes, 1, scope.label)
        return self.own_order(graph, self.finish(graph, y, weights, scope), scope)


@register("layer")
@dataclass(eq=False, repr=False)
class Conv2DTranspose(_Transposed):
    """Transposed convolution of images: the gradient of `Conv2D` for its input, so strides make images larger.

    ::

        fnn.Conv2DTranspose(16, 3, strides=2, padding="same")

    Parameters
    ----------
    filters : int
        Number of channels of the output.
    kernel_size, strides, padding, data_format, dilation_rate
        Those of the convolution whose gradient it is; see `Conv2D`.
    output_padding : int or tuple of two int, optional
        How many pixels larger than necessary the output is. None means size * strides pixels with the padding "same",
        and size * strides + max(kernel - strides, 0) with "valid".
    activation, use_bias, and the others
        As for `Conv2D`. The kernel has the shape (height, width, filters, channels).

    Notes
    -----
    Every output is a sum of the products that reach it; no zeros are put between pixels. Defaults are Keras 3's.
    """

    filters: int
    kernel_size: int | Sequence[int]
    strides: int | Sequence[int] = 1
    padding: str = "valid"
    output_padding: int | Sequence[int] | None = None
    data_format: str | None = None
    dilation_rate: int | Sequence[int] = 1
    activation: ActivationFunction | str | None = None
    use_bias: bool = True
    kernel_initializer: Initializer | str = "glorot_uniform"
    bias_initializer: Initializer | str = "zeros"
    kernel_regularizer: Regularizer | str | None = None
    bias_regularizer: Regularizer | str | None = None
    kernel_constraint: Constraint | str | None = field(default=None, kw_only=True)
    bias_constraint: Constraint | str | None = field(default=None, kw_only=True)


@register("layer")
@dataclass(eq=False, repr=False)
class Conv1DTranspose(Conv2DTranspose):
    """Transposed convolution of sequences and signals; the arguments are those of `Conv2DTranspose`.

    ::

        fnn.Conv1DTranspose(16, 4, strides=2, padding="same")
    """

    rank = 1


@register("layer")
@dataclass(eq=False, repr=False)
class Conv3DTranspose(Conv2DTranspose):
    """Transposed convolution of volumes; the arguments are those of `Conv2DTranspose`.

    ::

        fnn.Conv3DTranspose(4, 2, strides=2)
    """

    rank = 3


class _ByChannel(_Convolution):
    """Convolutions of each channel by itself."""

    depth_multiplier: int

    def prepare(self) -> None:
        self.depth_multiplier = size("depth_multiplier", self.depth_multiplier)
        super().prepare()

    def by_channel(self, graph: Graph, x: Tensor, kernel: Tensor, axes: Slidings, scope: Scope) -> Tensor:
        """Convolve every channel with its own filters."""
        channels = x.shape[-1]
        flat = (*self.window, 1, channels * self.depth_multiplier)
        return convolution(graph, x, reshape(graph, kernel, flat, scope.label), axes, channels, scope.label)


@register("layer")
@dataclass(eq=False, repr=False)
class DepthwiseConv2D(_ByChannel):
    """Convolution of each channel by itself, with `depth_multiplier` filters for every channel.

    ::

        fnn.DepthwiseConv2D(3, padding="same")

    Parameters
    ----------
    kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias
        As for `Conv2D`.
    depth_multiplier : int
        Filters of a channel; those of one channel are neighbours among the channels of the output.
    depthwise_initializer, depthwise_regularizer, depthwise_constraint
        Of the kernel (height, width, channels, depth_multiplier).
    bias_initializer, bias_regularizer, bias_constraint
        Of the bias (channels * depth_multiplier,).

    Notes
    -----
    Defaults are Keras 3's.
    """

    kernels: ClassVar = {"depthwise": "kernel"}

    kernel_size: int | Sequence[int]
    strides: int | Sequence[int] = 1
    padding: str = "valid"
    depth_multiplier: int = 1
    data_format: str | None = None
    dilation_rate: int | Sequence[int] = 1
    activation: ActivationFunction | str | None = None
    use_bias: bool = True
    depthwise_initializer: Initializer | str = "glorot_uniform"
    bias_initializer: Initializer | str = "zeros"
    depthwise_regularizer: Regularizer | str | None = None
    bias_regularizer: Regularizer | str | None = None
    depthwise_constraint: Constraint | str | None = field(default=None, kw_only=True)
    bias_constraint: Constraint | str | None = field(default=None, kw_only=True)

    def output_shape(self, *shapes: Shape) -> Shape:
        results = (each.results for each in self.axes(shapes[0]))
        return self.ordered((*results, self.channels(shapes[0]) * self.depth_multiplier))

    def parameters(self, *shapes: Shape) -> tuple[ParameterSpec, ...]:
        channels = self.channels(shapes[0])
        kernel = self.spec("depthwise", (*self.window, channels, self.depth_multiplier))
        return self.with_bias([kernel], channels * self.depth_multiplier)

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        (x,) = inputs
        y = self.by_channel(graph, self.channels_last(graph, x, scope), weights[0], self.axes(x.shape), scope)
        return self.own_order(graph, self.finish(graph, y, weights, scope), scope)


@register("layer")
@dataclass(eq=False, repr=False)
class DepthwiseConv1D(DepthwiseConv2D):
    """Convolution of each channel of a sequence by itself; the arguments are those of `DepthwiseConv2D`.

    ::

        fnn.DepthwiseConv1D(5, padding="causal")
    """

    rank = 1


@register("layer")
@dataclass(eq=False, repr=False)
class SeparableConv2D(_ByChannel):
    """Convolution of each channel by itself, then a mixture of the channels at every pixel.

    ::

        fnn.SeparableConv2D(32, 3, padding="same", activation="relu")

    Parameters
    ----------
    filters : int
        Number of channels of the output.
    kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias
        As for `Conv2D`.
    depth_multiplier : int
        Filters of a channel in the first convolution.
    depthwise_initializer, depthwise_regularizer, depthwise_constraint
        Of `depthwise_kernel` (height, width, channels, depth_multiplier).
    pointwise_initializer, pointwise_regularizer, pointwise_constraint
        Of `pointwise_kernel` (1, 1, channels * depth_multiplier, filters).
    bias_initializer, bias_regularizer, bias_constraint
        Of the bias (filters,).

    Notes
    -----
    Chollet 2017 (arXiv:1610.02357). Defaults are Keras 3's.
    """

    kernels: ClassVar = {"depthwise": "depthwise_kernel", "pointwise": "pointwise_kernel"}

    filters: int
    kernel_size: int | Sequence[int]
    strides: int | Sequence[int] = 1
    padding: str = "valid"
    data_format: str | None = None
    dilation_rate: int | Sequence[int] = 1
    depth_multiplier: int = 1
    activation: ActivationFunction | str | None = None
    use_bias: bool = True
    depthwise_initializer: Initializer | str = "glorot_uniform"
    pointwise_initializer: Initializer | str = "glorot_uniform"
    bias_initializer: Initializer | str = "zeros"
    depthwise_regularizer: Regularizer | str | None = None
    pointwise_regularizer: Regularizer | str | None = None
    bias_regularizer: Regularizer | str | None = None
    depthwise_constraint: Constraint | str | None = field(default=None, kw_only=True)
    pointwise_constraint: Constraint | str | None = field(default=None, kw_only=True)
    bias_constraint: Constraint | str | None = field(default=None, kw_only=True)

    def prepare(self) -> None:
        self.filters = size("filters", self.filters)
        super().prepare()

    def output_shape(self, *shapes: Shape) -> Shape:
        return self.ordered((*(each.results for each in self.axes(shapes[0])), self.filters))

    def parameters(self, *shapes: Shape) -> tuple[ParameterSpec, ...]:
        channels = self.channels(shapes[0])
        kernels = [
            self.spec("depthwise", (*self.window, channels, self.depth_multiplier)),
            self.spec("pointwise", (*(1,) * self.rank, channels * self.depth_multiplier, self.filters)),
        ]
        return self.with_bias(kernels, self.filters)

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        (x,) = inputs
        y = self.by_channel(graph, self.channels_last(graph, x, scope), weights[0], self.axes(x.shape), scope)
        ones: Any = (1,) * self.rank
        y = convolution(graph, y, weights[1], slidings(y.shape[:-1], ones, ones, ones, "valid"), 1, scope.label)
        return self.own_order(graph, self.finish(graph, y, weights, scope), scope)


@register("layer")
@dataclass(eq=False, repr=False)
class SeparableConv1D(SeparableConv2D):
    """Separable convolution of sequences; the arguments are those of `SeparableConv2D`.

    ::

        fnn.SeparableConv1D(32, 3)
    """

    rank = 1
