"""Losses of one prediction and one target, and their gradients."""

# The formulas take and return scalars of one type, which the compiler infers; annotations would add nothing.
# mypy: disable-error-code=no-untyped-def

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np

from fastnn.formulas.single import Jit

Pair = tuple[Any, Any]

EPSILON = 1e-7
"""Distance that probabilities keep from 0 and 1, as in Keras."""


def define(real: type, jit: Jit, elementary: SimpleNamespace) -> dict[str, Pair]:
    """Define every elementwise loss of one floating-point type.

    Parameters
    ----------
    real : type
        ``numpy.float32`` or ``numpy.float64``: the type of every argument and result.
    jit : callable
        Compiles a scalar function.
    elementary : types.SimpleNamespace
        The result of ``fastnn.formulas.elementary.define`` for the same type.

    Returns
    -------
    dict of str to (value, gradient)
        ``value(p, t, a, b)``, the loss of prediction `p` for target `t`, and ``gradient(p, t, a, b)``, its
        derivative by `p`. The parameter `a` is the delta of huber and the label smoothing of the binary
        cross-entropies, and is ignored elsewhere; `b` is ignored.

    Raises
    ------
    ValueError
        If `real` is neither of the two types.

    Notes
    -----
    Formulas as in Keras 3, rearranged where they would cancel or overflow; huber, Huber (1964); perceptron,
    Rosenblatt (1958). NaN in `p` gives NaN. Where a probability is clipped, the gradient is 0. At the kink
    of hinge and mean_absolute_error it is 0, at that of perceptron -t, so that weights of zero can learn.
    At an infinite prediction value and gradient are their limits. `value` is the prediction: of a loss that has been
    computed already.
    """
    if real is not np.float32 and real is not np.float64:
        raise ValueError(f"real: expected numpy.float32 or numpy.float64, got {real!r}")
    return _distances(real, jit, elementary) | _probabilities(real, jit, elementary) | _margins(real, jit)


def weighing(real: Any, jit: Jit) -> Any:
    """Define `weigh(weight, gradient)`, the product, which is 0 for a weight of 0 even if the gradient is NaN."""
    zero = real(0.0)

    @jit
    def weigh(weight, gradient):
        return weight * gradient if weight != zero else zero

    return weigh


def _distances(real: Any, jit: Jit, elementary: SimpleNamespace) -> dict[str, Pair]:
    zero, one, half, two = real(0.0), real(1.0), real(0.5), real(2.0)
    log_2 = real(math.log(2.0))
    expm1, log1p, tanh = elementary.expm1, elementary.log1p, elementary.tanh

    @jit
    def mean_squared_error(p, t, a, b):
        return (p - t) * (p - t)

    @jit
    def mean_squared_error_gradient(p, t, a, b):
        return two * (p - t)

    @jit
    def mean_absolute_error(p, t, a, b):
        return abs(p - t)

    @jit
    def mean_absolute_error_gradient(p, t, a, b):
        d = p - t
        return one if d > zero else (-one if d < zero else d)

    @jit
    def huber(p, t, a, b):
        d = abs(p - t)
        return a * (d - half * a) if d > a else half * d * d

    @jit
    def huber_gradient(p, t, a, b):
        d = p - t
        d = a if d > a else d
        return -a if d < -a else d

    @jit
    def log_cosh(p, t, a, b):
        d = abs(p - t)
        e = expm1(-d)
        c = one + e
        near = d < one
        # log(cosh d) = log1p(2 sinh(d / 2)**2) keeps the digits of a small d; d - log 2 + log1p(exp(-2 d))
        # does not overflow for a large one.
        y = log1p(half * (e * e) / c if near else c * c)
        return y if near else (d - log_2) + y

    @jit
    def log_cosh_gradient(p, t, a, b):
        return tanh(p - t)

    @jit
    def value(p, t, a, b):
        return p

    @jit
    def value_gradient(p, t, a, b):
        return one if p == p else p

    return {
        "value": (value, value_gradient),
        "mean_squared_error": (mean_squared_error, mean_squared_error_gradient),
        "mean_absolute_error": (mean_absolute_error, mean_absolute_error_gradient),
        "huber": (huber, huber_gradient),
        "log_cosh": (log_cosh, log_cosh_gradient),
    }


