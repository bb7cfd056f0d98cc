"""Other shapes and orders of the same numbers; the batch axis is axis 0. Reshapes copy nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastnn.graph.extent import BATCH
from fastnn.graph.graph import Tensor
from fastnn.graph.ops import joins, reductions, strided
from fastnn.layers.tracing import Place
from fastnn.ops.definition import Operand, op

__all__ = [
    "broadcast_to",
    "concatenate",
    "expand_dims",
    "flip",
    "getitem",
    "moveaxis",
    "pad",
    "repeat",
    "reshape",
    "roll",
    "split",
    "squeeze",
    "stack",
    "swapaxes",
    "tile",
    "transpose",
]


def sizes(shape: Any) -> tuple[Any, ...]:
    """Return a shape, in which None stands for the batch size."""
    sizes = tuple(shape) if isinstance(shape, (list, tuple)) else (shape,)
    return tuple([BATCH if size is None else size for size in sizes])


def _several(place: Place, xs: Any) -> list[Tensor]:
    """Return the tensors of a list."""
    if not isinstance(xs, (list, tuple)):
        raise TypeError(f"xs: expected a list of symbols, got one of shape {place.tensor(xs).whole}")
    return [place.tensor(x) for x in xs]


@op()
def reshape(place: Place, x: Operand, shape: Sequence[int | None]) -> Tensor:
    """Return x in another shape with the batch axis: None stands for the batch size, one -1 for what is left."""
    return strided.reshape(place.graph, place.tensor(x), sizes(shape), place.label)


@op()
def transpose(place: Place, x: Operand, axes: Sequence[int] | None = None) -> Tensor:
    """Return x with its axes in another order, by default the opposite one."""
    value = place.tensor(x)
    order = range(len(value.whole))[::-1] if axes is None else axes
    return strided.transpose(place.graph, value, order, place.label)


@op()
def swapaxes(place: Place, x: Operand, axis1: int, axis2: int) -> Tensor:
    """Return x with two axes exchanged."""
    return strided.swapaxes(place.graph, place.tensor(x), axis1, axis2, place.label)


@op()
def moveaxis(place: Place, x: Operand, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
    """Return x with axes moved to other places."""
    return strided.moveaxis(place.graph, place.tensor(x), source, destination, place.label)


@op()
def expand_dims(place: Place, x: Operand, axis: int | Sequence[int]) -> Tensor:
    """Return x with new axes of size 1."""
    return strided.expand_dims(place.graph, place.tensor(x), axis, place.label)


@op()
def squeeze(place: Place, x: Operand, axis: int | Sequence[int] | None = None) -> Tensor:
    """Return x without axes of size 1."""
    return strided.squeeze(place.graph, place.tensor(x), axis, place.label)


@op()
def broadcast_to(place: Place, x: Operand, shape: Sequence[int | None]) -> Tensor:
    """Return x repeated to a shape with the batch axis, whose size None stands for."""
    return reductions.broadcast_to(place.graph, place.tensor(x), sizes(shape), place.label)


@op()
def concatenate(place: Place, xs: Sequence[Operand], axis: int = -1) -> Tensor:
    """Return tensors joined along an axis."""
    return joins.concatenate(place.graph, _several(place, xs), axis, place.label)


@op()
def stack(place: Place, xs: Sequence[Operand], axis: int = 0) -> Tensor:
    """Return tensors of one shape joined along a new axis."""
    return joins.stack(place.graph, _several(place, xs), axis, place.label)


@op()
def split(place: Place, x: Operand, indices_or_sections: int | Sequence[int], axis: int = -1) -> tuple[Tensor, ...]:
    """Return parts of x along an axis: a number of equal ones, or those between places."""
    return tuple(joins.split(place.graph, place.tensor(x), indices_or_sections, axis, place.label))


@op(numpy="x[...]")
def getitem(place: Place, x: Operand, key: Any) -> Tensor:
    """Return ``x[key]``: numbers, slices with steps, None for a new axis, and an ellipsis."""
    return strided.getitem(place.graph, place.tensor(x), key, place.label)


@op()
def flip(place: Place, x: Operand, axis: int | Sequence[int] | None = None) -> Tensor:
    """Return x backwards along axes, by default all."""
    return strided.flip(place.graph, place.tensor(x), axis, place.label)


@op()
def roll(place: Place, x: Operand, shift: int | Sequence[int], axis: int | Sequence[int] | None = None) -> Tensor:
    """Return x moved along an axis; what leaves at one end comes back at the other."""
    return joins.roll(place.graph, place.tensor(x), shift, axis, place.label)


@op()
def pad(
    place: Place, x: Operand, pad_width: int | Sequence[Any], mode: str = "constant", constant_values: float = 0.0
) -> Tensor:
    """Return x with more entries before and after those of each axis.

    `pad_width` has a pair of numbers for every axis; a mode is "constant", "edge", "reflect" or "symmetric".
    """
    return joins.pad(place.graph, place.tensor(x), pad_width, place.label, mode, constant_values)


@op()
def tile(place: Place, x: Operand, repeats: int | Sequence[int]) -> Tensor:
    """Return x repeated as a whole, along the last axes or all."""
    return joins.tile(place.graph, place.tensor(x), repeats, place.label)


@op()
def repeat(place: Place, x: Operand, repeats: int, axis: int | None = None) -> Tensor:
    """Return x with each entry of an axis repeated."""
    return joins.repeat(place.graph, place.tensor(x), repeats, axis, place.label)
