"""What an estimator's parameter `loss` means for its outputs, whose activation the user does not choose."""

from __future__ import annotations

import dataclasses
from typing import Any

from fastnn import losses

#: scikit-learn's names, which `Design.objective` knows
NAMES = ("log_loss", "squared_error", "poisson")


def of_classes(given: Any, *, columns: int, several: bool) -> Any:
    """Return the loss of a classifier, whose outputs are probabilities: of two classes one column.

    Parameters
    ----------
    given : str, Loss or function
        The parameter.
    columns : int
        Of the outputs.
    several : bool
        Whether there are several labels per row.

    Returns
    -------
    str or Loss

    Raises
    ------
    ValueError
        When the loss is not one of such outputs.
    """
    if _is_name(given):
        return given
    loss = _of_values(losses.get(given))
    name = type(loss).__name__
    if isinstance(loss, losses.Perceptron):
        raise ValueError(
            "loss: Perceptron is of scores with a sign, and a classifier's outputs are probabilities: use 'log_loss'"
        )
    if isinstance(loss, (losses.CrossEntropy, losses.KLDivergence)):
        if several:
            raise ValueError(
                f"loss: {name} is for one class per row, and y has several labels per row: use 'log_loss' or "
                "'binary_cross_entropy'"
            )
        if columns == 1:
            # the same number for the probabilities p and 1 - p, also where labels are smoothed
            smoothing = getattr(loss, "label_smoothing", 0.0)
            return losses.BinaryCrossEntropy(label_smoothing=smoothing, normalize=loss.normalize)
    return loss


def of_numbers(given: Any, *, columns: int) -> tuple[Any, str]:
    """Return the loss of a regressor, and the activation of its outputs, by scikit-learn's name.

    Raises
    ------
    TypeError
        When it is no loss.
    ValueError
        When the loss is for classes alone, or for more outputs.
    """
    if isinstance(given, (tuple, list, int)):
        raise TypeError(
            f"loss: expected a name or a loss, got {given}; as in scikit-learn it is MLPRegressor's first argument: "
            f"write hidden_layer_sizes={given}"
        )
    if _is_name(given):
        if given == "log_loss":
            raise ValueError(
                "loss: 'log_loss' is for classes, which MLPClassifier learns; for numbers from 0 to 1 there is "
                "'binary_cross_entropy'"
            )
        return given, "exp" if given == "poisson" else "identity"
    loss = _of_values(losses.get(given))
    if isinstance(loss, losses.Poisson):
        return loss, "exp"
    if isinstance(loss, losses.BinaryCrossEntropy):
        return loss, "logistic"
    if isinstance(loss, (losses.CrossEntropy, losses.KLDivergence)):
        if columns == 1:
            raise ValueError(
                f"loss: {type(loss).__name__} is for rows of y that sum to 1, and y has one column: use "
                "'binary_cross_entropy' for numbers from 0 to 1, or MLPClassifier for classes"
            )
        return loss, "softmax"
    return loss, "identity"


def _is_name(given: Any) -> bool:
    return isinstance(given, str) and given in NAMES


def _of_values(loss: losses.Loss) -> losses.Loss:
    """Return a loss of what outputs mean: they have an activation, whose input fastnn computes with by itself."""
    if isinstance(loss, (losses.CrossEntropy, losses.BinaryCrossEntropy, losses.Poisson)):
        return dataclasses.replace(loss, from_logits=False)
    return loss
