"""Random networks of all layers with data for them, and a naive float64 forward pass of any model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from random import Random
from typing import Any

import numpy as np
from hypothesis import strategies as st

import fastnn as fnn
from fastnn.activations.arrays import FUNCTIONS
from fastnn.backend.reference.executor import EXECUTE, Counters, Instruction
from fastnn.backend.reference.philox import random_words
from fastnn.layers import InputLayer, Layer, Symbol
from fastnn.layers.architecture import Architecture
from fastnn.program.layout import Flag

Array = np.ndarray
SMOOTH = ("linear", "sigmoid", "tanh", "gelu", "silu", "mish", "softplus", "softsign", "softmax", "log_softmax")
KINKED = ("hard_sigmoid", "relu", "relu6", "leaky_relu", "elu", "selu")
GROWING = ("exponential",)
ACTIVATIONS = (*SMOOTH, *KINKED, fnn.activations.GELU(approximate=True), fnn.activations.LeakyReLU(0.05))
REGULARIZERS = (None, None, fnn.L1(0.02), fnn.L2(0.03), fnn.L1L2(0.01, 0.02))


@dataclass(frozen=True, repr=False)
class Case:
    """A network as `Model` takes it, its training, and data."""

    inputs: list[Symbol]
    outputs: list[Symbol]
    losses: list[Any]
    loss_weights: list[float]
    x: list[Array]
    y: list[Array]
    sample_weight: list[Array] | None

    def __repr__(self) -> str:
        architecture = Architecture.of(self.inputs, self.outputs)
        calls = [
            f"{index}: {architecture.labels[call.layer]} {architecture.layers[call.layer]!r}{list(call.inputs)}"
            f" -> {call.shape}{'' if architecture.layers[call.layer].trainable else ' frozen'}"
            for index, call in enumerate(architecture.calls)
        ]
        weighted = self.sample_weight is not None
        return "\n".join(["", *calls, f"outputs {architecture.outputs} losses {self.losses} {weighted=}"])

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))

    def model(self, dtype: str, optimizer: Any = "sgd", **more: Any) -> fnn.Model:
        """Make the model with weights that are never 0 or 1."""
        model = fnn.Model(self.inputs, self.outputs, seed=5, dtype=dtype)
        rng = np.random.default_rng(1)
        weights = []
        for entry in model._runtime.table:
            positive = entry.spec.name in ("gamma", "moving_variance")
            values = rng.uniform(0.5, 1.5, entry.spec.shape) if positive else rng.normal(0, 0.5, entry.spec.shape)
            weights.append(values.astype("float32"))
        model.set_weights(weights)
        model.compile(optimizer, self.losses, loss_weights=self.loss_weights, **more)
        return model


def cases() -> st.SearchStrategy[Case]:
    """Draw networks. Hypothesis varies a seed and shrinks the depth: its own draws make most networks alike."""
    return st.builds(make_case, st.integers(0, 2**32), st.integers(1, 9))


def make_case(seed: int, depth: int, rows: int = 9) -> Case:
    """Make a network of `depth` layer calls, or a few more, with one to three outputs."""
    random = Random(seed)
    inputs = [
        fnn.Input([random.randint(1, 4) for _ in range(random.randint(1, 3))]) for _ in range(random.randint(1, 2))
    ]
    builder = _Builder(random, list(inputs))
    for _ in range(depth):
        builder.step()
    rng = np.random.default_rng(seed)
    ends = [builder.pool[-1], *(random.choice(builder.pool) for _ in range(random.randint(0, 2)))]
    heads = [_head(random, symbol, rng, rows) for symbol in ends]
    losses = [loss for _, loss, _ in heads]
    if random.random() < 0.3:
        losses[0] = replace(fnn.losses.get(losses[0]), normalize="weights")
    if len(heads) > 1 and random.random() < 0.3:
        losses[-1] = None
    weights = None
    if random.random() < 0.5:
        # one per sample, per row of the output, or per row of some of its axes
        shapes = [symbol.shape[: random.randint(0, len(symbol.shape) - 1)] for symbol, _, _ in heads]
        weights = [rng.uniform(0.0, 2.0, (rows, *shape)) for shape in shapes]
    return Case(
        inputs,
        [symbol for symbol, _, _ in heads],
        losses,
        [random.choice([1.0, 0.5, 2.0]) for _ in heads],
        [rng.normal(size=(rows, *symbol.shape)) for symbol in inputs],
        [target for _, _, target in heads],
        weights,
    )


class _Builder:
    def __init__(self, random: Random, pool: list[Symbol]) -> None:
        self.random, self.pool = random, pool
        self.one = random.choice
        self.shared: list[tuple[Layer, tuple[int, ...]]] = []
        self.kinds = [
            self.dense, self.dense, self.activation, self.dropout, self.noise, self.norm, self.norm, self.flatten,
            self.reshape, self.permute, self.elementwise, self.elementwise, self.concatenate, self.again, self.again,
            self.product, self.product, self.cropping, self.attention,
        ]  # fmt: skip

    def step(self) -> None:
        # the newest symbols more often, so that networks become deep
        source = self.one(self.pool) if self.chance(0.4) else self.pool[-1]
        self.pool.append(self.one(self.kinds)(source))

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def keep(self, layer: Layer, x: Symbol) -> Symbol:
        self.shared.append((layer, x.shape))
        return layer(x)

    def dense(self, x: Symbol, units: int | None = None) -> Symbol:
        constrained = self.chance(0.2)
        layer = fnn.Dense(
            units if units is not None else self.random.randint(1, 6),
            self.one(ACTIVATIONS),
            use_bias=self.chance(0.7),
            kernel_regularizer=self.one(REGULARIZERS),
            bias_regularizer=self.one(REGULARIZERS),
            kernel_constraint=fnn.MaxNorm(0.7, self.one([0, 1, -1])) if constrained else None,
            bias_constraint=fnn.MaxNorm(0.5) if constrained else None,
            trainable=self.chance(0.85),
        )
        return self.keep(layer, x)

    def activation(self, x: Symbol) -> Symbol:
        chosen = self.one((*ACTIVATIONS, *GROWING))
        # bounded first: exponentials of exponentials overflow
        return fnn.Activation(chosen)(fnn.Activation("tanh")(x) if chosen in GROWING else x)

    def dropout(self, x: Symbol) -> Symbol:
        return fnn.Dropout(self.one([0.0, 0.3, 0.5]))(x)

    def noise(self, x: Symbol) -> Symbol:
        return fnn.GaussianNoise(0.2)(x)

    def norm(self, x: Symbol) -> Symbol:
        options: dict[str, Any] = {name: self.chance(0.7) for name in ("center", "scale", "trainable")}
        options["epsilon"] = 0.1
        kind = self.one([fnn.BatchNorm, fnn.LayerNorm, fnn.RMSNorm])
        if kind is fnn.RMSNorm:
            options.pop("center")
        if kind is fnn.BatchNorm:
            options["momentum"] = 0.75
        return self.keep(kind(**options), x)

    def flatten(self, x: Symbol) -> Symbol:
        return fnn.Flatten()(x)

    def permute(self, x: Symbol) -> Symbol:
        dims = list(range(1, len(x.shape) + 1))
        self.random.shuffle(dims)
        return fnn.Permute(dims)(x)

    def cropping(self, x: Symbol) -> Symbol:
        left = x.shape[0] - 1
        before = self.random.randint(0, left)
        return fnn.Cropping1D((before, self.random.randint(0, left - before)))(x)

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
        others = [self.fitting(x, columns_too=True) for _ in range(self.random.randint(1, 2))]
        if self.chance(0.5):
            return fnn.Add()([x, *others])
        # a product of bounded factors
        return fnn.Multiply()([fnn.Activation("tanh")(part) for part in (x, *others)])

    def concatenate(self, x: Symbol) -> Symbol:
        others = [self.fitting(x, columns_too=False) for _ in range(self.random.randint(1, 2))]
        return fnn.Concatenate()([x, *others])

    def product(self, x: Symbol) -> Symbol:
        """Multiply matrices of bounded numbers, or sum products over one axis."""
        other = self.fitting(x, columns_too=True)
        a, b = (fnn.Activation("tanh")(part) for part in (x, other))
        if self.chance(0.3) and prod(x.shape) // x.shape[0] <= 6:
            return fnn.Dot(1)([a, b])
        if len(x.shape) < 2:
            return fnn.Multiply()([a, b])
        turned = self.one([(True, False), (False, True)])
        return fnn.MatMul(*turned, scale=self.one([1.0, 0.4]))([a, b])

    def attention(self, x: Symbol) -> Symbol:
        """Attention to x or to another symbol of bounded numbers."""
        if len(x.shape) != 2:
            return self.dense(x)
        x = fnn.Activation("tanh")(x)
        other = self.one([y for y in self.pool if len(y.shape) == 2] or [x])
        options: dict[str, Any] = {name: self.chance(0.5) for name in ("causal", "use_bias")}
        options |= {"dropout": self.one([0.0, 0.4]), "trainable": self.chance(0.85)}
        if self.chance(0.3):
            head = self.random.randint(1, 3)
            options["rotary"] = None if head % 2 else 50.0
            layer: Layer = fnn.GroupedQueryAttention(head, 4, self.one([1, 2]), **options)
        else:
            sizes = self.random.randint(1, 3), self.random.randint(1, 4), self.one([None, 2])
            options["rotary"] = 50.0 if options["causal"] and sizes[1] % 2 == 0 else None
            layer = fnn.MultiHeadAttention(*sizes, kernel_regularizer=self.one(REGULARIZERS), **options)
        return layer([x, fnn.Activation("tanh")(other)]) if self.chance(0.5) else layer(x)

    def again(self, x: Symbol) -> Symbol:
        """Use a layer a second time, so that its weights get two gradients."""
        if not self.shared:
            return self.dense(x)
        layer, shape = self.one(self.shared)
        fitting = [y for y in self.pool if y.shape[-1] == shape[-1]]
        return layer(self.one(fitting)) if fitting else self.dense(x)


def _head(random: Random, symbol: Symbol, rng: np.random.Generator, rows: int) -> tuple[Symbol, Any, Array]:
    """Apply an activation that suits a loss to a symbol; returns symbol, loss and targets."""
    shape = (rows, *symbol.shape)
    kinds = ["mse", "log_cosh", fnn.Huber(0.6), "bce", "bce logits", "poisson", "log rates"]
    kinds += ["mae", "hinge", "perceptron"]
    if symbol.shape[-1] > 1:
        kinds += ["labels", "labels logits", "soft", "kld", "labels", "soft logits"]
    kind = random.choice(kinds)
    if not isinstance(kind, str):
        return symbol, kind, rng.normal(size=shape)
    if kind in ("hinge", "perceptron"):
        return symbol, kind, np.where(rng.random(shape) < 0.5, -1.0, 1.0)
    if kind.startswith("bce"):
        loss = fnn.BinaryCrossEntropy(kind != "bce", random.choice([0.0, 0.2]))
        head = fnn.Activation("sigmoid" if kind == "bce" else "linear")(symbol)
        return head, loss, rng.random(shape).round(2)
    if kind == "poisson":
        return fnn.Activation("softplus")(symbol), kind, rng.poisson(2.0, shape).astype(float)
    if kind == "log rates":
        # rates of at most e, whatever the network computes
        logs, given = fnn.Activation("tanh")(symbol), random.choice([False, True])
        head = logs if given else fnn.Activation("exponential")(logs)
        return head, fnn.Poisson(from_logits=given), rng.poisson(2.0, shape).astype(float)
    if kind.startswith("labels"):
        loss = fnn.CrossEntropy(kind != "labels", label_smoothing=random.choice([0.0, 0.1]))
        head = fnn.Activation("softmax" if kind == "labels" else "linear")(symbol)
        return head, loss, rng.integers(0, shape[-1], shape[:-1])
    if kind.startswith("soft") or kind == "kld":
        target = rng.random(shape) + 0.05
        target /= target.sum(axis=-1, keepdims=True)
        if kind == "kld":
            return fnn.Activation("softmax")(symbol), kind, target
        head = fnn.Activation("softmax" if kind == "soft" else "linear")(symbol)
        return head, fnn.CrossEntropy(kind != "soft"), target
    return symbol, kind, rng.normal(size=shape)


# --- the oracle -------------------------------------------------------------------------------------------------


def forward(model: fnn.Model, weights: Sequence[Array], inputs: Sequence[Array], *, training: bool) -> list[Array]:
    """Compute a model's outputs layer by layer in plain NumPy float64."""
    architecture = model._architecture
    by_layer: dict[int, list[Array]] = {}
    for entry, value in zip(model._runtime.table, weights, strict=True):
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
        case fnn.MatMul():
            flags = layer.transpose_a, layer.transpose_b
            a, b = (np.swapaxes(each, -1, -2) if flag else each for each, flag in zip(inputs, flags, strict=True))
            return layer.scale * np.einsum("...mk,...kn->...mn", a, b)
        case fnn.Dot():
            return np.stack([np.tensordot(a, b, (0, 0)) for a, b in zip(*inputs, strict=True)])
        case fnn.MultiHeadAttention() | fnn.GroupedQueryAttention():
            return _attention(layer, weights, x, inputs[-1], stream if training and layer.dropout else None)
        case fnn.Cropping1D():
            return x[:, layer.cropping[0] : x.shape[1] - layer.cropping[1]]
        case fnn.Permute():
            return np.transpose(x, (0, *layer.dims))
        case fnn.LayerNorm() | fnn.RMSNorm() | fnn.BatchNorm():
            return _normalize(layer, weights, x, training)
        case fnn.Dropout() | fnn.GaussianNoise() if training:
            return _random(layer, x, *stream)
    return x


