"""Networks of convolutions for images and signals, as lists of layers from which every library builds its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import fastnn as fnn

Array = NDArray[Any]


class Conv(NamedTuple):
    """A convolution with relu; zeros keep the size if `same`."""

    filters: int
    size: int = 3
    same: bool = True


class Pool(NamedTuple):
    """The largest of two by two."""


class Flat(NamedTuple):
    """All numbers of a sample in a row."""


class Mean(NamedTuple):
    """The mean of every channel."""


class Dense(NamedTuple):
    """A dense layer, the last one without relu."""

    units: int


class Residual(NamedTuple):
    """Two convolutions with batch normalisation beside what goes in; with a stride a convolution of one pixel."""

    filters: int
    stride: int = 1


class Stem(NamedTuple):
    """A convolution with batch normalisation and relu."""

    filters: int


Layer = Conv | Pool | Flat | Mean | Dense | Residual | Stem
CLASSES = 10


@dataclass(frozen=True)
class Network:
    """A network of ten classes.

    Attributes
    ----------
    shape : tuple of int
        Of a sample, with the channels last.
    batch : int
    layers : tuple
        A dense layer of ten units follows them.
    large : bool
        Whether a step takes a tenth of a second or more.
    """

    name: str
    shape: tuple[int, ...]
    batch: int
    layers: tuple[Layer, ...]
    large: bool = False

    @property
    def normalises(self) -> bool:
        """Whether it has batch normalisation."""
        return any(isinstance(layer, (Residual, Stem)) for layer in self.layers)

    def data(self, batches: int = 1) -> tuple[Array, Array]:
        """Return samples (batches, batch, *shape) and labels (batches, batch)."""
        rng = np.random.default_rng(0)
        x = rng.standard_normal((batches, self.batch, *self.shape), dtype=np.float32)
        return x, rng.integers(0, CLASSES, (batches, self.batch))

    def fastnn(self, optimizer: Any = "adam", dtype: str = "float32") -> fnn.Model:
        """Return the compiled model."""
        first = x = fnn.Input(self.shape)
        for layer in self.layers:
            x = _apply(layer, x, len(self.shape) == 2)
        model = fnn.Model(first, fnn.Dense(CLASSES)(x), seed=0, dtype=dtype)
        model.compile(optimizer, fnn.CrossEntropy(from_logits=True))
        return model


def _apply(layer: Layer, x: Any, line: bool) -> Any:
    """Return the symbol of a layer's outputs."""
    match layer:
        case Conv(filters, size, same):
            kind = fnn.Conv1D if line else fnn.Conv2D
            return kind(filters, size, padding="same" if same else "valid", activation="relu")(x)
        case Pool():
            return fnn.MaxPooling2D()(x)
        case Flat():
            return fnn.Flatten()(x)
        case Mean():
            return (fnn.GlobalAveragePooling1D if line else fnn.GlobalAveragePooling2D)()(x)
        case Dense(units):
            return fnn.Dense(units, "relu")(x)
        case Stem(filters):
            return fnn.Activation("relu")(_normalised(x, filters, 3, 1))
        case Residual(filters, stride):
            y = fnn.Activation("relu")(_normalised(x, filters, 3, stride))
            y = _normalised(y, filters, 3, 1)
            short = _normalised(x, filters, 1, stride) if stride > 1 else x
            return fnn.Activation("relu")(fnn.Add()([y, short]))


def _normalised(x: Any, filters: int, size: int, stride: int) -> Any:
    if size > 1:
        x = fnn.ZeroPadding2D(size // 2)(x)  # as PyTorch pads, also with strides
    x = fnn.Conv2D(filters, size, strides=stride, use_bias=False)(x)
    return fnn.BatchNorm(epsilon=1e-5, momentum=0.9)(x)


_RESNET: tuple[Layer, ...] = (
    Stem(16),
    *[Residual(16)] * 3,
    Residual(32, 2),
    *[Residual(32)] * 2,
    Residual(64, 2),
    *[Residual(64)] * 2,
)

#: The networks by name.
NETWORKS = {
    network.name: network
    for network in (
        Network("cnn", (28, 28, 1), 64, (Conv(16), Pool(), Conv(32), Pool(), Flat())),
        Network(
            "lenet", (28, 28, 1), 64, (Conv(6, 5), Pool(), Conv(16, 5, False), Pool(), Flat(), Dense(120), Dense(84))
        ),
        Network("convnet", (28, 28, 1), 64, (Conv(32, 3, False), Conv(64, 3, False), Pool(), Flat(), Dense(128)), True),
        Network("signal", (256, 64), 32, (*[Conv(64)] * 4, Mean())),
        Network("resnet20", (32, 32, 3), 128, (*_RESNET, Mean()), True),
    )
}
