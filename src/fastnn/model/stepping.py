"""A network of sequences, as one of the next steps: what it knows of the steps so far is in arrays of the caller's."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from math import prod
from typing import Any

from fastnn.layers.architecture import Architecture, Call
from fastnn.layers.base import Layer
from fastnn.layers.core import Activation, Dense, Input, InputLayer, Reshape
from fastnn.layers.integers import Embedding, OneHot, PositionEmbedding, TiedDense
from fastnn.layers.lora import LoRA
from fastnn.layers.merge import Add, Concatenate, Multiply
from fastnn.layers.normalization import BatchNorm, LayerNorm, RMSNorm
from fastnn.layers.operation import Operation
from fastnn.layers.random import Dropout, GaussianNoise, SpatialDropout1D
from fastnn.layers.recurrent.base import MASK_COLUMNS, OverTime
from fastnn.layers.recurrent.masking import Masking
from fastnn.layers.recurrent.wrappers import TimeDistributed
from fastnn.layers.symbols import Part, Symbol
from fastnn.layers.transformers.attention import GroupedQueryAttention, MultiHeadAttention
from fastnn.layers.transformers.blocks import TransformerDecoder
from fastnn.layers.transformers.gated import SwiGLU
from fastnn.layers.transformers.positions import RotaryEmbedding, SinePositionEncoding
from fastnn.layers.transformers.stepping import (
    KeepState,
    StateInput,
    StepAttention,
    StepBlock,
    StepPlaces,
    StepPositions,
    aligned,
    room_for,
)
from fastnn.ops import activations, elementwise

#: layers that work on each step by itself
_BY_STEP = (
    Activation, Add, BatchNorm, Concatenate, Dense, Dropout, Embedding, GaussianNoise, LayerNorm, Masking, Multiply,
    OneHot, RMSNorm, RotaryEmbedding, SinePositionEncoding, SpatialDropout1D, SwiGLU, TiedDense, TimeDistributed,
)  # fmt: skip
#: ops that do so as well, if the other values are the same for all steps
_OPS_BY_STEP = frozenset(elementwise.__all__) | frozenset(activations.__all__) - {"softmax", "log_softmax"}
_ATTENTION = (GroupedQueryAttention, MultiHeadAttention, TransformerDecoder)
#: layers that take the places of steps, which are 0, 1, 2, ... if they are not given
_PLACED = (RotaryEmbedding, SinePositionEncoding)


@dataclasses.dataclass(frozen=True)
class Layout:
    """The parts of a state: what is carried from step to step, and where the keys and values of attention begin.

    Attributes
    ----------
    carried : int
        Numbers of recurrent layers, after the number of steps so far, if `limit` is not 0.
    size : int
        All numbers of one half.
    limit, room : int
        The most steps of a sequence, and those for which there is room; 0 without attention or positions.
    """

    carried: int
    size: int
    limit: int
    room: int

    @classmethod
    def of(cls, architecture: Architecture) -> Layout:
        """Return the layout of an architecture's state."""
        calls = [call for call in architecture.calls if not call.output and call.weight is None]
        layers = [_bare(architecture.layers[call.layer]) for call in calls]
        counts = any(map(_counts, layers, calls))
        sizes = [prod(shape) for layer in layers if isinstance(layer, OverTime) for shape in layer.state_shapes]
        if not sizes and not counts:
            raise _refused("it has no recurrent layer that goes step by step, no attention and no positions")
        carried = sum(sizes) + counts
        if counts:
            architecture.require_known("going step by step with attention or positions")
        limit = architecture.input_shapes[0][0] if counts else 0
        room = room_for(limit)
        caches = sum(
            cache_size(_attention(layer, architecture, call), room)
            for layer, call in zip(layers, calls, strict=True)
            if isinstance(layer, _ATTENTION)
        )
        return cls(carried, aligned(aligned(carried) + caches) if caches else carried, limit, room)


def _counts(layer: Layer, call: Call) -> bool:
    """Return whether a call needs the number of steps so far."""
    return isinstance(layer, (*_ATTENTION, PositionEmbedding)) or (isinstance(layer, _PLACED) and len(call.inputs) == 1)


def _attention(
    layer: GroupedQueryAttention | MultiHeadAttention | TransformerDecoder, architecture: Architecture, call: Call
) -> GroupedQueryAttention | MultiHeadAttention:
    """Return the layer of attention that a call has keys and values of."""
    if isinstance(layer, TransformerDecoder):
        return layer.self_attention(architecture.calls[call.inputs[0]].shape[1])
    return layer


def limit_of(architecture: Architecture) -> int:
    """Return the most steps that a network of sequences knows of, or 0 if it has only recurrent layers: then of all."""
    layers = [_bare(architecture.layers[call.layer]) for call in architecture.calls]
    recurs = any(isinstance(layer, OverTime) for layer in layers)
    counts = any(map(_counts, layers, architecture.calls))
    return 0 if recurs and not counts else architecture.input_shapes[0][0]


