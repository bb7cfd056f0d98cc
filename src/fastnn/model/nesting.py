"""Models that are made of models: their layers are called again on other symbols, with the weights of the models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastnn.layers.architecture import Architecture
from fastnn.layers.base import Part, Symbol
from fastnn.lower.task import Place
from fastnn.program.layout import MAX_BUFFERS, SHARED

if TYPE_CHECKING:
    from fastnn.model.base import Network
    from fastnn.runtime.runtime import Runtime


def applied(model: Network, symbols: Sequence[Symbol]) -> Symbol | list[Symbol]:
    """Call a built model on symbols; returns a list for several outputs.

    Raises
    ------
    TypeError, ValueError
        When these are not symbols, or do not fit the model's inputs.
    """
    architecture = model._architecture_or_fail()
    specs = architecture.input_specs
    for symbol in symbols:
        if not isinstance(symbol, Symbol):
            raise TypeError(
                f"model {model.name!r}: expected symbols or arrays, got {type(symbol).__name__} among symbols"
            )
    if len(symbols) != len(specs):
        raise ValueError(f"model {model.name!r}: takes {len(specs)} input(s), got {len(symbols)}")
    for spec, symbol in zip(specs, symbols, strict=True):
        if (symbol.shape, symbol.kind) != (spec.shape, spec.kind):
            what = f" of {symbol.kind}" if symbol.kind != spec.kind else ""
            raise ValueError(
                f"model {model.name!r}: input {spec.name!r} expects samples of shape {spec.shape}"
                f"{' of int64' * (spec.kind == 'int64')}, got {symbol.shape}{what} from {symbol.layer.label!r}"
            )
    part = part_of(model)
    values = dict(zip(architecture.inputs, symbols, strict=True))
    for index, call in enumerate(architecture.calls):
        if index not in values:
            inputs = tuple(values[x] for x in call.inputs)
            values[index] = Symbol(call.shape, architecture.layers[call.layer], inputs, call.kind, part)
    found = [values[call] for call in architecture.outputs]
    return found[0] if len(found) == 1 else found


def part_of(model: Network) -> Part:
    """Return a model as a part of others: always the same object."""
    if model._part is None:
        architecture, runtime = model._architecture_or_fail(), model._runtime
        labels = {id(layer): label for layer, label in zip(architecture.layers, architecture.labels, strict=True)}
        places: dict[int, list[tuple[Any, int]]] = {one: [] for one in labels}
        for entry in model._table:
            shared = entry.place.buffer >= SHARED
            holder = runtime.owners[entry.place.buffer - SHARED] if shared else runtime
            places[id(architecture.layers[entry.layer])].append((holder, entry.place.offset))
        weights = {one: tuple(found) for one, found in places.items()}
        model._part = Part(model.name, labels, weights, model)
    return model._part


def links(
    architecture: Architecture, dtype: str, device: str
) -> tuple[list[Runtime], dict[int, list[Place]], dict[int, int]]:
    """Find the weights that other models hold.

    Returns
    -------
    owners, places, sizes
        The runtimes of these models, the places of weights by layer, and the bytes of each buffer.

    Raises
    ------
    ValueError
        When a model has another dtype, there are too many of them, or the model is for a GPU.
    """
    owners: list[Runtime] = []
    places: dict[int, list[Place]] = {}
    for number, (layer, part) in enumerate(zip(architecture.layers, architecture.parts, strict=True)):
        if part is None:
            continue
        if part.model.dtype != dtype:
            raise ValueError(
                f"model {part.name!r} has the dtype {part.model.dtype}, expected {dtype} as the whole model has"
            )
        places[number] = []
        for holder, offset in part.weights[id(layer)]:
            if holder not in owners:
                owners.append(holder)
            places[number].append(Place(SHARED + owners.index(holder), offset))
    if len(owners) > MAX_BUFFERS - SHARED:
        raise ValueError(f"a model is made of at most {MAX_BUFFERS - SHARED} others, got {len(owners)}")
    if owners:
        check_device(device)
    sizes = {SHARED + number: owner.table.nbytes for number, owner in enumerate(owners)}
    return owners, places, sizes


def check_device(device: str) -> None:
    """Raise unless the device is the CPU."""
    if device != "cpu":
        raise ValueError(f"a model that is made of other models runs on the CPU only so far, got {device!r}")