def _normalize(layer: Any, weights: list[Array], x: Array, training: bool) -> Array:
    if isinstance(layer, fnn.LayerNorm):
        mean, variance = x.mean(axis=-1, keepdims=True), x.var(axis=-1, keepdims=True)
    elif isinstance(layer, fnn.RMSNorm):
        mean, variance = 0.0, (x**2).mean(axis=-1, keepdims=True)
    elif training and layer.trainable:
        axes = tuple(range(x.ndim - 1))
        mean, variance = x.mean(axis=axes), x.var(axis=axes)
    else:
        mean, variance = weights[-2:]
    y = (x - mean) / np.sqrt(variance + layer.epsilon)
    return y * (weights[0] if layer.scale else 1.0) + (weights[int(layer.scale)] if layer.center else 0.0)


def _rotated(x: Array, wavelength: float) -> Array:
    """Rotate pairs of (batch, heads, steps, size), as complex numbers, by their steps."""
    half = x.shape[-1] // 2
    turns = np.arange(x.shape[2])[:, None] / wavelength ** (np.arange(half) / half)
    z = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * turns)
    return np.concatenate([z.real, z.imag], axis=-1)


def _attention(layer: Any, weights: list[Array], query: Array, value: Array, stream: Any) -> Array:
    kernels, biases = (weights[::2], weights[1::2]) if layer.use_bias else (weights, [0.0] * 4)
    q, k, v = (
        np.einsum("btf,fhs->bhts", x, w) + (b[:, None] if layer.use_bias else 0.0)
        for x, w, b in zip((query, value, value), kernels[:3], biases[:3], strict=True)
    )
    if layer.rotary is not None:
        q, k = _rotated(q, layer.rotary), _rotated(k, layer.rotary)
    k, v = (np.repeat(x, q.shape[1] // x.shape[1], axis=1) for x in (k, v))
    scores = np.exp(q @ k.swapaxes(2, 3) / np.sqrt(q.shape[-1]))
    scores = np.tril(scores) if layer.causal else scores
    scores /= scores.sum(axis=3, keepdims=True)
    if stream is not None:
        # in words that belong to pairs of a key and one of up to 64 queries
        shape = (*scores.shape[:2], scores.shape[3], -(-scores.shape[2] // 64) * 64)
        words = random_words(prod(shape), *stream).reshape(shape).swapaxes(2, 3)[:, :, : scores.shape[2]]
        scores *= np.where(words < np.uint64(layer.dropout * 2.0**32), 0.0, 1.0 / (1.0 - layer.dropout))
    return np.einsum("bhts,hsf->btf", scores @ v, kernels[3]) + biases[3]


def _random(layer: Any, x: Array, node: int, step: int, seed: int) -> Array:
    """Draw a layer's random numbers as the reference backend does, which defines them."""
    op, what = ("dropout", "rate") if isinstance(layer, fnn.Dropout) else ("gaussian_noise", "stddev")
    operands = {"x": x.reshape(-1), "y": np.empty(x.size)}
    dims, params = {"n": x.size, "node": node}, {what: getattr(layer, what)}
    EXECUTE[op](Instruction(op, "", None, Flag(0), operands, dims, params), Counters(step=step, seed=seed))
    return operands["y"].reshape(x.shape)


def _fused(chosen: Any, prediction: Array, layer: Layer) -> tuple[Any, Array]:
    """Compute a loss from logits: of probabilities, which all come from a softmax or sigmoid here, or of rates.

    A program does the same: it avoids clipped probabilities where it can.
    """
    rates = isinstance(chosen, fnn.Poisson) and getattr(layer, "activation", None) == fnn.activations.Exponential()
    if not (rates or isinstance(chosen, (fnn.CrossEntropy, fnn.BinaryCrossEntropy))) or chosen.from_logits:
        return chosen, prediction
    logits = np.log(prediction)
    if isinstance(chosen, fnn.BinaryCrossEntropy):
        logits -= np.log1p(-prediction)
    return replace(chosen, from_logits=True), logits


def loss(case: Case, model: fnn.Model, weights: Sequence[Array], inputs: Sequence[Array], *, training: bool) -> float:
    """Compute the loss of one batch, penalties included."""
    total, architecture = 0.0, model._architecture
    for output, prediction in enumerate(forward(model, weights, inputs, training=training)):
        chosen = case.losses[output]
        if chosen is not None:
            weight = None if case.sample_weight is None else case.sample_weight[output]
            layer = architecture.layers[architecture.calls[architecture.outputs[output]].layer]
            chosen, prediction = _fused(fnn.losses.get(chosen), prediction, layer)
            value = chosen(case.y[output], prediction, weight)
            total += case.loss_weights[output] * value
    for entry, value in zip(model._runtime.table, weights, strict=True):
        regularizer = entry.spec.regularizer
        total += 0.0 if regularizer is None else regularizer(value)
    return total
