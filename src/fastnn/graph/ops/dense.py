"""Products with weights, biases, and products of matrices that are both computed."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

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


def batched_matmul(
    graph: Graph,
    a: Tensor,
    b: Tensor,
    label: str,
    *,
    transpose_a: bool = False,
    transpose_b: bool = False,
    scale: float = 1.0,
) -> Tensor:
    """Multiply the matrices of a (..., m, k) by those of b (..., k, n), in every sample; `scale` is a factor.

    A flag says that the last two axes of an operand are in the other order.
    """
    *leading, m, k = a.shape
    m, k = (k, m) if transpose_a else (m, k)
    n = b.shape[-2 if transpose_b else -1]
    sizes = {"count": prod(leading), "m": m, "n": n, "k": k}
    shape = (*leading, m, n)
    return graph.add(
        "batched_matmul", (a, b), [(shape, True, f"{label}.matmul")], label,
        transpose_a=transpose_a, transpose_b=transpose_b, scale=scale, **sizes,
    )[0]  # fmt: skip


@gradient("batched_matmul", unbounded="matmul")
def _batched_matmul(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    a, b = node.inputs
    assert a is not None and b is not None
    ta, tb = node.attrs["transpose_a"], node.attrs["transpose_b"]

    def product(x: Tensor, y: Tensor, transpose_x: bool, transpose_y: bool) -> Tensor:
        return batched_matmul(
            graph, x, y, node.label, transpose_a=transpose_x, transpose_b=transpose_y, scale=node.attrs["scale"]
        )

    da = db = None
    if needs[0]:
        da = product(b, dy, tb, True) if ta else product(dy, b, False, not tb)
    if needs[1]:
        db = product(dy, a, True, ta) if tb else product(a, dy, not ta, False)
    return da, db
