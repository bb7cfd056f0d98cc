"""Ops that only move values."""

from __future__ import annotations

from collections.abc import Sequence

from fastnn.graph.graph import Graph, Node, Tensor
from fastnn.graph.rules import Gradients, gradient


def reshape(graph: Graph, x: Tensor, shape: Sequence[int], label: str) -> Tensor:
    """View the elements of a sample in another shape; costs nothing."""
    return graph.add("reshape", (x,), [(shape, x.batched, f"{label}.reshape")], label)[0]


@gradient("reshape", keeps=lambda node, count: True)
def _reshape(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    (x,) = node.inputs
    assert x is not None
    return (reshape(graph, dy, x.shape, node.label),)


def concatenate(graph: Graph, inputs: Sequence[Tensor], label: str) -> Tensor:
    """Join tensors along the last axis."""
    shape = (*inputs[0].shape[:-1], sum(x.columns for x in inputs))
    return graph.add("concatenate", inputs, [(shape, True, f"{label}.concatenate")], label)[0]


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
    """Copy `columns` columns of x from `first` on: the gradient of `concatenate`."""
    shape = (*x.shape[:-1], columns)
    return graph.add("take_columns", (x,), [(shape, True, f"{label}.slice")], label, first=first)[0]
