"""Kernels of convolutions as images."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.hints import explained
from fastnn.inspect.inner import checked, layer_of
from fastnn.layers import (
    Conv1D,
    Conv1DTranspose,
    Conv2D,
    Conv2DTranspose,
    Conv3D,
    Conv3DTranspose,
    DepthwiseConv1D,
    DepthwiseConv2D,
    SeparableConv1D,
    SeparableConv2D,
)
from fastnn.layers.base import Layer
from fastnn.model import Model

_BY_CHANNEL = (DepthwiseConv2D, SeparableConv2D)
_TRANSPOSED = (Conv2DTranspose,)
_KINDS = (Conv2D, *_BY_CHANNEL, *_TRANSPOSED)
#: along one axis; and along three, which are no images
_FLAT = (Conv1D, Conv1DTranspose, DepthwiseConv1D, SeparableConv1D)
_DEEP = (Conv3D, Conv3DTranspose)


@explained
def filters(model: Model, layer: str | Layer, *, scale: bool = True) -> NDArray[Any]:
    """Return the kernels of a convolution as images.

    ::

        images = fnn.inspect.filters(model, "conv1")

    Parameters
    ----------
    model : Model
    layer : str or Layer
        A convolution of the model: of images, or of sequences, whose filters are one pixel high.
    scale : bool
        Whether each filter is divided by twice its largest magnitude and moved by 0.5: then 0.5 stands for zero, and
        all numbers are from 0 to 1.

    Returns
    -------
    array of shape (filters, height, width, channels)
        The channels are those that a filter sees: one for convolutions of each channel by itself.

    Raises
    ------
    TypeError, ValueError
        When the model does not have the layer, or it is no convolution of images or sequences.
    """
    layer = layer_of("filters", checked("filters", model), layer)
    if not shows_images(layer):
        names = [one.label for one in model.layers if shows_images(one)]
        raise ValueError(
            f"filters: layer: {layer.label!r}, a {type(layer).__name__}, has no kernels of images; those that have are "
            f"{names}"
        )
    kernel = model.get_weights(layer)[0]
    if isinstance(layer, _FLAT):
        kernel = kernel[None]
    if isinstance(layer, _BY_CHANNEL):
        # the filters of one channel are neighbours
        images = kernel.reshape(*kernel.shape[:2], 1, -1).transpose(3, 0, 1, 2)
    else:
        images = kernel.transpose((2, 0, 1, 3) if isinstance(layer, _TRANSPOSED) else (3, 0, 1, 2))
    return scaled(images) if scale else np.ascontiguousarray(images)


def shows_images(layer: Layer) -> bool:
    """Return whether the kernels of a layer are images, or lines of them."""
    return isinstance(layer, _KINDS) and not isinstance(layer, _DEEP)


def scaled(images: NDArray[Any]) -> NDArray[Any]:
    """Return images from 0 to 1, in which 0.5 stands for zero."""
    largest = np.abs(images).max(axis=(1, 2, 3), keepdims=True)
    return 0.5 + 0.5 * images / np.where(largest > 0.0, largest, 1.0)
