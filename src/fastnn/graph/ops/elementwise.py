"""Activations, sums, products, and random numbers, element by element; activations of whole rows."""

from __future__ import annotations

from collections.abc import Sequence

from fastnn.formulas.activations import saved_by
from fastnn.graph.graph import Graph, Node, Tensor
from fastnn.graph.ops.reductions import reduce
from fastnn.graph.rules import Gradients, NoGradientError, gradient

# Activations whose formula works on whole rows have separate ops.
ROWWISE = ("softmax", "log_softmax")


def activation(graph: Graph, x: Tensor, formula: str, parameters: tuple[float, ...], label: str) -> Tensor:
    """Apply an activation by the name of its formula."""
    if formula == "linear":
        return x
    if formula in ROWWISE:
        return graph.like(formula, (x,), label)
    return graph.like("activation", (x,), label, formula=formula, parameters=parameters)


@gradient("activation")
def _activation(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    formula = node.attrs["formula"]
    if saved_by(formula) == "none":
        raise NoGradientError(
            f"layer {node.label!r}: the activation {formula!r} has no gradient, so the layers before it cannot be "
            "trained; use sigmoid or tanh in training, or freeze those layers (trainable = False)"
        )
    saved = node.inputs[0] if saved_by(formula) == "input" else node.outputs[0]
    return (graph.like("activation_grad", (dy, saved), node.label, **node.attrs),)


@gradient(*ROWWISE)
def _rowwise(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    return (graph.like(f"{node.op}_grad", (dy, node.outputs[0]), node.label),)


def elementwise(graph: Graph, op: str, inputs: Sequence[Tensor], label: str) -> Tensor:
    """Add or multiply tensors, from left to right; the shape of one of two may be the end of the other's."""
    total = inputs[0]
    for other in inputs[1:]:
        if other.shape == total.shape:
            total = graph.like(op, (total, other), label)
        else:
            a, b = (total, other) if len(total.shape) > len(other.shape) else (other, total)
            total = graph.like(f"broadcast_{op}", (a, b), label, repeat=a.size // b.size, inner=b.size)
    return total


@gradient("add")
def _identity(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    return tuple(dy if need else None for need in needs)


@gradient("multiply")
def _multiply(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    a, b = node.inputs
    return (
        graph.like("multiply", (dy, b), node.label) if needs[0] else None,
        graph.like("multiply", (dy, a), node.label) if needs[1] else None,
    )


@gradient("broadcast_add")
def _broadcast_add(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    return dy, _sum_repeats(graph, dy, node) if needs[1] else None


@gradient("broadcast_multiply")
def _broadcast_multiply(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    a, b = node.inputs
    da = graph.like("broadcast_multiply", (dy, b), node.label, **node.attrs) if needs[0] else None
    return da, _sum_repeats(graph, graph.like("multiply", (dy, a), node.label), node) if needs[1] else None


def _sum_repeats(graph: Graph, dy: Tensor, node: Node) -> Tensor:
    b = node.inputs[1]
    assert b is not None
    return reduce(graph, "sum", dy, range(int(dy.batched), len(dy.whole) - len(b.shape)), False, node.label)


def dropout(graph: Graph, x: Tensor, rate: float, stream: int, label: str) -> Tensor:
    """Drop elements at random and scale the others; `stream` separates the random numbers of nodes."""
    return graph.like("dropout", (x,), label, rate=rate, node=stream)


@gradient("dropout")
def _dropout(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    # the same counters give the same mask again, so it is not stored
    return (graph.like("dropout", (dy,), node.label, **node.attrs),)


def gaussian_noise(graph: Graph, x: Tensor, stddev: float, stream: int, label: str) -> Tensor:
    """Add normal noise."""
    return graph.like("gaussian_noise", (x,), label, stddev=stddev, node=stream)


gradient("gaussian_noise")(_identity)
