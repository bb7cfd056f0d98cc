"""The weights of a model that other models hold."""

from __future__ import annotations

from typing import Any

from fastnn.layers.architecture import Architecture
from fastnn.lower.task import Place
from fastnn.program.layout import MAX_BUFFERS, SHARED
from fastnn.runtime.buffers import Buffers


def holders(runtime: Buffers) -> dict[int, tuple[tuple[Any, int], ...]]:
    """Return for each layer of a model, by id, where its weights are: the runtime that holds them, and the offset."""
    layers = runtime.table.architecture.layers
    found: dict[int, list[tuple[Any, int]]] = {id(layer): [] for layer in layers}
    for entry in runtime.table:
        shared = entry.place.buffer >= SHARED
        holder = runtime.owners[entry.place.buffer - SHARED] if shared else runtime
        found[id(layers[entry.layer])].append((holder, entry.place.offset))
    return {layer: tuple(weights) for layer, weights in found.items()}


def links(architecture: Architecture, dtype: str) -> tuple[list[Buffers], dict[int, list[Place]], dict[int, int]]:
    """Find the weights that other models hold.

    Returns
    -------
    owners, places, sizes
        The runtimes of these models, the places of weights by layer, and the bytes of each buffer.

    Raises
    ------
    ValueError
        When a model has another dtype, or there are too many of them.
    """
    owners: list[Buffers] = []
    places: dict[int, list[Place]] = {}
    for number, (layer, part) in enumerate(zip(architecture.layers, architecture.parts, strict=True)):
        if part is None:
            continue
        if part.dtype != dtype:
            raise ValueError(f"model {part.name!r} has the dtype {part.dtype}, expected {dtype} as the whole model has")
        places[number] = []
        for holder, offset in part.weights[id(layer)]:
            if holder not in owners:
                owners.append(holder)
            places[number].append(Place(SHARED + owners.index(holder), offset))
    if len(owners) > MAX_BUFFERS - SHARED:
        raise ValueError(f"a model is made of at most {MAX_BUFFERS - SHARED} others, got {len(owners)}")
    return owners, places, {SHARED + number: owner.table.nbytes for number, owner in enumerate(owners)}
