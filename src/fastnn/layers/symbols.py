"""Symbols: batches of values that a model will compute, and weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastnn.graph.extent import BATCH
from fastnn.layers.open_shapes import Result
from fastnn.layers.operators import Operator, Value
from fastnn.registry import REGISTRY

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Part:
    """A model that other models are made of.

    Attributes
    ----------
    name : str
    kind : str
        The kind of model that a file names.
    dtype : {"float32", "float64"}
    labels : mapping of id to str
        Its layers' names.
    weights : mapping of id to tuple
        For each layer its weights: the runtime of the model that holds one, its offset there, and its shape.
    state : TrainingState
    model : fastnn.Model
    """

    name: str
    kind: str
    dtype: str
    labels: Mapping[int, str]
    weights: Mapping[int, tuple[tuple[Any, int, Shape], ...]]
    state: Any
    model: Any


@dataclass(frozen=True, eq=False, repr=False)
class Symbol(Value):
    """A batch of values that a model will compute: its shape without the batch axis, and its origin.

    Operators and the functions of `fastnn.ops` apply to symbols; for them the batch axis is the first one.

    Attributes
    ----------
    shape : tuple of int or None
        Shape of one sample; the whole shape if the first axis is not the batch axis (`batched`). None stands for a size
        that the model's inputs leave open.
    layer : Layer
        The layer whose call gave this symbol.
    inputs : tuple of Symbol
        The inputs of that call; empty for `fastnn.Input`.
    kind : {"real", "int64"}
        Whether the values are numbers of the model's dtype, or integers.
    part : Part, optional
        The model whose call gave this symbol; its layers have that model's weights.
    output : int
        The number of the output, of a layer that has several.
    outputs : tuple of Symbol
        All symbols that the call gave; empty if this is the only one.
    batched : bool
        Whether a batch axis comes before `shape`.
    weight : int, optional
        The symbol is no result, but the weight of the layer with this number.
    extras : tuple of (Symbol, role, name)
        Losses and metrics that come with it, because its model computes them.
    mask : Symbol, optional
        Of sequences: 1 for the steps that there are and 0 for others, of samples (steps, 1).
    tried : tuple of (int, shape)
        If sizes are open: see `Result`.
    """

    shape: tuple[Any, ...]
    layer: Any
    inputs: tuple[Symbol, ...]
    kind: str = "real"
    part: Part | None = None
    output: int = 0
    outputs: tuple[Symbol, ...] = ()
    batched: bool = True
    weight: int | None = None
    extras: tuple[tuple[Symbol, str, str], ...] = ()
    mask: Symbol | None = None
    tried: tuple[tuple[int, Shape], ...] = ()

    @property
    def together(self) -> tuple[Symbol, ...]:
        """All symbols that the call gave, in order."""
        return self.outputs or (self,)

    @property
    def result(self) -> Result:
        """The symbol as the output of a call."""
        return Result(self.shape, self.kind, self.batched, self.tried)

    @property
    def whole(self) -> tuple[Any, ...]:
        """The shape with the batch axis, of size B."""
        return (BATCH, *self.shape) if self.batched else self.shape

    def operate(self, operator: Operator, arguments: Sequence[Any], options: Mapping[str, Any]) -> Any:
        """Return the symbols of an op."""
        made: Any = REGISTRY["layer"]["Operation"]
        return made.on(operator, arguments, options)

    def __repr__(self) -> str:
        kind = "" if self.kind == "real" else f", {self.kind}"
        which = f"[{self.output}]" if self.outputs else ""
        whole = (None, *self.shape) if self.batched else self.shape
        return f"<Symbol {whole}{kind} of {self.layer.label}{which}>"


def results_of(
    layer: Any, inputs: tuple[Symbol, ...], results: Sequence[Result], part: Part | None = None
) -> tuple[Symbol, ...]:
    """Make the symbols of one call of a layer: one for each output."""
    made = tuple(
        Symbol(one.shape, layer, inputs, one.kind, part, number, batched=one.batched, tried=one.tried)
        for number, one in enumerate(results)
    )
    if len(made) > 1:
        for symbol in made:
            object.__setattr__(symbol, "outputs", made)
    return made


def of_part(symbols: Sequence[Symbol], part: Part) -> tuple[Symbol, ...]:
    """Make the symbols of one call again, as those of a layer in a model."""
    first = symbols[0]
    return results_of(first.layer, first.inputs, [x.result for x in symbols], part)


def identity_of(mask: Symbol) -> object:
    """Return what tells masks apart: their origin, and how it is flipped, which each call of a layer does anew."""
    layer: Any = mask.layer
    if not isinstance(layer, REGISTRY["layer"]["Operation"]) or layer.op != "flip":
        return id(mask)
    return layer.arguments, layer.options, identity_of(mask.inputs[0])
