"""The standard losses as formulas, which can be differentiated any number of times.

A "loss" node is one record, of the value and the gradient; what is computed from its gradient is differentiated through
these formulas. Each is that of `losses.arrays` but for infinite predictions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from fastnn.formulas.losses import EPSILON
from fastnn.graph.algebra import Term, terms
from fastnn.graph.graph import Graph, Node, Tensor
from fastnn.graph.ops.indexing import one_hot
from fastnn.graph.ops.pointwise import constant
from fastnn.graph.rules import NoGradientError
from fastnn.graph.vjp import composed, pulled_back


def _clipped(p: Term, high: float) -> Term:
    return p.apply("maximum", EPSILON).apply("minimum", high)


def _smooth(t: Term, smoothing: float) -> Term:
    return t * (1.0 - smoothing) + 0.5 * smoothing if smoothing else t


def _huber(p: Term, t: Term, delta: float) -> Term:
    error = (p - t).apply("absolute")
    inside = error.apply("less_equal", delta)
    return inside.where(0.5 * error.apply("square"), delta * (error - 0.5 * delta))


def _log_cosh(p: Term, t: Term, a: float) -> Term:
    error = p - t
    return (2.0 * error).activated("softplus") - error - math.log(2.0)


def _binary_cross_entropy(p: Term, t: Term, smoothing: float) -> Term:
    p, t = _clipped(p, 1.0 - EPSILON), _smooth(t, smoothing)
    return -(t * p.apply("log") + (1.0 - t) * (-p).apply("log1p"))


def _binary_cross_entropy_logits(p: Term, t: Term, smoothing: float) -> Term:
    t = _smooth(t, smoothing)
    return (1.0 - t) * p.activated("softplus") + t * (-p).activated("softplus")


def _hinge(p: Term, t: Term, a: float) -> Term:
    return (1.0 - t.apply("greater", 0.0).where(1.0, -1.0) * p).apply("maximum", 0.0)


def _kl_divergence(p: Term, t: Term, a: float) -> Term:
    t = _clipped(t, 1.0)
    return t * (t / _clipped(p, 1.0)).apply("log")


#: The loss of every element from prediction, target and the first parameter.
_ELEMENTS: dict[str, Callable[[Term, Term, float], Term]] = {
    "value": lambda p, t, a: p,
    "mean_squared_error": lambda p, t, a: (p - t).apply("square"),
    "mean_absolute_error": lambda p, t, a: (p - t).apply("absolute"),
    "huber": _huber,
    "log_cosh": _log_cosh,
    "binary_cross_entropy": _binary_cross_entropy,
    "binary_cross_entropy_logits": _binary_cross_entropy_logits,
    "hinge": _hinge,
    "perceptron": lambda p, t, a: (-(t * p)).apply("maximum", 0.0),
    "poisson": lambda p, t, a: p - t * (p + EPSILON).apply("log"),
    "poisson_logits": lambda p, t, a: p.apply("exp") - t * p,
    "kl_divergence": _kl_divergence,
}
_ROWS = ("cross_entropy", "cross_entropy_logits")


def row_losses(
    graph: Graph,
    x: Tensor,
    target: Tensor,
    *,
    formula: str,
    parameters: Sequence[float] = (),
    row_mean: bool = True,
    label: str,
) -> Tensor:
    """Compute the loss of every row of predictions, as ops that can be differentiated by both operands.

    Parameters
    ----------
    formula : str
        That of a loss of fastnn.
    parameters : sequence of float
        Those of the loss.
    row_mean : bool
        Whether a row's loss is the mean over its columns, instead of the sum; cross-entropy is always the sum.

    Raises
    ------
    NoGradientError
        When the formula is a user's function.
    """
    a = (*parameters, 0.0)[0]
    if formula in _ROWS:
        return _cross_entropy(graph, x, target, formula, a, label)
    if formula not in _ELEMENTS:
        raise NoGradientError(
            f"layer {label!r}: the derivative of the user-defined loss {formula!r} has no derivative itself, so "
            "gradients through it cannot be differentiated; write the loss with fastnn.ops"
        )
    p, t = terms(graph, label, x, target)
    values = _ELEMENTS[formula](p, t, a)
    return values.reduce("mean" if row_mean else "sum", [len(x.whole) - 1]).tensor


def _cross_entropy(graph: Graph, x: Tensor, target: Tensor, formula: str, smoothing: float, label: str) -> Tensor:
    if target.kind == "int64":
        target = one_hot(graph, target, x.columns, label)
    (t,) = terms(graph, label, target)
    if smoothing:
        t = t * (1.0 - smoothing) + smoothing / x.columns
    (p,) = terms(graph, label, x)
    log_p = p.activated("log_softmax") if formula == "cross_entropy_logits" else _clipped(p, 1.0 - EPSILON).apply("log")
    return (-(t * log_p).reduce("sum", [len(x.whole) - 1])).tensor


@composed("loss")
def _loss(graph: Graph, node: Node) -> Sequence[Tensor | None]:
    """Compute the losses of rows, and the gradient of their scaled, weighted mean."""
    x, target, weight = node.inputs
    assert x is not None and target is not None
    start, label = len(graph.nodes), node.label
    options = {name: node.attrs[name] for name in ("formula", "parameters", "row_mean")}
    rows = row_losses(graph, x, target, label=label, **options)
    (total,) = terms(graph, label, rows)
    if weight is not None:
        (share,) = terms(graph, label, weight)
        total = total * share.reshaped((*weight.whole, *(1,) * (len(rows.whole) - len(weight.whole))))
    total = total.reduce("mean")
    factor = constant(graph, node.attrs["loss_weight"], (), label)
    (dx,) = pulled_back(graph, start, [total.tensor], [factor], [x], label)
    return [rows, dx]
