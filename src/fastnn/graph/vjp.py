"""Vector-Jacobian products: the walk back through nodes, which applies the rule of every op.

`composed` registers the rule of an op whose outputs can also be computed by other ops: the walk through those. So the
gradient ops of activations and normalisations have gradients, and these have gradients again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence

from fastnn.graph.graph import Graph, Node, Tensor
from fastnn.graph.ops.moves import add_up
from fastnn.graph.rules import RULES, Gradients, NoGradientError, gradient_of_outputs

#: Adds nodes that compute a node's outputs from its inputs by ops that have rules; None for what nothing depends on.
Compose = Callable[[Graph, Node], Sequence[Tensor | None]]


def walk(
    graph: Graph, nodes: Sequence[Node], seeds: Iterable[tuple[Tensor, Tensor]], wanted: Collection[int]
) -> dict[int, list[Tensor]]:
    """Add the gradients of some nodes, from the last one to the first.

    Parameters
    ----------
    nodes : sequence of Node
        In order; they may hold gradients themselves.
    seeds : iterable of (tensor, gradient)
        Tensors whose gradients are given.
    wanted : collection of int
        Ids of the tensors whose gradients are needed.

    Returns
    -------
    dict
        For the id of each tensor that a gradient reaches the tensors whose sum is its gradient.

    Raises
    ------
    NoGradientError
        When a wanted tensor is before an op, or an output of an op, without a gradient.
    """
    needed = set(wanted)
    nodes = list(nodes)
    for node in nodes:
        if any(x is not None and x.id in needed for x in node.inputs):
            needed.update(y.id for y in node.outputs)
    gradients: dict[int, list[Tensor]] = defaultdict(list)
    for tensor, seed in seeds:
        gradients[tensor.id].append(seed)
    for node in reversed(nodes):
        of_outputs = [gradients.get(y.id) for y in node.outputs]
        needs = [x is not None and x.id in needed for x in node.inputs]
        if not any(of_outputs) or not any(needs):
            continue
        rule = RULES.of(node.op)
        if rule is None:
            raise NoGradientError(f"layer {node.label!r}: {node.op!r} has no gradient")
        dys = [add_up(graph, parts, node.label) if parts else None for parts in of_outputs]
        for x, dx, need in zip(node.inputs, rule(graph, node, dys, needs), needs, strict=True):
            if x is not None and dx is not None and need:
                gradients[x.id].append(dx)
    return gradients


def pulled_back(
    graph: Graph,
    start: int,
    outputs: Sequence[Tensor | None],
    dys: Gradients,
    inputs: Sequence[Tensor | None],
    label: str,
) -> list[Tensor | None]:
    """Return the gradients of inputs through the nodes that were added to a graph since it had `start` of them.

    Parameters
    ----------
    outputs : sequence of (Tensor or None)
        What these nodes compute, and in `dys` the gradients; what is None in either counts for nothing.
    inputs : sequence of (Tensor or None)
        A tensor that is there twice gets its whole gradient at the first place.
    """
    seeds = [(y, dy) for y, dy in zip(outputs, dys, strict=True) if y is not None and dy is not None]
    left = {x.id for x in inputs if x is not None}
    found = walk(graph, graph.nodes[start:], seeds, left)
    gradients: list[Tensor | None] = []
    for x in inputs:
        parts = found.get(x.id) if x is not None and x.id in left else None
        gradients.append(add_up(graph, parts, label) if parts else None)
        left -= {x.id} if x is not None else set()
    return gradients


def composed(*ops: str) -> Callable[[Compose], Compose]:
    """Register the rule of some ops by what their first outputs are composed of; the others are memory for sums."""

    def register(compose: Compose) -> Compose:
        @gradient_of_outputs(*ops)
        def rule(graph: Graph, node: Node, dys: Gradients, needs: Sequence[bool]) -> Gradients:
            start = len(graph.nodes)
            outputs = compose(graph, node)
            inputs = [x if need else None for x, need in zip(node.inputs, needs, strict=True)]
            return pulled_back(graph, start, outputs, dys[: len(outputs)], inputs, node.label)

        return compose

    return register
