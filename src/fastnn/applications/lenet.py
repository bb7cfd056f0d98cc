"""LeNet-5, the network that read the digits of cheques."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn import checks
from fastnn.applications.blocks import image_input
from fastnn.hints import explained
from fastnn.layers import AveragePooling2D, Conv2D, Dense, Flatten
from fastnn.model import Model


@explained
def LeNet5(
    input_shape: Sequence[int] = (28, 28, 1),
    classes: int = 10,
    *,
    activation: Any = "tanh",
    padding: str = "same",
    classifier_activation: Any = "softmax",
    seed: int | np.random.Generator | None = None,
    dtype: str = "float32",
    name: str | None = "lenet5",
) -> Model:
    """Make LeNet-5: two convolutions, each before a pooling, and three dense layers.

    ::

        model = fnn.applications.LeNet5(seed=0)
        model.compile("adam", "cross_entropy", metrics=["accuracy"])

    Parameters
    ----------
    input_shape : tuple of int
        (height, width, channels) of the images.
    classes : int
        Number of outputs.
    activation : str or activation object
        Of all layers but the last.
    padding : {"same", "valid"}
        Of the first convolution. "same" puts zeros around images of 28 pixels; "valid" is for those of 32 pixels, the
        paper's size.
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
        When an argument is invalid, or the images are too small.

    Notes
    -----
    LeCun, Bottou, Bengio and Haffner 1998, "Gradient-based learning applied to document recognition", as it is commonly
    built today: 61,706 parameters for one channel of 28 pixels. The paper differs in four places. The filters of its
    second convolution see only some of the six maps each. Its pooling multiplies the mean by a weight and adds a bias.
    Its tanh is scaled. Its outputs are distances from fixed patterns.
    """
    if padding not in ("same", "valid"):
        raise ValueError(f"padding: expected 'same' or 'valid', got {checks.shorten(padding)}")
    x = image = image_input(input_shape)
    classes = checks.size("classes", classes)
    x = Conv2D(6, 5, padding=padding, activation=activation, name="conv1")(x)
    x = AveragePooling2D(2, name="pool1")(x)
    x = Conv2D(16, 5, activation=activation, name="conv2")(x)
    x = AveragePooling2D(2, name="pool2")(x)
    x = Flatten(name="flat")(x)
    x = Dense(120, activation, name="dense1")(x)
    x = Dense(84, activation, name="dense2")(x)
    scores = Dense(classes, classifier_activation, name="classes")(x)
    return Model(image, scores, seed=seed, dtype=dtype, name=name)
