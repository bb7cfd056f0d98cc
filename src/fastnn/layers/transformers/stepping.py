"""Layers of single steps of sequences, whose state is in arrays of the caller's; no user makes them.

A row of the first half of the state has the numbers that the next step needs, and the keys of attention so far; one of
the second half those that this step makes, and the values. The caller copies the numbers from one half to the other
when a step has succeeded, so a step that is computed again finds what it found at first. The first number is the count
of steps so far, if any layer needs it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.indexing import take
from fastnn.graph.ops.moves import reshape
from fastnn.graph.ops.pointwise import cast, constant, pointwise
from fastnn.graph.ops.scans import cumsum
from fastnn.graph.ops.sequences.steps import attention_step, keep
from fastnn.layers.base import Layer, ParameterSpec, Scope, Shape
from fastnn.layers.core import InputLayer
from fastnn.layers.lora import LoRA
from fastnn.layers.low_rank import LowRank

_LANES = 16


def room_for(steps: int) -> int:
    """Return how many steps a row of transposed keys has room for: rows far apart by a power of two share few lines."""
    room = -(-steps // _LANES) * _LANES
    return room + _LANES if room % 256 == 0 else room


def aligned(numbers: int) -> int:
    """Return the number of elements after which a part of a row begins."""
    return -(-numbers // _LANES) * _LANES


@dataclass(eq=False, repr=False)
class StateInput(InputLayer):
    """One half of the state.

    Parameters
    ----------
    carried : int
        How many numbers are copied from the second half to the first after a step.
    limit, steps : int
        The most steps of a sequence, 0 if there is no limit, and those of a call.
    """

    carried: int = 0
    limit: int = 0
    steps: int = 1


@dataclass(eq=False, repr=False)
class StepPlaces(Layer):
    """The places of the next steps in their sequence, as integers (steps,): on the number of steps so far."""

    steps: int

    def output_shape(self, *shapes: Shape) -> Shape:
        return (self.steps,)

    def output_kind(self, *kinds: str) -> str:
        return "int64"

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        found, label = inputs[0], scope.label
        if self.steps > 1:
            following = cumsum(graph, constant(graph, 1.0, (self.steps,), label), 0, label, exclusive=True)
            found = pointwise(graph, "add", [found, following], label)
        return cast(graph, reshape(graph, found, (self.steps,), label), "int64", label)


@dataclass(eq=False, repr=False)
class StepAttention(Layer):
    """Attention of the next steps: on [steps, first half of the state, second half, places of the steps].

    Parameters
    ----------
    layer : MultiHeadAttention or GroupedQueryAttention
        Or a `LoRA` around it.
    first, most : int
        See `attention_step`.
    """

    layer: Any
    first: int
    most: int
    arity = (4, 4)

    def accepts(self, kind: str, position: int) -> bool:
        return kind == ("int64" if position == 3 else "real")

    def output_shape(self, *shapes: Shape) -> Shape:
        found: Shape = self.layer.output_shape(shapes[0])
        return found

    def parameters(self, *shapes: Shape) -> tuple[ParameterSpec, ...]:
        found: tuple[ParameterSpec, ...] = self.layer.parameters(shapes[0])
        return found

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        layer, weights, updates = _parted(self.layer, weights, inputs[0])
        return self.attended(layer, graph, inputs, weights, updates, scope)

    def attended(
        self, layer: Any, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor],
        updates: Mapping[str, LowRank], scope: Scope,
    ) -> Tensor:  # fmt: skip
        """Add the nodes of a layer of attention, with updates of its weights."""
        x, keys, values, places = inputs
        q, k, v = layer.projected(graph, (x, x, x), weights, updates, scope.label, places)
        y = attention_step(
            graph, q, k, v, (keys, values), scope.label, scale=layer.scale, first=self.first, most=self.most
        )  # fmt: skip
        joined: Tensor = layer.joined(graph, y, weights, updates, scope.label)
        return joined


@dataclass(eq=False, repr=False)
class StepBlock(Layer):
    """A block of a decoder whose self-attention is that of the next steps, on the same inputs.

    Parameters
    ----------
    layer : TransformerDecoder
        Or a `LoRA` around it.
    attention : StepAttention
    """

    layer: Any
    attention: StepAttention
    arity = StepAttention.arity

    def accepts(self, kind: str, position: int) -> bool:
        return self.attention.accepts(kind, position)

    def output_shape(self, *shapes: Shape) -> Shape:
        return shapes[0]

    def parameters(self, *shapes: Shape) -> tuple[ParameterSpec, ...]:
        found: tuple[ParameterSpec, ...] = self.layer.parameters(shapes[0])
        return found

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        def attend(y: Tensor, weights: Sequence[Tensor], updates: Mapping[str, LowRank], scope: Scope) -> Tensor:
            attention = self.attention
            return attention.attended(attention.layer, graph, [y, *inputs[1:]], weights, updates, scope)

        layer, weights, updates = _parted(self.layer, weights, inputs[0])
        found: Tensor = layer.computed(graph, inputs[:1], weights, updates, scope, attend)
        return found


def _parted(layer: Any, weights: Sequence[Tensor], x: Tensor) -> tuple[Any, Sequence[Tensor], dict[str, LowRank]]:
    """Return a layer without adapters, its weights, and the updates of these."""
    if not isinstance(layer, LoRA):
        return layer, weights, {}
    own, updates = layer.updates(weights, x.shape)
    return layer.layer, own, updates


@dataclass(eq=False, repr=False)
class StepPositions(Layer):
    """The rows of a `PositionEmbedding` for the next steps: on [steps, places of the steps]."""

    layer: Any
    arity = (2, 2)
    passes_mask = True

    def accepts(self, kind: str, position: int) -> bool:
        return kind == ("real", "int64")[position]

    def output_shape(self, *shapes: Shape) -> Shape:
        return shapes[0]

    def parameters(self, *shapes: Shape) -> tuple[ParameterSpec, ...]:
        found: tuple[ParameterSpec, ...] = self.layer.parameters((1, shapes[0][1]))
        return found

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        return take(graph, weights[0], inputs[1], 0, scope.label)


@dataclass(eq=False, repr=False)
class KeepState(Layer):
    """Write numbers side by side into the second half of the state: on [result, second half, what depends on it, ...].

    The result is the first input.

    Parameters
    ----------
    kept : int
        How many of the last inputs are written. Others are computed all the same, because they append to the state.
    steps : int
        The number of steps, which is added to the first number that is kept; 0 if that is no count of steps.
    """

    kept: int
    steps: int
    arity = (2, None)

    def output_shape(self, *shapes: Shape) -> Shape:
        return shapes[0]

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        at = 0
        for number, x in enumerate(inputs[len(inputs) - self.kept :]):
            if number == 0 and self.steps:
                x = pointwise(graph, "add", [x, float(self.steps)], scope.label)
            keep(graph, x, inputs[1], at, scope.label)
            at += x.columns
        return inputs[0]
