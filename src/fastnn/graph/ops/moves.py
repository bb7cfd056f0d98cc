"""Moves of values within samples: what layers call; the batch axis stays in front."""

from __future__ import annotations

from collections.abc import Sequence

from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops import joins, strided
from fastnn.graph.ops.elementwise import elementwise


def reshape(graph: Graph, x: Tensor, shape: Sequence[int], label: str) -> Tensor:
    """View the elements of a sample in another shape; costs nothing."""
    return graph.add("reshape", (x,), [(shape, x.batched, f"{label}.reshape", x.kind)], label)[0]


def concatenate(graph: Graph, inputs: Sequence[Tensor], label: str) -> Tensor:
    """Join tensors along the last axis."""
    return joins.concatenate(graph, inputs, -1, label)


def take_columns(graph: Graph, x: Tensor, first: int, columns: int, label: str) -> Tensor:
    """Copy `columns` columns of x, from `first` on."""
    ranges = strided.along(x.whole, -1, (first, 1, columns)) if x.whole else []
    return strided.copied(graph, x, ranges, None, label)


def take_rows(graph: Graph, x: Tensor, first: int, count: int, label: str) -> Tensor:
    """Copy `count` entries of a sample's first axis, from `first` on."""
    ranges = strided.along(x.whole, int(x.batched), (first, 1, count))
    return strided.copied(graph, x, ranges, None, label)


def add_up(graph: Graph, parts: Sequence[Tensor], label: str) -> Tensor:
    """Add gradients of a tensor; those of slices that make it up are joined instead."""
    together = joins.joined(graph, parts, label)
    return elementwise(graph, "add", parts, label) if together is None else together


def permute(graph: Graph, x: Tensor, axes: Sequence[int], label: str) -> Tensor:
    """Put the axes of a sample into another order: axis i of the result is axis `axes[i]` of x."""
    order = [0, *(axis + 1 for axis in axes)] if x.batched else list(axes)
    return strided.transpose(graph, x, order, label)
