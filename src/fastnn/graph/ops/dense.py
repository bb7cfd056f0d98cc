"""Products with weights, and biases."""

from __future__ import annotations

from collections.abc import Sequence

from fastnn.graph.graph import Graph, Node, Tensor
from fastnn.graph.rules import Gradients, gradient


def matmul(graph: Graph, x: Tensor, w: Tensor, label: str) -> Tensor:
    """Multiply x (..., k) by w (k, n)."""
    shape = (*x.shape[:-1], w.shape[1])
    return graph.add("matmul", (x, w), [(shape, x.batched, f"{label}.matmul")], label)[0]


@gradient("matmul", unbounded="linear")
def _matmul(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    x, w = node.inputs
    assert x is not None and w is not None
    dw = matmul_tn(graph, x, dy, node.label) if needs[1] else None
    return matmul_nt(graph, dy, w, node.label) if needs[0] else None, dw


def matmul_nt(graph: Graph, dy: Tensor, w: Tensor, label: str) -> Tensor:
    """Multiply dy (..., n) by the transpose of w (k, n): the gradient of `matmul` for x."""
    shape = (*dy.shape[:-1], w.shape[0])
    return graph.add("matmul_nt", (dy, w), [(shape, dy.batched, f"{label}.dx")], label)[0]


def matmul_tn(graph: Graph, x: Tensor, dy: Tensor, label: str) -> Tensor:
    """Multiply the transpose of x (rows, k) by dy (rows, n): the gradient of `matmul` for w."""
    shape = (x.shape[-1], dy.shape[-1])
    return graph.add("matmul_tn", (x, dy), [(shape, False, f"{label}.dkernel")], label)[0]


def bias_add(graph: Graph, x: Tensor, bias: Tensor, label: str) -> Tensor:
    """Add bias (n,) to every row of x (..., n)."""
    return graph.like("bias_add", (x, bias), label)


@gradient("bias_add", unbounded="linear")
def _bias_add(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    return dy, sum_rows(graph, dy, node.label) if needs[1] else None


def sum_rows(graph: Graph, dy: Tensor, label: str) -> Tensor:
    """Sum dy (rows, n) over its rows."""
    return graph.add("sum_rows", (dy,), [((dy.columns,), False, f"{label}.dbias")], label)[0]
