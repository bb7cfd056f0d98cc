"""Every activation on NumPy arrays in float64: plain, stable, and independent of the compiled formulas."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_SELU_SCALE = 1.0507009873554805
_SELU_ALPHA = 1.6732632423543772
_SQRT_HALF = math.sqrt(0.5)
_SQRT_2_OVER_PI = math.sqrt(2.0 / math.pi)
_LOWEST = float(np.finfo(np.float64).min)
_erfc = np.frompyfunc(math.erfc, 1, 1)


def _times_vanishing(x: Array, factor: Array) -> Array:
    # -inf * 0 would be NaN, but the product has the limit 0.
    product: Array = np.maximum(x, _LOWEST) * factor
    return product


def linear(x: Array) -> Array:
    """Return x unchanged."""
    return x.copy()


def step(x: Array, threshold: float = 0.0) -> Array:
    """Return 1 where x reaches the threshold, else 0."""
    return np.where(np.isnan(x), x, (x >= threshold).astype(np.float64))


def sigmoid(x: Array) -> Array:
    """Return 1 / (1 + exp(-x))."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0.0, 1.0, small) / (1.0 + small)


def hard_sigmoid(x: Array) -> Array:
    """Return relu6(x + 3) / 6."""
    return relu6(x + 3.0) / 6.0


def tanh(x: Array) -> Array:
    """Return the hyperbolic tangent of x."""
    y: Array = np.tanh(x)
    return y


def relu(x: Array) -> Array:
    """Return max(0, x)."""
    return np.where(x < 0.0, 0.0, x)


def relu6(x: Array) -> Array:
    """Return min(max(0, x), 6)."""
    return np.clip(x, 0.0, 6.0)


def leaky_relu(x: Array, negative_slope: float = 0.2) -> Array:
    """Return x, or negative_slope * x where x is negative."""
    return np.where(x < 0.0, negative_slope * x, x)


def elu(x: Array, alpha: float = 1.0) -> Array:
    """Return x, or alpha * (exp(x) - 1) where x is negative."""
    return np.where(x < 0.0, alpha * np.expm1(np.minimum(x, 0.0)), x)


def selu(x: Array) -> Array:
    """Return the self-normalising scale * elu(x, alpha)."""
    return _SELU_SCALE * elu(x, _SELU_ALPHA)


def gelu(x: Array) -> Array:
    """Return x times the normal distribution function of x."""
    # erfc and not 1 + erf: the left tail would cancel to 0 at x = -8.
    tail = np.asarray(_erfc(-_SQRT_HALF * x), dtype=np.float64)
    return _times_vanishing(x, 0.5 * tail)


def gelu_tanh(x: Array) -> Array:
    """Return the tanh approximation of gelu."""
    # Beyond +-1000 the sigmoid is exactly 0 or 1, and the cube of a larger x could overflow.
    u = np.clip(x, -1e3, 1e3)
    return _times_vanishing(x, sigmoid(2.0 * _SQRT_2_OVER_PI * (u + 0.044715 * u * u * u)))


def silu(x: Array) -> Array:
    """Return x * sigmoid(x)."""
    return _times_vanishing(x, sigmoid(x))


def mish(x: Array) -> Array:
    """Return x * tanh(softplus(x))."""
    return _times_vanishing(x, tanh(softplus(x)))


def softplus(x: Array) -> Array:
    """Return log(1 + exp(x))."""
    y: Array = np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))
    return y


def softsign(x: Array) -> Array:
    """Return x / (1 + |x|)."""
    y: Array = np.where(np.isinf(x), np.sign(x), x / (1.0 + np.abs(x)))
    return y


def exponential(x: Array) -> Array:
    """Return exp(x)."""
    y: Array = np.exp(x)
    return y


def softmax(x: Array) -> Array:
    """Return exp(x) over its sum along the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    y: Array = e / e.sum(axis=-1, keepdims=True)
    return y


def log_softmax(x: Array) -> Array:
    """Return the logarithm of softmax(x), without computing softmax."""
    shifted = x - x.max(axis=-1, keepdims=True)
    y: Array = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return y


FUNCTIONS: dict[str, Callable[..., Array]] = {
    f.__name__: f
    for f in (
        linear, step, sigmoid, hard_sigmoid, tanh, relu, relu6, leaky_relu, elu, selu, gelu, gelu_tanh, silu,
        mish, softplus, softsign, exponential, softmax, log_softmax,
    )
}  # fmt: skip
"""Formula name -> function of a float64 array and the activation's parameters."""
