"""Random layers of images, and networks of them, from a seed."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np

import fastnn as fnn
from fastnn.layers import Layer, Symbol

SMOOTH = (None, "tanh", "gelu", "silu")
ACTIVATIONS = (*SMOOTH, "relu", "relu", "leaky_relu")
KINDS = ("conv",) * 5 + ("transposed",) * 3 + ("pool",) * 3 + (
    "depthwise", "separable", "whole", "zeros", "crop", "larger", "group", "dropped"
)  # fmt: skip


class _Drawn:
    """What is drawn for one layer."""

    def __init__(self, random: Random, smooth: bool) -> None:
        self.random, self.one = random, random.choice
        self.activations = SMOOTH if smooth else ACTIVATIONS
        self.rank = self.one([1, 2, 2, 2, 3])
        self.channels = self.one([1, 2, 3, 4, 6, 8, 12, 17, 33])
        self.sizes = [random.randint(1, {1: 30, 2: 10, 3: 5}[self.rank]) for _ in range(self.rank)]
        self.data_format = "channels_first" if self.chance(0.25) else self.one([None, "channels_last"])

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def numbers(self, least: int, most: int) -> Any:
        """Draw one number for all axes, or one for each."""
        found = tuple(self.random.randint(least, most) for _ in range(self.rank))
        return found[0] if self.chance(0.3) else found

    def pairs(self, most: int) -> Any:
        return tuple((self.random.randint(0, most), self.random.randint(0, most)) for _ in range(self.rank))

    def class_of(self, name: str) -> Any:
        return getattr(fnn, name.replace("#", f"{self.rank}D"))

    def window(self, words: tuple[str, ...]) -> dict[str, Any]:
        return {
            "kernel_size": self.numbers(1, 4), "strides": self.numbers(1, 3), "padding": self.one(words),
            "dilation_rate": self.numbers(1, 3) if self.chance(0.4) else 1, "data_format": self.data_format,
            "activation": self.one(self.activations), "use_bias": self.chance(0.7),
        }  # fmt: skip

    def layer(self, kind: str) -> Layer:
        words = ("valid", "same", "causal") if self.rank == 1 else ("valid", "same")
        divisors = [number for number in range(1, self.channels + 1) if self.channels % number == 0]
        if kind in ("depthwise", "separable") and self.rank == 3:
            kind = "conv"
        match kind:
            case "conv":
                groups = self.one([1, 1, *divisors])
                filters = groups * self.one([1, 2, 3, 5, 8, 16])
                return self.class_of("Conv#")(filters, groups=groups, **self.window(words))
            case "transposed":
                more = None if self.chance(0.6) else self.numbers(0, 2)
                return self.class_of("Conv#Transpose")(
                    self.one([1, 3, 4, 16, 18]), output_padding=more, **self.window(words[:2])
                )  # fmt: skip
            case "depthwise":
                return self.class_of("DepthwiseConv#")(depth_multiplier=self.one([1, 1, 2, 3]), **self.window(words))
            case "separable":
                return self.class_of("SeparableConv#")(
                    self.one([2, 3, 16]), depth_multiplier=self.one([1, 2]), **self.window(words)
                )
            case "pool":
                strides = self.one([None, self.numbers(1, 4)])
                made = self.class_of(self.one(["MaxPooling#", "AveragePooling#"]))
                return made(self.numbers(1, 4), strides, self.one(words[:2]), self.data_format)
            case "whole":
                made = self.class_of(self.one(["GlobalMaxPooling#", "GlobalAveragePooling#"]))
                return made(self.data_format, self.chance(0.5))
            case "zeros":
                return self.class_of("ZeroPadding#")(self.pairs(2), self.data_format)
            case "crop" if self.rank > 1:
                return self.class_of("Cropping#")(self.pairs(1), self.data_format)
            case "larger" if self.rank > 1:
                return self.class_of("UpSampling#")(
                    self.numbers(1, 3), self.data_format, self.one(["nearest", "bilinear"])
                )  # fmt: skip
            case "larger":
                return fnn.UpSampling1D(self.random.randint(1, 3))
            case "dropped":
                return self.class_of("SpatialDropout#")(0.3, self.data_format)
        return fnn.GroupNorm(self.one([-1, *divisors]), center=self.chance(0.7), scale=self.chance(0.7))

    @property
    def shape(self) -> tuple[int, ...]:
        if self.data_format == "channels_first":
            return (self.channels, *self.sizes)
        return (*self.sizes, self.channels)


def random_layer(random: Random, *, smooth: bool = False) -> tuple[Layer, Symbol, Symbol]:
    """Draw a layer; returns it, an input that it takes, and its output."""
    while True:
        drawn = _Drawn(random, smooth)
        try:
            layer = drawn.layer(random.choice(KINDS))
            x = fnn.Input(drawn.shape)
            return layer, x, layer(x)
        except ValueError:  # a window that does not fit
            continue


@dataclass(frozen=True, repr=False)
class Drawn:
    """A network with data for it; its layers are named in the errors of tests."""

    x_in: Symbol
    y_out: Symbol
    layers: list[Layer]
    smooth: bool
    x: np.ndarray
    y: np.ndarray

    def __repr__(self) -> str:
        return f"{len(self.x)} samples of {self.x_in.shape} -> {self.layers} -> {self.y_out.shape}"

    def model(self, dtype: str, optimizer: Any = None) -> fnn.Model:
        """Make the model with weights that keep numbers of size one."""
        model = fnn.Model(self.x_in, self.y_out, dtype=dtype, seed=3)
        rng, weights = np.random.default_rng(5), []
        for entry in model._runtime.table:
            shape = entry.spec.shape
            size = 1.0 / np.sqrt(np.prod(shape[:-1])) if len(shape) > 1 else 0.5
            weights.append(rng.normal(size=shape) * size + float(entry.spec.name == "gamma"))
        model.set_weights(weights)
        model.compile(fnn.SGD(0.01) if optimizer is None else optimizer, "mse")
        return model


def random_network(seed: int) -> Drawn:
    """Make a network of one to four layers, which ends in a dense layer or as it is."""
    random = Random(seed)
    smooth = random.random() < 0.6
    layer, x, y = random_layer(random, smooth=smooth)
    layers = [layer]
    for _ in range(random.randint(0, 3)):
        for _ in range(30):
            drawn = _Drawn(random, smooth)
            drawn.rank, drawn.channels = max(1, min(3, len(y.shape) - 1)), y.shape[-1]
            try:
                layer = drawn.layer(random.choice(KINDS))
                following = layer(y)
            except ValueError:
                continue
            if np.prod(following.shape) <= 2000:
                y = fnn.Add()([following, y]) if following.shape == y.shape and random.random() < 0.3 else following
                layers.append(layer)
                break
    if random.random() < 0.4:
        layers.append(fnn.Dense(random.choice([2, 3, 16])))
        y = layers[-1](fnn.Flatten()(y))
    rng, n = np.random.default_rng(seed), random.choice([1, 2, 3, 7, 9, 17])
    return Drawn(x, y, layers, smooth, rng.normal(size=(n, *x.shape)), rng.normal(size=(n, *y.shape)))
