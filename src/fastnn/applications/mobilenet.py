"""MobileNets: convolutions by channel, with mixtures of the channels at single pixels between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn import checks
from fastnn.applications.blocks import Blocks, image_input
from fastnn.hints import explained
from fastnn.layers import Add
from fastnn.layers.symbols import Symbol
from fastnn.model import Model

#: strides and filters of MobileNetV1's blocks
_FIRST = ((1, 64), (2, 128), (1, 128), (2, 256), (1, 256), (2, 512), *((1, 512),) * 5, (2, 1024), (1, 1024))
#: table 2 of the second paper: expansion, filters, blocks, strides of the first block
_SECOND = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def divisible(width: float, divisor: int = 8) -> int:
    """Return the nearest multiple of a divisor, at least the divisor and not below 0.9 of the width."""
    nearest = max(divisor, int(width + divisor / 2) // divisor * divisor)
    return nearest if nearest >= 0.9 * width else nearest + divisor


@explained
def MobileNetV1(
    input_shape: Sequence[int] = (224, 224, 3),
    classes: int = 1000,
    alpha: float = 1.0,
    *,
    dropout: float = 0.001,
    classifier_activation: Any = "softmax",
    seed: int | np.random.Generator | None = None,
    dtype: str = "float32",
    name: str | None = "mobilenet_v1",
) -> Model:
    """Make the first MobileNet: thirteen blocks, each a convolution by channel and one of single pixels.

    ::

        model = fnn.applications.MobileNetV1((96, 96, 3), 10, alpha=0.25, seed=0)

    Parameters
    ----------
    input_shape : tuple of int
        (height, width, channels) of the images.
    classes : int
        Number of outputs.
    alpha : float
        Factor of all numbers of filters. They are rounded down, and are at least 8, as in the authors' code.
    dropout : float
        Fraction of the means that is dropped before the last layer.
    classifier_activation : str, activation object or None
        Of the last layer; None gives the scores.
    seed, dtype, name
        As for `Model`.

    Returns
    -------
    Model
        Not compiled.

    Raises
    ------
    TypeError, ValueError
        When an argument is invalid.

    Notes
    -----
    Howard et al. 2017, "MobileNets: efficient convolutional neural networks for mobile vision applications",
    arXiv:1704.04861. With alpha = 1 and 1000 classes it has 4,253,864 parameters, as in Keras; 21,888 of them are
    moving averages. The activation is relu6, as in the authors' code; the paper says relu.
    """
    image = image_input(input_shape)
    classes, alpha = checks.size("classes", classes), checks.number("alpha", alpha, above=0.0)
    dropout = checks.number("dropout", dropout, at_least=0.0, below=1.0)
    blocks = Blocks("relu6", "same", "glorot_uniform", {"momentum": 0.99, "epsilon": 1e-3})
    x = blocks.convolution(image, max(8, int(32 * alpha)), 3, 2, name="conv1")
    for number, (strides, filters) in enumerate(_FIRST, start=1):
        x = blocks.depthwise(x, 3, strides, name=f"block{number}_depthwise")
        x = blocks.convolution(x, max(8, int(filters * alpha)), 1, name=f"block{number}_pointwise")
    scores = blocks.classified(x, classes, classifier_activation, dropout)
    return Model(image, scores, seed=seed, dtype=dtype, name=name)


@explained
def MobileNetV2(
    input_shape: Sequence[int] = (224, 224, 3),
    classes: int = 1000,
    alpha: float = 1.0,
    *,
    dropout: float = 0.0,
    classifier_activation: Any = "softmax",
    seed: int | np.random.Generator | None = None,
    dtype: str = "float32",
    name: str | None = "mobilenet_v2",
) -> Model:
    """Make the second MobileNet: blocks that widen, convolve by channel and narrow again, with residuals between.

    ::

        model = fnn.applications.MobileNetV2((96, 96, 3), 10, alpha=0.35, seed=0)

    Parameters
    ----------
    input_shape : tuple of int
        (height, width, channels) of the images.
    classes : int
        Number of outputs.
    alpha : float
        Factor of all numbers of filters, which are rounded to multiples of 8. Below 1 it leaves the last convolution,
        of 1280 filters, as it is.
    dropout : float
        Fraction of the means that is dropped before the last layer.
    classifier_activation : str, activation object or None
        Of the last layer; None gives the scores.
    seed, dtype, name
        As for `Model`.

    Returns
    -------
    Model
        Not compiled.

    Raises
    ------
    TypeError, ValueError
        When an argument is invalid.

    Notes
    -----
    Sandler et al. 2018, "MobileNetV2: inverted residuals and linear bottlenecks", arXiv:1801.04381. With alpha = 1 and
    1000 classes it has 3,538,984 parameters, as in Keras; 34,112 of them are moving averages.
    """
    image = image_input(input_shape)
    classes, alpha = checks.size("classes", classes), checks.number("alpha", alpha, above=0.0)
    dropout = checks.number("dropout", dropout, at_least=0.0, below=1.0)
    blocks = Blocks("relu6", "same", "glorot_uniform", {"momentum": 0.999, "epsilon": 1e-3})
    x, number = blocks.convolution(image, divisible(32 * alpha), 3, 2, name="conv1"), 0
    for expansion, filters, repeats, first in _SECOND:
        for repeat in range(repeats):
            number += 1
            x = _inverted(blocks, x, expansion, divisible(filters * alpha), 1 if repeat else first, f"block{number}")
    x = blocks.convolution(x, divisible(1280 * max(1.0, alpha)), 1, name="conv2")
    scores = blocks.classified(x, classes, classifier_activation, dropout)
    return Model(image, scores, seed=seed, dtype=dtype, name=name)


def _inverted(blocks: Blocks, x: Symbol, expansion: int, filters: int, strides: int, name: str) -> Symbol:
    """Widen, convolve by channel and narrow; where the shape is the input's, this is added."""
    channels, y = x.shape[-1], x
    if expansion > 1:
        y = blocks.convolution(y, channels * expansion, 1, name=f"{name}_expand")
    y = blocks.depthwise(y, 3, strides, name=f"{name}_depthwise")
    y = blocks.convolution(y, filters, 1, name=f"{name}_project", active=False)
    if strides == 1 and channels == filters:
        y = Add(name=f"{name}_add")([x, y])
    return y
