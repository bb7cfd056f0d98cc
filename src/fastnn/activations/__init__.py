"""Activation functions: objects, found by name with `get`, and callable on NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable

from fastnn.activations.base import Activation
from fastnn.activations.custom import Custom
from fastnn.activations.objects import (
    ELU,
    GELU,
    SELU,
    Exponential,
    HardSigmoid,
    LeakyReLU,
    Linear,
    LogSoftmax,
    Mish,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Softsign,
    Step,
    Tanh,
)
from fastnn.formulas.custom import is_function
from fastnn.hints import install
from fastnn.registry import resolve

_ALIASES: dict[str, str | Callable[[], Activation]] = {
    "relu": "ReLU",
    "relu6": "ReLU6",
    "leaky_relu": "LeakyReLU",
    "silu": "SiLU",
    "swish": "SiLU",
    "gelu_tanh": lambda: GELU(approximate=True),
    "identity": "Linear",
    "exp": "Exponential",
}


def get(value: object) -> Activation:
    """Return the activation for a name or object.

    Parameters
    ----------
    value : None, str, Activation or function
        None means linear; a function of one number becomes a `Custom` activation. Names: linear, step, sigmoid,
        hard_sigmoid, tanh, relu, relu6, leaky_relu, elu, selu, gelu, gelu_tanh, silu (or swish), mish, softplus,
        softsign, exponential (or exp), softmax, log_softmax.

    Returns
    -------
    Activation
        The object itself, or one with the defaults of its class.

    Raises
    ------
    ValueError
        If the name is unknown; the message lists the names.
    TypeError
        If the value is neither None, a string, an activation nor a function.
    """
    if value is None:
        return Linear()
    if is_function(value):
        return Custom(value)
    return resolve("activation", value, _ALIASES, Activation)


__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "Activation",
    "Custom",
    "Exponential",
    "HardSigmoid",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "Mish",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Softsign",
    "Step",
    "Tanh",
    "get",
]

# activations are also available by name, as in fastnn.activations.relu(x)
install(__name__, get)
