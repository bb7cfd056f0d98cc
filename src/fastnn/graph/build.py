"""The op constructors that layers and gradient rules use, each with its shape rule.

Layers check the shapes before (their errors can name the layer).
"""

from __future__ import annotations

from collections.abc import Sequence

from fastnn.graph.graph import Graph, Output, Tensor

# Activations whose formula works on whole rows have separate ops.
ROWWISE = ("softmax", "log_softmax")


def _like(graph: Graph, op: str, inputs: Sequence[Tensor | None], label: str, **attrs: object) -> Tensor:
    """Add a node with one output of the first input's shape."""
    first = inputs[0]
    assert first is not None
    (y,) = graph.add(op, inputs, [(first.shape, first.batched, f"{label}.{op}")], label, **attrs)
    return y


def matmul(graph: Graph, x: Tensor, w: Tensor, label: str) -> Tensor:
    """Multiply x (..., k) by w (k, n)."""
    shape = (*x.shape[:-1], w.shape[1])
    return graph.add("matmul", (x, w), [(shape, x.batched, f"{label}.matmul")], label)[0]


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
    return _like(graph, "bias_add", (x, bias), label)


def sum_rows(graph: Graph, dy: Tensor, label: str) -> Tensor:
    """Sum dy (rows, n) over its rows."""
    return graph.add("sum_rows", (dy,), [((dy.columns,), False, f"{label}.dbias")], label)[0]


def row_function(graph: Graph, x: Tensor, w: Tensor | None, units: int, formula: str, label: str) -> Tensor:
    """Apply a user-defined function to every row of x (..., n), giving rows of `units` numbers."""
    shape = (*x.shape[:-1], units)
    return graph.add("row_function", (x, w), [(shape, x.batched, f"{label}.rows")], label, formula=formula)[0]


def activation(graph: Graph, x: Tensor, formula: str, parameters: tuple[float, ...], label: str) -> Tensor:
    """Apply an activation by the name of its formula."""
    if formula == "linear":
        return x
    if formula in ROWWISE:
        return _like(graph, formula, (x,), label)
    return _like(graph, "activation", (x,), label, formula=formula, parameters=parameters)


def elementwise(graph: Graph, op: str, inputs: Sequence[Tensor], label: str) -> Tensor:
    """Add or multiply tensors of one shape, from left to right."""
    total = inputs[0]
    for other in inputs[1:]:
        total = _like(graph, op, (total, other), label)
    return total


def dropout(graph: Graph, x: Tensor, rate: float, stream: int, label: str) -> Tensor:
    """Drop elements at random and scale the others; `stream` separates the random numbers of nodes."""
    return _like(graph, "dropout", (x,), label, rate=rate, stream=stream)


def gaussian_noise(graph: Graph, x: Tensor, stddev: float, stream: int, label: str) -> Tensor:
    """Add normal noise."""
    return _like(graph, "gaussian_noise", (x,), label, stddev=stddev, stream=stream)


def reshape(graph: Graph, x: Tensor, shape: Sequence[int], label: str) -> Tensor:
    """View the elements of a sample in another shape; costs nothing."""
    return graph.add("reshape", (x,), [(shape, x.batched, f"{label}.reshape", x.kind)], label)[0]


def one_hot(graph: Graph, index: Tensor, depth: int, label: str) -> Tensor:
    """Make rows of `depth` numbers, 1 at the place of each integer and 0 elsewhere."""
    shape = (*index.shape, depth)
    return graph.add("one_hot", (index,), [(shape, index.batched, f"{label}.one_hot")], label)[0]


def concatenate(graph: Graph, inputs: Sequence[Tensor], label: str) -> Tensor:
    """Join tensors along the last axis."""
    shape = (*inputs[0].shape[:-1], sum(x.columns for x in inputs))
    return graph.add("concatenate", inputs, [(shape, True, f"{label}.concatenate")], label)[0]


def take_columns(graph: Graph, x: Tensor, first: int, columns: int, label: str) -> Tensor:
    """Copy `columns` columns of x from `first` on: the gradient of `concatenate`."""
    shape = (*x.shape[:-1], columns)
    return graph.add("take_columns", (x,), [(shape, True, f"{label}.slice")], label, first=first)[0]


def normalize_weights(graph: Graph, weight: Tensor, label: str) -> Tensor:
    """Scale a batch's weights to the mean 1."""
    return _like(graph, "normalize_weights", (weight,), label)


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
    ]
    op = "batch_norm" if training else "batch_norm_inference"
    return graph.add(op, (x, gamma, beta, *moving), outputs, label, epsilon=epsilon, momentum=momentum)[0]
