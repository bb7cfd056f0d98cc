"""Cells for `RNN`, each with a step in NumPy, and a network of them with data."""

from dataclasses import dataclass

import numpy as np

import fastnn as fnn
from fastnn import ops
from fastnn.layers import ParameterSpec


def specs(**shapes):
    """Describe weights by name and shape."""
    make = fnn.initializers.get("glorot_uniform")
    return tuple(ParameterSpec(name, shape, make) for name, shape in shapes.items())


def np_sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


@fnn.config.register("layer")
@dataclass(eq=False, repr=False)
class Plain(fnn.Cell):
    units: int

    def parameters(self, shape):
        return specs(kernel=(shape[-1], self.units), w=(self.units, self.units))

    def call(self, inputs, states, kernel, w):
        h = ops.tanh(inputs @ kernel + states[0] @ w)
        return h, [h]

    def in_numpy(self, x, states, kernel, w):
        h = np.tanh(x @ kernel + states[0] @ w)
        return h, [h]


@fnn.config.register("layer")
@dataclass(eq=False, repr=False)
class Gated(Plain):
    """Keras' GRU."""

    def parameters(self, shape):
        wide = 3 * self.units
        return specs(kernel=(shape[-1], wide), w=(self.units, wide), bias=(2, wide))

    def call(self, inputs, states, kernel, w, bias):
        n, h = self.units, states[0]
        a, b = inputs @ kernel + bias[0], h @ w + bias[1]
        z, r = ops.sigmoid(a[:, :n] + b[:, :n]), ops.sigmoid(a[:, n : 2 * n] + b[:, n : 2 * n])
        h = z * h + (1.0 - z) * ops.tanh(a[:, 2 * n :] + r * b[:, 2 * n :])
        return h, h

    def in_numpy(self, x, states, kernel, w, bias):
        n, h = self.units, states[0]
        a, b = x @ kernel + bias[0], h @ w + bias[1]
        z, r = np_sigmoid(a[:, :n] + b[:, :n]), np_sigmoid(a[:, n : 2 * n] + b[:, n : 2 * n])
        h = z * h + (1.0 - z) * np.tanh(a[:, 2 * n :] + r * b[:, 2 * n :])
        return h, [h]


@fnn.config.register("layer")
@dataclass(eq=False, repr=False)
class Leaky(Plain):
    """A leak that is learned, and an output that is no state."""

    def parameters(self, shape):
        return specs(kernel=(shape[-1], self.units), leak=(self.units,), out=(self.units, 2))

    def call(self, inputs, states, kernel, leak, out):
        keep = ops.sigmoid(leak)
        h = keep * states[0] + (1.0 - keep) * (inputs @ kernel)
        return ops.tanh(h @ out) + ops.mean(inputs, axis=-1, keepdims=True), [h]

    def in_numpy(self, x, states, kernel, leak, out):
        keep = np_sigmoid(leak)
        h = keep * states[0] + (1.0 - keep) * (x @ kernel)
        return np.tanh(h @ out) + x.mean(axis=-1, keepdims=True), [h]


@fnn.config.register("layer")
@dataclass(eq=False, repr=False)
class Associative(Plain):
    """Two states, one of them a matrix: linear attention that forgets, with a norm."""

    @property
    def state_size(self):
        return ((self.units, self.units), self.units)

    def parameters(self, shape):
        return specs(kernel=(shape[-1], 3 * self.units), decay=(self.units,))

    def call(self, inputs, states, kernel, decay):
        n, (memory, total) = self.units, states
        made = ops.tanh(inputs @ kernel)
        q, k, v = made[:, :n], made[:, n : 2 * n], made[:, 2 * n :]
        memory = ops.sigmoid(decay) * memory + k[:, :, None] * v[:, None, :]
        total = 0.5 * total + ops.square(k)
        found = ops.reshape(q[:, None, :] @ memory, (-1, n))
        return found / (1.0 + ops.sum(ops.square(q) * total, axis=-1, keepdims=True)), (memory, total)

    def in_numpy(self, x, states, kernel, decay):
        q, k, v = np.split(np.tanh(x @ kernel), 3, axis=1)
        memory = np_sigmoid(decay) * states[0] + np.einsum("bi,bj->bij", k, v)
        total = 0.5 * states[1] + k**2
        found = np.einsum("bi,bij->bj", q, memory)
        return found / (1.0 + (q**2 * total).sum(axis=-1, keepdims=True)), [memory, total]


@fnn.config.register("layer")
@dataclass(eq=False, repr=False)
class Swapping(Plain):
    """States that change places, and one that is not read; no weights."""

    state_size = (3, 3, 1)

    def parameters(self, shape):
        return ()

    def call(self, inputs, states):
        a, b, _ = states
        return ops.exp(-ops.square(a)) * b + inputs, [b, a + inputs, ops.sum(inputs, axis=-1, keepdims=True)]

    def in_numpy(self, x, states):
        a, b, _ = states
        return np.exp(-(a**2)) * b + x, [b, a + x, x.sum(axis=-1, keepdims=True)]


CELLS = [Plain, Gated, Leaky, Associative, Swapping]


def network(cell, dtype="float32", steps=6):
    """Two layers, the first with a mask, in both directions."""
    x = fnn.Input((steps, 3))
    y = fnn.RNN(cell(5), return_sequences=True)(fnn.Masking()(x))
    y = fnn.RNN(cell(17), go_backwards=True)(fnn.Dense(3)(y))
    model = fnn.Model(x, fnn.Dense(2)(y), seed=3, dtype=dtype)
    model.compile(fnn.Adam(0.01), "mse")
    return model


def data(n=23, steps=6, dtype="float32"):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(n, steps, 3)) * (np.arange(steps) < rng.integers(0, steps + 1, n)[:, None])[:, :, None]
    return x.astype(dtype), rng.normal(size=(n, 2)).astype(dtype)
