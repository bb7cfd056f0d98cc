"""Products of vectors and matrices, with NumPy's rules; the batch axis is axis 0."""

from __future__ import annotations

from fastnn.graph.graph import Tensor
from fastnn.graph.ops import contractions, products
from fastnn.layers.tracing import Place
from fastnn.ops.definition import Operand, op

__all__ = ["dot", "einsum", "matmul", "outer"]


@op()
def matmul(place: Place, x: Operand, y: Operand) -> Tensor:
    """Return the products of the matrices in the last two axes; axes before these are broadcast."""
    return products.matmul(place.graph, place.tensor(x), place.tensor(y), place.label)


@op()
def dot(place: Place, x: Operand, y: Operand) -> Tensor:
    """Return the product over the last axis of x and the last but one of y (the only one of a vector)."""
    return contractions.dot(place.graph, place.tensor(x), place.tensor(y), place.label)


@op()
def outer(place: Place, x: Operand, y: Operand) -> Tensor:
    """Return the products of all pairs of elements, as a matrix."""
    return contractions.outer(place.graph, place.tensor(x), place.tensor(y), place.label)


@op()
def einsum(place: Place, subscripts: str, *operands: Operand) -> Tensor:
    """Return a sum of products in Einstein's notation, of one or two operands: ``einsum("bij,bkj->bik", x, y)``."""
    return contractions.einsum(place.graph, subscripts, [place.tensor(x) for x in operands], place.label)
