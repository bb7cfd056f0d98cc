"""Reverse-mode differentiation: the walk that applies the rule of every op."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.moves import add_up, take_columns
from fastnn.graph.rules import RULES

# Ops whose records can add to what is in memory: gradients of a parameter that is used several times need no sum then.
_ADDING = {
    "matmul_tn", "sum_rows", "layer_norm_param_grad", "rms_norm_param_grad", "batch_norm_grad",
    "batch_norm_inference_grad", "row_function_grad",
}  # fmt: skip


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
        For each wanted tensor's id the tensors whose sum is its gradient. There is one for an input. There may be
        several for a parameter, whose records add to the first one's memory; the shape may be another one, of the same
        elements. No tensor is there twice. Tensors that the losses do not depend on are missing.

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
        of_outputs = [gradients.get(y.id) for y in node.outputs]
        needs = [x is not None and x.id in needed for x in node.inputs]
        if not any(of_outputs) or not any(needs):
            continue
        dys = [add_up(graph, parts, node.label) if parts else None for parts in of_outputs]
        for x, dx, need in zip(node.inputs, RULES[node.op](graph, node, dys, needs), needs, strict=True):
            if x is not None and dx is not None and need:
                gradients[x.id].append(dx)
    # what has another use than to be one gradient must not be added to
    uses = Counter(x.id for node in graph.nodes for x in node.inputs if x is not None)
    later: dict[int, bool] = {}
    for tensor_id in wanted_ids & gradients.keys():
        uses.update(part.id for part in gradients[tensor_id])
        later.update((part.id, number > 0) for number, part in enumerate(gradients[tensor_id]))
    found: dict[int, list[Tensor]] = {}
    given: set[int] = set()
    for tensor_id in sorted(wanted_ids & gradients.keys()):
        parts = gradients[tensor_id]
        if parts[0].batched:
            parts = [add_up(graph, parts, "input gradient")]
        else:
            parts = _apart(graph, parts, uses, later, given)
            given.update(part.id for part in parts)
        found[tensor_id] = parts
    return found


def _apart(
    graph: Graph, parts: list[Tensor], uses: Counter[int], later: dict[int, bool], given: set[int]
) -> list[Tensor]:
    """Return gradients of a parameter that can be computed where the optimizer finds them.

    Parameters
    ----------
    uses : Counter
        For each tensor how many nodes read it and how many parameters' gradients it is part of.
    later : dict
        For each part of a gradient whether it comes after the first one.
    given : set of int
        Ids of the gradients of other parameters.
    """
    if len(parts) > 1:
        nodes = [graph.producer(part) for part in parts]
        # a record adds to all of its outputs or to none
        if all(
            node and node.op in _ADDING and uses[x.id] == 1
            and all(later.get(y.id, later[x.id]) == later[x.id] for y in node.outputs)
            for x, node in zip(parts, nodes, strict=True)
        ):  # fmt: skip
            return parts
        parts = [add_up(graph, parts, "gradient")]
    (part,) = parts
    # a reshape has the memory of its input
    while (node := graph.producer(part)) is not None and node.op == "reshape" and node.inputs[0] is not None:
        (part,) = (x for x in node.inputs if x is not None)
    return [take_columns(graph, part, 0, part.columns, "gradient")] if node is None or part.id in given else [part]
