"""Ops that only move values."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from fastnn.graph.graph import Graph, Node, Tensor
from fastnn.graph.ops.elementwise import elementwise
from fastnn.graph.rules import Gradients, gradient


def reshape(graph: Graph, x: Tensor, shape: Sequence[int], label: str) -> Tensor:
    """View the elements of a sample in another shape; costs nothing."""
    return graph.add("reshape", (x,), [(shape, x.batched, f"{label}.reshape", x.kind)], label)[0]


@gradient("reshape", keeps=lambda node, count: True)
def _reshape(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    (x,) = node.inputs
    assert x is not None
    return (reshape(graph, dy, x.shape, node.label),)


def concatenate(graph: Graph, inputs: Sequence[Tensor], label: str) -> Tensor:
    """Join tensors along the last axis."""
    shape = (*inputs[0].shape[:-1], sum(x.columns for x in inputs))
    return graph.add("concatenate", inputs, [(shape, inputs[0].batched, f"{label}.concatenate")], label)[0]


@gradient("concatenate", keeps=lambda node, count: all(x is None or x.columns % count == 0 for x in node.inputs))
def _concatenate(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    found: list[Tensor | None] = []
    first = 0
    for x, need in zip(node.inputs, needs, strict=True):
        assert x is not None
        found.append(take_columns(graph, dy, first, x.columns, node.label) if need else None)
        first += x.columns
    return found


def take_columns(graph: Graph, x: Tensor, first: int, columns: int, label: str) -> Tensor:
    """Take `columns` columns of x, from `first` on."""
    shape = (*x.shape[:-1], columns)
    return graph.add("take_columns", (x,), [(shape, x.batched, f"{label}.slice")], label, first=first)[0]


@gradient(
    "take_columns", keeps=lambda node, count: not (node.attrs["first"] % count or node.outputs[0].columns % count)
)
def _take_columns(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    (x,) = node.inputs
    assert x is not None
    dims = {"cols": dy.columns, "target_cols": x.columns, "target_first": node.attrs["first"]}
    return graph.add("place_columns", (dy,), [(x.shape, x.batched, f"{node.label}.dx")], node.label, **dims)


def take_rows(graph: Graph, x: Tensor, first: int, count: int, label: str) -> Tensor:
    """Take `count` entries of a sample's first axis, from `first` on."""
    shape = (count, *x.shape[1:])
    return graph.add("take_rows", (x,), [(shape, x.batched, f"{label}.slice")], label, first=first)[0]


@gradient(
    "take_rows",
    keeps=lambda node, size: len(node.outputs[0].shape) > 1 or not (node.attrs["first"] | node.outputs[0].size) % size,
)
def _take_rows(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    (x,) = node.inputs
    assert x is not None
    dims = {"cols": dy.size, "target_cols": x.size, "target_first": node.attrs["first"] * prod(x.shape[1:])}
    return graph.add("place_columns", (dy,), [(x.shape, x.batched, f"{node.label}.dx")], node.label, **dims)


def add_up(graph: Graph, parts: Sequence[Tensor], label: str) -> Tensor:
    """Add gradients of a tensor; those of slices that make it up are joined instead."""
    places = [place for place in map(graph.producer, parts) if place is not None and place.op == "place_columns"]
    if len(parts) > 1 and len(places) == len(parts):
        places.sort(key=lambda place: place.attrs["target_first"])
        ends = [0, *(place.attrs["target_first"] + place.attrs["cols"] for place in places)]
        # the slices are those of rows, or of whole samples
        if all(place.attrs["target_cols"] == ends[-1] for place in places) and ends[:-1] == [
            place.attrs["target_first"] for place in places
        ]:
            taken = [(x, place.attrs["cols"]) for place in places for x in place.inputs if x is not None]
            rows = [reshape(graph, x, (x.size // columns, columns), label) for x, columns in taken]
            return reshape(graph, concatenate(graph, rows, label), parts[0].shape, label)
    return elementwise(graph, "add", parts, label)


# axes before the last one that a record permutes, besides one that the batch is part of
_MOST_AXES = 4


def permute(graph: Graph, x: Tensor, axes: Sequence[int], label: str) -> Tensor:
    """Put the axes of a sample into another order: axis i of the result is axis `axes[i]` of x."""
    axes = tuple(axes)
    # axes that stay neighbours are one; with the batch, too
    groups: list[list[int]] = []
    for axis in axes:
        if groups and axis == groups[-1][-1] + 1:
            groups[-1].append(axis)
        else:
            groups.append([axis])
    if len(groups) <= 1:
        return x
    with_batch = axes[0] == 0
    if len(groups) - 1 - with_batch > _MOST_AXES:
        # first the axes that begin the result; then these are part of the batch's, and one group less is left
        head = [*groups[0], *(groups[1] if with_batch else ())]
        order = (*head, *(axis for axis in range(len(axes)) if axis not in head))
        later = tuple(order.index(axis) for axis in axes)
        return permute(graph, permute(graph, x, order, label), later, label)
    strides = [prod(x.shape[group[-1] + 1 :]) for group in groups]
    sizes = [prod(x.shape[axis] for axis in group) for group in groups]
    *leading, last = zip(sizes, strides, strict=True)
    # the batch is the first axis, alone or with those of the first group
    (_, batch_stride), *leading = leading if with_batch else [(1, prod(x.shape)), *leading]
    leading = [(1, 1)] * (_MOST_AXES - len(leading)) + leading
    dims = {"cols": last[0], "stride": last[1], "stride0": batch_stride}
    for number, (size, stride) in enumerate(leading, 1):
        dims[f"n{number}"], dims[f"stride{number}"] = size, stride
    shape = tuple(x.shape[axis] for axis in axes)
    return graph.add("permute", (x,), [(shape, x.batched, f"{label}.permute")], label, axes=axes, **dims)[0]


@gradient("permute", keeps=lambda node, count: bool(node.attrs["axes"][-1] == len(node.attrs["axes"]) - 1))
def _permute(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    axes = node.attrs["axes"]
    return (permute(graph, dy, sorted(range(len(axes)), key=lambda axis: axes[axis]), node.label),)


def one_hot(graph: Graph, index: Tensor, depth: int, label: str) -> Tensor:
    """Make rows of `depth` numbers, 1 at the place of each integer and 0 elsewhere."""
    shape = (*index.shape, depth)
    return graph.add("one_hot", (index,), [(shape, index.batched, f"{label}.one_hot")], label)[0]


@gradient("one_hot")
def _one_hot(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    return (None,)
