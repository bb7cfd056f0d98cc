"""What the networks share: checked arguments, and convolutions with their normalisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastnn import checks
from fastnn.layers import (
    Activation,
    BatchNorm,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    GlobalAveragePooling2D,
    Input,
    ZeroPadding2D,
)
from fastnn.layers.symbols import Symbol


def image_shape(value: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of images, checked.

    Raises
    ------
    TypeError, ValueError
        If it is not (height, width, channels).
    """
    found = checks.shape("input_shape", value)
    if len(found) != 3:
        raise ValueError(f"input_shape: expected (height, width, channels), got {checks.shorten(value)}")
    return found


def image_input(value: Sequence[int]) -> Symbol:
    """Start a model of images of a shape, which is checked."""
    return Input(image_shape(value), name="image")


@dataclass(frozen=True)
class Blocks:
    """Convolutions without a bias, batch normalisation and an activation, with the constants of one network.

    Attributes
    ----------
    activation : str
    padding : {"same", "around"}
        "around" puts as many zeros on all sides: (window - 1) / 2, for odd windows. With strides "same" may put fewer
        above and to the left.
    initializer : str
        Of the kernels.
    norm : mapping
        Arguments of `BatchNorm`.
    """

    activation: str
    padding: str
    initializer: str
    norm: Mapping[str, float]

    def padded(self, x: Symbol, window: int, strides: int) -> tuple[Symbol, str]:
        """Return what a window slides over, and the padding that is left to do."""
        if self.padding == "same" or strides == 1 or window == 1:
            return x, "same"
        return ZeroPadding2D(window // 2)(x), "valid"

    def convolution(
        self, x: Symbol, filters: int, window: int, strides: int = 1, *, name: str, active: bool = True
    ) -> Symbol:
        """Convolve, normalise and, where `active`, apply the activation."""
        x, padding = self.padded(x, window, strides)
        layer = Conv2D(
            filters, window, strides, padding, use_bias=False, kernel_initializer=self.initializer, name=name
        )
        return self.normalised(layer(x), name, active)

    def depthwise(self, x: Symbol, window: int, strides: int, *, name: str) -> Symbol:
        """Convolve each channel by itself, normalise and apply the activation."""
        x, padding = self.padded(x, window, strides)
        layer = DepthwiseConv2D(
            window, strides, padding, use_bias=False, depthwise_initializer=self.initializer, name=name
        )
        return self.normalised(layer(x), name, True)

    def normalised(self, x: Symbol, name: str, active: bool) -> Symbol:
        """Normalise and, where `active`, apply the activation."""
        options: dict[str, Any] = dict(self.norm)
        x = BatchNorm(name=f"{name}_norm", **options)(x)
        return self.active(x, name) if active else x

    def active(self, x: Symbol, name: str) -> Symbol:
        """Apply the activation."""
        found: Symbol = Activation(self.activation, name=f"{name}_{self.activation}")(x)
        return found

    def classified(self, x: Symbol, classes: int, activation: Any, dropout: float = 0.0) -> Symbol:
        """Return the outputs of a dense layer on the means of the maps, of which a part may be dropped."""
        means = GlobalAveragePooling2D(name="means")(x)
        if dropout:
            means = Dropout(dropout, name="dropout")(means)
        found: Symbol = Dense(classes, activation, kernel_initializer=self.initializer, name="classes")(means)
        return found
