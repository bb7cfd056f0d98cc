"""Sums, means, extremes and the like, over any axes; the batch axis is axis 0."""

from __future__ import annotations

from fastnn.graph.graph import Tensor
from fastnn.graph.ops import reductions, scans, statistics, strided
from fastnn.layers.tracing import Place
from fastnn.ops.definition import Operand, op

__all__ = [
    "argmax",
    "argmin",
    "cumsum",
    "logsumexp",
    "max",
    "mean",
    "min",
    "norm",
    "prod",
    "std",
    "sum",
    "top_k",
    "var",
]

#: one axis, several, or None for all
Axes = int | tuple[int, ...] | None


@op()
def sum(place: Place, x: Operand, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Return sums over axes (all of them by default), with axes of size 1 in their place if `keepdims` is set."""
    return reductions.reduce(place.graph, "sum", place.tensor(x), axis, keepdims, place.label)


@op()
def mean(place: Place, x: Operand, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Return means over axes."""
    return reductions.reduce(place.graph, "mean", place.tensor(x), axis, keepdims, place.label)


@op()
def max(place: Place, x: Operand, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Return the greatest values over axes; equal ones share the gradient."""
    return reductions.reduce(place.graph, "max", place.tensor(x), axis, keepdims, place.label)


@op()
def min(place: Place, x: Operand, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Return the least values over axes; equal ones share the gradient."""
    return reductions.reduce(place.graph, "min", place.tensor(x), axis, keepdims, place.label)


@op()
def prod(place: Place, x: Operand, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Return products over axes."""
    return reductions.reduce(place.graph, "prod", place.tensor(x), axis, keepdims, place.label)


@op()
def var(place: Place, x: Operand, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Return variances over axes: means of squared distances from the mean."""
    return statistics.var(place.graph, place.tensor(x), axis, keepdims, place.label)


@op()
def std(place: Place, x: Operand, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Return standard deviations over axes: roots of variances."""
    return statistics.std(place.graph, place.tensor(x), axis, keepdims, place.label)


@op(numpy="scipy.special.logsumexp")
def logsumexp(place: Place, x: Operand, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Return log(sum(exp(x))) over axes, without overflow."""
    return statistics.logsumexp(place.graph, place.tensor(x), axis, keepdims, place.label)


@op(numpy="linalg.norm")
def norm(place: Place, x: Operand, ord: int | float | None = None, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Return norms of vectors over axes: `ord` is 1, 2 (the default) or infinity.

    The gradient of the norm 2 of a zero vector is NaN, as that of the root of 0 is infinite.
    """
    return statistics.norm(place.graph, place.tensor(x), ord, axis, keepdims, place.label)


@op()
def cumsum(place: Place, x: Operand, axis: int = -1) -> Tensor:
    """Return running sums along an axis."""
    return scans.cumsum(place.graph, place.tensor(x), axis, place.label)


@op()
def argmax(place: Place, x: Operand, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Return the places of the greatest values along an axis (default: all), as integers; the first of equal ones."""
    return scans.argmax(place.graph, place.tensor(x), axis, keepdims, place.label)


@op()
def argmin(place: Place, x: Operand, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Return the places of the least values along an axis (default: all), as integers; the first of equal ones."""
    return scans.argmin(place.graph, place.tensor(x), axis, keepdims, place.label)


@op(numpy="")
def top_k(place: Place, x: Operand, k: int, axis: int = -1) -> tuple[Tensor, Tensor]:
    """Return the k greatest values along an axis in descending order, and their places; of equal ones the first."""
    value = place.tensor(x)
    rank = len(value.whole)
    at = strided.axis_of(axis, rank, "top_k")
    if at == rank - 1:
        return scans.top_k(place.graph, value, k, place.label)
    turned = strided.swapaxes(place.graph, value, at, rank - 1, place.label)
    values, places = scans.top_k(place.graph, turned, k, place.label)
    back = [strided.swapaxes(place.graph, one, at, rank - 1, place.label) for one in (values, places)]
    return back[0], back[1]
