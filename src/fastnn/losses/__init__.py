"""Loss functions: objects, found by name with `get`, and callable on NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnn.formulas.custom import is_function
from fastnn.hints import install
from fastnn.losses.base import Loss
from fastnn.losses.custom import Custom
from fastnn.losses.function import Function, check_traced, is_of_symbols
from fastnn.losses.margin import Hinge, Perceptron
from fastnn.losses.probability import BinaryCrossEntropy, CrossEntropy, KLDivergence
from fastnn.losses.probability import BinaryCrossEntropy as BinaryCrossentropy
from fastnn.losses.probability import CrossEntropy as CategoricalCrossentropy
from fastnn.losses.probability import CrossEntropy as SparseCategoricalCrossentropy
from fastnn.losses.regression import Huber, LogCosh, MeanAbsoluteError, MeanSquaredError, Poisson
from fastnn.registry import resolve

#: further names of losses, besides those of their classes
ALIASES: dict[str, str | Callable[[], Loss]] = {
    "mse": "MeanSquaredError",
    "mae": "MeanAbsoluteError",
    "bce": "BinaryCrossEntropy",
    "binary_crossentropy": "BinaryCrossEntropy",
    "categorical_crossentropy": "CrossEntropy",
    "sparse_categorical_crossentropy": "CrossEntropy",
    "kld": "KLDivergence",
    "kullback_leibler_divergence": "KLDivergence",
    "logcosh": "LogCosh",
}


def get(value: object) -> Loss:
    """Return the loss for a name or object.

    Parameters
    ----------
    value : str, Loss or function
        A function that uses `fastnn.ops` becomes a `Function` of symbols. Any other becomes a `Custom` loss of two
        numbers, a target and a prediction, if Numba can compile it, else a `Function` if it can be called on symbols.
        Names: mean_squared_error (mse),
        mean_absolute_error (mae), huber, log_cosh, binary_cross_entropy (binary_crossentropy, bce), cross_entropy
        (categorical_crossentropy, sparse_categorical_crossentropy), hinge, perceptron, poisson, kl_divergence (kld).

    Returns
    -------
    Loss
        The object itself, or one with the defaults of its class.

    Raises
    ------
    ValueError
        If the name is unknown; the message lists the names.
    TypeError
        If the value is neither a string, a loss nor a function.
    ValueError, TypeError
        If a function is neither of two numbers nor of symbols; the message says why.
    """
    if callable(value) and is_of_symbols(value):
        return Function(value)
    if is_function(value):
        return _scalar_or_symbols(value)
    return resolve("loss", value, ALIASES, Loss)


def _scalar_or_symbols(function: Callable[..., Any]) -> Loss:
    """Return the loss of a function of two numbers, if Numba can compile it as such; else of one of symbols."""
    try:
        return Custom(function)
    except (TypeError, ValueError) as error:
        if hasattr(function, "py_func"):
            raise
        try:
            return check_traced(Function(function))
        except Exception as other:
            reason = " ".join(str(other).split()) or type(other).__name__
            raise type(error)(f"{error}; it is no function of symbols either (fastnn.ops): {reason}") from None


__all__ = [
    "BinaryCrossEntropy",
    "BinaryCrossentropy",
    "CategoricalCrossentropy",
    "CrossEntropy",
    "Custom",
    "Function",
    "Hinge",
    "Huber",
    "KLDivergence",
    "LogCosh",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Perceptron",
    "Poisson",
    "SparseCategoricalCrossentropy",
    "get",
]

install(__name__)
