"""Architectures of the JSON values in files, which are trusted in nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastnn.config import REGISTRY, from_config
from fastnn.layers.architecture import Architecture
from fastnn.layers.base import Layer
from fastnn.layers.core import InputLayer
from fastnn.layers.symbols import Part, Symbol, of_part


def read(
    config: Any, where: str, given: Mapping[int, tuple[Layer, Part]] | None = None, *, any_shape: bool = False
) -> Architecture:
    """Make an architecture from JSON values; raises ValueError for anything that `config` did not write.

    `given` has the layers that other models hold, by number; `any_shape` is as for `of`, and lets a loss take the
    place of outputs.
    """
    given = given or {}
    optional = {"extras": list} if isinstance(config, dict) and "extras" in config else {}
    parts = _fields(config, {"layers": list, "calls": list, "inputs": list, "outputs": list, **optional}, where)
    layers = [
        given[index][0] if index in given else from_config(part, REGISTRY["layer"], f"{where}, layer {index}")
        for index, part in enumerate(parts["layers"])
    ]
    symbols: list[Symbol] = []
    for index, part in enumerate(parts["calls"]):
        place = f"{where}, call {index}"
        if not isinstance(part, list) or len(part) not in (2, 3) or not isinstance(part[1], list):
            raise ValueError(f"{place}: expected [layer, [inputs]] or [layer, [], weight], got {part!r}")
        layer = layers[_number(part[0], len(layers), place)]
        inputs = tuple(symbols[_number(x, len(symbols), place)] for x in part[1])
        if isinstance(layer, InputLayer):
            if inputs:
                raise ValueError(f"{place}: an input layer takes no inputs")
            symbols.append(layer.start())
        elif len(part) == 3:
            symbols.append(_weight_symbol(layer, part[2], given.get(int(part[0])), place))
        elif not inputs and layer.arity[0]:
            raise ValueError(f"{place}: layer {layer.label!r} has no inputs")
        else:
            made, number = layer(inputs), int(part[0])
            several = (made[0] if isinstance(made, tuple) else made).together
            symbols += of_part(several, given[number][1]) if number in given else several
    ends = [[symbols[_number(x, len(symbols), where)] for x in parts[what]] for what in ("inputs", "outputs")]
    extras = [_extra(one, symbols, where) for one in parts.get("extras", [])]
    if not ends[0] or not (ends[1] or (any_shape and extras)):
        raise ValueError(f"{where}: a model has inputs and outputs")
    return Architecture.of(ends[0], ends[1], extras, any_shape=any_shape)


def _extra(config: Any, symbols: Sequence[Symbol], where: str) -> tuple[Symbol, str, str]:
    if not isinstance(config, list) or len(config) != 3 or config[1] not in ("loss", "metric", "mask"):
        raise ValueError(f"{where}: expected [call, 'loss', 'metric' or 'mask', name], got {config!r}")
    if not isinstance(config[2], str):
        raise ValueError(f"{where}: expected a name, got {config[2]!r}")
    return symbols[_number(config[0], len(symbols), where)], config[1], config[2]


def _weight_symbol(layer: Layer, weight: Any, given: tuple[Layer, Part] | None, place: str) -> Symbol:
    """Return the symbol of a weight that a file names."""
    part = None if given is None else given[1]
    known = [shape for *_, shape in part.weights[id(layer)]] if part is not None else layer.weight_shapes
    return layer.weight_symbol(_number(weight, len(known), place), part)


def _fields(config: Any, kinds: dict[str, type], where: str) -> dict[str, Any]:
    if not isinstance(config, dict) or set(config) != set(kinds):
        raise ValueError(f"{where}: expected an object with the keys {sorted(kinds)}")
    for key, kind in kinds.items():
        if not isinstance(config[key], kind):
            raise ValueError(f"{where}: {key!r}: expected a {kind.__name__}")
    return config


def _number(value: Any, below: int, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < below:
        raise ValueError(f"{where}: expected a number from 0 to {below - 1}, got {value!r}")
    return value
