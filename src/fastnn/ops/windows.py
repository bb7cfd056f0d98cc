"""Windows that slide over maps (batch, *sizes, channels), with Keras' names: convolutions and pooling."""

from __future__ import annotations

from collections.abc import Sequence

from fastnn.graph.graph import Tensor
from fastnn.graph.ops import windows
from fastnn.graph.ops.strided import reshape
from fastnn.layers.maps.windows import choice, each_axis
from fastnn.layers.tracing import Place
from fastnn.ops.definition import Operand, op

__all__ = ["average_pool", "conv", "conv_transpose", "depthwise_conv", "max_pool", "separable_conv"]

Sizes = int | Sequence[int]


def _maps(place: Place, name: str, x: Operand) -> tuple[Tensor, int]:
    """Return the maps, and the number of axes that windows slide along."""
    maps = place.tensor(x)
    rank = len(maps.whole) - 2
    if not 1 <= rank <= 3:
        raise ValueError(f"{name}: expected maps (batch, *sizes, channels) of one to three sizes, got {maps.whole}")
    return maps, rank


def _with_kernel(place: Place, name: str, x: Operand, kernel: Operand) -> tuple[Tensor, Tensor, int]:
    """Return the maps, the kernel, and the number of axes that windows slide along."""
    maps, rank = _maps(place, name, x)
    weights = place.tensor(kernel)
    if len(weights.whole) != rank + 2 or weights.batched:
        raise ValueError(
            f"{name}: expected a kernel of {rank + 2} axes for maps of shape {maps.whole}, got one of {weights.whole}"
        )
    return maps, weights, rank


def _sliding(
    maps: Tensor, window: Sequence[int], rank: int, strides: Sizes, padding: str, dilation_rate: Sizes
) -> windows.Slidings:
    known = choice("padding", padding, windows.PADDINGS if rank == 1 else windows.PADDINGS[:2])
    return windows.slidings(
        maps.whole[1:-1], window, each_axis("strides", strides, rank), each_axis("dilation_rate", dilation_rate, rank),
        known,
    )  # fmt: skip


def _by_channel(
    place: Place, name: str, x: Operand, kernel: Operand, strides: Sizes, padding: str, dilation_rate: Sizes
) -> Tensor:
    """Convolve each channel by itself."""
    maps, weights, rank = _with_kernel(place, name, x, kernel)
    channels, each = maps.whole[-1], weights.whole[-1]
    if weights.whole[-2] != channels:
        raise ValueError(f"{name}: a kernel of shape {weights.whole} does not fit {channels} channels")
    window = weights.whole[:rank]
    flat = reshape(place.graph, weights, (*window, 1, channels * each), place.label)
    axes = _sliding(maps, window, rank, strides, padding, dilation_rate)
    return windows.convolution(place.graph, maps, flat, axes, channels, place.label)


@op(numpy="")
def conv(
    place: Place,
    x: Operand,
    kernel: Operand,
    strides: Sizes = 1,
    padding: str = "valid",
    dilation_rate: Sizes = 1,
) -> Tensor:
    """Convolve maps with a kernel (*window, channels / groups, filters); the number of groups follows from its shape.

    `padding` is "valid", "same" or, for maps of one size, "causal"; see `Conv2D`.
    """
    maps, weights, rank = _with_kernel(place, "conv", x, kernel)
    channels, each = maps.whole[-1], weights.whole[-2]
    if channels % each or weights.whole[-1] % (channels // each):
        raise ValueError(
            f"conv: a kernel of shape {weights.whole} does not fit {channels} channels: their number is that of the "
            "kernel's, or a multiple of it, the number of groups, which divides the filters"
        )
    axes = _sliding(maps, weights.whole[:rank], rank, strides, padding, dilation_rate)
    return windows.convolution(place.graph, maps, weights, axes, channels // each, place.label)


@op(numpy="")
def depthwise_conv(
    place: Place,
    x: Operand,
    kernel: Operand,
    strides: Sizes = 1,
    padding: str = "valid",
    dilation_rate: Sizes = 1,
) -> Tensor:
    """Convolve each channel by itself, with a kernel (*window, channels, filters of each)."""
    return _by_channel(place, "depthwise_conv", x, kernel, strides, padding, dilation_rate)


@op(numpy="")
def separable_conv(
    place: Place,
    x: Operand,
    depthwise_kernel: Operand,
    pointwise_kernel: Operand,
    strides: Sizes = 1,
    padding: str = "valid",
    dilation_rate: Sizes = 1,
) -> Tensor:
    """Convolve each channel by itself, then mix the channels of each pixel with a kernel (*ones, channels, filters)."""
    y = _by_channel(place, "separable_conv", x, depthwise_kernel, strides, padding, dilation_rate)
    mixing, rank = place.tensor(pointwise_kernel), len(y.whole) - 2
    if mixing.whole[:-1] != (*(1,) * rank, y.whole[-1]):
        raise ValueError(
            f"separable_conv: expected a pointwise kernel of shape {(*(1,) * rank, y.whole[-1], 'filters')}, got "
            f"{mixing.whole}"
        )
    return windows.convolution(place.graph, y, mixing, _sliding(y, (1,) * rank, rank, 1, "valid", 1), 1, place.label)


@op(numpy="")
def conv_transpose(
    place: Place,
    x: Operand,
    kernel: Operand,
    strides: Sizes = 1,
    padding: str = "valid",
    output_padding: Sizes | None = None,
    dilation_rate: Sizes = 1,
) -> Tensor:
    """Return the transposed convolution of maps with a kernel (*window, filters, channels); see `Conv2DTranspose`."""
    maps, weights, rank = _with_kernel(place, "conv_transpose", x, kernel)
    if weights.whole[-1] != maps.whole[-1]:
        raise ValueError(f"conv_transpose: a kernel of shape {weights.whole} does not fit {maps.whole[-1]} channels")
    known = choice("padding", padding, windows.PADDINGS[:2])
    more = None if output_padding is None else each_axis("output_padding", output_padding, rank, at_least=0)
    axes = windows.transposed_slidings(
        maps.whole[1:-1], weights.whole[:rank], each_axis("strides", strides, rank),
        each_axis("dilation_rate", dilation_rate, rank), known, more,
    )  # fmt: skip
    return windows.transposed_convolution(place.graph, maps, weights, axes, 1, place.label)


def _pooled(place: Place, kind: str, x: Operand, pool_size: Sizes, strides: Sizes | None, padding: str) -> Tensor:
    maps, rank = _maps(place, f"{kind}_pool", x)
    window = each_axis("pool_size", pool_size, rank)
    known = choice("padding", padding, windows.PADDINGS[:2])
    axes = _sliding(maps, window, rank, window if strides is None else strides, known, 1)
    return windows.pool(place.graph, maps, kind, axes, place.label)


@op(numpy="")
def max_pool(
    place: Place, x: Operand, pool_size: Sizes, strides: Sizes | None = None, padding: str = "valid"
) -> Tensor:
    """Return the largest number of every window; the strides are the window's sizes by default."""
    return _pooled(place, "max", x, pool_size, strides, padding)


@op(numpy="")
def average_pool(
    place: Place, x: Operand, pool_size: Sizes, strides: Sizes | None = None, padding: str = "valid"
) -> Tensor:
    """Return the mean of every window, of what lies within the maps; the strides are its sizes by default."""
    return _pooled(place, "average", x, pool_size, strides, padding)
