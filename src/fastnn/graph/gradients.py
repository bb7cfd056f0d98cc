"""Reverse-mode differentiation: of losses for the weights that an optimizer changes, and of any tensor for others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.moves import add_up, take_columns
from fastnn.graph.ops.pointwise import constant
from fastnn.graph.ops.strided import reshape
from fastnn.graph.vjp import walk

# Ops whose records can add to what is in memory: gradients of a parameter that is used several times need no sum then.
_ADDING = {
    "matmul", "matmul_nt", "matmul_tn", "matmul_tt", "sum_rows", "layer_norm_param_grad", "rms_norm_param_grad",
    "batch_norm_grad", "batch_norm_inference_grad", "row_function_grad",
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
    nodes = [node for node in map(graph.producer, losses) if node is not None]
    own = [(node.inputs[0], node.outputs[1]) for node in nodes if node.inputs[0] is not None]
    gradients = walk(graph, graph.nodes, [*own, *seeds], wanted_ids)
    # a later record adds to what an earlier one wrote
    places = {y.id: place for place, node in enumerate(graph.nodes) for y in node.outputs}
    for parts in gradients.values():
        parts.sort(key=lambda part: places.get(part.id, -1))
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


def gradients(
    graph: Graph,
    y: Tensor,
    xs: Sequence[Tensor],
    label: str,
    *,
    dy: Tensor | None = None,
    unconnected: str = "error",
) -> list[Tensor]:
    """Add the gradients of the sum of a tensor's elements; they are tensors that can be differentiated again.

    Parameters
    ----------
    y : Tensor
        Of any shape.
    xs : sequence of Tensor
        Inputs, parameters, or values in between. Each gradient is that of all ways from `x` to `y`, also those
        through other `xs`.
    dy : Tensor, optional
        Factors of the elements, of the shape of `y`; ones by default.
    unconnected : {"error", "zeros"}
        What becomes of an `x` that `y` does not depend on.

    Returns
    -------
    list of Tensor
        Of the shapes of `xs`.

    Raises
    ------
    ValueError
        When `y` or an `x` has integers, `dy` has another shape than `y`, or `y` does not depend on an `x`.
    NoGradientError
        When an op on the way from an `x` to `y` has no gradient.
    """
    for tensor in (y, *xs):
        if tensor.kind != "real":
            raise ValueError(f"gradients: {tensor.name!r} has integers, which have no gradient")
    if dy is None:
        dy = constant(graph, 1.0, y.whole, label)
    elif dy.whole != y.whole:
        raise ValueError(f"gradients: expected factors of shape {y.whole}, got {dy.whole}")
    parts = walk(graph, graph.nodes, [(y, dy)], {x.id for x in xs})
    found = []
    for number, x in enumerate(xs):
        if parts.get(x.id):
            dx = add_up(graph, parts[x.id], label)
            found.append(dx if dx.whole == x.whole else reshape(graph, dx, x.whole, label))
        elif unconnected == "zeros":
            found.append(constant(graph, 0.0, x.whole, label))
        else:
            raise ValueError(
                f"gradients: {y.name!r} does not depend on {x.name!r} (x number {number}), or only through values "
                'that have no gradient; unconnected="zeros" gives zeros'
            )
    return found
