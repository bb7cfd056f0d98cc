"""Gradients of reductions that are no sums: largest and smallest entries, products."""

from __future__ import annotations

from collections.abc import Sequence

from fastnn.graph.graph import Graph, Node, Tensor
from fastnn.graph.ops.pointwise import pointwise
from fastnn.graph.ops.reductions import kept, reduce
from fastnn.graph.ops.scans import cumprod
from fastnn.graph.ops.strided import reshape
from fastnn.graph.rules import Gradients, gradient


@gradient("reduce_max", "reduce_min")
def _extremum(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    """Share the gradient evenly among equal extrema, as JAX and TensorFlow do."""
    (x,), label = node.inputs, node.label
    assert x is not None
    best = pointwise(graph, "equal", (x, kept(graph, node, node.outputs[0])), label)
    axes = [axis for axis, size in enumerate(node.attrs["kept"]) if size == 1]
    shared = pointwise(graph, "divide", (kept(graph, node, dy), reduce(graph, "sum", best, axes, True, label)), label)
    return (pointwise(graph, "multiply", (best, shared), label),)


@gradient("reduce_prod")
def _product(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    """Multiply by the entries before and after each: no division, so that entries may be zero."""
    (x,), label = node.inputs, node.label
    assert x is not None
    # one axis for those that are reduced
    rows = reshape(graph, x, (node.attrs["outer"], node.attrs["repeat"], node.attrs["inner"]), label)
    before = cumprod(graph, rows, 1, label, exclusive=True)
    after = cumprod(graph, rows, 1, label, reverse=True, exclusive=True)
    others = reshape(graph, pointwise(graph, "multiply", (before, after), label), x.whole, label)
    return (pointwise(graph, "multiply", (others, kept(graph, node, dy)), label),)
