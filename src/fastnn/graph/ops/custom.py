"""User-defined functions of rows."""

from __future__ import annotations

from collections.abc import Sequence

from fastnn.graph.graph import Graph, Node, Tensor
from fastnn.graph.ops.moves import take_columns
from fastnn.graph.rules import Gradients, gradient


def row_function(
    graph: Graph, x: Tensor, w: Tensor | None, units: Sequence[int], formula: str, label: str
) -> list[Tensor]:
    """Apply a user-defined function to every row of x (..., n), giving for each output rows of some `units` numbers."""
    shape = (*x.shape[:-1], sum(units))
    (y,) = graph.add("row_function", (x, w), [(shape, x.batched, f"{label}.rows")], label, formula=formula)
    if len(units) == 1:
        return [y]
    return [take_columns(graph, y, sum(units[:number]), each, label) for number, each in enumerate(units)]


@gradient("row_function")
def _row_function(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    x, w = node.inputs
    assert x is not None
    outputs = [(x.shape, x.batched, f"{node.label}.dx")]
    if w is not None:
        outputs.append((w.shape, False, f"{node.label}.dw"))
    found = graph.add("row_function_grad", (dy, x, w), outputs, node.label, **node.attrs)
    return found[0] if needs[0] else None, found[1] if needs[1] else None
