"""Bidirectional and TimeDistributed: layers around others."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fastnn.checks import shorten
from fastnn.config import register
from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.elementwise import elementwise
from fastnn.graph.ops.moves import concatenate
from fastnn.graph.ops.pointwise import pointwise
from fastnn.layers.base import Layer, ParameterSpec, Scope, Shape
from fastnn.layers.core import Activation, Dense
from fastnn.layers.integers import Embedding, OneHot
from fastnn.layers.normalization import LayerNorm, RMSNorm
from fastnn.layers.random import Dropout, GaussianNoise
from fastnn.layers.recurrent.base import MASK_COLUMNS, OverTime
from fastnn.layers.symbols import Symbol
from fastnn.layers.tracing import STREAMS

__all__ = ["Bidirectional", "TimeDistributed"]

_MODES = ("concat", "sum", "mul", "ave", None)
#: layers that compute each step by itself, as they are
_BY_STEP = (Activation, Dense, Dropout, Embedding, GaussianNoise, LayerNorm, OneHot, RMSNorm)


@register("layer")
@dataclass(eq=False, repr=False)
class Bidirectional(Layer):
    """Run a recurrent layer over sequences in both directions (Schuster and Paliwal, 1997).

    ::

        fnn.Bidirectional(fnn.LSTM(32, return_sequences=True))

    Parameters
    ----------
    layer : SimpleRNN, GRU, LSTM or RNN
        The layer from the first step to the last one.
    merge_mode : {"concat", "sum", "mul", "ave", None}
        How the results of both directions become one; None returns both.
    backward_layer : SimpleRNN, GRU, LSTM or RNN, optional
        The layer from the last step to the first one, with ``go_backwards=True``; by default one like `layer`.

    Raises
    ------
    TypeError, ValueError
        When these are no such layers, or do not return alike.

    Notes
    -----
    Both have weights of their own, those of `layer` first. Sequences of both are in the order of the steps. With
    ``return_state`` the states of `layer` follow the result, and then the others'. ``initial_state=`` takes the states
    in this order, too. Arguments and defaults are Keras 3's.
    """

    layer: Layer
    merge_mode: str | None = "concat"
    backward_layer: Layer | None = field(default=None, kw_only=True)
    arity = (1, None)

    def prepare(self) -> None:
        if not isinstance(self.layer, OverTime):
            raise TypeError(f"layer: expected a SimpleRNN, GRU, LSTM or RNN, got {shorten(self.layer)}")
        if self.merge_mode not in _MODES:
            raise ValueError(f"merge_mode: expected one of {_MODES}, got {self.merge_mode!r}")
        forward, backward = self.layer, self.backward_layer
        if backward is None:
            changes: dict[str, Any] = {"name": None, "go_backwards": not forward.go_backwards}
            backward = dataclasses.replace(forward, **changes)
        if not isinstance(backward, OverTime):
            raise TypeError(f"backward_layer: expected a SimpleRNN, GRU, LSTM or RNN, got {shorten(backward)}")
        if backward.go_backwards == forward.go_backwards:
            raise ValueError("backward_layer: expected a layer of the other direction: go_backwards=True")
        for name in ("return_sequences", "return_state", "units"):
            one, other = (getattr(each, name, None) for each in (forward, backward))
            if one != other and (name != "units" or self.merge_mode != "concat"):
                raise ValueError(f"backward_layer: expected {name}={one} as of layer")
        if len(forward.state_shapes) != len(backward.state_shapes):
            raise ValueError("backward_layer: expected as many states as of layer")
        object.__setattr__(self, "_both", (forward, backward))

    @property
    def both(self) -> tuple[OverTime, OverTime]:
        """The layers of both directions."""
        found: tuple[OverTime, OverTime] = self.__dict__["_both"]
        return found

    @property
    def times_reset(self) -> int:
        """How often the states of either direction have been reset."""
        return sum(layer.times_reset for layer in self.both)

    def reset_states(self) -> None:
        """Reset the states of both directions; see `Model.reset_states`."""
        for layer in self.both:
            layer.reset_states()

    # both names are Keras'
    reset_state = reset_states

    @property
    def takes_mask(self) -> bool:
        """Whether a call takes the mask of its first input."""
        return True

    @property
    def passes_mask(self) -> bool:
        """Whether the states have the mask of the sequences."""
        return self.both[0].return_sequences

    def __call__(
        self, inputs: Symbol | Sequence[Symbol], initial_state: Symbol | Sequence[Symbol] | None = None,
        mask: Symbol | None = None,
    ) -> Any:  # fmt: skip
        """Apply the layer to a symbol; the arguments are those of recurrent layers."""
        return super().__call__(self.both[0].gathered(inputs, initial_state, mask))

    def _shared(self, given: Sequence[Any], shapes: Sequence[Shape]) -> tuple[list[Any], list[Any]]:
        """Share what a call is on between both directions: sequences and mask go to both, states to one each."""
        first, *rest = given
        masks = rest[-1:] if len(shapes) > 1 and shapes[-1] == (shapes[0][0], MASK_COLUMNS) else []
        states = rest[: len(rest) - len(masks)]
        half = len(states) // 2
        return [first, *states[:half], *masks], [first, *states[half:], *masks]

    def output_shape(self, *shapes: Shape) -> Shape | Sequence[Shape]:
        parts = self._shared(shapes, shapes)
        if len(parts[0]) != len(parts[1]):
            raise self.fail("takes the initial states of both directions")
        found: list[list[Any]] = [
            list(given) if layer.return_state else [given]
            for layer, part in zip(self.both, parts, strict=True)
            for given in (layer.output_shape(*part),)
        ]
        (first, *states), (other, *others) = found
        alike = first[:-1] == other[:-1] if self.merge_mode == "concat" else first == other
        if self.merge_mode is not None and not alike:
            raise self.fail(f"takes results of both directions of one shape, got {first} and {other}")
        joined = [first, other] if self.merge_mode is None else [first]
        if self.merge_mode == "concat":
            joined = [(*first[:-1], first[-1] + other[-1])]
        made = [*joined, *states, *others]
        return made if len(made) > 1 else made[0]

    def carries(self, *shapes: Shape) -> tuple[Shape, ...]:
        """Return the shapes of the states of both directions that pass on to the next batch."""
        parts = self._shared(shapes, shapes)
        return tuple(s for layer, part in zip(self.both, parts, strict=True) for s in layer.carries(*part))

    def parameters(self, *shapes: Shape) -> tuple[ParameterSpec, ...]:
        parts = self._shared(shapes, shapes)
        return tuple(
            dataclasses.replace(spec, name=f"{direction}_{spec.name}")
            for direction, layer, part in zip(("forward", "backward"), self.both, parts, strict=True)
            for spec in layer.parameters(*part)
        )

    def apply(
        self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope
    ) -> Tensor | Sequence[Tensor]:
        parts = self._shared(inputs, [x.shape for x in inputs])
        count = len(self.both[0].parameters(*(x.shape for x in parts[0])))
        # two streams of random numbers for each direction
        second = dataclasses.replace(scope, number=scope.number + 2 * STREAMS)
        y, *states = self.both[0].continued(graph, parts[0], weights[:count], scope)
        z, *others = self.both[1].continued(graph, parts[1], weights[count:], second)
        label = scope.label
        if self.merge_mode is None:
            joined = [y, z]
        elif self.merge_mode == "concat":
            joined = [concatenate(graph, [y, z], label)]
        else:
            made = elementwise(graph, "multiply" if self.merge_mode == "mul" else "add", [y, z], label)
            joined = [pointwise(graph, "multiply", [made, 0.5], label) if self.merge_mode == "ave" else made]
        made_all = [*joined, *states, *others] if self.both[0].return_state else joined
        return made_all if len(made_all) > 1 else made_all[0]


@register("layer")
@dataclass(eq=False, repr=False)
class TimeDistributed(Layer):
    """Apply a layer to every step of sequences by itself.

    ::

        fnn.TimeDistributed(fnn.Dense(10))

    Parameters
    ----------
    layer : Layer
        A layer that works on the last axis: `Dense`, `Activation`, `Dropout`, `GaussianNoise`, `Embedding`, `OneHot`,
        `LayerNorm` or `RMSNorm`. These do so without this wrapper, too, which is here for those who know it from Keras.

    Raises
    ------
    TypeError
        When it is another layer. A convolution of every image of a film is a `Conv3D` with a window of one image.
    """

    layer: Layer

    passes_mask = True

    def prepare(self) -> None:
        if not isinstance(self.layer, _BY_STEP):
            names = ", ".join(one.__name__ for one in _BY_STEP)
            raise TypeError(
                f"layer: expected a layer that works on the last axis ({names}), got {shorten(self.layer)}; a "
                "convolution of every image of a film is a Conv3D with a window of one image"
            )

    def accepts(self, kind: str, position: int) -> bool:
        return self.layer.accepts(kind, position)

    def input_range(self, position: int, *shapes: Shape) -> tuple[int, int] | None:
        return self.layer.input_range(position, *shapes)

    def output_shape(self, *shapes: Shape) -> Shape | Sequence[Shape]:
        return self.layer.output_shape(*shapes)

    @property
    def makes_mask(self) -> bool:
        """Whether the layer makes a mask."""
        return self.layer.makes_mask

    def parameters(self, *shapes: Shape) -> tuple[ParameterSpec, ...]:
        return self.layer.parameters(*shapes)

    def apply(
        self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope
    ) -> Tensor | Sequence[Tensor]:
        return self.layer.apply(graph, inputs, weights, scope)
