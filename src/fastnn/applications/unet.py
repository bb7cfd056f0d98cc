"""U-Net: an image to a class for every pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn import checks
from fastnn.applications.blocks import image_input
from fastnn.hints import explained
from fastnn.layers import Activation, Concatenate, Conv2D, Conv2DTranspose, Cropping2D, Dropout, MaxPooling2D
from fastnn.layers.symbols import Symbol
from fastnn.model import Model


@explained
def UNet(
    input_shape: Sequence[int] = (572, 572, 1),
    classes: int = 2,
    *,
    filters: int = 64,
    depth: int = 4,
    padding: str = "valid",
    dropout: float = 0.5,
    classifier_activation: Any = "softmax",
    seed: int | np.random.Generator | None = None,
    dtype: str = "float32",
    name: str | None = "unet",
) -> Model:
    """Make a U-Net, which segments images: its output has a row of class probabilities for every pixel.

    ::

        model = fnn.applications.UNet((64, 64, 3), 2, filters=16, depth=3, padding="same", seed=0)

    Parameters
    ----------
    input_shape : tuple of int
        (height, width, channels) of the images.
    classes : int
        Channels of the output.
    filters : int
        Filters of the first level; each level below has twice as many.
    depth : int
        How often the image is halved.
    padding : {"valid", "same"}
        "valid" is the paper's: every convolution makes the image two pixels smaller, and the output covers its middle.
        "same" puts zeros around it, so that the output has the input's size, a multiple of ``2**depth``.
    dropout : float
        Fraction that is dropped at the end of the contracting path.
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
        When an argument is invalid, or the image has a size that cannot be halved so often; the message names sizes
        that can.

    Notes
    -----
    Ronneberger, Fischer and Brox 2015, "U-Net: convolutional networks for biomedical image segmentation",
    arXiv:1505.04597: 31.0 million parameters, and 388 pixels of 572 in the output. The kernels' initial values are
    normal with variance 2 / inputs, as there. The paper does not say how much is dropped.
    """
    if padding not in ("valid", "same"):
        raise ValueError(f"padding: expected 'valid' or 'same', got {checks.shorten(padding)}")
    image = image_input(input_shape)
    classes, filters = checks.size("classes", classes), checks.size("filters", filters)
    depth = checks.integer("depth", depth, at_least=1, at_most=8)
    dropout = checks.number("dropout", dropout, at_least=0.0, below=1.0)
    for axis, size in zip(("height", "width"), image.shape, strict=False):
        _check_size(axis, size, depth, padding)
    x, bridges = image, []
    for level in range(depth):
        x = _two(x, filters * 2**level, padding, f"down{level + 1}")
        if level == depth - 1 and dropout:
            x = Dropout(dropout, name=f"down{level + 1}_dropout")(x)
        bridges.append(x)
        x = MaxPooling2D(2, name=f"down{level + 1}_pool")(x)
    x = _two(x, filters * 2**depth, padding, "bottom")
    if dropout:
        x = Dropout(dropout, name="bottom_dropout")(x)
    for level in reversed(range(depth)):
        up, width = f"up{level + 1}", filters * 2**level
        x = Conv2DTranspose(width, 2, 2, kernel_initializer="he_normal", name=f"{up}_larger")(x)
        x = Concatenate(name=f"{up}_joined")([_middle(bridges.pop(), x.shape), x])
        x = _two(x, width, padding, up)
    scores = Conv2D(classes, 1, kernel_initializer="he_normal", name="classes")(x)
    if classifier_activation is not None:
        scores = Activation(classifier_activation, name="probabilities")(scores)
    return Model(image, scores, seed=seed, dtype=dtype, name=name)


def _two(x: Symbol, filters: int, padding: str, name: str) -> Symbol:
    """Convolve twice."""
    for number in (1, 2):
        x = Conv2D(
            filters, 3, padding=padding, activation="relu", kernel_initializer="he_normal", name=f"{name}_conv{number}"
        )(x)
    return x


def _middle(x: Symbol, shape: Sequence[int]) -> Symbol:
    """Return the middle of an image, of the height and width of a shape."""
    pairs = []
    for size, kept in zip(x.shape[:2], shape[:2], strict=True):
        pairs.append(((size - kept) // 2, size - kept - (size - kept) // 2))
    found: Symbol = Cropping2D(tuple(pairs))(x) if any(map(any, pairs)) else x
    return found


def _fits(size: int, depth: int, padding: str) -> bool:
    """Return whether every level has an even size, and the output at least one pixel."""
    lost = 4 if padding == "valid" else 0
    for _ in range(depth):
        size -= lost
        if size < 2 or size % 2:
            return False
        size //= 2
    size -= lost
    for _ in range(depth):
        size = 2 * size - lost
    return size > 0


def _check_size(axis: str, size: int, depth: int, padding: str) -> None:
    if _fits(size, depth, padding):
        return
    near = 2**depth
    larger = next(each for each in range(size + 1, size + 1000 * near) if _fits(each, depth, padding))
    smaller = [each for each in range(max(1, size - near), size) if _fits(each, depth, padding)]
    other = f"{smaller[-1]} or {larger}" if smaller else f"{larger}"
    raise ValueError(
        f"input_shape: with depth={depth} and padding={padding!r} the {axis} can be {other} pixels, got {size}"
    )
