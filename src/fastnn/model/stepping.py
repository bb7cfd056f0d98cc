"""A network of sequences, as one of a single step: its recurrent layers' states are an input and an output."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from fastnn.layers.architecture import Architecture
from fastnn.layers.attention import GroupedQueryAttention, MultiHeadAttention
from fastnn.layers.base import Layer
from fastnn.layers.core import Input, InputLayer, Reshape
from fastnn.layers.integers import Embedding, OneHot, PositionEmbedding
from fastnn.layers.merge import Concatenate
from fastnn.layers.recurrent.base import Recurrent
from fastnn.layers.recurrent.masking import Masking
from fastnn.layers.symbols import Symbol

#: layers that pass masks on, but do not work on each step by itself
TAKES_ALL = (Masking, MultiHeadAttention, GroupedQueryAttention, PositionEmbedding)


@dataclasses.dataclass(frozen=True)
class Step:
    """The symbols of one step.

    Attributes
    ----------
    inputs : (Symbol, Symbol)
        What a step takes, and the states side by side.
    outputs : (Symbol, Symbol)
        What it gives, and the next states.
    layers : list of (Layer, Layer)
        Each layer with the one of the network of sequences that has its weights.
    """

    inputs: tuple[Symbol, Symbol]
    outputs: tuple[Symbol, Symbol]
    layers: list[tuple[Layer, Layer]]


class _Unrolled:
    """The calls of an architecture on one step, in which sequences lack their axis of steps."""

    def __init__(self, architecture: Architecture) -> None:
        self.architecture = architecture
        self.layers: list[tuple[Layer, Layer]] = []
        self.made: dict[int, Layer] = {}
        self.next_states: list[Symbol] = []
        self.at = 0
        units = [
            layer.units
            for call in architecture.calls
            if not call.output and isinstance(layer := architecture.layers[call.layer], Recurrent)
            for _ in range(layer.cell.states)
        ]
        if not units:
            raise _refused("it has no SimpleRNN, GRU or LSTM")
        if len(architecture.inputs) != 1 or len(architecture.outputs) != 1:
            raise _refused("it has several inputs or outputs")
        call = architecture.calls[architecture.inputs[0]]
        if len(call.shape) != (1 if call.kind == "int64" else 2):
            raise _refused(f"its input has no steps: shape {call.shape}")
        name = architecture.input_names[0]
        self.x = Input(call.shape[1:], dtype=None if call.kind == "real" else call.kind, name=name)
        self.state = Input(sum(units), name=f"{name}_state")

    def step(self) -> Step:
        """Call all layers."""
        architecture = self.architecture
        values: dict[int, Any] = {architecture.inputs[0]: self.x}
        sequences = {architecture.inputs[0]}
        for index, call in enumerate(architecture.calls):
            layer = architecture.layers[call.layer]
            if call.output or isinstance(layer, InputLayer):
                continue
            if call.weight is not None:
                raise _refused(f"layer {layer.label!r}: its weights are used as symbols")
            inputs = [values[x] for x in call.inputs if x in values]
            if isinstance(layer, Recurrent):
                result, ongoing = self._recurrent(layer, inputs[0], call.inputs, sequences), layer.return_sequences
                if len(architecture.uses(index)) > 1:
                    raise _refused(f"layer {layer.label!r} returns states, which are the state here")
            else:
                ongoing = any(x in sequences for x in call.inputs)
                by_step = layer.passes_mask or isinstance(layer, (Embedding, OneHot))
                if isinstance(layer, TAKES_ALL) or (ongoing and not by_step):
                    raise _refused(f"layer {layer.label!r}, a {type(layer).__name__}, takes all steps of a sequence")
                result = self._plain(layer, inputs)
            values[index] = result
            if ongoing:
                sequences.add(index)
        last = architecture.outputs[0]
        states = self.next_states
        together = states[0] if len(states) == 1 else Concatenate()(states)
        return Step((self.x, self.state), (values[last], together), self.layers)

    def _plain(self, layer: Layer, inputs: Sequence[Symbol]) -> Any:
        if layer.makes_mask:
            without: dict[str, Any] = {"mask_zero": False}
            return self._once(layer, without)(inputs[0])
        made = self._once(layer, {})
        return made(inputs if len(inputs) > 1 else inputs[0])

    def _recurrent(self, layer: Recurrent, x: Symbol, given: Sequence[int], sequences: set[int]) -> Any:
        if given[0] not in sequences:
            raise _refused(f"layer {layer.label!r} takes a sequence that another one makes")
        if layer.go_backwards:
            raise _refused(f"layer {layer.label!r} goes backwards")
        if any(len(self.architecture.calls[other].shape) == 1 for other in given[1:]):
            raise _refused(f"layer {layer.label!r} has initial states of its own")
        states = []
        for _ in range(layer.cell.states):
            states.append(self.state[:, self.at : self.at + layer.units])
            self.at += layer.units
        one = self._once(layer, {"return_state": True, "return_sequences": False})
        y, *following = one([Reshape((1, *x.shape))(x), *states])
        self.next_states += following
        return y

    def _once(self, layer: Layer, changes: dict[str, Any]) -> Any:
        """Return the layer of the step: the same for each call."""
        if id(layer) not in self.made:
            one = dataclasses.replace(layer, **changes) if changes else layer
            self.made[id(layer)] = one
            self.layers.append((one, layer))
        return self.made[id(layer)]


def _refused(reason: str) -> ValueError:
    return ValueError(f"freeze: expected a network that can go step by step with stateful=True, but {reason}")


def one_step(architecture: Architecture) -> Step:
    """Return the symbols of one step of an architecture.

    Raises
    ------
    ValueError
        When it needs more than one step at a time.
    """
    return _Unrolled(architecture).step()
