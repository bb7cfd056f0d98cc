"""Records of losses: every row's loss, the gradient of their scaled weighted sum, totals, and penalties."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fastnn.activations import arrays as activations
from fastnn.backend.reference.instruction import Counters, Instruction, executes, weighted
from fastnn.formulas.optimizers import PENALTY_COLUMN
from fastnn.losses import arrays

Array = NDArray[np.float64]
EPSILON = 1e-7

# Formulas that use their first parameter: delta or label smoothing.
PARAMETRIC = frozenset({"huber", "binary_cross_entropy", "binary_cross_entropy_logits"})


def _smooth(t: Array, smoothing: float) -> Array:
    return t * (1.0 - smoothing) + 0.5 * smoothing


def _binary(p: Array, t: Array, smoothing: float) -> Array:
    q = np.clip(p, EPSILON, 1.0 - EPSILON)
    clipped = (p < EPSILON) | (p > 1.0 - EPSILON)
    return np.where(clipped, 0.0, (q - _smooth(t, smoothing)) / (q * (1.0 - q)))


def _kl_divergence(p: Array, t: Array, a: float) -> Array:
    clipped = (p < EPSILON) | (p > 1.0)
    return np.where(clipped, 0.0, -np.clip(t, EPSILON, 1.0) / np.clip(p, EPSILON, 1.0))


def _hinge(p: Array, t: Array, a: float) -> Array:
    sign = np.where(t > 0.0, 1.0, -1.0)
    margin = 1.0 - sign * p
    return np.where(np.isnan(margin), margin, np.where(margin > 0.0, -sign, 0.0))


def _perceptron(p: Array, t: Array, a: float) -> Array:
    margin = -t * p
    return np.where(np.isnan(margin), margin, np.where(margin >= 0.0, -t, 0.0))


# Formula -> derivative of one element's loss by the prediction p, with target t and first parameter a.
GRADIENTS: dict[str, Callable[[Array, Array, float], Array]] = {
    "value": lambda p, t, a: np.where(np.isnan(p), p, 1.0),
    "mean_squared_error": lambda p, t, a: 2.0 * (p - t),
    "mean_absolute_error": lambda p, t, a: np.sign(p - t),
    "huber": lambda p, t, a: np.clip(p - t, -a, a),
    "log_cosh": lambda p, t, a: np.tanh(p - t),
    "binary_cross_entropy": _binary,
    "binary_cross_entropy_logits": lambda p, t, a: activations.sigmoid(p) - _smooth(t, a),
    "hinge": _hinge,
    "perceptron": _perceptron,
    "poisson": lambda p, t, a: 1.0 - t / (p + EPSILON),
    "poisson_logits": lambda p, t, a: np.exp(p) - t,
    "kl_divergence": _kl_divergence,
}


def _share(i: Instruction) -> Array:
    """Return, as a column, the factor between the gradient of a row's loss and dx."""
    return (i.params["scale"] * i.row_weights())[:, None]


@executes("loss")
def loss(i: Instruction, counters: Counters) -> None:
    """Make row_loss = sum(l(x, target)) / divisor and dx = scale weight / divisor l'(x, target)."""
    x, target, a, factor = i["x"], i["target"], i.params["a"], 1.0 / i.dims["divisor"]
    formula = arrays.ELEMENTWISE[i.variant]
    values = formula(x, target, a) if i.variant in PARAMETRIC else formula(x, target)
    gradient = GRADIENTS[i.variant](x, target, a)
    i.write("row_loss", factor * values.sum(axis=1))
    i.write("dx", weighted(_share(i) * factor, gradient))


def _class_targets(i: Instruction) -> Array:
    """Return the smoothed probability of every class."""
    target, cols, smoothing = i["target"], i.dims["cols"], i.params["label_smoothing"]
    if target.ndim == 1:
        target = (target[:, None] == np.arange(cols)).astype(np.float64)
    smoothed: Array = target * (1.0 - smoothing) + smoothing / cols
    return smoothed