def _probabilities(real: Any, jit: Jit, elementary: SimpleNamespace) -> dict[str, Pair]:
    zero, one, half = real(0.0), real(1.0), real(0.5)
    low, high, infinity = real(EPSILON), real(1.0 - EPSILON), real(math.inf)
    exp, log, log1p, sigmoid = elementary.exp, elementary.log, elementary.log1p, elementary.sigmoid

    @jit
    def clip(x, top):
        x = low if x < low else x
        return top if x > top else x

    @jit
    def smooth(t, a):
        return t * (one - a) + half * a

    @jit
    def binary_cross_entropy(p, t, a, b):
        t = smooth(t, a)
        p = clip(p, high)
        return -(t * log(p) + (one - t) * log1p(-p))

    @jit
    def binary_cross_entropy_gradient(p, t, a, b):
        q = clip(p, high)
        dp = (q - smooth(t, a)) / (q * (one - q))
        dp = zero if p < low else dp
        return zero if p > high else dp

    @jit
    def binary_cross_entropy_logits(p, t, a, b):
        t = smooth(t, a)
        # softplus(p) - p t as a sum of two terms that are not negative: nothing cancels. The second one is 0 where
        # the target is, also for an infinite logit.
        miss = one - t if p > zero else t
        return log1p(exp(-abs(p))) + (abs(p) * miss if miss != zero else zero)

    @jit
    def binary_cross_entropy_logits_gradient(p, t, a, b):
        return sigmoid(p) - smooth(t, a)

    @jit
    def poisson(p, t, a, b):
        y = p - t * log(p + low)
        return p if p == infinity else y

    @jit
    def poisson_gradient(p, t, a, b):
        return one - t / (p + low)

    @jit
    def poisson_logits(p, t, a, b):
        rate = exp(p)
        # The product is 0 where the target is, also for a logit of -infinity. A rate that overflows costs infinitely
        # much, whatever is subtracted.
        y = rate - (t * p if t != zero else zero)
        return rate if rate == infinity else y

    @jit
    def poisson_logits_gradient(p, t, a, b):
        return exp(p) - t

    @jit
    def kl_divergence(p, t, a, b):
        t = clip(t, one)
        return t * log(t / clip(p, one))

    @jit
    def kl_divergence_gradient(p, t, a, b):
        dp = -clip(t, one) / clip(p, one)
        dp = zero if p < low else dp
        return zero if p > one else dp

    return {
        "binary_cross_entropy": (binary_cross_entropy, binary_cross_entropy_gradient),
        "binary_cross_entropy_logits": (binary_cross_entropy_logits, binary_cross_entropy_logits_gradient),
        "poisson": (poisson, poisson_gradient),
        "poisson_logits": (poisson_logits, poisson_logits_gradient),
        "kl_divergence": (kl_divergence, kl_divergence_gradient),
    }


def _margins(real: Any, jit: Jit) -> dict[str, Pair]:
    zero, one = real(0.0), real(1.0)

    @jit
    def hinge(p, t, a, b):
        y = one - (p if t > zero else -p)
        return zero if y < zero else y

    @jit
    def hinge_gradient(p, t, a, b):
        y = one - (p if t > zero else -p)
        dp = -one if t > zero else one
        return dp if y > zero else (zero if y <= zero else y)

    @jit
    def perceptron(p, t, a, b):
        y = -t * p
        return zero if y < zero else y

    @jit
    def perceptron_gradient(p, t, a, b):
        y = -t * p
        return -t if y >= zero else (zero if y < zero else y)

    return {"hinge": (hinge, hinge_gradient), "perceptron": (perceptron, perceptron_gradient)}
