"""Random networks of all layers with data for them, and a naive float64 forward pass of any model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from hypothesis import strategies as st

import fastnn as fnn
from fastnn.activations.arrays import FUNCTIONS
from fastnn.backend.reference.philox import random_words
from fastnn.layers import InputLayer, Layer, Symbol
from fastnn.model.architecture import Architecture

Array = np.ndarray
SMOOTH = ("linear", "sigmoid", "tanh", "gelu", "silu", "mish", "softplus", "softsign", "softmax", "log_softmax")
KINKED = ("hard_sigmoid", "relu", "relu6", "leaky_relu", "elu", "selu")
ACTIVATIONS = (*SMOOTH, *KINKED, fnn.activations.GELU(approximate=True), fnn.activations.LeakyReLU(0.05))
REGULARIZERS = (None, None, fnn.L1(0.02), fnn.L2(0.03), fnn.L1L2(0.01, 0.02))


@dataclass(frozen=True, repr=False)
class Case:
    """A network as `Model` takes it, how it is trained, and data; `random` tells whether it drops or adds noise."""

    inputs: list[Symbol]
    outputs: list[Symbol]
    losses: list[Any]
    loss_weights: list[float]
    x: list[Array]
    y: list[Array]
    sample_weight: list[Array] | None
    random: bool

    def __repr__(self) -> str:
        architecture = Architecture.of(self.inputs, self.outputs)
        calls = [
            f"{index}: {architecture.labels[call.layer]} {architecture.layers[call.layer]!r}{list(call.inputs)}"
            f" -> {call.shape}{'' if architecture.layers[call.layer].trainable else ' frozen'}"
            for index, call in enumerate(architecture.calls)
        ]
        weighted = self.sample_weight is not None
        return "\n".join([*calls, f"outputs {architecture.outputs} losses {self.losses} {weighted=}"])

    def model(self, dtype: str, optimizer: Any = "sgd", **more: Any) -> fnn.Model:
        """Make the model with weights that are nowhere 0 or 1."""
        model = fnn.Model(self.inputs, self.outputs, seed=5, dtype=dtype)
        rng = np.random.default_rng(1)
        weights = []
        for entry in model._table:
            positive = entry.spec.name in ("gamma", "moving_variance")
            values = rng.uniform(0.5, 1.5, entry.spec.shape) if positive else rng.normal(0, 0.5, entry.spec.shape)
            weights.append(values.astype("float32"))
        model.set_weights(weights)
        model.compile(optimizer, self.losses, loss_weights=self.loss_weights, **more)
        return model


@st.composite
def cases(draw: Any, *, smooth: bool = False, may_freeze: bool = True, rows: int = 9) -> Case:
    """Draw a network of up to eight layer calls with one to three outputs."""
    activations = SMOOTH if smooth else ACTIVATIONS
    shape = st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple)
    inputs = [fnn.Input(draw(shape)) for _ in range(draw(st.integers(1, 2)))]
    builder = _Builder(draw, activations, list(inputs), may_freeze)
    for _ in range(draw(st.integers(1, 7))):
        builder.step()
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    ends = [builder.pool[-1], *(draw(st.sampled_from(builder.pool)) for _ in range(draw(st.integers(0, 2))))]
    heads = [_head(draw, symbol, rng, rows) for symbol in ends]
    losses = [loss for _, loss, _ in heads]
    if len(heads) > 1 and draw(st.booleans()):
        losses[-1] = None
    weights = None
    if draw(st.booleans()):
        weights = [rng.uniform(0.0, 2.0, rows) for _ in heads]
    return Case(
        inputs,
        [symbol for symbol, _, _ in heads],
        losses,
        [draw(st.sampled_from([1.0, 0.5, 2.0])) for _ in heads],
        [rng.normal(size=(rows, *symbol.shape)) for symbol in inputs],
        [target for _, _, target in heads],
        weights,
        builder.random,
    )


class _Builder:
    def __init__(self, draw: Any, activations: Sequence[Any], pool: list[Symbol], may_freeze: bool) -> None:
        self.draw, self.activations, self.pool, self.may_freeze = draw, activations, pool, may_freeze
        self.shared: list[tuple[Layer, tuple[int, ...]]] = []
        self.random = False
        self.kinds = [
            self.dense, self.dense, self.activation, self.dropout, self.noise, self.norm, self.norm, self.flatten,
            self.reshape, self.elementwise, self.elementwise, self.concatenate, self.again,
        ]  # fmt: skip

    def one(self, options: Sequence[Any]) -> Any:
        return self.draw(st.sampled_from(options))

    def step(self) -> None:
        made = self.one(self.kinds)(self.one(self.pool))
        # products of products grow; a bounded function keeps all values moderate
        self.pool.append(made)

    def frozen(self) -> bool:
        return self.may_freeze and self.draw(st.integers(0, 5)) == 0

    def keep(self, layer: Layer, x: Symbol) -> Symbol:
        self.shared.append((layer, x.shape))
        return layer(x)

    def dense(self, x: Symbol, units: int | None = None) -> Symbol:
        constrained = self.draw(st.integers(0, 4)) == 0
        layer = fnn.Dense(
            units if units is not None else self.draw(st.integers(1, 6)),
            self.one(self.activations),
            use_bias=self.draw(st.booleans()),
            kernel_regularizer=self.one(REGULARIZERS),
            bias_regularizer=self.one(REGULARIZERS),
            kernel_constraint=fnn.MaxNorm(0.7, self.one([0, 1, -1])) if constrained else None,
            bias_constraint=fnn.MaxNorm(0.5) if constrained else None,
            trainable=not self.frozen(),
        )
        return self.keep(layer, x)

    def activation(self, x: Symbol) -> Symbol:
        return fnn.Activation(self.one(self.activations))(x)

    def dropout(self, x: Symbol) -> Symbol:
        rate = self.one([0.0, 0.3, 0.5])
        self.random |= rate > 0
        return fnn.Dropout(rate)(x)

    def noise(self, x: Symbol) -> Symbol:
        self.random = True
        return fnn.GaussianNoise(0.2)(x)

    def norm(self, x: Symbol) -> Symbol:
        options = {
            "center": self.draw(st.booleans()), "scale": self.draw(st.booleans()), "trainable": not self.frozen(),
            "epsilon": 0.1,
        }  # fmt: skip
        kind = self.one([fnn.BatchNorm, fnn.LayerNorm])
        if kind is fnn.BatchNorm:
            options["momentum"] = 0.75
        return self.keep(kind(**options), x)

    def flatten(self, x: Symbol) -> Symbol:
        return fnn.Flatten()(x)

    def reshape(self, x: Symbol) -> Symbol:
        size = prod(x.shape)
        first = self.one([d for d in range(1, size + 1) if size % d == 0])
        return fnn.Reshape(self.one([(first, -1), (-1, first), (size,), (1, size, 1)]))(x)

    def fitting(self, x: Symbol, *, columns_too: bool) -> Symbol:
        """Choose a symbol of x's shape, or make one."""
        found = [y for y in self.pool if (y.shape if columns_too else y.shape[:-1]) == (
            x.shape if columns_too else x.shape[:-1]) and len(y.shape) == len(x.shape)]  # fmt: skip
        other = self.one([*found, None])
        return self.dense(x, x.shape[-1]) if other is None else other

    def elementwise(self, x: Symbol) -> Symbol:
        others = [self.fitting(x, columns_too=True) for _ in range(self.draw(st.integers(1, 2)))]
        if self.draw(st.booleans()):
            return fnn.Add()([x, *others])
        # a product of bounded factors
        return fnn.Multiply()([fnn.Activation("tanh")(part) for part in (x, *others)])

    def concatenate(self, x: Symbol) -> Symbol:
        others = [self.fitting(x, columns_too=False) for _ in range(self.draw(st.integers(1, 2)))]
        return fnn.Concatenate()([x, *others])

    def again(self, x: Symbol) -> Symbol:
        """Use a layer for a second time, so that its weights get two gradients."""
        if not self.shared:
            return self.dense(x)
        layer, shape = self.one(self.shared)
        fitting = [y for y in self.pool if y.shape[-1] == shape[-1]]
        return layer(self.one(fitting)) if fitting else self.dense(x)


