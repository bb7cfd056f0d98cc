"""The integers that the inputs of a model may hold, by what its layers take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastnn.layers.base import Layer, Shape

INT64 = np.iinfo(np.int64)
Range = tuple[int, int]


@dataclass(frozen=True)
class InputSpec:
    """Description of one of a model's inputs.

    Attributes
    ----------
    kind : {"real", "int64"}
    low, high : int
        Of integers: the least and the greatest that all layers take.
    narrowest : str
        The layer that sets the bounds; empty if none does.
    """

    name: str
    shape: Shape
    kind: str = "real"
    low: int = INT64.min
    high: int = INT64.max
    narrowest: str = ""


def narrow(
    specs: dict[int, InputSpec], calls: Sequence[Any], shapes: Sequence[Shape], layers: Sequence[Layer],
    labels: Sequence[str],
) -> None:  # fmt: skip
    """Give inputs the bounds of the layers that their integers reach.

    Parameters
    ----------
    specs : dict of int to InputSpec
        Of the calls that are inputs; they are replaced.
    calls : sequence of Call
    shapes : sequence of shape
        Of the calls' samples.

    Raises
    ------
    ValueError
        When the layers that take an input have no integer in common, or a layer does not take those of another.
    """
    # layers that return integers return those of an input, in another shape, or say which; ops compute others
    origin = {call: call for call in specs}
    made: dict[int, Range] = {}
    for index, call in enumerate(calls):
        layer, label = layers[call.layer], labels[call.layer]
        given_shapes = [shapes[x] for x in call.inputs]
        own = layer.output_range(*given_shapes) if call.kind == "int64" else None
        if own is not None:
            made[index] = own
        for position, x in enumerate(call.inputs):
            if calls[x].kind != "int64":
                continue
            bounds = layer.input_range(position, *given_shapes)
            if x in made and bounds is not None:
                _check(made[x], labels[calls[x].layer], bounds, label)
            if x in origin and bounds is not None:
                specs[origin[x]] = _narrowed(specs[origin[x]], bounds[0], bounds[1], label)
            if call.kind == "int64" and own is None:
                made |= {index: made[x]} if x in made else {}
                origin |= {index: origin[x]} if x in origin else {}


def _check(given: Range, giver: str, taken: Range, taker: str) -> None:
    """Raise ValueError unless a layer takes all integers that another gives."""
    if not taken[0] <= given[0] <= given[1] <= taken[1]:
        raise ValueError(
            f"layer {taker!r}: takes integers from {taken[0]} to {taken[1]}, but layer {giver!r} gives integers from "
            f"{given[0]} to {given[1]}"
        )


def _narrowed(spec: InputSpec, low: int, high: int, layer: str) -> InputSpec:
    """Return an input with the bounds that one more layer sets."""
    if low <= spec.low and high >= spec.high:
        return spec
    both = max(low, spec.low), min(high, spec.high)
    if both[0] > both[1]:
        raise ValueError(
            f"input {spec.name!r}: layer {layer!r} takes integers from {low} to {high}, layer {spec.narrowest!r} from "
            f"{spec.low} to {spec.high}: none fits both"
        )
    return replace(spec, low=both[0], high=both[1], narrowest=layer)
