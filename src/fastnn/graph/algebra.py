"""Formulas of tensors: what ops are composed of, written with operators.

A `Term` is a tensor of a graph. Operators add nodes; numbers become constants; shapes are broadcast as NumPy's are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastnn.graph.extent import Size
from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.elementwise import activation
from fastnn.graph.ops.pointwise import pointwise
from fastnn.graph.ops.reductions import reduce
from fastnn.graph.ops.strided import reshape


@dataclass(frozen=True, eq=False)
class Term:
    """A tensor of a graph, and the label of the nodes that are made with it."""

    graph: Graph
    tensor: Tensor
    label: str

    def apply(self, function: str, *others: Term | float) -> Term:
        """Apply a function of `pointwise` to this term and others."""
        return self._made(function, self, *others)

    def _made(self, function: str, *operands: Term | float) -> Term:
        values = [each.tensor if isinstance(each, Term) else each for each in operands]
        return Term(self.graph, pointwise(self.graph, function, values, self.label), self.label)

    def __add__(self, other: Term | float) -> Term:
        return self.apply("add", other)

    __radd__ = __add__

    def __sub__(self, other: Term | float) -> Term:
        return self.apply("subtract", other)

    def __rsub__(self, other: float) -> Term:
        return self._made("subtract", other, self)

    def __mul__(self, other: Term | float) -> Term:
        return self.apply("multiply", other)

    __rmul__ = __mul__

    def __truediv__(self, other: Term | float) -> Term:
        return self.apply("divide", other)

    def __neg__(self) -> Term:
        return self.apply("negative")

    def where(self, yes: Term | float, no: Term | float) -> Term:
        """Return `yes` where this is not 0, and `no` elsewhere."""
        return self.apply("where", yes, no)

    def activated(self, formula: str) -> Term:
        """Apply an activation without parameters."""
        return Term(self.graph, activation(self.graph, self.tensor, formula, (), self.label), self.label)

    def reduce(self, kind: str, axes: Sequence[int] | None = None, *, keepdims: bool = False) -> Term:
        """Sum or average over axes; None means all."""
        axes = range(len(self.tensor.whole)) if axes is None else axes
        if not axes:
            return self
        return Term(self.graph, reduce(self.graph, kind, self.tensor, tuple(axes), keepdims, self.label), self.label)

    def last(self, kind: str) -> Term:
        """Sum or average over the last axis, which keeps the size 1."""
        return self.reduce(kind, [len(self.tensor.whole) - 1], keepdims=True)

    def rows(self, kind: str) -> Term:
        """Sum or average over all axes but the last."""
        return self.reduce(kind, range(len(self.tensor.whole) - 1))

    def reshaped(self, whole: Sequence[Size]) -> Term:
        """Return the same elements in another shape."""
        if tuple(whole) == self.tensor.whole:
            return self
        return Term(self.graph, reshape(self.graph, self.tensor, whole, self.label), self.label)


def terms(graph: Graph, label: str, *tensors: Tensor | None) -> list[Term]:
    """Return tensors as terms; none of them may be None."""
    found = []
    for tensor in tensors:
        assert tensor is not None
        found.append(Term(graph, tensor, label))
    return found
