"""Recurrent layers in plain NumPy, step by step, and random networks of them, from a seed."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np

import fastnn as fnn
from fastnn.layers import Symbol

FUNCTIONS = {
    "tanh": np.tanh, "sigmoid": lambda x: 1.0 / (1.0 + np.exp(-x)), "linear": lambda x: x,
    "softplus": lambda x: np.logaddexp(0.0, x),
    "hard_sigmoid": lambda x: np.clip(x / 6.0 + 0.5, 0.0, 1.0),
}  # fmt: skip


def _function(given: Any) -> Any:
    return FUNCTIONS[fnn.activations.get(given).formula]


def _new_states(layer: Any, weights: list[np.ndarray], x: np.ndarray, states: list[np.ndarray]) -> list[np.ndarray]:
    """Return the states of one sample after a step, in Keras' formulas."""
    kernel, recurrent, *bias = weights
    f, units, h = _function(layer.activation), layer.units, states[0]
    b = bias[0] if bias else np.zeros(kernel.shape[1])
    if isinstance(layer, fnn.SimpleRNN):
        return [f(x @ kernel + h @ recurrent + b)]
    s = _function(layer.recurrent_activation)
    if isinstance(layer, fnn.LSTM):
        i, forget, g, o = np.split(x @ kernel + h @ recurrent + b, 4)
        c = s(forget) * states[1] + s(i) * f(g)
        return [s(o) * f(c), c]
    if layer.reset_after:
        b, b_states = bias[0] if bias else np.zeros((2, 3 * units))
        xz, xr, xh = np.split(x @ kernel + b, 3)
        hz, hr, hh = np.split(h @ recurrent + b_states, 3)
        z, r = s(xz + hz), s(xr + hr)
        g = f(xh + r * hh)
    else:
        xz, xr, xh = np.split(x @ kernel + b, 3)
        z, r = (s(part + h @ columns) for part, columns in zip((xz, xr), np.split(recurrent, 3, 1)[:2], strict=True))
        g = f(xh + (r * h) @ recurrent[:, 2 * units :])
    return [z * h + (1.0 - z) * g]


def run(
    layer: Any, weights: list[np.ndarray], x: np.ndarray, states: list[np.ndarray] | None = None,
    mask: np.ndarray | None = None,
) -> list[np.ndarray]:  # fmt: skip
    """Return what a layer gives for sequences: its result, and the last states."""
    batch, steps, _ = x.shape
    count = 2 if isinstance(layer, fnn.LSTM) else 1
    states = [np.zeros((batch, layer.units))] * count if states is None else states
    mask = np.ones((batch, steps)) if mask is None else mask
    results, ends = np.zeros((batch, steps, layer.units)), [np.zeros((batch, layer.units)) for _ in range(count)]
    for sample in range(batch):
        now = [state[sample] for state in states]
        order = range(steps - 1, -1, -1) if layer.go_backwards else range(steps)
        for place, t in enumerate(order):
            if mask[sample, t]:
                now = _new_states(layer, weights, x[sample, t], now)
            hidden = layer.zero_output_for_mask and not mask[sample, t]
            results[sample, place] = 0.0 if hidden else now[0]
        for end, state in zip(ends, now, strict=True):
            end[sample] = state
    return [results if layer.return_sequences else ends[0], *ends]


def random_cell(random: Random, **options: Any) -> Any:
    """Draw a recurrent layer."""
    one = random.choice
    kind = one([fnn.SimpleRNN, fnn.GRU, fnn.GRU, fnn.LSTM, fnn.LSTM])
    given = {
        "activation": one(["tanh", "tanh", "tanh", "sigmoid", "softplus"]), "use_bias": random.random() < 0.8,
        "go_backwards": random.random() < 0.3, "zero_output_for_mask": random.random() < 0.3,
    }  # fmt: skip
    if kind is not fnn.SimpleRNN:
        given["recurrent_activation"] = one(["sigmoid", "sigmoid", "sigmoid", "hard_sigmoid"])
    if kind is fnn.GRU:
        given["reset_after"] = random.random() < 0.6
    return kind(one([1, 2, 3, 4, 5, 8, 16, 17, 33]), **{**given, **options})


@dataclass(frozen=True, repr=False)
class Drawn:
    """A network of sequences with data for it; its layers are named in the errors of tests."""

    inputs: list[Symbol]
    y_out: Symbol
    layers: list[Any]
    x: list[np.ndarray]
    y: np.ndarray

    def __repr__(self) -> str:
        shapes = ", ".join(str(one.shape) for one in self.inputs)
        return f"{len(self.y)} samples of {shapes} -> {self.layers} -> {self.y_out.shape}"

    def model(self, dtype: str, optimizer: Any = None) -> fnn.Model:
        """Make the model with weights that keep numbers of size one."""
        model = fnn.Model(self.inputs, self.y_out, dtype=dtype, seed=3)
        rng, weights = np.random.default_rng(5), []
        for entry in model._runtime.table:
            shape = entry.spec.shape
            weights.append(rng.normal(size=shape) * (1.0 / np.sqrt(shape[0]) if len(shape) > 1 else 0.5))
        model.set_weights(weights)
        model.compile(fnn.SGD(0.01) if optimizer is None else optimizer, "mse")
        return model


def random_network(seed: int) -> Drawn:
    """Make a network of one to three recurrent layers, with masks, states and both directions in some."""
    random, rng = Random(seed), np.random.default_rng(seed)
    n, steps, features = random.choice([1, 2, 3, 7, 26]), random.randint(1, 9), random.choice([1, 2, 3, 8, 17])
    lengths = rng.integers(0, steps + 1, n)
    there = np.arange(steps) < lengths[:, None]
    source = fnn.Input((steps, features))
    inputs, x, layers = [source], [rng.normal(size=(n, steps, features))], []
    y: Any = source
    masked = random.random() < 0.5
    if masked:
        x[0] *= there[:, :, None]
        layers.append(fnn.Masking())
        y = layers[-1](y)
    for left in range(random.randint(0, 2), -1, -1):
        layer = random_cell(random, return_sequences=left > 0 or random.random() < 0.4)
        states = None
        if random.random() < 0.3:
            states = [fnn.Input(layer.units) for _ in range(layer.cell.states)]
            inputs += states
            x += [rng.normal(size=(n, layer.units)) for _ in states]
        elif random.random() < 0.3:
            layer = fnn.Bidirectional(layer, random.choice(["concat", "sum", "mul", "ave"]))
        layers.append(layer)
        y = layer(y) if states is None else layer(y, initial_state=states)
    if random.random() < 0.5:
        layers.append(fnn.Dense(random.choice([1, 3, 16])))
        y = layers[-1](y)
    return Drawn(inputs, y, layers, x, rng.normal(size=(n, *y.shape)))


def differences(
    model: fnn.Model, loss: Any, arrays: list[np.ndarray], set_arrays: Any, gradient: list[np.ndarray], said: Any
) -> None:
    """Compare a gradient in a random direction with differences of the loss."""
    rng = np.random.default_rng(1)
    directions = [rng.normal(size=array.shape) for array in arrays]
    got = sum(float((g * d).sum()) for g, d in zip(gradient, directions, strict=True))
    step, losses = 1e-6, []
    for sign in (1.0, -1.0):
        set_arrays([a + sign * step * d for a, d in zip(arrays, directions, strict=True)])
        losses.append(loss())
    set_arrays(arrays)
    expected = (losses[0] - losses[1]) / (2.0 * step)
    assert abs(got - expected) <= 1e-5 * max(abs(expected), 1e-3), f"{said}: {got}, expected {expected}"
