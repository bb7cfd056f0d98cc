"""Unique names of a model's layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fastnn.layers.base import Layer
from fastnn.layers.core import InputLayer
from fastnn.layers.symbols import Part


def _part_labels(layers: Sequence[Layer], parts: Mapping[int, Part]) -> tuple[dict[int, str], list[str]]:
    """Name the layers that come from models: the model's name, numbered if several have it, and the name there.

    Returns
    -------
    labels, models
        The names of layers by id, and those of the models.
    """
    names: dict[int, str] = {}
    labels: dict[int, str] = {}
    for layer in layers:
        part = parts.get(id(layer))
        if part is None:
            continue
        if id(part) not in names:
            name, count = part.name, 0
            while name in names.values():
                count += 1
                name = f"{part.name}_{count}"
            names[id(part)] = name
        labels[id(layer)] = f"{names[id(part)]}/{part.labels[id(layer)]}"
    return labels, list(names.values())


def _check_apart(name: str, models: Sequence[str]) -> None:
    """Raise ValueError if a name could be that of a layer in one of the models: weights have names in files."""
    for model in models:
        if name.startswith(f"{model}/"):
            raise ValueError(f"the name {name!r} begins like those of the layers of the model {model!r}")


def unique_labels(layers: Sequence[Layer], parts: Mapping[int, Part]) -> tuple[str, ...]:
    """Give each layer its own name, the name that an earlier model gave it, or a new one."""
    fixed, models = _part_labels(layers, parts)
    for model in models:
        _check_apart(model, models)
    taken = set(models)
    for layer in layers:
        name = fixed.get(id(layer), layer.given_name)
        if name is not None:
            if name in taken:
                raise ValueError(f"two layers have the name {name!r}")
            if id(layer) not in fixed:
                _check_apart(name, models)
            taken.add(name)
    kept: dict[int, str] = {}
    for index, layer in enumerate(layers):
        if layer.given_name is None and layer.name is not None and layer.name not in taken and id(layer) not in fixed:
            kept[index] = layer.name
            taken.add(layer.name)
    labels = []
    # the search for a free number continues here: starting at 1 for each layer took a minute for 20,000 layers
    counts: dict[str, int] = {}
    for index, layer in enumerate(layers):
        label = fixed.get(id(layer)) or layer.given_name or kept.get(index)
        if label is None:
            base = "input" if isinstance(layer, InputLayer) else layer.word
            count = counts.get(base, 0)
            label = base if count == 0 else f"{base}_{count}"
            while label in taken:
                count += 1
                label = f"{base}_{count}"
            taken.add(label)
            counts[base] = count + 1
            layer.receive_name(label)
        labels.append(label)
    return tuple(labels)