def _head(draw: Any, symbol: Symbol, rng: np.random.Generator, rows: int) -> tuple[Symbol, Any, Array]:
    """Put an activation behind a symbol that suits a loss; returns symbol, loss and targets."""
    shape = (rows, *symbol.shape)
    kinds = ["mse", "log_cosh", fnn.Huber(0.6), "bce", "bce logits", "poisson", "mae", "hinge", "perceptron"]
    if symbol.shape[-1] > 1:
        kinds += ["labels", "labels logits", "soft", "kld", "labels", "soft logits"]
    kind = draw(st.sampled_from(kinds))
    if not isinstance(kind, str):
        return symbol, kind, rng.normal(size=shape)
    if kind in ("hinge", "perceptron"):
        return symbol, kind, np.where(rng.random(shape) < 0.5, -1.0, 1.0)
    if kind.startswith("bce"):
        loss = fnn.BinaryCrossEntropy(kind != "bce", draw(st.sampled_from([0.0, 0.2])))
        head = fnn.Activation("sigmoid")(symbol) if kind == "bce" else symbol
        return head, loss, rng.random(shape).round(2)
    if kind == "poisson":
        return fnn.Activation("softplus")(symbol), kind, rng.poisson(2.0, shape).astype(float)
    if kind.startswith("labels"):
        loss = fnn.CrossEntropy(kind != "labels", draw(st.sampled_from([0.0, 0.1])))
        head = fnn.Activation("softmax")(symbol) if kind == "labels" else symbol
        return head, loss, rng.integers(0, shape[-1], shape[:-1])
    if kind.startswith("soft") or kind == "kld":
        target = rng.random(shape) + 0.05
        target /= target.sum(axis=-1, keepdims=True)
        if kind == "kld":
            return fnn.Activation("softmax")(symbol), kind, target
        head = fnn.Activation("softmax")(symbol) if kind == "soft" else symbol
        return head, fnn.CrossEntropy(kind != "soft"), target
    return symbol, kind, rng.normal(size=shape)


