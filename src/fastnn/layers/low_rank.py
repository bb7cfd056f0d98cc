"""Low-rank updates of weights, and the layers whose weights may have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.dense import matmul
from fastnn.graph.ops.elementwise import elementwise
from fastnn.graph.ops.indexing import take
from fastnn.graph.ops.pointwise import pointwise
from fastnn.layers.base import Layer, Scope
from fastnn.layers.symbols import Symbol


@dataclass(frozen=True)
class LowRank:
    """The update ``scale * a @ b`` of a weight of some inputs and outputs: a (inputs, rank), b (rank, outputs).

    The product of a and b is never computed: rows are first multiplied by a, then by b.
    """

    a: Tensor
    b: Tensor
    scale: float

    def of_product(self, graph: Graph, y: Tensor, x: Tensor, label: str) -> Tensor:
        """Return the product y of rows x and a weight, updated."""
        return self._added(graph, y, matmul(graph, x, self.a, label), label)

    def of_rows(self, graph: Graph, y: Tensor, index: Tensor, label: str) -> Tensor:
        """Return the rows y of a table at an index, updated."""
        return self._added(graph, y, take(graph, self.a, index, 0, label), label)

    def _added(self, graph: Graph, y: Tensor, narrow: Tensor, label: str) -> Tensor:
        if self.scale != 1.0:
            narrow = pointwise(graph, "multiply", [narrow, self.scale], label)
        return elementwise(graph, "add", [y, matmul(graph, narrow, self.b, label)], label)


class Adaptable(Layer):
    """A layer that multiplies by weights, or looks up their rows, and may do so with low-rank updates of them."""

    #: the names of these weights, some of which a call may not have; their last axes beyond `inputs_of` are of outputs
    adaptable: ClassVar[tuple[str, ...]]

    def gathered(self, inputs: Any) -> Symbol | Sequence[Symbol]:
        """Return the symbols that a call is on, for the arguments of the call."""
        found: Symbol | Sequence[Symbol] = inputs
        return found

    def inputs_of(self, name: str) -> int:
        """Return how many axes of a weight, the first ones, are those of inputs."""
        return 1

    def adapted(
        self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], updates: Mapping[str, LowRank],
        scope: Scope,
    ) -> Tensor | Sequence[Tensor]:  # fmt: skip
        """Add the layer's nodes to a graph, with updates of weights by their names."""
        raise NotImplementedError

    def apply(
        self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope
    ) -> Tensor | Sequence[Tensor]:
        return self.adapted(graph, inputs, weights, {}, scope)
