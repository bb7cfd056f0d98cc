"""The compared libraries on networks of convolutions: a training step on the same batches, with Adam."""

from __future__ import annotations

import importlib
from typing import Any, ClassVar

import numpy as np

from contestants import EPSILON, LEARNING_RATE
from image_networks import CLASSES, Array, Conv, Dense, Flat, Mean, Network, Pool, Residual, Stem


class Trainer:
    """One library on one network; raises ImportError if the library is not installed, or cannot build it.

    Parameters
    ----------
    network : Network
    weights : list of array
        Initial weights in the order of fastnn's model.
    x, y : array
        Batches of samples and labels; see `Network.data`.
    threads : int
    """

    name: ClassVar[str]
    module: ClassVar[str]
    differs: ClassVar[str] = ""

    def __init__(self, network: Network, weights: list[Array], x: Array, y: Array, threads: int) -> None:
        self.network, self.x, self.y, self.threads, self.weights = network, x, y, threads, weights
        self.library: Any = importlib.import_module(self.module)
        self.prepare()
        self.restore()

    @classmethod
    def version(cls) -> str:
        """Version of the library."""
        return str(importlib.import_module(cls.module.split(".")[0]).__version__)

    def prepare(self) -> None:
        """Build the network."""
        raise NotImplementedError

    def restore(self) -> None:
        """Copy the initial weights into the network."""
        raise NotImplementedError

    def train(self, epochs: int) -> float:
        """Take a step on every batch, some times; returns the mean loss of the last round."""
        raise NotImplementedError


class Fastnn(Trainer):
    """`Model.fit`."""

    name, module = "fastnn", "fastnn"

    def prepare(self) -> None:
        """Build and compile the model."""
        self.library.set_num_threads(self.threads)
        self.model = self.network.fastnn(self.library.Adam(LEARNING_RATE, epsilon=EPSILON))
        self.rows = self.x.reshape(-1, *self.network.shape), self.y.reshape(-1)

    def restore(self) -> None:
        """Set all weights."""
        self.model.set_weights(self.weights)

    def train(self, epochs: int) -> float:
        """Make one call."""
        history = self.model.fit(
            *self.rows, batch_size=self.network.batch, epochs=epochs, shuffle=False, verbose=0
        )  # fmt: skip
        return float(history.history["loss"][-1])


def kernels_for(network: Network, weights: list[Array]) -> list[Array]:
    """Return weights in PyTorch's order of axes; channels come first there, also where maps are flattened."""
    found, channels = [], 0
    for weight in weights:
        if weight.ndim > 2:
            channels = weight.shape[-1]
            weight = np.moveaxis(weight, (-1, -2), (0, 1))
        elif weight.ndim == 2:
            weight = weight.T
            if channels and Flat() in network.layers:
                weight = np.swapaxes(weight.reshape(len(weight), -1, channels), 1, 2).reshape(weight.shape)
            channels = 0
        found.append(np.ascontiguousarray(weight))
    return found


class PyTorch(Trainer):
    """PyTorch with the channels last, and its fused Adam."""

    name, module = "PyTorch", "torch"
    differs = "batches are tensors already, with the channels last"

    def prepare(self) -> None:
        """Build the module."""
        torch, nn = self.library, self.library.nn
        torch.set_num_threads(self.threads)
        line = len(self.network.shape) == 2
        layers, channels = [], self.network.shape[-1]
        for layer in self.network.layers:
            layers += _torch_layers(nn, torch, layer, channels, line)
            channels = getattr(layer, "filters", channels)
        self.net = nn.Sequential(*layers, nn.LazyLinear(CLASSES))
        x = torch.from_numpy(np.moveaxis(self.x, -1, 2).copy())
        self.batches = [each if line else each.to(memory_format=torch.channels_last) for each in x]
        self.labels = list(torch.from_numpy(self.y))
        self.net(self.batches[0])  # makes the lazy layers
        if not line:
            self.net = self.net.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(self.net.parameters(), LEARNING_RATE, eps=EPSILON, fused=True)
        self.loss = nn.CrossEntropyLoss()

    def restore(self) -> None:
        """Copy kernels, biases, and what batch normalisation has."""
        torch, nn = self.library, self.library.nn
        given = iter(kernels_for(self.network, self.weights))
        with torch.no_grad():
            for layer in self.net.modules():
                targets: list[Any] = []
                if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Linear)):
                    targets = [layer.weight, *([] if layer.bias is None else [layer.bias])]
                elif isinstance(layer, nn.BatchNorm2d):
                    targets = [layer.weight, layer.bias, layer.running_mean, layer.running_var]
                for target in targets:
                    target.copy_(torch.from_numpy(next(given)).reshape(target.shape))

    def train(self, epochs: int) -> float:
        """Take the steps."""
        losses: list[float] = []
        for _ in range(epochs):
            losses = []
            for x, y in zip(self.batches, self.labels, strict=True):
                self.optimizer.zero_grad()
                loss = self.loss(self.net(x), y)
                loss.backward()
                self.optimizer.step()
                losses.append(loss.item())
        return float(np.mean(losses))


