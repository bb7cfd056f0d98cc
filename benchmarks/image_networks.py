"""Networks of convolutions for images and signals: fastnn's models, and PyTorch's modules with the same weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import fastnn as fnn


@dataclass(frozen=True)
class Network:
    """A network of ten classes, for a shape of samples with the channels last.

    Attributes
    ----------
    make : callable
        Returns the output's symbol for the input's.
    module : callable
        Returns the same network of PyTorch, which takes the channels first, from the module `torch`.
    """

    shape: tuple[int, ...]
    batch: int
    make: Callable[[Any], Any]
    module: Callable[[Any], Any]

    def fastnn(self, optimizer: Any = "adam", dtype: str = "float32") -> fnn.Model:
        """Return the compiled model."""
        x = fnn.Input(self.shape)
        model = fnn.Model(x, self.make(x), seed=0, dtype=dtype)
        model.compile(optimizer, fnn.CrossEntropy(from_logits=True))
        return model

    def torch(self, torch: Any, model: fnn.Model, dtype: str = "float32") -> Any:
        """Return PyTorch's network with the weights of a model, in its fastest layout."""
        module = self.module(torch).to(getattr(torch, dtype))
        weights = [np.asarray(each) for each in model.get_weights()]
        state = list(module.parameters()) + list(module.buffers())
        del state
        given = iter(weights)
        with torch.no_grad():
            for layer in module.modules():
                if isinstance(layer, (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Linear)):
                    kernel = next(given)
                    if kernel.ndim > 2:
                        kernel = np.moveaxis(kernel, (-1, -2), (0, 1))
                    else:
                        kernel = self._by_channel(kernel.T, layer, module)
                    layer.weight.copy_(torch.from_numpy(np.ascontiguousarray(kernel)).reshape(layer.weight.shape))
                    if layer.bias is not None:
                        layer.bias.copy_(torch.from_numpy(next(given)))
                elif isinstance(layer, torch.nn.BatchNorm2d):
                    for target in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
                        target.copy_(torch.from_numpy(next(given)))
        if len(self.shape) == 3:
            module = module.to(memory_format=torch.channels_last)
        return module

    def _by_channel(self, kernel: Any, layer: Any, module: Any) -> Any:
        """Return a dense kernel for maps flattened with their channels first."""
        channels = getattr(module, "flattened", 0)
        if not channels or kernel.shape[1] == channels or getattr(module, "_done", False):
            return kernel
        module._done = True
        return np.swapaxes(kernel.reshape(kernel.shape[0], -1, channels), 1, 2).reshape(kernel.shape)


def _convolution(filters: int, size: int = 3, **more: Any) -> Any:
    return fnn.Conv2D(filters, size, padding=more.pop("padding", "same"), activation="relu", **more)


def _cnn(x: Any) -> Any:
    for filters in (16, 32):
        x = fnn.MaxPooling2D()(_convolution(filters)(x))
    return fnn.Dense(10)(fnn.Flatten()(x))


def _cnn_module(torch: Any) -> Any:
    nn = torch.nn
    module = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1568, 10),
    )  # fmt: skip
    module.flattened = 32
    return module


def _lenet(x: Any) -> Any:
    x = fnn.MaxPooling2D()(_convolution(6, 5)(x))
    x = fnn.MaxPooling2D()(_convolution(16, 5, padding="valid")(x))
    x = fnn.Flatten()(x)
    for units in (120, 84):
        x = fnn.Dense(units, "relu")(x)
    return fnn.Dense(10)(x)


def _lenet_module(torch: Any) -> Any:
    nn = torch.nn
    module = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip
    module.flattened = 16
    return module


def _convnet(x: Any) -> Any:
    for filters in (32, 64):
        x = _convolution(filters, padding="valid")(x)
    x = fnn.Flatten()(fnn.MaxPooling2D()(x))
    return fnn.Dense(10)(fnn.Dense(128, "relu")(x))


def _convnet_module(torch: Any) -> Any:
    nn = torch.nn
    module = nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(9216, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip
    module.flattened = 64
    return module


def _resnet(x: Any) -> Any:
    def normal(x: Any) -> Any:
        return fnn.BatchNorm(epsilon=1e-5, momentum=0.9)(x)

    def convolution(x: Any, filters: int, size: int, stride: int) -> Any:
        if stride > 1 and size > 1:
            x = fnn.ZeroPadding2D(1)(x)  # as PyTorch pads
            return normal(fnn.Conv2D(filters, size, strides=stride, use_bias=False)(x))
        return normal(fnn.Conv2D(filters, size, strides=stride, padding="same", use_bias=False)(x))

    x = fnn.Activation("relu")(convolution(x, 16, 3, 1))
    for filters in (16, 32, 64):
        for block in range(3):
            stride = 2 if filters > 16 and block == 0 else 1
            y = fnn.Activation("relu")(convolution(x, filters, 3, stride))
            y = convolution(y, filters, 3, 1)
            if stride > 1:
                x = convolution(x, filters, 1, stride)
            x = fnn.Activation("relu")(fnn.Add()([y, x]))
    return fnn.Dense(10)(fnn.GlobalAveragePooling2D()(x))


def _resnet_module(torch: Any) -> Any:
    nn = torch.nn

    class Block(nn.Module):  # type: ignore[name-defined,misc]
        def __init__(self, channels: int, filters: int, stride: int) -> None:
            super().__init__()
            self.first = nn.Conv2d(channels, filters, 3, stride, 1, bias=False)
            self.first_norm = nn.BatchNorm2d(filters)
            self.second = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
            self.second_norm = nn.BatchNorm2d(filters)
            self.short = nn.Sequential()
            if stride > 1:
                self.short = nn.Sequential(nn.Conv2d(channels, filters, 1, stride, bias=False), nn.BatchNorm2d(filters))

        def forward(self, x: Any) -> Any:
            y = torch.relu(self.first_norm(self.first(x)))
            return torch.relu(self.second_norm(self.second(y)) + self.short(x))

    layers = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    channels = 16
    for filters in (16, 32, 64):
        for block in range(3):
            layers.append(Block(channels, filters, 2 if filters > 16 and block == 0 else 1))
            channels = filters
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def _signal(x: Any) -> Any:
    for _ in range(4):
        x = fnn.Conv1D(64, 3, padding="same", activation="relu")(x)
    return fnn.Dense(10)(fnn.GlobalAveragePooling1D()(x))


def _signal_module(torch: Any) -> Any:
    nn = torch.nn
    layers: list[Any] = []
    for _ in range(4):
        layers += [nn.Conv1d(64, 64, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(64, 10))


#: The networks by name.
NETWORKS = {
    "cnn": Network((28, 28, 1), 64, _cnn, _cnn_module),
    "lenet": Network((28, 28, 1), 64, _lenet, _lenet_module),
    "convnet": Network((28, 28, 1), 64, _convnet, _convnet_module),
    "resnet20": Network((32, 32, 3), 128, _resnet, _resnet_module),
    "signal": Network((256, 64), 32, _signal, _signal_module),
}
