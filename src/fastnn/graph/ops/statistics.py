"""Statistics over axes: compositions of reductions and pointwise functions."""

from __future__ import annotations

import math

from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.pointwise import pointwise
from fastnn.graph.ops.reductions import Axes, axes_of, left_shape, reduce
from fastnn.graph.ops.strided import refuse_integers, reshape, stop_gradient


def var(graph: Graph, x: Tensor, axes: Axes, keepdims: bool, label: str) -> Tensor:
    """Return means of squared distances from the mean, as `numpy.var` does."""
    refuse_integers(x, "var")
    centre = reduce(graph, "mean", x, axes, True, label)
    return reduce(graph, "mean", pointwise(graph, "square", [pointwise(graph, "subtract", [x, centre], label)], label),
                  axes, keepdims, label)  # fmt: skip


def std(graph: Graph, x: Tensor, axes: Axes, keepdims: bool, label: str) -> Tensor:
    """Return roots of variances."""
    return pointwise(graph, "sqrt", [var(graph, x, axes, keepdims, label)], label)


def logsumexp(graph: Graph, x: Tensor, axes: Axes, keepdims: bool, label: str) -> Tensor:
    """Return log(sum(exp(x))): the greatest value is subtracted first, unless it is infinite."""
    refuse_integers(x, "logsumexp")
    most = stop_gradient(graph, reduce(graph, "max", x, axes, True, label), label)
    shift = pointwise(graph, "where", [pointwise(graph, "isfinite", [most], label), most, 0.0], label)
    powers = pointwise(graph, "exp", [pointwise(graph, "subtract", [x, shift], label)], label)
    total = pointwise(graph, "log", [reduce(graph, "sum", powers, axes, True, label)], label)
    found = pointwise(graph, "add", [total, shift], label)
    left = left_shape(x.whole, axes_of(axes, len(x.whole), "logsumexp"), keepdims)
    return reshape(graph, found, left, label)


def norm(graph: Graph, x: Tensor, order: float | None, axes: Axes, keepdims: bool, label: str) -> Tensor:
    """Return norms of vectors: the order is 1, 2 (the default) or infinity.

    Raises
    ------
    ValueError
        For another order.
    """
    refuse_integers(x, "norm")
    if order is None or order == 2:
        squares = reduce(graph, "sum", pointwise(graph, "square", [x], label), axes, keepdims, label)
        return pointwise(graph, "sqrt", [squares], label)
    if order not in (1, math.inf):
        raise ValueError(f"norm: ord: expected 1, 2 or infinity, got {order!r}")
    sizes = pointwise(graph, "absolute", [x], label)
    return reduce(graph, "sum" if order == 1 else "max", sizes, axes, keepdims, label)
