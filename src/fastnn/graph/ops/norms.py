"""Normalisation of rows, and of columns over the batch."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from fastnn.graph.graph import Graph, Node, Output, Tensor
from fastnn.graph.rules import Gradients, gradient


def layer_norm(
    graph: Graph, x: Tensor, gamma: Tensor | None, beta: Tensor | None, epsilon: float, label: str
) -> Tensor:
    """Normalise every row to mean 0 and variance 1; keeps mean and 1/std for the gradient."""
    rows = x.shape[:-1]
    outputs: list[Output] = [
        (x.shape, True, f"{label}.y"),
        (rows, True, f"{label}.mean", "float64"),
        (rows, True, f"{label}.rstd"),
    ]
    return graph.add("layer_norm", (x, gamma, beta), outputs, label, epsilon=epsilon)[0]


@gradient("layer_norm", unbounded="layer_norm")
def _layer_norm(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    x, gamma, _ = node.inputs
    _, mean, rstd = node.outputs
    assert x is not None
    dx = dgamma = dbeta = None
    if needs[0]:
        dx = graph.like("layer_norm_grad", (dy, x, gamma, mean, rstd), node.label)
    if needs[1] or needs[2]:
        columns = (x.columns,)
        outputs = [(columns, False, f"{node.label}.dgamma"), (columns, False, f"{node.label}.dbeta")]
        dgamma, dbeta = graph.add("layer_norm_param_grad", (dy, x, mean, rstd), outputs, node.label)
    return dx, dgamma if needs[1] else None, dbeta if needs[2] else None


def rms_norm(graph: Graph, x: Tensor, gamma: Tensor | None, epsilon: float, label: str) -> Tensor:
    """Divide every row by the root of its mean square; keeps 1/root for the gradient."""
    outputs = [(x.shape, True, f"{label}.y"), (x.shape[:-1], True, f"{label}.rstd")]
    return graph.add("rms_norm", (x, gamma), outputs, label, epsilon=epsilon)[0]


@gradient("rms_norm", unbounded="rms_norm")
def _rms_norm(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    x, gamma = node.inputs
    rstd = node.outputs[1]
    assert x is not None
    dx = dgamma = None
    if needs[0]:
        dx = graph.like("rms_norm_grad", (dy, x, gamma, rstd), node.label)
    if needs[1]:
        outputs = [((x.columns,), False, f"{node.label}.dgamma")]
        (dgamma,) = graph.add("rms_norm_param_grad", (dy, x, rstd), outputs, node.label)
    return dx, dgamma


# Samples with many rows are summed in chunks of rows, so that threads can share columns that are few. Their number
# depends on the shape of a sample alone: results are the same on any number of threads, and records on any batch size.
_MOST_CHUNKS, _CHUNK_ROWS, _FEW_COLUMNS = 64, 16, 512


def _chunks(x: Tensor) -> int:
    """Return into how many chunks of rows sums of columns are cut; 1 if they are not."""
    rows = prod(x.shape[:-1]) if x.batched else 1
    if not isinstance(rows, int) or not isinstance(x.columns, int) or x.columns >= _FEW_COLUMNS:
        return 1
    return max(1, min(_MOST_CHUNKS, rows // _CHUNK_ROWS))


def in_chunks(node: Node) -> bool:
    """Return whether batch normalisation, or its gradient, cuts sums of columns into chunks of rows."""
    sums = node.outputs[3]
    return bool(sums.shape[0] > 1)


def _sums(x: Tensor, label: str) -> Output:
    """Describe two sums of each column for each chunk of rows."""
    return (_chunks(x), 2, x.columns), False, f"{label}.sums", "float64"


def batch_norm(
    graph: Graph,
    x: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    moving: tuple[Tensor, Tensor],
    *,
    epsilon: float,
    momentum: float,
    training: bool,
    label: str,
) -> Tensor:
    """Normalise every column, with the batch's statistics in training and the moving ones otherwise."""
    columns = (x.columns,)
    outputs: list[Output] = [
        (x.shape, True, f"{label}.y"),
        (columns, False, f"{label}.mean", "float64"),
        (columns, False, f"{label}.rstd"),
        _sums(x, label),
    ]
    op = "batch_norm" if training else "batch_norm_inference"
    return graph.add(op, (x, gamma, beta, *moving), outputs, label, epsilon=epsilon, momentum=momentum)[0]


@gradient("batch_norm", "batch_norm_inference", unbounded="batch_norm")
def _batch_norm(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    x, gamma = node.inputs[:2]
    _, mean, rstd, _ = node.outputs
    assert x is not None
    columns = (x.columns,)
    outputs: list[Output] = [
        (x.shape, True, f"{node.label}.dx"),
        (columns, False, f"{node.label}.dgamma"),
        (columns, False, f"{node.label}.dbeta"),
        _sums(x, node.label),
        ((2, x.columns), False, f"{node.label}.means", "float64"),
    ]
    dx, dgamma, dbeta, *_ = graph.add(f"{node.op}_grad", (dy, x, gamma, mean, rstd), outputs, node.label)
    found = (dx, dgamma, dbeta, None, None)
    return tuple(gradient if need else None for gradient, need in zip(found, (*needs[:3], False, False), strict=True))
