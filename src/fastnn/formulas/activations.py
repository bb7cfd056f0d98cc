"""Activations of one element and their gradients."""

# The formulas take and return scalars of one type, which the compiler infers; annotations would add nothing.
# mypy: disable-error-code=no-untyped-def

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from fastnn.formulas import custom, gated
from fastnn.formulas.gated import Pair
from fastnn.formulas.single import Jit

SAVES: dict[str, str] = {
    "linear": "none",
    "step": "none",
    "sigmoid": "output",
    "hard_sigmoid": "output",
    "tanh": "output",
    "relu": "output",
    "relu6": "output",
    "leaky_relu": "output",
    "elu": "output",
    "selu": "output",
    "gelu": "input",
    "gelu_tanh": "input",
    "silu": "input",
    "mish": "input",
    "softplus": "output",
    "softsign": "input",
    "exponential": "output",
}
"""Activation name -> the value that its gradient is computed from: "output", "input" or "none"."""

CLIPS: dict[str, float] = {"relu": 0.0, "relu6": 6.0}
"""Activations that cut off values below 0 and do nothing else -> the value above which they cut off too, 0 if none."""


def saved_by(formula: str) -> str:
    """Return which value an activation's gradient is computed from; for user-defined ones it is the input."""
    return "input" if custom.find(formula) is not None else SAVES[formula]


def define(real: type, jit: Jit, elementary: SimpleNamespace) -> dict[str, Pair]:
    """Define every activation of one floating-point type.

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
    dict of str to (forward, gradient)
        ``forward(x, a, b) -> y`` and ``gradient(saved, dy, a, b) -> dx``, where `SAVES` says what `saved`
        is. The parameter `a` is the threshold of step, the negative slope of leaky_relu (>= 0) and the
        alpha of elu (>= 0); elsewhere it is ignored, as `b` is. The gradient of step is None.

    Raises
    ------
    ValueError
        If `real` is neither of the two types.

    Notes
    -----
    NaN gives NaN; at infinities every function has its limit. At the kinks of relu, relu6 and
    hard_sigmoid the gradient is 0, as in Keras; at 0 that of leaky_relu, elu and selu is the left one.
    Sources: gelu and its tanh approximation, Hendrycks & Gimpel (2016); silu, Elfwing et al. (2017); mish,
    Misra (2019); selu, Klambauer et al. (2017); elu, Clevert et al. (2015); the others as in Keras 3.
    """
    if real is not np.float32 and real is not np.float64:
        raise ValueError(f"real: expected numpy.float32 or numpy.float64, got {real!r}")
    table = _piecewise(real, jit, elementary)
    table.update(_smooth(real, jit, elementary))
    table.update(gated.define(real, jit, elementary))
    return table


def _piecewise(real: Any, jit: Jit, elementary: SimpleNamespace) -> dict[str, Pair]:
    zero, one = real(0.0), real(1.0)
    expm1 = elementary.expm1
    sixth = real(1.0 / 6.0)
    selu_scale = real(1.0507009873554805)
    # scale * alpha in two parts: the rounding of one constant would cost half an ulp.
    selu_limit = real(1.0507009873554805 * 1.6732632423543772)
    selu_limit_rest = real(1.0507009873554805 * 1.6732632423543772 - float(selu_limit))

    @jit
    def linear(x, a, b):
        return x

    @jit
    def linear_gradient(saved, dy, a, b):
        return dy

    @jit
    def step(x, a, b):
        return one if x >= a else (zero if x < a else x)

    @jit
    def hard_sigmoid(x, a, b):
        y = x + real(3.0)
        y = zero if y < zero else y
        return (real(6.0) if y > real(6.0) else y) * sixth

    @jit
    def hard_sigmoid_gradient(saved, dy, a, b):
        dx = dy * sixth
        dx = zero if saved <= zero else dx
        return zero if saved >= one else dx

    @jit
    def relu(x, a, b):
        return zero if x < zero else x

    @jit
    def relu_gradient(saved, dy, a, b):
        return zero if saved <= zero else dy

    @jit
    def relu6(x, a, b):
        y = zero if x < zero else x
        return real(6.0) if y > real(6.0) else y

    @jit
    def relu6_gradient(saved, dy, a, b):
        dx = zero if saved <= zero else dy
        return zero if saved >= real(6.0) else dx

    @jit
    def leaky_relu(x, a, b):
        return a * x if x < zero else x

    @jit
    def leaky_relu_gradient(saved, dy, a, b):
        return a * dy if saved <= zero else dy

    @jit
    def elu(x, a, b):
        y = a * expm1(x)
        return y if x < zero else x

    @jit
    def elu_gradient(saved, dy, a, b):
        return dy * (saved + a) if saved <= zero else dy

    @jit
    def selu(x, a, b):
        y = expm1(x)
        y = y * selu_limit + y * selu_limit_rest
        return y if x < zero else selu_scale * x

    @jit
    def selu_gradient(saved, dy, a, b):
        return dy * (saved + selu_limit) if saved <= zero else dy * selu_scale

    return {
        "linear": (linear, linear_gradient),
        "step": (step, None),
        "hard_sigmoid": (hard_sigmoid, hard_sigmoid_gradient),
        "relu": (relu, relu_gradient),
        "relu6": (relu6, relu6_gradient),
        "leaky_relu": (leaky_relu, leaky_relu_gradient),
        "elu": (elu, elu_gradient),
        "selu": (selu, selu_gradient),
    }


def _smooth(real: Any, jit: Jit, elementary: SimpleNamespace) -> dict[str, Pair]:
    zero, one, two = real(0.0), real(1.0), real(2.0)
    infinity = real(np.inf)
    elementary_sigmoid, elementary_tanh = elementary.sigmoid, elementary.tanh
    elementary_softplus, exp, expm1 = elementary.softplus, elementary.exp, elementary.expm1

    @jit
    def sigmoid(x, a, b):
        return elementary_sigmoid(x)

    @jit
    def sigmoid_gradient(saved, dy, a, b):
        return dy * (saved * (one - saved))

    @jit
    def tanh(x, a, b):
        return elementary_tanh(x)

    @jit
    def tanh_gradient(saved, dy, a, b):
        return dy * ((one - saved) * (one + saved))

    @jit
    def softplus(x, a, b):
        return elementary_softplus(x)

    @jit
    def softplus_gradient(saved, dy, a, b):
        return dy * -expm1(-saved)

    @jit
    def softsign(x, a, b):
        size = abs(x)
        limit = -one if x < zero else one
        y = x / (one + size)
        return limit if size == infinity else y

    @jit
    def softsign_gradient(saved, dy, a, b):
        size = abs(saved)
        c = one + size
        y = one / c
        # The square doubles the error of 1 + |x|, so the lost part is added back.
        rest = size - (c - one) if size < one else one - (c - size)
        rest = zero if c == infinity else rest
        return dy * (y * y - (y * y) * (two * (y * rest)))

    @jit
    def exponential(x, a, b):
        return exp(x)

    @jit
    def exponential_gradient(saved, dy, a, b):
        return dy * saved

    return {
        "sigmoid": (sigmoid, sigmoid_gradient),
        "tanh": (tanh, tanh_gradient),
        "softplus": (softplus, softplus_gradient),
        "softsign": (softsign, softsign_gradient),
        "exponential": (exponential, exponential_gradient),
    }
