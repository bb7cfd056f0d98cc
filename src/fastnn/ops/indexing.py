"""Entries by integers, which symbols may hold. Integers outside the axis give NaN, negative ones count from the end."""

from __future__ import annotations

from fastnn.graph.graph import Tensor
from fastnn.graph.ops import indexing
from fastnn.layers.tracing import Place
from fastnn.ops.definition import Operand, op

__all__ = ["one_hot", "take", "take_along_axis"]


@op()
def take(place: Place, x: Operand, indices: Operand, axis: int | None = None) -> Tensor:
    """Return the entries of an axis that integers name: their shape takes the axis' place."""
    return indexing.take(place.graph, place.tensor(x), place.integers(indices), axis, place.label)


@op()
def take_along_axis(place: Place, x: Operand, indices: Operand, axis: int = -1) -> Tensor:
    """Return for each place of `indices` the entry of x that it names along an axis, as after `argmax`."""
    return indexing.take_along_axis(place.graph, place.tensor(x), place.integers(indices), axis, place.label)


@op(numpy="")
def one_hot(place: Place, x: Operand, num_classes: int) -> Tensor:
    """Return a last axis of zeros with a 1 at the place of each integer; all zeros for an integer outside."""
    return indexing.one_hot(place.graph, place.integers(x), num_classes, place.label)
