"""Whether a function is one of symbols: it is called on symbols of a few shapes."""

from __future__ import annotations

from typing import Any

from fastnn.graph.extent import BATCH
from fastnn.graph.graph import Graph
from fastnn.layers.tracing import Place, trace

#: shapes of targets and predictions without the batch axis, which are tried one after the other
_SHAPES = (((3,), (3,)), ((), (3,)), ((4, 3), (4, 3)), ((6, 5, 2), (6, 5, 2)))


def check_of_symbols(loss: Any) -> None:
    """Raise what a loss's function raises on symbols of all shapes that are tried; of several errors the first."""
    first: Exception | None = None
    for targets, predictions in _SHAPES:
        graph = Graph()
        tensors = [graph.placeholder(shape, True, "real", "y") for shape in (targets, predictions)]
        try:
            several, made = trace(Place(graph, loss.name), loss.function, tensors)
            whole = made[0].whole
            if several or not (whole[:1] == (BATCH,) or all(size == 1 for size in whole)):
                raise TypeError(f"it returned {'several results' if several else f'a result of shape {whole}'}")
            return
        except Exception as error:
            first = first or error
    assert first is not None
    raise first
