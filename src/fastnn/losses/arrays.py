"""Every loss on NumPy arrays in float64: plain, stable, and independent of the compiled formulas."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.activations.arrays import log_softmax, softplus

Array = NDArray[np.float64]

EPSILON = 1e-7


def value(p: Array, t: Array) -> Array:
    """Return p: a loss that has been computed already."""
    return p


def mean_squared_error(p: Array, t: Array) -> Array:
    """Return (p - t)^2 of every element."""
    return (p - t) ** 2


def mean_absolute_error(p: Array, t: Array) -> Array:
    """Return |p - t| of every element."""
    return np.abs(p - t)


def huber(p: Array, t: Array, delta: float = 1.0) -> Array:
    """Return half the squared error, continued linearly beyond delta."""
    error = np.abs(p - t)
    return np.where(error <= delta, 0.5 * error * error, delta * (error - 0.5 * delta))


def log_cosh(p: Array, t: Array) -> Array:
    """Return log(cosh(p - t)) of every element."""
    error = np.abs(p - t)
    # log1p(2 sinh(e / 2)^2) keeps the digits of a small error, the other form does not overflow.
    near = np.log1p(2.0 * np.sinh(0.5 * np.minimum(error, 1.0)) ** 2)
    return np.where(error < 1.0, near, error + softplus(-2.0 * error) - math.log(2.0))


def binary_cross_entropy(p: Array, t: Array, label_smoothing: float = 0.0) -> Array:
    """Return -t log(p) - (1 - t) log(1 - p) of every element, p clipped to [1e-7, 1 - 1e-7]."""
    t = t * (1.0 - label_smoothing) + 0.5 * label_smoothing
    p = np.clip(p, EPSILON, 1.0 - EPSILON)
    return -(t * np.log(p) + (1.0 - t) * np.log1p(-p))


def binary_cross_entropy_logits(p: Array, t: Array, label_smoothing: float = 0.0) -> Array:
    """Return the binary cross-entropy of sigmoid(p) and t."""
    t = t * (1.0 - label_smoothing) + 0.5 * label_smoothing
    # An infinite logit on the side of a certain target costs nothing: 0 times infinity is 0 here.
    negative, positive = np.where(t == 1.0, 0.0, softplus(p)), np.where(t == 0.0, 0.0, softplus(-p))
    loss: Array = (1.0 - t) * negative + t * positive
    return loss


def hinge(p: Array, t: Array) -> Array:
    """Return max(0, 1 - s p) of every element, where s = 1 for t > 0, else -1."""
    loss: Array = np.maximum(0.0, 1.0 - np.where(t > 0.0, 1.0, -1.0) * p)
    return loss


def perceptron(p: Array, t: Array) -> Array:
    """Return max(0, -t p) of every element."""
    loss: Array = np.maximum(0.0, -t * p)
    return loss


def poisson(p: Array, t: Array) -> Array:
    """Return p - t log(p + 1e-7) of every element."""
    # An infinite rate costs infinitely much, although the difference is NaN.
    loss: Array = np.where(np.isposinf(p), p, p - t * np.log(p + EPSILON))
    return loss


def poisson_logits(p: Array, t: Array) -> Array:
    """Return exp(p) - t p of every element: the loss of the rate exp(p)."""
    rate = np.exp(p)
    # A rate of 0 costs nothing if the count is 0, and an infinite one infinitely much.
    loss: Array = np.where(np.isposinf(rate), rate, rate - np.where(t == 0.0, 0.0, t * p))
    return loss


def kl_divergence(p: Array, t: Array) -> Array:
    """Return t log(t / p) of every element, both clipped to [1e-7, 1]."""
    t = np.clip(t, EPSILON, 1.0)
    p = np.clip(p, EPSILON, 1.0)
    loss: Array = t * np.log(t / p)
    return loss


def cross_entropy(p: Array, t: NDArray[Any], label_smoothing: float = 0.0) -> Array:
    """Return -sum t log(p) of every row, p clipped to [1e-7, 1 - 1e-7].

    Parameters
    ----------
    p : numpy.ndarray of float64, shape (..., classes)
        Probabilities; they are not scaled to sum to 1.
    t : numpy.ndarray, shape (...) of int64 labels, or (..., classes) of float64 probabilities
    label_smoothing : float
        Share of every target that is spread over all classes.
    """
    return _negative_sum(np.log(np.clip(p, EPSILON, 1.0 - EPSILON)), t, label_smoothing)


def cross_entropy_logits(p: Array, t: NDArray[Any], label_smoothing: float = 0.0) -> Array:
    """Return the cross-entropy of softmax(p) and t of every row, from log_softmax and without clipping."""
    return _negative_sum(log_softmax(p), t, label_smoothing)


def _negative_sum(log_p: Array, t: NDArray[Any], label_smoothing: float) -> Array:
    if t.dtype == np.int64:
        loss: Array = -np.take_along_axis(log_p, t[..., None], axis=-1)[..., 0]
        if label_smoothing:
            loss = (1.0 - label_smoothing) * loss - label_smoothing * log_p.mean(axis=-1)
        return loss
    t = t * (1.0 - label_smoothing) + label_smoothing / t.shape[-1]
    # A class that cannot occur (logit -inf) and does not (t = 0) costs nothing; NaN stays.
    terms = np.where((t == 0.0) & np.isneginf(log_p), 0.0, t * log_p)
    total: Array = -terms.sum(axis=-1)
    return total


ELEMENTWISE: dict[str, Callable[..., Array]] = {
    f.__name__: f
    for f in (
        value, mean_squared_error, mean_absolute_error, huber, log_cosh, binary_cross_entropy,
        binary_cross_entropy_logits, hinge, perceptron, poisson, poisson_logits, kl_divergence,
    )
}  # fmt: skip
"""Formula name -> function of predictions, targets and parameters; the loss of every element."""

ROWWISE: dict[str, Callable[..., Array]] = {f.__name__: f for f in (cross_entropy, cross_entropy_logits)}
"""Formula name -> function of predictions, targets and parameters; the loss of every row."""
