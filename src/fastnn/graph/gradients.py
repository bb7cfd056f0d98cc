"""Reverse-mode differentiation: one rule per op, and the walk that applies them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from fastnn.formulas.activations import saved_by
from fastnn.graph import build
from fastnn.graph.graph import Graph, Node, Tensor

# Arguments of a rule: the graph, the node, the gradient of its first output, and which inputs need a gradient.
Gradients = Sequence[Tensor | None]
Rule = Callable[[Graph, Node, Tensor, Sequence[bool]], Gradients]


class NoGradientError(ValueError):
    """A trainable parameter is before an op that has no gradient."""


def _matmul(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    x, w = node.inputs
    assert x is not None and w is not None
    dw = build.matmul_tn(graph, x, dy, node.label) if needs[1] else None
    return build.matmul_nt(graph, dy, w, node.label) if needs[0] else None, dw


def _bias_add(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    return dy, build.sum_rows(graph, dy, node.label) if needs[1] else None


def _activation(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    formula = node.attrs["formula"]
    if saved_by(formula) == "none":
        raise NoGradientError(
            f"layer {node.label!r}: the activation {formula!r} has no gradient, so the layers before it cannot be "
            "trained; use sigmoid or tanh in training, or freeze those layers (trainable = False)"
        )
    saved = node.inputs[0] if saved_by(formula) == "input" else node.outputs[0]
    return (build._like(graph, "activation_grad", (dy, saved), node.label, **node.attrs),)


def _rowwise(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    return (build._like(graph, f"{node.op}_grad", (dy, node.outputs[0]), node.label),)


def _dropout(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    # the same counters give the same mask again, so it is not stored
    return (build._like(graph, "dropout", (dy,), node.label, **node.attrs),)


def _identity(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    return tuple(dy if need else None for need in needs)


def _multiply(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    a, b = node.inputs
    return (
        build._like(graph, "multiply", (dy, b), node.label) if needs[0] else None,
        build._like(graph, "multiply", (dy, a), node.label) if needs[1] else None,
    )


def _reshape(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    (x,) = node.inputs
    assert x is not None
    return (build.reshape(graph, dy, x.shape, node.label),)


def _concatenate(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    found: list[Tensor | None] = []
    first = 0
    for x, need in zip(node.inputs, needs, strict=True):
        assert x is not None
        found.append(build.take_columns(graph, dy, first, x.columns, node.label) if need else None)
        first += x.columns
    return found


def _layer_norm(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    x, gamma, _ = node.inputs
    _, mean, rstd = node.outputs
    assert x is not None
    dx = dgamma = dbeta = None
    if needs[0]:
        dx = build._like(graph, "layer_norm_grad", (dy, x, gamma, mean, rstd), node.label)
    if needs[1] or needs[2]:
        columns = (x.columns,)
        outputs = [(columns, False, f"{node.label}.dgamma"), (columns, False, f"{node.label}.dbeta")]
        dgamma, dbeta = graph.add("layer_norm_param_grad", (dy, x, mean, rstd), outputs, node.label)
    return dx, dgamma if needs[1] else None, dbeta if needs[2] else None


def _batch_norm(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    x, gamma = node.inputs[:2]
    _, mean, rstd = node.outputs
    assert x is not None
    columns = (x.columns,)
    outputs = [
        (x.shape, True, f"{node.label}.dx"),
        (columns, False, f"{node.label}.dgamma"),
        (columns, False, f"{node.label}.dbeta"),
    ]
    dx, dgamma, dbeta = graph.add(f"{node.op}_grad", (dy, x, gamma, mean, rstd), outputs, node.label)
    found = (dx, dgamma, dbeta, None, None)
    return tuple(gradient if need else None for gradient, need in zip(found, (*needs[:3], False, False), strict=True))


def _row_function(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    x, w = node.inputs
    assert x is not None
    outputs = [(x.shape, x.batched, f"{node.label}.dx")]
    if w is not None:
        outputs.append((w.shape, False, f"{node.label}.dw"))
    found = graph.add("row_function_grad", (dy, x, w), outputs, node.label, **node.attrs)
    return found[0] if needs[0] else None, found[1] if needs[1] else None


def _one_hot(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    return (None,)


def _loss(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    return (node.outputs[1], None, None)


RULES: dict[str, Rule] = {
    "matmul": _matmul,
    "bias_add": _bias_add,
    "activation": _activation,
    "softmax": _rowwise,
    "log_softmax": _rowwise,
    "dropout": _dropout,
    "gaussian_noise": _identity,
    "add": _identity,
    "multiply": _multiply,
    "reshape": _reshape,
    "concatenate": _concatenate,
    "layer_norm": _layer_norm,
    "batch_norm": _batch_norm,
    "batch_norm_inference": _batch_norm,
    "row_function": _row_function,
    "one_hot": _one_hot,
    "loss": _loss,
}


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
        When a wanted tensor is before an op without a gradient.
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
        parts = gradients.get(node.outputs[0].id) if node.outputs else None
        needs = [x is not None and x.id in needed for x in node.inputs]
        if not parts or not any(needs):
            continue
        dy = build.elementwise(graph, "add", parts, node.label)
        for x, dx, need in zip(node.inputs, RULES[node.op](graph, node, dy, needs), needs, strict=True):
            if x is not None and dx is not None and need:
                gradients[x.id].append(dx)
    found = {}
    for tensor_id in wanted_ids & gradients.keys():
        parts = gradients[tensor_id]
        if parts[0].batched:
            parts = [build.elementwise(graph, "add", parts, "input gradient")]
        found[tensor_id] = parts
    return found
