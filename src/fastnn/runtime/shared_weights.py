"""The weights of a model that other models hold."""

from __future__ import annotations

from typing import Any

from fastnn.layers.architecture import Architecture
from fastnn.lower.task import Place
from fastnn.program.layout import MAX_BUFFERS, SHARED
from fastnn.runtime.buffers import Buffers
from fastnn.runtime.runtime import Runtime

# a weight: the runtime that holds it, its offset there, and its shape
_Held = tuple[Any, int, tuple[int, ...]]


def holders(runtime: Buffers) -> dict[int, tuple[_Held, ...]]:
    """Return the weights of each layer of a model, by id, as `Part.weights` has them."""
    layers = runtime.table.architecture.layers
    found: dict[int, list[_Held]] = {id(layer): [] for layer in layers}
    for entry in runtime.table:
        shared = entry.place.buffer >= SHARED
        holder = runtime.owners[entry.place.buffer - SHARED] if shared else runtime
        found[id(layers[entry.layer])].append((holder, entry.place.offset, entry.spec.shape))
    return {layer: tuple(weights) for layer, weights in found.items()}


def links(architecture: Architecture, dtype: str) -> tuple[list[Runtime], dict[int, list[Place]], dict[int, int]]:
    """Find the weights that other models hold.

    Returns
    -------
    owners, places, sizes
        The runtimes of these models, the places of weights by layer, and the bytes of each buffer.

    Raises
    ------
    ValueError
        When a model has another dtype, a weight another shape, or there are too many models.
    """
    owners: list[Runtime] = []
    places: dict[int, list[Place]] = {}
    if not any(architecture.parts):
        return owners, places, {}
    needed: dict[int, list[tuple[int, ...]]] = {number: [] for number in range(len(architecture.layers))}
    for number, spec in architecture.parameters():
        needed[number].append(spec.shape)
    for number, (layer, part) in enumerate(zip(architecture.layers, architecture.parts, strict=True)):
        if part is None:
            continue
        if part.dtype != dtype:
            raise ValueError(f"model {part.name!r} has the dtype {part.dtype}, expected {dtype} as the whole model has")
        weights = part.weights[id(layer)]
        if [shape for _, _, shape in weights] != needed[number]:
            # no call of a model gives this, but a file can
            raise ValueError(
                f"{architecture.labels[number]}: expected weights of the shapes of the model {part.name!r}"
            )
        places[number] = []
        for holder, offset, _ in weights:
            if holder not in owners:
                owners.append(holder)
            places[number].append(Place(SHARED + owners.index(holder), offset))
    if len(owners) > MAX_BUFFERS - SHARED:
        raise ValueError(f"a model is made of at most {MAX_BUFFERS - SHARED} others, got {len(owners)}")
    return owners, places, {SHARED + number: owner.table.own_nbytes for number, owner in enumerate(owners)}
