"""Gradients of the gradients of normalisations: what these compute, as formulas that are differentiated.

Means and deviations are computed from x again, so that a gradient passes through them.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastnn.graph.algebra import Term, terms
from fastnn.graph.graph import Graph, Node, Tensor
from fastnn.graph.ops.norms import batch_norm
from fastnn.graph.ops.strided import stop_gradient
from fastnn.graph.vjp import composed


def _operands(graph: Graph, node: Node) -> tuple[Term, Term, Term | float, float]:
    """Return dy, x, gamma (1 if there is none), and the epsilon of the op that the gradient is of."""
    dy, x = terms(graph, node.label, *node.inputs[:2])
    gamma: Term | float = 1.0
    if not node.op.endswith("param_grad") and node.inputs[2] is not None:
        (gamma,) = terms(graph, node.label, node.inputs[2])
    return dy, x, gamma, float(_forward(graph, node)[0].attrs["epsilon"])


def _forward(graph: Graph, node: Node) -> tuple[Node, Tensor]:
    """Return the op that the gradient is of, and its 1 / std."""
    rstd = node.inputs[-1]
    assert rstd is not None
    forward = graph.producer(rstd)
    assert forward is not None
    return forward, rstd


def _root(square: Term, epsilon: float) -> Term:
    return (square + epsilon).apply("rsqrt")


def _normal(x: Term, epsilon: float) -> tuple[Term, Term]:
    """Return normalised rows, and 1 / std."""
    centred = x - x.last("mean")
    rstd = _root(centred.apply("square").last("mean"), epsilon)
    return centred * rstd, rstd


def _scaled(dy: Term, gamma: Term | float) -> Term:
    return dy if isinstance(gamma, float) else dy * gamma


@composed("layer_norm_grad")
def _layer_norm_grad(graph: Graph, node: Node) -> Sequence[Tensor]:
    dy, x, gamma, epsilon = _operands(graph, node)
    normal, rstd = _normal(x, epsilon)
    g = _scaled(dy, gamma)
    return [(rstd * (g - g.last("mean") - normal * (g * normal).last("mean"))).tensor]


@composed("layer_norm_param_grad")
def _layer_norm_param_grad(graph: Graph, node: Node) -> Sequence[Tensor]:
    dy, x, _, epsilon = _operands(graph, node)
    return [(dy * _normal(x, epsilon)[0]).rows("sum").tensor, dy.rows("sum").tensor]


@composed("rms_norm_grad")
def _rms_norm_grad(graph: Graph, node: Node) -> Sequence[Tensor]:
    dy, x, gamma, epsilon = _operands(graph, node)
    rstd = _root(x.apply("square").last("mean"), epsilon)
    normal, g = x * rstd, _scaled(dy, gamma)
    return [(rstd * (g - normal * (g * normal).last("mean"))).tensor]


@composed("rms_norm_param_grad")
def _rms_norm_param_grad(graph: Graph, node: Node) -> Sequence[Tensor]:
    dy, x, _, epsilon = _operands(graph, node)
    return [(dy * x * _root(x.apply("square").last("mean"), epsilon)).rows("sum").tensor]


@composed("batch_norm_grad")
def _batch_norm_grad(graph: Graph, node: Node) -> Sequence[Tensor]:
    dy, x, gamma, epsilon = _operands(graph, node)
    centred = x - x.rows("mean")
    rstd = _root(centred.apply("square").rows("mean"), epsilon)
    normal = centred * rstd
    product = dy * normal
    dx = rstd * (dy - dy.rows("mean") - normal * product.rows("mean"))
    return [_scaled(dx, gamma).tensor, product.rows("sum").tensor, dy.rows("sum").tensor]


@composed("batch_norm_inference_grad")
def _batch_norm_inference_grad(graph: Graph, node: Node) -> Sequence[Tensor]:
    dy, x, gamma, epsilon = _operands(graph, node)
    forward, rstd = _forward(graph, node)
    *_, mean, variance = forward.inputs
    assert mean is not None and variance is not None
    # the moving statistics count as constants
    normal = batch_norm(
        graph, x.tensor, None, None, (mean, variance), epsilon=epsilon, momentum=1.0, training=False, label=node.label
    )
    dx = dy * terms(graph, node.label, stop_gradient(graph, rstd, node.label))[0]
    dgamma = (dy * terms(graph, node.label, normal)[0]).rows("sum")
    return [_scaled(dx, gamma).tensor, dgamma.tensor, dy.rows("sum").tensor]
