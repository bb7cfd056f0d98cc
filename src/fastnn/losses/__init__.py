"""Loss functions: objects, found by name with `get`, and callable on NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable

from fastnn.formulas.custom import is_function
from fastnn.hints import install
from fastnn.losses.base import Loss
from fastnn.losses.custom import Custom
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
        A function of a target and a prediction becomes a `Custom` loss. Names: mean_squared_error (mse),
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
    """
    if is_function(value):
        return Custom(value)
    return resolve("loss", value, ALIASES, Loss)


__all__ = [
    "BinaryCrossEntropy",
    "BinaryCrossentropy",
    "CategoricalCrossentropy",
    "CrossEntropy",
    "Custom",
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
