"""Activations as functions of symbols: those of `fastnn.activations`."""

from __future__ import annotations

from typing import Any

from fastnn import activations
from fastnn.graph.graph import Tensor
from fastnn.graph.ops.elementwise import activation
from fastnn.graph.ops.strided import reshape, transpose
from fastnn.layers.tracing import Place
from fastnn.ops.definition import Operand, op

__all__ = [
    "elu",
    "gelu",
    "hard_sigmoid",
    "leaky_relu",
    "log_softmax",
    "mish",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "softsign",
    "tanh",
]


def _apply(place: Place, x: Any, chosen: Any) -> Tensor:
    return activation(place.graph, place.tensor(x), chosen.formula, chosen.parameters, place.label)


def _along(place: Place, x: Any, formula: str, axis: int) -> Tensor:
    """Apply an activation of rows along an axis."""
    value = place.tensor(x)
    rank = len(value.whole)
    if not isinstance(axis, int) or not -rank <= axis < rank:
        raise ValueError(f"{formula}: axis: expected an axis of the shape {value.whole}, got {axis!r}")
    order = list(range(rank))
    order[axis], order[-1] = order[-1], order[axis]
    if rank == 1:  # rows of one batch: the batch axis is that of the row
        row = reshape(place.graph, value, (1, *value.whole), place.label)
        return reshape(place.graph, activation(place.graph, row, formula, (), place.label), value.whole, place.label)
    moved = value if axis % rank == rank - 1 else transpose(place.graph, value, order, place.label)
    made = activation(place.graph, moved, formula, (), place.label)
    return made if moved is value else transpose(place.graph, made, order, place.label)


@op(numpy="")
def relu(place: Place, x: Operand) -> Tensor:
    """Return max(x, 0)."""
    return _apply(place, x, activations.get("relu"))


@op(numpy="")
def relu6(place: Place, x: Operand) -> Tensor:
    """Return max(x, 0), at most 6."""
    return _apply(place, x, activations.get("relu6"))


@op(numpy="")
def selu(place: Place, x: Operand) -> Tensor:
    """Return the scaled exponential linear unit."""
    return _apply(place, x, activations.get("selu"))


@op(numpy="")
def silu(place: Place, x: Operand) -> Tensor:
    """Return x * sigmoid(x)."""
    return _apply(place, x, activations.get("silu"))


@op(numpy="")
def softplus(place: Place, x: Operand) -> Tensor:
    """Return log(1 + exp(x))."""
    return _apply(place, x, activations.get("softplus"))


@op(numpy="")
def softsign(place: Place, x: Operand) -> Tensor:
    """Return x / (1 + abs(x))."""
    return _apply(place, x, activations.get("softsign"))


@op(numpy="")
def mish(place: Place, x: Operand) -> Tensor:
    """Return x * tanh(softplus(x))."""
    return _apply(place, x, activations.get("mish"))


@op(numpy="")
def hard_sigmoid(place: Place, x: Operand) -> Tensor:
    """Return relu6(x + 3) / 6."""
    return _apply(place, x, activations.get("hard_sigmoid"))


@op(numpy="")
def sigmoid(place: Place, x: Operand) -> Tensor:
    """Return 1 / (1 + exp(-x))."""
    return _apply(place, x, activations.get("sigmoid"))


@op(numpy="numpy.tanh")
def tanh(place: Place, x: Operand) -> Tensor:
    """Return hyperbolic tangents."""
    return _apply(place, x, activations.get("tanh"))


@op(numpy="")
def leaky_relu(place: Place, x: Operand, negative_slope: float = 0.2) -> Tensor:
    """Return x where it is positive, else negative_slope * x."""
    return _apply(place, x, activations.LeakyReLU(negative_slope))


@op(numpy="")
def elu(place: Place, x: Operand, alpha: float = 1.0) -> Tensor:
    """Return x where it is positive, else alpha * (exp(x) - 1)."""
    return _apply(place, x, activations.ELU(alpha))


@op(numpy="")
def gelu(place: Place, x: Operand, approximate: bool = False) -> Tensor:
    """Return x * Phi(x), with the normal distribution's Phi; `approximate` computes it by tanh, as GPT-2 does."""
    return _apply(place, x, activations.GELU(approximate))


@op(numpy="")
def softmax(place: Place, x: Operand, axis: int = -1) -> Tensor:
    """Return exp(x) / sum(exp(x)) along an axis."""
    return _along(place, x, "softmax", axis)


@op(numpy="")
def log_softmax(place: Place, x: Operand, axis: int = -1) -> Tensor:
    """Return log(softmax(x)) along an axis, stably."""
    return _along(place, x, "log_softmax", axis)
