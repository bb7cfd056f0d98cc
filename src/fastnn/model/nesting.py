"""Models that are made of models: their layers are called again on other symbols, with the weights of the models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastnn.layers.architecture import Architecture
from fastnn.layers.open_shapes import described, fits
from fastnn.layers.symbols import Part, Symbol, results_of
from fastnn.runtime.shared_weights import holders
from fastnn.training.state import TrainingState


def new_part(model: Any, name: str, kind: str, state: TrainingState) -> Part:
    """Describe a built model as a part of others."""
    runtime = state.require_built()
    architecture = runtime.table.architecture
    labels = {id(layer): label for layer, label in zip(architecture.layers, architecture.labels, strict=True)}
    return Part(name, kind, state.dtype, labels, holders(runtime), state, model)


def check_symbols(name: str, architecture: Architecture, symbols: Sequence[Any]) -> None:
    """Raise TypeError or ValueError unless these are symbols that fit the inputs of a model with a name."""
    specs = architecture.input_specs
    for symbol in symbols:
        if not isinstance(symbol, Symbol):
            raise TypeError(f"model {name!r}: expected symbols or arrays, got {type(symbol).__name__} among symbols")
    if len(symbols) != len(specs):
        raise ValueError(f"model {name!r}: takes {len(specs)} input(s), got {len(symbols)}")
    for spec, symbol in zip(specs, symbols, strict=True):
        if not fits(symbol.shape, spec.shape) or (symbol.kind, symbol.batched) != (spec.kind, True):
            what = f" of {symbol.kind}" if symbol.kind != spec.kind else ""
            raise ValueError(
                f"model {name!r}: input {spec.name!r} expects samples of shape {spec.shape}"
                f"{' of int64' * (spec.kind == 'int64')}, got {symbol.shape}{what} from {symbol.layer.label!r}"
            )


def applied(part: Part, architecture: Architecture, symbols: Sequence[Symbol]) -> Symbol | list[Symbol]:
    """Call the layers of a model on symbols that fit it; returns a list for several outputs.

    Its own losses and metrics are computed for each call; models that use a result have them, too.
    """
    values = dict(zip(architecture.inputs, symbols, strict=True))
    for index, call in enumerate(architecture.calls):
        if index not in values:
            inputs, layer = tuple(values[x] for x in call.inputs), architecture.layers[call.layer]
            if call.weight is not None:
                values[index] = layer.weight_symbol(call.weight, part)
                continue
            results = [use.result for use in architecture.uses(index)]
            if architecture.is_open and inputs:
                # of the sizes that these symbols have
                results = described(layer.label, [x.result for x in inputs], layer.described)[1]
            values |= enumerate(results_of(layer, inputs, results, part), index)
    found = [values[call] for call in architecture.outputs]
    extras = tuple([
        (values[extra.call], extra.role, extra.name) for extra in architecture.extras if extra.role != "mask"
    ])  # fmt: skip
    for extra in architecture.extras:
        if extra.role == "mask":
            object.__setattr__(found[int(extra.name)], "mask", values[extra.call])
    for symbol in found if extras else ():
        if not any(symbol is given for given in symbols):
            object.__setattr__(symbol, "extras", extras)
    return found[0] if len(found) == 1 else found