# --- the oracle -------------------------------------------------------------------------------------------------


def forward(model: fnn.Model, weights: Sequence[Array], inputs: Sequence[Array], *, training: bool) -> list[Array]:
    """Compute a model's outputs layer by layer in plain NumPy float64."""
    architecture = model._architecture
    by_layer: dict[int, list[Array]] = {}
    for entry, value in zip(model._table, weights, strict=True):
        by_layer.setdefault(entry.layer, []).append(np.asarray(value, np.float64))
    given = dict(zip(architecture.inputs, inputs, strict=True))
    values: list[Array] = []
    for index, call in enumerate(architecture.calls):
        layer = architecture.layers[call.layer]
        if isinstance(layer, InputLayer):
            values.append(np.asarray(given[index], np.float64))
            continue
        x = [values[number] for number in call.inputs]
        stream = (index, model.step, model.seed)
        y = _layer(layer, by_layer.get(call.layer, []), x, training, stream)
        values.append(y.reshape(len(y), *call.shape))
    return [values[call] for call in architecture.outputs]


def _activate(function: Any, x: Array) -> Array:
    return FUNCTIONS[function.formula](x, *function.parameters)


def _layer(layer: Layer, weights: list[Array], inputs: list[Array], training: bool, stream: Any) -> Array:
    x = inputs[0]
    match layer:
        case fnn.Dense():
            y = np.einsum("...k,kn->...n", x, weights[0]) + (weights[1] if layer.use_bias else 0.0)
            return _activate(layer.activation, y)
        case fnn.Activation():
            return _activate(layer.activation, x)
        case fnn.Add():
            return np.sum(inputs, axis=0)
        case fnn.Multiply():
            return np.prod(inputs, axis=0)
        case fnn.Concatenate():
            return np.concatenate(inputs, axis=-1)
        case fnn.LayerNorm() | fnn.BatchNorm():
            return _normalize(layer, weights, x, training)
        case fnn.Dropout() if training and layer.rate:
            words = random_words(x.size, *stream).astype(float).reshape(x.shape)
            return np.where(words < layer.rate * 2**32, 0.0, x / (1.0 - layer.rate))
        case fnn.GaussianNoise() if training:
            return x + layer.stddev * _normal(x.size, stream).reshape(x.shape)
    return x


def _normalize(layer: Any, weights: list[Array], x: Array, training: bool) -> Array:
    if isinstance(layer, fnn.LayerNorm):
        mean, variance = x.mean(axis=-1, keepdims=True), x.var(axis=-1, keepdims=True)
    elif training and layer.trainable:
        axes = tuple(range(x.ndim - 1))
        mean, variance = x.mean(axis=axes), x.var(axis=axes)
    else:
        mean, variance = weights[-2:]
    y = (x - mean) / np.sqrt(variance + layer.epsilon)
    return y * (weights[0] if layer.scale else 1.0) + (weights[int(layer.scale)] if layer.center else 0.0)


def _normal(n: int, stream: Any) -> Array:
    words = random_words(n + n % 2, *stream).reshape(-1, 2)
    radius = np.sqrt(-2.0 * np.log((words[:, 0] + 0.5) / 2.0**32))
    angle = 2.0 * np.pi * (words[:, 1] // np.uint64(256)) / 2.0**24
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1).reshape(-1)[:n]


def loss(case: Case, model: fnn.Model, weights: Sequence[Array], inputs: Sequence[Array], *, training: bool) -> float:
    """Compute the loss of one batch, penalties included."""
    total = 0.0
    for output, prediction in enumerate(forward(model, weights, inputs, training=training)):
        chosen = case.losses[output]
        if chosen is not None:
            weight = None if case.sample_weight is None else case.sample_weight[output]
            value = fnn.losses.get(chosen)(case.y[output], prediction, weight)
            total += case.loss_weights[output] * value
    for entry, value in zip(model._table, weights, strict=True):
        regularizer = entry.spec.regularizer
        total += 0.0 if regularizer is None else regularizer(value)
    return total
