"""The work of the cases of `kernel_cases` in NumPy: in place, without temporaries where that is easy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]

HYPER = {
    "sgd": (1e-3, 0.0), "sgd_momentum": (1e-3, 0.0, 0.9), "adagrad": (1e-3, 0.0, 1e-7),
    "rmsprop": (1e-3, 0.0, 0.9, 0.1, 1e-7), "adam": (1e-3, 0.0, 0.1, 0.001, 1e-7),
}  # fmt: skip
"""The scalars of one step, by optimizer."""


def _softmax(a: Arrays) -> None:
    y = a["y"]
    np.subtract(a["x"], a["x"].max(axis=1, keepdims=True), out=y)
    np.exp(y, out=y)
    np.divide(y, y.sum(axis=1, keepdims=True), out=y)


def _log_softmax(a: Arrays) -> None:
    y = a["y"]
    np.subtract(a["x"], a["x"].max(axis=1, keepdims=True), out=y)
    np.subtract(y, np.log(np.exp(y).sum(axis=1, keepdims=True)), out=y)


def _softmax_grad(a: Arrays) -> None:
    np.subtract(a["dy"], np.einsum("ij,ij->i", a["dy"], a["y"])[:, None], out=a["dx"])
    np.multiply(a["dx"], a["y"], out=a["dx"])


def _layer_norm(a: Arrays) -> None:
    x, y = a["x"], a["y"]
    np.subtract(x, x.mean(axis=1, keepdims=True), out=y)
    y *= 1.0 / np.sqrt(np.einsum("ij,ij->i", y, y)[:, None] / np.float32(x.shape[1]) + np.float32(1e-3))
    y *= a["gamma"]
    y += a["beta"]


def _layer_norm_grad(a: Arrays) -> None:
    n, rstd = np.float32(a["x"].shape[1]), a["rstd"][:, None]
    normal = (a["x"] - a["mean"][:, None]) * rstd
    g = np.multiply(a["dy"], a["gamma"], out=a["dx"])
    moment = np.einsum("ij,ij->i", g, normal)[:, None] / n
    g -= g.mean(axis=1, keepdims=True)
    g -= normal * moment
    g *= rstd


def _layer_norm_param_grad(a: Arrays) -> None:
    normal = (a["x"] - a["mean"][:, None]) * a["rstd"][:, None]
    np.einsum("ij,ij->j", a["dy"], normal, out=a["dgamma"])
    np.sum(a["dy"], axis=0, out=a["dbeta"])


def _batch_norm(a: Arrays) -> None:
    x, y = a["x"], a["y"]
    mean = x.mean(axis=0)
    np.subtract(x, mean, out=y)
    variance = np.einsum("ij,ij->j", y, y) / np.float32(len(x))
    for name, moved in (("moving_mean", mean), ("moving_variance", variance)):
        a[name] *= np.float32(0.9)
        a[name] += np.float32(0.1) * moved
    y *= a["gamma"] / np.sqrt(variance + np.float32(1e-3))
    y += a["beta"]


def _batch_norm_grad(a: Arrays) -> None:
    n = np.float32(len(a["x"]))
    normal = (a["x"] - a["mean"]) * a["rstd"]
    np.einsum("ij,ij->j", a["dy"], normal, out=a["dgamma"])
    np.sum(a["dy"], axis=0, out=a["dbeta"])
    np.subtract(a["dy"], a["dbeta"] / n + normal * (a["dgamma"] / n), out=a["dx"])
    np.multiply(a["dx"], a["rstd"] * a["gamma"], out=a["dx"])


def _cross_entropy(a: Arrays) -> None:
    x, dx, rows = a["x"], a["dx"], np.arange(len(a["x"]))
    np.subtract(x, x.max(axis=1, keepdims=True), out=dx)
    total = np.exp(dx).sum(axis=1)
    np.subtract(np.log(total), dx[rows, a["target"]], out=a["row_loss"])
    np.exp(dx, out=dx)
    np.divide(dx, total[:, None], out=dx)
    dx[rows, a["target"]] -= 1.0
    dx *= np.float32(1.0 / len(x))


def _gelu_tanh(a: Arrays) -> None:
    x = a["x"]
    inner = np.float32(0.7978845608) * (x + np.float32(0.044715) * x * x * x)
    np.multiply(np.float32(0.5) * x, np.float32(1.0) + np.tanh(inner), out=a["y"])


def _silu(a: Arrays) -> None:
    np.divide(a["x"], np.float32(1.0) + np.exp(-a["x"]), out=a["y"])


def _tanh_grad(a: Arrays) -> None:
    np.multiply(a["dy"], np.float32(1.0) - a["saved"] * a["saved"], out=a["dx"])


def _dropout(a: Arrays) -> None:
    rng = np.random.default_rng(0)
    np.multiply(a["x"], (rng.random(a["x"].shape, np.float32) >= 0.5) * np.float32(2.0), out=a["y"])


def _optimizer(variant: str, a: Arrays) -> None:
    p, g, h = a["p"], a["g"], [np.float32(value) for value in HYPER[variant]]
    if variant == "sgd":
        p -= h[0] * g
    elif variant == "sgd_momentum":
        m = a["s0"]
        m *= h[2]
        m -= h[0] * g
        p += m
    elif variant == "adagrad":
        a["s0"] += g * g
        p -= h[0] * g / np.sqrt(a["s0"] + h[2])
    elif variant == "rmsprop":
        v = a["s0"]
        v *= h[2]
        v += h[3] * (g * g)
        p -= h[0] * g / np.sqrt(v + h[4])
    elif variant == "adam":
        m, v = a["s0"], a["s1"]
        m += h[2] * (g - m)
        v += h[3] * (g * g - v)
        p -= h[0] * m / (np.sqrt(v) + h[4])


def optimizer(variant: str) -> Callable[[Arrays], None]:
    """Return the step of an optimizer."""
    return lambda a: _optimizer(variant, a)


NUMPY: dict[str, Callable[[Arrays], Any]] = {
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "softmax_grad": _softmax_grad,
    "layer_norm": _layer_norm,
    "layer_norm_grad": _layer_norm_grad,
    "layer_norm_param_grad": _layer_norm_param_grad,
    "batch_norm": _batch_norm,
    "batch_norm_grad": _batch_norm_grad,
    "cross_entropy_logits_labels": _cross_entropy,
    "gelu_tanh": _gelu_tanh,
    "silu": _silu,
    "tanh": lambda a: np.tanh(a["x"], out=a["y"]),
    "relu": lambda a: np.maximum(a["x"], np.float32(0.0), out=a["y"]),
    "tanh_grad": _tanh_grad,
    "relu_grad": lambda a: np.multiply(a["dy"], a["saved"] > 0.0, out=a["dx"]),
    "dropout": _dropout,
    "bias_add": lambda a: np.add(a["x"], a["bias"], out=a["y"]),
    "add": lambda a: np.add(a["a"], a["b"], out=a["y"]),
    "sum_rows": lambda a: np.sum(a["x"], axis=0, out=a["y"]),
    "sum_squares": lambda a: np.dot(a["x"], a["x"]),
    "gather": lambda a: np.take(a["source"], a["index"], axis=0, out=a["batch"]),
}
"""The functions by record op, or by activation ("gelu_tanh", "tanh_grad")."""
