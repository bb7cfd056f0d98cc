"""Gradients of the gradients of activations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from fastnn.formulas import custom
from fastnn.formulas.activations import SAVES
from fastnn.graph.algebra import Term, terms
from fastnn.graph.graph import Graph, Node, Tensor
from fastnn.graph.rules import Gradients, NoGradientError, gradient
from fastnn.graph.vjp import composed, pulled_back

#: Activations of straight pieces, whose second derivative is 0 but at kinks.
_STRAIGHT = ("hard_sigmoid", "relu", "relu6", "leaky_relu")
_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


def _elu(y: Term, alpha: float) -> Term:
    return y.apply("less_equal", 0.0).where(y + alpha, 1.0)


def _selu(y: Term, alpha: float) -> Term:
    return y.apply("less_equal", 0.0).where(y + _SELU_SCALE * _SELU_ALPHA, _SELU_SCALE)


def _gelu(x: Term, alpha: float) -> Term:
    density = (-0.5 * x.apply("square")).apply("exp") * (1.0 / math.sqrt(2.0 * math.pi))
    return 0.5 * ((x * math.sqrt(0.5)).apply("erf") + 1.0) + x * density


def _gelu_tanh(x: Term, alpha: float) -> Term:
    factor, square = math.sqrt(2.0 / math.pi), x.apply("square")
    t = (x * (square * (0.044715 * factor) + factor)).apply("tanh")
    return 0.5 * (t + 1.0) + 0.5 * x * (1.0 - t.apply("square")) * (square * (3.0 * 0.044715 * factor) + factor)


def _silu(x: Term, alpha: float) -> Term:
    s = x.apply("sigmoid")
    return s * (x * (1.0 - s) + 1.0)


def _mish(x: Term, alpha: float) -> Term:
    t = x.activated("softplus").apply("tanh")
    return t + x * x.apply("sigmoid") * (1.0 - t.apply("square"))


#: The derivative of an activation as a function of what is saved for it, `formulas.activations.SAVES`, and of alpha.
_SLOPES: dict[str, Callable[[Term, float], Term]] = {
    "sigmoid": lambda y, alpha: y * (1.0 - y),
    "tanh": lambda y, alpha: 1.0 - y.apply("square"),
    "elu": _elu,
    "selu": _selu,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "silu": _silu,
    "mish": _mish,
    "softplus": lambda y, alpha: -(-y).apply("expm1"),
    "softsign": lambda x, alpha: (x.apply("absolute") + 1.0).apply("square").apply("reciprocal"),
    "exponential": lambda y, alpha: y,
}


@gradient("activation_grad")
def _activation_grad(graph: Graph, node: Node, ddx: Tensor, needs: Sequence[bool]) -> Gradients:
    dy, saved = node.inputs
    assert dy is not None and saved is not None
    formula, label = node.attrs["formula"], node.label
    first = graph.like("activation_grad", (ddx, saved), label, **node.attrs) if needs[0] else None
    if not needs[1] or formula in _STRAIGHT:
        return first, None
    if formula not in _SLOPES:
        what = f"the user-defined activation {formula!r}" if custom.find(formula) is not None else repr(formula)
        raise NoGradientError(
            f"layer {label!r}: the derivative of {what} has no derivative itself, so gradients through it cannot be "
            "differentiated; use an activation of fastnn, such as tanh or silu, or write it with fastnn.ops"
        )
    start = len(graph.nodes)
    slope = _SLOPES[formula](Term(graph, saved, label), (*node.attrs["parameters"], 0.0)[0])
    factor = terms(graph, label, ddx)[0] * terms(graph, label, dy)[0]
    return first, pulled_back(graph, start, [slope.tensor], [factor.tensor], [saved], label)[0]


assert set(_SLOPES) | set(_STRAIGHT) | {"linear", "step"} == set(SAVES)


@composed("softmax_grad")
def _softmax_grad(graph: Graph, node: Node) -> Sequence[Tensor]:
    dy, y = terms(graph, node.label, *node.inputs)
    product = dy * y
    return [(product - y * product.last("sum")).tensor]


@composed("log_softmax_grad")
def _log_softmax_grad(graph: Graph, node: Node) -> Sequence[Tensor]:
    dy, y = terms(graph, node.label, *node.inputs)
    return [(dy - y.apply("exp") * dy.last("sum")).tensor]


@gradient("row_function_grad")
def _row_function_grad(graph: Graph, node: Node, ddx: Tensor, needs: Sequence[bool]) -> Gradients:
    raise NoGradientError(
        f"layer {node.label!r}: the derivative of its user-defined function has no derivative itself, so gradients "
        "through it cannot be differentiated; write the layer with fastnn.ops"
    )
