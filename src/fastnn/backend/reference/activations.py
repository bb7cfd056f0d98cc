"""Gradients of the activations from a table of derivatives, and the mapped function of a record."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fastnn.activations import arrays
from fastnn.backend.reference.instruction import Instruction

Array = NDArray[np.float64]

_SELU_SCALE = 1.0507009873554804934193349852946
_SELU_ALPHA = 1.6732632423543772848170429916717
_SQRT_2_OVER_PI = math.sqrt(2.0 / math.pi)
_erfc = np.frompyfunc(math.erfc, 1, 1)

# Activations that use their first parameter.
PARAMETRIC = frozenset({"step", "leaky_relu", "elu"})


def _gelu(x: Array) -> Array:
    # beyond +-40 the density is 0, and infinity times 0 would be NaN
    x = np.clip(x, -40.0, 40.0)
    cdf = 0.5 * np.asarray(_erfc(-x / math.sqrt(2.0)), dtype=np.float64)
    return cdf + x * np.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)


def _gated(x: Array, u: Array, slope: Array) -> Array:
    """Return the derivative of x sigmoid(u(x)); `slope` is that of u."""
    return arrays.sigmoid(u) + x * arrays.sigmoid(u) * arrays.sigmoid(-u) * slope


def _gelu_tanh(x: Array) -> Array:
    x = np.clip(x, -40.0, 40.0)
    u = 2.0 * _SQRT_2_OVER_PI * (x + 0.044715 * x**3)
    return _gated(x, u, 2.0 * _SQRT_2_OVER_PI * (1.0 + 3.0 * 0.044715 * x**2))


def _silu(x: Array) -> Array:
    x = np.clip(x, -800.0, 800.0)
    return _gated(x, x, np.ones_like(x))


def _mish(x: Array) -> Array:
    x = np.clip(x, -800.0, 800.0)
    # cosh(softplus), since exp(softplus) = 1 + e^x; NumPy 1.26's cosh is off by 1.5 ulp, which shows where terms cancel
    powers = 1.0 + np.exp(np.minimum(x, 700.0))
    cosh = 0.5 * (powers + 1.0 / powers)
    slope: Array = np.tanh(arrays.softplus(x)) + x * arrays.sigmoid(x) / cosh**2
    return slope


# Activation -> its derivative, from the value named by `formulas.activations.SAVES` and the first parameter.
DERIVATIVES: dict[str, Callable[[Array, float], Array]] = {
    "linear": lambda x, a: np.ones_like(x),
    "sigmoid": lambda y, a: y * (1.0 - y),
    "tanh": lambda y, a: (1.0 - y) * (1.0 + y),
    "elu": lambda y, a: np.where(y <= 0.0, y + a, 1.0),
    "selu": lambda y, a: np.where(y <= 0.0, y + _SELU_SCALE * _SELU_ALPHA, _SELU_SCALE),
    "leaky_relu": lambda y, a: np.where(y <= 0.0, a, 1.0),
    "gelu": lambda x, a: _gelu(x),
    "gelu_tanh": lambda x, a: _gelu_tanh(x),
    "silu": lambda x, a: _silu(x),
    "mish": lambda x, a: _mish(x),
    "softplus": lambda y, a: -np.expm1(-y),
    "softsign": lambda x, a: (1.0 + np.abs(x)) ** -2.0,
    "exponential": lambda y, a: y,
}

# Activation -> slope, and the outputs at and beyond which the gradient is 0, whatever dy is.
FLAT_OUTSIDE: dict[str, tuple[float, float, float]] = {
    "relu": (1.0, 0.0, math.inf),
    "relu6": (1.0, 0.0, 6.0),
    "hard_sigmoid": (1.0 / 6.0, 0.0, 1.0),
}


def gradient(name: str, saved: Array, dy: Array, a: float) -> Array:
    """Return dx = dy f'(x); a NaN in `saved` counts as not flat, so that dy passes."""
    if name in FLAT_OUTSIDE:
        slope, low, high = FLAT_OUTSIDE[name]
        flat = (saved <= low) | ((saved >= high) & (high < math.inf))
        return np.where(flat, 0.0, slope * dy)
    return dy * DERIVATIVES[name](saved, a)


def _name(i: Instruction) -> str:
    if i.mapped is None:
        raise ValueError(f"a record of {i.op!r} applies an activation, but names none")
    return i.mapped.variant


def value(name: str, x: Array, a: float) -> Array:
    """Return an activation of x, with its first parameter if it has one."""
    return arrays.FUNCTIONS[name](x, a) if name in PARAMETRIC else arrays.FUNCTIONS[name](x)


def apply(i: Instruction, x: Array) -> Array:
    """Return the record's activation of x."""
    return value(_name(i), x, i.params["p0"])


def apply_gradient(i: Instruction, saved: Array, dy: Array) -> Array:
    """Return dy times the derivative of the record's activation."""
    return gradient(_name(i), saved, dy, i.params["p0"])