def _torch_layers(nn: Any, torch: Any, layer: Any, channels: int, line: bool) -> list[Any]:
    match layer:
        case Conv(filters, size, same):
            kind = nn.Conv1d if line else nn.Conv2d
            return [kind(channels, filters, size, padding=size // 2 if same else 0), nn.ReLU()]
        case Pool():
            return [nn.MaxPool2d(2)]
        case Flat():
            return [nn.Flatten()]
        case Mean():
            return [nn.AdaptiveAvgPool1d(1) if line else nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        case Dense(units):
            return [nn.LazyLinear(units), nn.ReLU()]
        case Stem(filters):
            return [nn.Conv2d(channels, filters, 3, 1, 1, bias=False), nn.BatchNorm2d(filters), nn.ReLU()]
        case Residual(filters, stride):
            return [_block(nn, torch, channels, filters, stride)]
    raise NotImplementedError(layer)


def _block(nn: Any, torch: Any, channels: int, filters: int, stride: int) -> Any:
    class Block(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
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

    return Block()


class Jax(Trainer):
    """JAX: a compiled function for each step; the channels are last there, too.

    A scan over the batches takes 50 times as long: within loops, XLA does not call its libraries of convolutions.
    """

    name, module = "JAX", "jax"

    def prepare(self) -> None:
        """Compile the steps."""
        jax = self.library
        if self.network.normalises:
            raise ImportError("batch normalisation is not written for JAX here")
        np_, lax = jax.numpy, jax.lax
        line, layers = len(self.network.shape) == 2, self.network.layers

        def forward(weights: Any, x: Any) -> Any:
            given = iter(weights)
            for layer in layers:
                if isinstance(layer, Conv):
                    order = ("NWC", "WIO", "NWC") if line else ("NHWC", "HWIO", "NHWC")
                    kernel, bias = next(given), next(given)
                    y = lax.conv_general_dilated(
                        x, kernel, (1,) * (kernel.ndim - 2), "SAME" if layer.same else "VALID", dimension_numbers=order
                    )
                    x = jax.nn.relu(y + bias)
                elif isinstance(layer, Pool):
                    x = lax.reduce_window(x, -np_.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
                elif isinstance(layer, Flat):
                    x = x.reshape(len(x), -1)
                elif isinstance(layer, Mean):
                    x = x.mean(tuple(range(1, x.ndim - 1)))
                else:
                    x = jax.nn.relu(x @ next(given) + next(given))
            return x @ next(given) + next(given)

        def loss(weights: Any, x: Any, y: Any) -> Any:
            scores = jax.nn.log_softmax(forward(weights, x))
            return -np_.take_along_axis(scores, y[:, None], 1).mean()

        def step(state: Any, batch: Any) -> Any:
            weights, means, squares, number = state
            value, gradients = jax.value_and_grad(loss)(weights, *batch)
            number = number + 1
            means = [0.9 * m + 0.1 * g for m, g in zip(means, gradients, strict=True)]
            squares = [0.999 * s + 0.001 * g * g for s, g in zip(squares, gradients, strict=True)]
            rate = LEARNING_RATE * np_.sqrt(1.0 - 0.999**number) / (1.0 - 0.9**number)
            weights = [w - rate * m / (np_.sqrt(s) + EPSILON) for w, m, s in zip(weights, means, squares, strict=True)]
            return (weights, means, squares, number), value

        self.step = jax.jit(step)
        self.batches = [(np_.asarray(x), np_.asarray(y)) for x, y in zip(self.x, self.y, strict=True)]

    def restore(self) -> None:
        """Start from the initial weights, with Adam's state."""
        np_ = self.library.numpy
        weights = [np_.asarray(each) for each in self.weights]
        zeros = [np_.zeros_like(each) for each in weights]
        self.state = weights, zeros, zeros, np_.float32(0.0)

    def train(self, epochs: int) -> float:
        """Call the compiled function."""
        losses: list[float] = []
        for _ in range(epochs):
            losses = []
            for batch in self.batches:
                self.state, loss = self.step(self.state, batch)
                losses.append(float(loss))
        return float(np.mean(losses))
