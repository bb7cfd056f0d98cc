"""Graph rewriting before emission: dead nodes are removed, chains that fit one record become one node."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from fastnn.formulas.activations import CLIPS, saved_by
from fastnn.graph.graph import Node, Tensor
from fastnn.graph.ops.norms import in_chunks
from fastnn.program.opcodes import OPS

_KEEPING = frozenset(name for name, op in OPS.items() if op.keeps_state)


def live_nodes(nodes: Sequence[Node], kept: Iterable[int]) -> list[Node]:
    """Drop nodes that neither an effect nor a kept tensor depends on.

    A node without outputs has an effect, and so has one that keeps a state.
    """
    needed = set(kept)
    alive = []
    for node in reversed(nodes):
        if not node.outputs or node.op in _KEEPING or any(y.id in needed for y in node.outputs):
            needed.update(x.id for x in node.inputs if x is not None)
            alive.append(node)
    return alive[::-1]


@dataclass
class _Uses:
    count: Counter[int]
    consumers: dict[int, list[Node]]

    @classmethod
    def of(cls, nodes: Sequence[Node], kept: Iterable[int]) -> _Uses:
        uses = cls(Counter(kept), {})
        for node in nodes:
            for x in node.inputs:
                if x is not None:
                    uses.count[x.id] += 1
                    uses.consumers.setdefault(x.id, []).append(node)
        return uses

    def only(self, tensor: Tensor, op: str) -> Node | None:
        """Return the tensor's user if it is a single node of this op."""
        consumers = self.consumers.get(tensor.id, [])
        return consumers[0] if self.count[tensor.id] == len(consumers) == 1 and consumers[0].op == op else None


def fuse(nodes: Sequence[Node], kept: Iterable[int]) -> tuple[list[Node], list[str]]:
    """Merge matmul or convolution + bias + activation, the activation's gradient into the one backwards, and others.

    Parameters
    ----------
    nodes : sequence of Node
        Live nodes in order.
    kept : iterable of int
        Ids of tensors that are used outside the graph.

    Returns
    -------
    nodes, descriptions
        The merged node is at the position of its first part. Its inputs are ready there: a bias or a saved tensor
        joins a matmul only if it is older.
    """
    uses = _Uses.of(nodes, kept)
    position = {y.id: index for index, node in enumerate(nodes) for y in node.outputs}
    swallowed: set[int] = set()
    fused, notes = [], []
    for index, node in enumerate(nodes):
        if id(node) in swallowed:
            continue
        parts = [node]
        if node.op in ("matmul", "conv"):
            node, parts = _forward(node, uses, position, index)
        elif node.op == "conv_back":
            node, parts = _transposed(node, uses, position, index)
        elif node.op == "max_pool_grad":
            node, parts = _pooled(node, uses)
        elif node.op == "matmul_nt":
            node, parts = _backward(node, uses, position, index)
        elif node.op in ("batch_norm", "batch_norm_inference"):
            node, parts = _normalized(node, uses, position, index)
        swallowed.update(id(part) for part in parts[1:])
        if len(parts) > 1:
            notes.append(f"{node.label}: {' + '.join(part.op for part in parts)}")
        fused.append(node)
    return fused, notes


def _forward(node: Node, uses: _Uses, position: dict[int, int], index: int, only: str = "") -> tuple[Node, list[Node]]:
    """Merge a product with a bias and an activation; of activations `only` one, if it is given."""
    parts = [node]
    bias = uses.only(node.outputs[0], "bias_add")
    if bias is not None and bias.inputs[0] is node.outputs[0] and _older(bias.inputs[1], position, index):
        parts.append(bias)
        node = replace(node, inputs=(*node.inputs, bias.inputs[1]), outputs=bias.outputs)
    result = node.outputs[0]
    mapped = [user for user in uses.consumers.get(result.id, []) if user.op == "activation"]
    others = [user for user in uses.consumers.get(result.id, []) if user.op != "activation"]
    if len(mapped) != 1 or uses.count[result.id] != 1 + len(others):
        return node, parts
    if only and mapped[0].attrs["formula"] != only:
        return node, parts
    saves_input = saved_by(mapped[0].attrs["formula"]) == "input"
    if others and not (saves_input and all(user.op == "activation_grad" for user in others)):
        return node, parts
    parts.append(mapped[0])
    outputs = (*mapped[0].outputs, result) if others else mapped[0].outputs
    return replace(node, outputs=outputs, attrs={**node.attrs, **mapped[0].attrs, "map": "forward"}), parts


def _transposed(node: Node, uses: _Uses, position: dict[int, int], index: int) -> tuple[Node, list[Node]]:
    """Merge a transposed convolution with relu's gradient, or with a bias and relu, which it applies in registers."""
    made, parts = _backward(node, uses, position, index, "relu")
    return (made, parts) if len(parts) > 1 else _forward(node, uses, position, index, "relu")


def _normalized(node: Node, uses: _Uses, position: dict[int, int], index: int) -> tuple[Node, list[Node]]:
    """Merge batch normalisation with what is added to it, if it has a pass of its own, and with relu or relu6."""
    parts = [node]
    added = uses.only(node.outputs[0], "add") if node.op == "batch_norm" and in_chunks(node) else None
    if added is not None:
        (other,) = (x for x in added.inputs if x is not node.outputs[0])
        if _older(other, position, index):
            parts.append(added)
            node = replace(node, inputs=(*node.inputs, other), outputs=(*added.outputs, *node.outputs[1:]))
    mapped = uses.only(node.outputs[0], "activation")
    if mapped is not None and mapped.attrs["formula"] in CLIPS:
        parts.append(mapped)
        attrs = {**node.attrs, "formula": mapped.attrs["formula"]}
        node = replace(node, outputs=(*mapped.outputs, *node.outputs[1:]), attrs=attrs)
    return node, parts


def _pooled(node: Node, uses: _Uses) -> tuple[Node, list[Node]]:
    """Merge the gradient of max pooling with that of relu, which made the maps that were pooled."""
    gradient = uses.only(node.outputs[0], "activation_grad")
    if gradient is None or gradient.attrs["formula"] != "relu" or gradient.inputs != (node.outputs[0], node.inputs[1]):
        return node, [node]
    attrs = {**node.attrs, "rectify": True}
    return replace(node, outputs=gradient.outputs, attrs=attrs), [node, gradient]


def _backward(node: Node, uses: _Uses, position: dict[int, int], index: int, only: str = "") -> tuple[Node, list[Node]]:
    """Merge a product with an activation's gradient; of activations `only` one, if it is given."""
    gradient = uses.only(node.outputs[0], "activation_grad")
    if gradient is None or gradient.inputs[0] is not node.outputs[0]:
        return node, [node]
    if only and gradient.attrs["formula"] != only:
        return node, [node]
    saved = gradient.inputs[1]
    if not _older(saved, position, index):
        return node, [node]
    attrs = {**node.attrs, **gradient.attrs, "map": "gradient"}
    made = replace(node, inputs=(*node.inputs, None, saved), outputs=gradient.outputs, attrs=attrs)
    return made, [node, gradient]


def _older(tensor: Tensor | None, position: dict[int, int], index: int) -> bool:
    """Return whether a tensor is ready where a node is."""
    return tensor is not None and position.get(tensor.id, -1) < index