@executes("cross_entropy", "cross_entropy_labels")
def cross_entropy(i: Instruction, counters: Counters) -> None:
    """Make -sum(t log x) of every row, x clipped to [1e-7, 1 - 1e-7]; NaN in any class makes the row NaN."""
    x, t = i["x"], _class_targets(i)
    clipped = (x < EPSILON) | (x > 1.0 - EPSILON)
    i.write("row_loss", -(t * np.log(np.clip(x, EPSILON, 1.0 - EPSILON))).sum(axis=1))
    i.write("dx", np.where(clipped, 0.0, weighted(_share(i), -t / x)))


@executes("cross_entropy_logits", "cross_entropy_logits_labels")
def cross_entropy_logits(i: Instruction, counters: Counters) -> None:
    """Make -sum(t log softmax(x)) of every row; a class with t = 0 costs nothing, even where x = -inf."""
    x, t = i["x"], _class_targets(i)
    log_p = activations.log_softmax(x)
    gradient = np.exp(log_p) * t.sum(axis=1, keepdims=True) - t
    i.write("row_loss", -np.where((t == 0.0) & np.isneginf(log_p), 0.0, t * log_p).sum(axis=1))
    i.write("dx", weighted(_share(i), gradient))


def _counted(i: Instruction) -> Array:
    """Return the losses of rows, each no more than a bound, if that is not 0."""
    return np.minimum(i["row_loss"], i.params["most"] or np.inf)


@executes("sum_loss")
def sum_loss(i: Instruction, counters: Counters) -> None:
    """Add [weighted sum of the rows' losses, number of rows] to the total; note the first bad step."""
    batch = float(weighted(i.row_weights(), _counted(i)).sum())
    i["total"][:] += (batch, i.dims["rows"])
    if not np.isfinite(batch) and counters.bad_loss_step == 0:
        counters.bad_loss_step = counters.step + 1


@executes("sum_loss_by_weight")
def sum_loss_by_weight(i: Instruction, counters: Counters) -> None:
    """Add [weighted sum of the rows' losses, sum of the rows' weights] to the total; note the first bad step."""
    weights = i.row_weights()
    batch = float(weighted(weights, _counted(i)).sum())
    i["total"][:] += (batch, weights.sum())
    if not np.isfinite(batch) and counters.bad_loss_step == 0:
        counters.bad_loss_step = counters.step + 1


@executes("normalize_weights")
def normalize_weights(i: Instruction, counters: Counters) -> None:
    """Make y = weight / mean(weight), the mean over all rows; zeros where it is 0."""
    total = i.row_weights().sum()
    i.write("y", i["weight"] * (i.dims["rows"] / total) if total != 0.0 else 0.0)


@executes("mask_weights")
def mask_weights(i: Instruction, counters: Counters) -> None:
    """Make y = mask * weight, or that times rows / sum(mask), zeros where the sum is 0."""
    total = i["mask"].sum()
    factor = (i.dims["rows"] / total if total != 0.0 else 0.0) if i.dims["normalized"] else 1.0
    i.write("y", i["mask"] * i.row_weights() * factor)


@executes("penalty")
def penalty(i: Instruction, counters: Counters) -> None:
    """Add batch s (l1 sum|w| + l2 sum(w^2)) to the total, and s (l1 sign(w) + 2 l2 w) to dw."""
    scale = i["hyper"][counters.chunk_step][PENALTY_COLUMN] if "hyper" in i.operands else 1.0
    w, l1, l2 = i["w"], scale * i.params["l1"], scale * i.params["l2"]
    i["total"][:] += i.dims["batch"] * (l1 * np.abs(w).sum() + l2 * (w * w).sum())
    if "dw" in i.operands:
        i["dw"][:] += l1 * np.sign(w) + 2.0 * l2 * w