def cache_size(layer: GroupedQueryAttention | MultiHeadAttention, room: int) -> int:
    """Return how many numbers the keys of a layer are, and its values."""
    return layer.heads[1] * layer.largest * room


class _Unrolled:
    """The calls of an architecture on the next steps."""

    def __init__(self, architecture: Architecture, part: Part, steps: int | None) -> None:
        self.architecture = architecture
        labels, weights = dict(part.labels), dict(part.weights)
        self.part = dataclasses.replace(part, labels=labels, weights=weights)
        #: names and weights of the layers that are made here
        self.names, self.weights = labels, weights
        self.labels: dict[str, Layer] = {}
        self.steps = steps or 1
        self.made: dict[int, Layer] = {}
        self.next_states: list[Symbol] = []
        self.attending: list[Symbol] = []
        if len(architecture.inputs) != 1 or len(architecture.outputs) != 1:
            raise _refused("it has several inputs or outputs")
        call = architecture.calls[architecture.inputs[0]]
        if len(call.shape) != (1 if call.kind == "int64" else 2):
            raise _refused(f"its input has no steps: shape {call.shape}")
        self.whole = call.shape[0]
        self.layout = Layout.of(architecture)
        name = architecture.input_names[0]
        shape = call.shape[1:] if steps is None else (steps, *call.shape[1:])
        self.x = Input(shape, dtype=None if call.kind == "real" else call.kind, name=name)
        self.halves = [
            StateInput((self.layout.size,), None, self.layout.carried, self.layout.limit, self.steps,
                       name=f"{name}_state{number}").start()
            for number in range(2)
        ]  # fmt: skip
        self.counts = self.layout.limit > 0
        if self.counts:
            so_far = self.halves[0][:, :1]
            self.next_states.append(so_far)
            self.places = StepPlaces(self.steps)(so_far)
        self.at, self.cache_at = len(self.next_states), aligned(self.layout.carried)

    def result(self) -> tuple[Symbol, bool]:
        """Call all layers; returns the result, and whether it has an axis of steps."""
        architecture = self.architecture
        first = architecture.inputs[0]
        one_less = len(self.x.shape) < len(architecture.calls[first].shape)
        values: dict[int, Any] = {first: Reshape((1, *self.x.shape))(self.x) if one_less else self.x}
        sequences, constants = {first}, set()
        for index, call in enumerate(architecture.calls):
            layer = architecture.layers[call.layer]
            if call.output or isinstance(layer, InputLayer):
                continue
            if call.inputs and not any(x in values for x in call.inputs):
                continue  # made of masks
            if call.weight is not None:
                values[index] = self._once(layer).weight_symbol(call.weight, self.part)
                constants.add(index)
                continue
            if constants.issuperset(call.inputs):
                constants.add(index)
            if isinstance(layer, OverTime):
                result, ongoing = self._recurrent(layer, values, call, sequences), layer.return_sequences
                if len(architecture.uses(index)) > 1:
                    raise _refused(f"layer {layer.label!r} returns states, which are the state here")
            elif _counts(_bare(layer), call):
                result, ongoing = self._counting(layer, values, call, sequences), True
            else:
                ongoing = any(x in sequences for x in call.inputs)
                refused = _refused(f"layer {layer.label!r}, a {type(layer).__name__}, takes all steps of a sequence")
                # masks, which have no values here, come with the symbols that have them
                given = [x for x in call.inputs if x in values]
                others = set(given) - sequences - constants
                # what is known after the last step only cannot be used in all
                if ongoing and (others or not _works_by_step(layer, call, sequences)):
                    raise refused
                result = self._called(self._once(layer), [values[x] for x in given])
                wanted = (self.steps, *call.shape[1:])
                if ongoing and (call.shape[:1] != (self.whole,) or getattr(result, "shape", None) != wanted):
                    raise refused
            values[index] = result
            if ongoing:
                sequences.add(index)
        last = architecture.outputs[0]
        return values[last], last in sequences

    def kept(self, result: Symbol) -> Symbol:
        """Return a result whose computation keeps the state."""
        layer = KeepState(len(self.next_states), self.steps if self.counts else 0)
        found: Symbol = layer([result, self.halves[1], *self.attending, *self.next_states])
        return found

    def _called(self, layer: Layer, inputs: Sequence[Symbol]) -> Any:
        """Call a layer, whose weights are those of the network of sequences."""
        made = layer(inputs if len(inputs) != 1 else inputs[0])
        several = isinstance(made, (list, tuple))
        symbols = list(made) if several else [made]
        if layer.makes_mask:
            symbols.append(symbols[0].mask)
        found = layer.called_again(symbols[0].inputs, [one.result for one in symbols], self.part)
        return list(found[: len(made)]) if several else found[0]

    def _recurrent(self, layer: OverTime, values: dict[int, Any], call: Call, sequences: set[int]) -> Any:
        if call.inputs[0] not in sequences:
            raise _refused(f"layer {layer.label!r} takes a sequence that another one makes")
        if layer.go_backwards:
            raise _refused(f"layer {layer.label!r} goes backwards")
        if any(self.architecture.calls[other].shape != (self.whole, MASK_COLUMNS) for other in call.inputs[1:]):
            raise _refused(f"layer {layer.label!r} has initial states of its own")
        states = []
        for shape in layer.state_shapes:
            state = self.halves[0][:, self.at : self.at + prod(shape)]
            states.append(state if len(shape) == 1 else Reshape(shape)(state))
            self.at += prod(shape)
        y, *following = self._called(self._once(layer, return_state=True), [values[call.inputs[0]], *states])
        self.next_states += [x if len(x.shape) == 1 else Reshape((prod(x.shape),))(x) for x in following]
        return y

    def _counting(self, layer: Any, values: dict[int, Any], call: Call, sequences: set[int]) -> Symbol:
        """Call attention, or a layer of positions."""
        queries, *others = call.inputs
        if queries not in sequences:
            raise _refused(f"layer {layer.label!r} takes a sequence that another one makes")
        if isinstance(layer, PositionEmbedding):
            one = self._standing_for(layer, StepPositions(layer, name=layer.label))
            found: Symbol = self._called(one, [values[queries], self.places])
            return found
        if isinstance(layer, _PLACED):
            found = self._called(self._once(layer), [values[queries], self.places])
            return found
        plain = _bare(layer)
        block = isinstance(plain, TransformerDecoder)
        attention = _attention(plain, self.architecture, call)
        attending = attention if block else layer
        step = StepAttention(attending, self.cache_at, self.layout.room, name=layer.label)
        given = [x for x in others if x in values]
        if block and given:
            raise _refused(f"layer {layer.label!r} attends to another sequence, or takes a mask")
        if any(x != queries for x in given[:2]):
            raise _refused(f"layer {layer.label!r} attends to another sequence")
        if given[2:] or values[queries].mask is not None:
            raise _refused(f"layer {layer.label!r} takes a mask")
        if not plain.causal:
            raise _refused(f"layer {layer.label!r} is not causal: it takes all steps of a sequence")
        one = self._standing_for(layer, StepBlock(layer, step, name=layer.label) if block else step)
        self.cache_at += cache_size(attention, self.layout.room)
        self.attending.append(self._called(one, [values[queries], *self.halves, self.places]))
        return self.attending[-1]

    def _once(self, layer: Layer, **changes: Any) -> Layer:
        """Return the layer of the steps: the same for each call."""
        if id(layer) not in self.made:
            one = dataclasses.replace(layer, **changes) if changes else layer
            self.made[id(layer)] = self._standing_for(layer, one)
        return self.made[id(layer)]

    def _standing_for(self, layer: Layer, one: Layer) -> Layer:
        """Return a layer that has the weights of another one."""
        label, known = self.names[id(layer)], len(self.labels)
        if self.labels.setdefault(label, one) is not one:
            label = f"{label}_{known}"
        self.labels[label] = one
        self.names[id(one)], self.weights[id(one)] = label, self.weights[id(layer)]
        return one


