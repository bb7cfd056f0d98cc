"""Tensors, nodes and graphs: the computation, with static shapes and an open batch size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastnn.graph.extent import BATCH, Size

# sizes are numbers in all tensors but those in which the batch is an axis like others
Shape = tuple[Any, ...]
#: an output of a node: shape, batched flag, name, and the kind if it is not "real"
Output = tuple[Sequence[Any], bool, str] | tuple[Sequence[Any], bool, str, str]


@dataclass(frozen=True)
class Tensor:
    """A value of a graph.

    Attributes
    ----------
    id : int
        Its number in the graph.
    shape : tuple of int
        Its shape, without the leading batch axis when `batched`. A size may be an `Extent`, which depends on the batch.
    batched : bool
        Whether a batch axis comes before `shape`.
    kind : {"real", "int64", "float64"}
        "real" is the dtype that the program is lowered for.
    """

    id: int
    shape: Shape
    batched: bool
    kind: str
    name: str

    @property
    def size(self) -> Any:
        """The number of elements (of one sample when batched)."""
        size: Size = 1
        for extent in self.shape:
            size *= extent
        return size

    @property
    def columns(self) -> Any:
        """The last axis' extent, 1 for a scalar."""
        return self.shape[-1] if self.shape else 1

    @property
    def whole(self) -> Shape:
        """The shape with the batch axis, of size `BATCH`."""
        return (BATCH, *self.shape) if self.batched else self.shape


def output(whole: Sequence[Size], name: str, kind: str = "real") -> Output:
    """Describe an output by its shape with the batch axis: it is batched if that is the first one."""
    batched = bool(whole) and whole[0] == BATCH
    return tuple(whole[batched:]), batched, name, kind


@dataclass(frozen=True)
class Node:
    """One operation: an op, tensors in and out, attributes, and the layer that it came from."""

    op: str
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    attrs: Mapping[str, Any]
    label: str


@dataclass
class Graph:
    """Nodes in an order in which they can be computed; adding a node needs its inputs, so no cycle can arise."""

    nodes: list[Node] = field(default_factory=list)
    inputs: list[Tensor] = field(default_factory=list)
    parameters: list[Tensor] = field(default_factory=list)
    _count: int = 0
    _producers: dict[int, Node] = field(default_factory=dict)

    @classmethod
    def continued(cls, nodes: Sequence[Node], count: int) -> Graph:
        """Return a graph with the nodes of another one, whose tensors have numbers below `count`."""
        made = cls(list(nodes), _count=count)
        made._producers = {y.id: node for node in nodes for y in node.outputs}
        return made

    @property
    def count(self) -> int:
        """The number of the next tensor."""
        return self._count

    def _tensor(self, shape: Sequence[int], batched: bool, kind: str, name: str) -> Tensor:
        tensor = Tensor(self._count, tuple(shape), batched, kind, name)
        self._count += 1
        return tensor

    def input(self, shape: Sequence[int], name: str, kind: str = "real", *, batched: bool = True) -> Tensor:
        """Add an input (features, targets or sample weights); without a batch axis it cannot be gathered."""
        tensor = self._tensor(shape, batched, kind, name)
        self.inputs.append(tensor)
        return tensor

    def parameter(self, shape: Sequence[int], name: str) -> Tensor:
        """Add a parameter, which has no batch axis."""
        tensor = self._tensor(shape, False, "real", name)
        self.parameters.append(tensor)
        return tensor

    def placeholder(self, shape: Sequence[Any], batched: bool, kind: str, name: str) -> Tensor:
        """Add a value that nothing computes, in a graph that serves to find shapes."""
        return self._tensor(shape, batched, kind, name)

    def add(
        self,
        op: str,
        inputs: Sequence[Tensor | None],
        outputs: Sequence[Output],
        label: str,
        **attrs: Any,
    ) -> tuple[Tensor, ...]:
        """Add a node; `outputs` lists the shape, batched flag, name and kind ("real" if omitted) of each output."""
        tensors = tuple(
            self._tensor(shape, batched, kind[0] if kind else "real", name) for shape, batched, name, *kind in outputs
        )
        node = Node(op, tuple(inputs), tensors, attrs, label)
        self.nodes.append(node)
        for tensor in tensors:
            self._producers[tensor.id] = node
        return tensors

    def like(self, op: str, inputs: Sequence[Tensor | None], label: str, **attrs: Any) -> Tensor:
        """Add a node with one output, of the first input's shape."""
        first = inputs[0]
        assert first is not None
        (y,) = self.add(op, inputs, [(first.shape, first.batched, f"{label}.{op}")], label, **attrs)
        return y

    def producer(self, tensor: Tensor) -> Node | None:
        """Return the node that computes a tensor, or None for inputs and parameters."""
        return self._producers.get(tensor.id)
