"""Layers of images in plain NumPy, from Keras' definitions: a loop over the places of windows, in float64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np

import fastnn as fnn
from fastnn.activations.arrays import FUNCTIONS
from fastnn.layers import Layer

Array = np.ndarray
Numbers = Sequence[int]


def around(size: int, window: int, stride: int, dilation: int, padding: str) -> tuple[int, int]:
    """Return the zeros before and behind an axis, as TensorFlow's guide has them."""
    reach = (window - 1) * dilation + 1
    if padding == "causal":
        return reach - 1, 0
    if padding == "valid":
        return 0, 0
    # as in the documentation of tf.nn.convolution: it depends on the remainder of size / stride
    rest = size % stride
    total = max(reach - (stride if rest == 0 else rest), 0)
    return total // 2, total - total // 2


def padded(x: Array, pairs: Sequence[tuple[int, int]], fill: float = 0.0) -> Array:
    """Put numbers around the axes between the first and the last."""
    return np.pad(x, [(0, 0), *pairs, (0, 0)], constant_values=fill)


def windows(
    x: Array, window: Numbers, strides: Numbers, dilation: Numbers
) -> tuple[tuple[int, ...], Iterator[tuple[tuple[int, ...], Array]]]:
    """Return the sizes of the results, and each place with its window (batch, *window, channels)."""
    reach = [(w - 1) * d + 1 for w, d in zip(window, dilation, strict=True)]
    results = tuple((size - r) // s + 1 for size, r, s in zip(x.shape[1:-1], reach, strides, strict=True))

    def each() -> Iterator[tuple[tuple[int, ...], Array]]:
        for place in product(*map(range, results)):
            cut = [slice(p * s, p * s + r, d) for p, s, r, d in zip(place, strides, reach, dilation, strict=True)]
            yield place, x[(slice(None), *cut)]

    return results, each()


def convolved(
    x: Array, kernel: Array, strides: Numbers, dilation: Numbers, padding: str, groups: int = 1
) -> Array:  # fmt: skip
    """Convolve maps with a kernel (*window, channels / groups, filters)."""
    window, (each, filters) = kernel.shape[:-2], kernel.shape[-2:]
    axes = zip(x.shape[1:-1], window, strides, dilation, strict=True)
    x = padded(x, [around(*axis, padding) for axis in axes])
    results, places = windows(x, window, strides, dilation)
    y, of_group = np.zeros((len(x), *results, filters)), filters // groups
    for place, seen in places:
        for group in range(groups):
            own = slice(group * of_group, (group + 1) * of_group)
            channels = seen[..., group * each : (group + 1) * each]
            y[(slice(None), *place, own)] = np.tensordot(channels, kernel[..., own], kernel.ndim - 1)
    return y


def transposed(
    x: Array, kernel: Array, strides: Numbers, dilation: Numbers, padding: str, more: Numbers | None
) -> Array:  # fmt: skip
    """Add every number times the kernel (*window, filters, channels) to the place that it reaches."""
    window, (filters, _) = kernel.shape[:-2], kernel.shape[-2:]
    sizes, before, whole = [], [], []
    for axis, results in enumerate(x.shape[1:-1]):
        s, reach = strides[axis], (window[axis] - 1) * dilation[axis] + 1
        if padding == "valid":
            extra = max(reach, s) - reach if more is None else more[axis]
            size = (results - 1) * s + reach + extra
        else:
            size = results * s if more is None else (results - 1) * s + reach % 2 + more[axis]
        sizes.append(size)
        before.append(max((results - 1) * s + reach - size, 0) // 2 if padding == "same" else 0)
        whole.append(max((results - 1) * s + reach, before[-1] + size))
    y = np.zeros((len(x), *whole, filters))
    for place in product(*map(range, x.shape[1:-1])):
        for tap in product(*map(range, window)):
            at = [p * s + t * d for p, s, t, d in zip(place, strides, tap, dilation, strict=True)]
            y[(slice(None), *at)] += x[(slice(None), *place)] @ kernel[tap].T
    return y[(slice(None), *(slice(b, b + n) for b, n in zip(before, sizes, strict=True)))]


def by_channel(x: Array, kernel: Array, strides: Numbers, dilation: Numbers, padding: str) -> Array:
    """Convolve each channel with its filters, of a kernel (*window, channels, multiplier)."""
    parts = []
    for channel in range(x.shape[-1]):
        one, own = x[..., channel : channel + 1], kernel[..., channel : channel + 1, :]
        parts.append(convolved(one, own, strides, dilation, padding))
    return np.concatenate(parts, -1)


def pooled(x: Array, window: Numbers, strides: Numbers, padding: str, kind: str) -> Array:
    """Take the largest or the mean of what is within the maps; NaN is the largest number."""
    axes = zip(x.shape[1:-1], window, strides, [1] * len(window), strict=True)
    pairs = [around(*axis, padding) for axis in axes]
    inside = padded(np.ones_like(x), pairs)
    results, places = windows(padded(x, pairs), window, strides, [1] * len(window))
    _, counted = windows(inside, window, strides, [1] * len(window))
    y, between = np.zeros((len(x), *results, x.shape[-1])), tuple(range(1, len(window) + 1))
    for (place, seen), (_, counts) in zip(places, counted, strict=True):
        if kind == "max":
            value = np.where(counts == 1.0, seen, -np.inf).max(between)
        else:
            value = np.where(counts == 1.0, seen, 0.0).sum(between) / counts.sum(between)
        y[(slice(None), *place)] = value
    return y


def magnified(x: Array, times: Numbers, kind: str) -> Array:
    """Make images larger: "nearest", or on the lines between the centres of pixels."""
    for axis, factor in enumerate(times, 1):
        size = x.shape[axis]
        centres = (np.arange(size * factor) + 0.5) / factor - 0.5
        if kind == "nearest":
            x = np.take(x, np.round(centres).astype(int).clip(0, size - 1) if factor % 2 else
                        np.arange(size * factor) // factor, axis)  # fmt: skip
            continue
        low = np.floor(centres).astype(int)
        part = (centres - low).reshape([-1 if number == axis else 1 for number in range(x.ndim)])
        first, second = np.take(x, low.clip(0, size - 1), axis), np.take(x, (low + 1).clip(0, size - 1), axis)
        x = first + (second - first) * part
    return x


def group_normalized(x: Array, groups: int, epsilon: float) -> Array:
    """Normalise each group of channels of each sample."""
    groups, y = x.shape[-1] if groups == -1 else groups, np.empty_like(x)
    each = x.shape[-1] // groups
    for sample, group in product(range(len(x)), range(groups)):
        own = x[sample, ..., group * each : (group + 1) * each]
        y[sample, ..., group * each : (group + 1) * each] = (own - own.mean()) / np.sqrt(own.var() + epsilon)
    return y


def values(layer: Layer, weights: Sequence[Array], x: Array) -> Array:
    """Compute what a layer predicts."""
    x, weights = np.asarray(x, np.float64), [np.asarray(w, np.float64) for w in weights]
    if getattr(layer, "data_format", None) == "channels_first":
        y = _last(layer, weights, np.moveaxis(x, 1, -1))
        return y if y.ndim == 2 else np.moveaxis(y, -1, 1)
    return _last(layer, weights, x)


def _last(layer: Any, weights: list[Array], x: Array) -> Array:
    """Compute a layer whose channels are last."""
    rank = x.ndim - 2
    match layer:
        case fnn.SeparableConv2D():
            moves = layer.strides, layer.dilation_rate, layer.padding
            y = by_channel(x, weights[0], *moves) @ weights[1].reshape(weights[1].shape[-2:])
        case fnn.DepthwiseConv2D():
            y = by_channel(x, weights[0], layer.strides, layer.dilation_rate, layer.padding)
        case fnn.Conv2DTranspose():
            y = transposed(x, weights[0], layer.strides, layer.dilation_rate, layer.padding, layer.output_padding)
        case fnn.Conv2D():
            y = convolved(x, weights[0], layer.strides, layer.dilation_rate, layer.padding, layer.groups)
        case fnn.MaxPooling2D() | fnn.AveragePooling2D():
            kind = "max" if isinstance(layer, fnn.MaxPooling2D) else "average"
            return pooled(x, layer.pool_size, layer.strides, layer.padding, kind)
        case fnn.GlobalMaxPooling2D() | fnn.GlobalAveragePooling2D():
            kind = np.max if isinstance(layer, fnn.GlobalMaxPooling2D) else np.mean
            return kind(x, axis=tuple(range(1, rank + 1)), keepdims=layer.keepdims)
        case fnn.ZeroPadding2D():
            return padded(x, layer.padding)
        case fnn.Cropping2D():
            return x[(slice(None), *(slice(a, n - b) for (a, b), n in zip(layer.cropping, x.shape[1:-1], strict=True)))]
        case fnn.UpSampling1D():
            return magnified(x, [layer.size], "nearest")
        case fnn.UpSampling2D():
            return magnified(x, layer.size, layer.interpolation)
        case fnn.GroupNorm():
            y = group_normalized(x, layer.groups, layer.epsilon)
            y = y * (weights[0] if layer.scale else 1.0)
            return y + (weights[int(layer.scale)] if layer.center else 0.0)
        case fnn.SpatialDropout2D():
            return x
    if layer.use_bias:
        y = y + weights[-1]
    return FUNCTIONS[layer.activation.formula](y, *layer.activation.parameters)