def _bare(layer: Layer) -> Any:
    """Return the layer that is adapted, if it is one."""
    return layer.layer if isinstance(layer, LoRA) else layer


def _works_by_step(layer: Layer, call: Call, sequences: set[int]) -> bool:
    """Return whether a layer works on each step by itself, if its result has the shape for it."""
    if not isinstance(layer, Operation):
        return isinstance(_bare(layer), _BY_STEP)
    if layer.op == "matmul":
        first, second = call.inputs
        return first in sequences and second not in sequences
    return layer.op in _OPS_BY_STEP


def _refused(reason: str) -> ValueError:
    return ValueError(f"expected a network that can go step by step, but {reason}")


def next_step(architecture: Architecture, part: Part) -> tuple[list[Symbol], Symbol]:
    """Return the symbols of one step of an architecture: inputs, which are x and the halves of the state, and output.

    Raises
    ------
    ValueError
        When it needs more than one step at a time.
    """
    unrolled = _Unrolled(architecture, part, None)
    result, ongoing = unrolled.result()
    if ongoing:
        result = Reshape(result.shape[1:])(result)
    return [unrolled.x, *unrolled.halves], unrolled.kept(result)


def next_steps(architecture: Architecture, part: Part, steps: int) -> tuple[list[Symbol], Symbol]:
    """Return the symbols of several steps that are known: what changes the state, not the results.

    The output has no meaning.
    """
    unrolled = _Unrolled(architecture, part, steps)
    unrolled.result()
    return [unrolled.x, *unrolled.halves], unrolled.kept(unrolled.next_states[0])
