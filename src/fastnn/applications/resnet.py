"""Residual networks of two convolutions a block: those of CIFAR, and the smallest one of ImageNet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn import checks
from fastnn.applications.blocks import Blocks, image_input
from fastnn.hints import explained
from fastnn.layers import Add, MaxPooling2D, ZeroPadding2D
from fastnn.layers.symbols import Symbol
from fastnn.model import Model
from fastnn.ops.shapes import pad

_BLOCKS = Blocks("relu", "around", "he_normal", {"momentum": 0.9, "epsilon": 1e-5})


def _shortcut(x: Symbol, filters: int, strides: int, option: str, name: str) -> Symbol:
    """Return what is added to the result of a block's convolutions, in their shape."""
    if strides == 1 and x.shape[-1] == filters:
        return x
    if option == "B":
        return _BLOCKS.convolution(x, filters, 1, strides, name=f"{name}_shortcut", active=False)
    smaller = x[:, ::strides, ::strides] if strides > 1 else x
    found: Symbol = pad(smaller, ((0, 0), (0, 0), (0, 0), (0, filters - x.shape[-1])))
    return found


def _block(x: Symbol, filters: int, strides: int, option: str, name: str) -> Symbol:
    """Add a block's two convolutions to its input."""
    y = _BLOCKS.convolution(x, filters, 3, strides, name=f"{name}_conv1")
    y = _BLOCKS.convolution(y, filters, 3, name=f"{name}_conv2", active=False)
    y = Add(name=f"{name}_add")([y, _shortcut(x, filters, strides, option, name)])
    return _BLOCKS.active(y, name)


def _stages(x: Symbol, widths: Sequence[int], blocks: int, option: str) -> Symbol:
    """Put blocks one behind the other; the first one of every stage but the first halves the image."""
    for stage, filters in enumerate(widths, start=1):
        for block in range(1, blocks + 1):
            strides = 2 if stage > 1 and block == 1 else 1
            x = _block(x, filters, strides, option, f"stage{stage}_block{block}")
    return x


def _cifar(
    blocks: int, input_shape: Sequence[int], classes: int, width: int, shortcut: str, activation: Any, **options: Any
) -> Model:
    """Make a network of 6 * blocks + 2 layers."""
    if shortcut not in ("A", "B"):
        raise ValueError(f"shortcut: expected 'A' or 'B', got {checks.shorten(shortcut)}")
    image = image_input(input_shape)
    classes, width = checks.size("classes", classes), checks.size("width", width)
    x = _BLOCKS.convolution(image, width, 3, name="conv1")
    x = _stages(x, (width, 2 * width, 4 * width), blocks, shortcut)
    return Model(image, _BLOCKS.classified(x, classes, activation), **options)


@explained
def ResNet20(
    input_shape: Sequence[int] = (32, 32, 3),
    classes: int = 10,
    *,
    width: int = 16,
    shortcut: str = "A",
    classifier_activation: Any = "softmax",
    seed: int | np.random.Generator | None = None,
    dtype: str = "float32",
    name: str | None = "resnet20",
) -> Model:
    """Make the residual network of 20 layers for small images such as CIFAR's.

    ::

        model = fnn.applications.ResNet20((32, 32, 3), 10, seed=0)

    Parameters
    ----------
    input_shape : tuple of int
        (height, width, channels) of the images.
    classes : int
        Number of outputs.
    width : int
        Filters of the first of three stages; the others have two and four times as many.
    shortcut : {"A", "B"}
        What is added where a block halves the image: "A" takes every second pixel, with zeros as further channels, and
        has no weights; "B" is a convolution of single pixels.
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
    He, Zhang, Ren and Sun 2015, "Deep residual learning for image recognition", arXiv:1512.03385, section 4.2: 0.27
    million parameters. The paper's training has a weight decay of 1e-4, which optimizers have as ``weight_decay``.
    """
    return _cifar(3, input_shape, classes, width, shortcut, classifier_activation, seed=seed, dtype=dtype, name=name)


@explained
def ResNet32(
    input_shape: Sequence[int] = (32, 32, 3),
    classes: int = 10,
    *,
    width: int = 16,
    shortcut: str = "A",
    classifier_activation: Any = "softmax",
    seed: int | np.random.Generator | None = None,
    dtype: str = "float32",
    name: str | None = "resnet32",
) -> Model:
    """Make the residual network of 32 layers for small images: `ResNet20` with five blocks a stage instead of three.

    ::

        model = fnn.applications.ResNet32((32, 32, 3), 100, seed=0)

    Parameters
    ----------
    input_shape, classes, width, shortcut, classifier_activation, seed, dtype, name
        As for `ResNet20`.

    Returns
    -------
    Model
        Not compiled.

    Notes
    -----
    He, Zhang, Ren and Sun 2015, arXiv:1512.03385, section 4.2: 0.46 million parameters.
    """
    return _cifar(5, input_shape, classes, width, shortcut, classifier_activation, seed=seed, dtype=dtype, name=name)


@explained
def ResNet18(
    input_shape: Sequence[int] = (224, 224, 3),
    classes: int = 1000,
    *,
    width: int = 64,
    classifier_activation: Any = "softmax",
    seed: int | np.random.Generator | None = None,
    dtype: str = "float32",
    name: str | None = "resnet18",
) -> Model:
    """Make the residual network of 18 layers for images such as ImageNet's.

    ::

        model = fnn.applications.ResNet18((224, 224, 3), 1000, seed=0)

    Parameters
    ----------
    input_shape : tuple of int
        (height, width, channels) of the images.
    classes : int
        Number of outputs.
    width : int
        Filters of the first of four stages; each of the others has twice as many as the one before.
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
    He, Zhang, Ren and Sun 2015, arXiv:1512.03385, table 1, with shortcuts "B". As in torchvision, which publishes
    11,689,512 parameters, zeros are on all sides of the images; moving averages are not among these.
    """
    image = image_input(input_shape)
    classes, width = checks.size("classes", classes), checks.size("width", width)
    x = _BLOCKS.convolution(image, width, 7, 2, name="conv1")
    # the images have no negative numbers after the relu, so zeros around them change no maximum
    x = MaxPooling2D(3, 2, name="pool1")(ZeroPadding2D(1)(x))
    x = _stages(x, [width * 2**stage for stage in range(4)], 2, "B")
    scores = _BLOCKS.classified(x, classes, classifier_activation)
    return Model(image, scores, seed=seed, dtype=dtype, name=name)
