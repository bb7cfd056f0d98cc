"""Reverse-mode differentiation: the walk that applies the rule of every op."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.moves import add_up
from fastnn.graph.rules import RULES


def differentiate(
    graph: Graph, losses: Iterable[Tensor], wanted: Iterable[Tensor], seeds: Iterable[tuple[Tensor, Tensor]] = ()
) -> dict[int, list[Tensor]]:
    """Add the gradients of the sum of `losses` to a graph.

    Parameters
    ----------
    losses : iterable of Tensor
        First outputs of "loss" nodes, whose second output is the gradient of the scaled loss.
    wanted : iterable of Tensor
        The parameters and inputs whose gradients are needed.
    seeds : iterable of (tensor, gradient)
        Tensors whose gradients are given.

    Returns
    -------
    dict
        For each wanted tensor's id the tensors whose sum is its gradient: one per use for a parameter, summed to
        one for an input. Tensors that the losses do not depend on are missing.

    Raises
    ------
    NoGradientError
        When a wanted tensor is before an op, or an output of an op, without a gradient.
    """
    wanted_ids = {tensor.id for tensor in wanted}
    needed = set(wanted_ids)
    forward = list(graph.nodes)
    for node in forward:
        if any(x is not None and x.id in needed for x in node.inputs):
            needed.update(y.id for y in node.outputs)
    gradients: dict[int, list[Tensor]] = defaultdict(list)
    for loss in losses:
        if loss.id in needed:
            gradients[loss.id].append(loss)
    for tensor, seed in seeds:
        gradients[tensor.id].append(seed)
    for node in reversed(forward):
        uses = [gradients.get(y.id) for y in node.outputs]
        needs = [x is not None and x.id in needed for x in node.inputs]
        if not any(uses) or not any(needs):
            continue
        dys = [add_up(graph, parts, node.label) if parts else None for parts in uses]
        for x, dx, need in zip(node.inputs, RULES[node.op](graph, node, dys, needs), needs, strict=True):
            if x is not None and dx is not None and need:
                gradients[x.id].append(dx)
    found = {}
    for tensor_id in wanted_ids & gradients.keys():
        parts = gradients[tensor_id]
        if parts[0].batched:
            parts = [add_up(graph, parts, "input gradient")]
        found[tensor_id] = parts
    return found
