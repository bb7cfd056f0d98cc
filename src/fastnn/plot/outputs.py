"""What a model says about classes: probabilities and labels, from its outputs or from arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn.activations import Sigmoid, Softmax
from fastnn.checks import shorten
from fastnn.losses import BinaryCrossEntropy, CrossEntropy, Hinge, Perceptron
from fastnn.model import Model
from fastnn.runtime.programs.requests import output_ends
from fastnn.training.state import state_of

#: a probability of the second of two classes is at least this for it to be predicted
HALF = 0.5


def meaning(model: Model) -> str:
    """Return what the output of a built model of one output means.

    Returns
    -------
    {"probabilities", "logarithms", "logits", "margins", "values"}
        By its last op, and by the loss that the model is compiled with.
    """
    state = state_of(model)
    known = {end.op for end in output_ends(state.runtime.table)[0]}
    if known <= {"softmax", "sigmoid", "hard_sigmoid"}:
        return "probabilities"
    if known == {"log_softmax"}:
        return "logarithms"
    objective = state.runtime.objective
    loss = None if objective is None else objective.losses[0]
    if isinstance(loss, (BinaryCrossEntropy, CrossEntropy)) and loss.from_logits:
        return "logits"
    if isinstance(loss, (Hinge, Perceptron)):
        return "margins"
    return "values"


def outputs_of(what: str, model: Model, x: Any) -> NDArray[Any]:
    """Return predictions of a model that has one output: probabilities, where it gives logits or their logarithms.

    Raises
    ------
    ValueError
        If it has several outputs.
    """
    found = model.predict(x)
    if isinstance(found, list):
        raise ValueError(f"{what}: expected a model of one output, {model.name!r} has {len(found)}")
    y = np.asarray(found)
    known = meaning(model)
    if known == "logarithms":
        return np.asarray(np.exp(y))
    if known == "logits":
        return np.asarray(Sigmoid()(y) if y.shape[-1:] == (1,) else Softmax()(y))
    # half way between -1 and 1
    return (y >= 0.0).astype(y.dtype) if known == "margins" and y.shape[-1:] == (1,) else y


def predictions(what: str, y_pred: Any, x: Any) -> NDArray[Any]:
    """Return predictions that are given as an array, or by a model for inputs x.

    Raises
    ------
    TypeError, ValueError
        When there is a model without x, or x without a model; when numbers are not finite.
    """
    if isinstance(y_pred, Model):
        if x is None:
            raise TypeError(f"{what}: x: expected the model's inputs, since y_pred is a model; got None")
        found = outputs_of(what, y_pred, x)
    elif x is not None:
        raise TypeError(f"{what}: x: expected None unless y_pred is a model, got y_pred {type(y_pred).__name__}")
    else:
        found = np.asarray(y_pred)
    bad = ~np.isfinite(found) if found.dtype.kind == "f" else np.zeros(found.shape, bool)
    if bad.any():
        rows = np.flatnonzero(bad.reshape(len(found), -1).any(1))
        raise ValueError(
            f"{what}: y_pred: expected finite numbers, got {len(rows)} rows of others, first row {rows[0]}"
        )
    return found


def true_labels(what: str, y: ArrayLike) -> NDArray[np.int64]:
    """Return labels (n,), of labels in one column, or of rows of zeros and a one, too.

    Raises
    ------
    TypeError, ValueError
        When they are no labels.
    """
    array = np.asarray(y)
    if array.ndim == 2 and array.shape[1] > 1:
        if not (np.isin(array, (0, 1)).all() and (array.sum(1) == 1).all()):
            raise ValueError(f"{what}: y_true: expected labels (n,), or rows that are one-hot, got {shorten(y)}")
        return np.asarray(array.argmax(1), np.int64)
    return _whole(what, "y_true", array)


def _whole(what: str, name: str, array: NDArray[Any]) -> NDArray[np.int64]:
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or array.dtype.kind not in "biuf":
        raise ValueError(f"{what}: {name}: expected labels (n,) of whole numbers, got {array.dtype} {array.shape}")
    if len(array) == 0:
        raise ValueError(f"{what}: {name}: expected at least one label, got none")
    # NaN is no whole number, either
    if not (array == np.floor(array)).all() or array.min() < 0:
        raise ValueError(f"{what}: {name}: expected whole numbers from 0 on as labels, got {shorten(array)}")
    return array.astype(np.int64)


def predicted_labels(what: str, array: NDArray[Any]) -> NDArray[np.int64]:
    """Return labels (n,) of labels, of probabilities of one class, or of scores of several (n, classes).

    Raises
    ------
    ValueError
        When they are none of these.
    """
    if array.ndim == 2 and array.shape[1] > 1:
        return np.asarray(array.argmax(1), np.int64)
    if array.dtype.kind == "f" and array.size and not (array == np.floor(array)).all():
        return (one_column(what, array) >= HALF).astype(np.int64)
    return _whole(what, "y_pred", array)


def one_column(what: str, array: NDArray[Any]) -> NDArray[Any]:
    """Return probabilities (n,).

    Raises
    ------
    ValueError
        When the numbers have more columns, or are not from 0 to 1.
    """
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or array.size == 0 or array.min() < 0.0 or array.max() > 1.0:
        got = f"shape {array.shape}" + (f", from {array.min():.3g} to {array.max():.3g}" if array.size else "")
        raise ValueError(
            f"{what}: y_pred: expected probabilities (n,) of the class 1, from 0 to 1, got {got}; scores before a "
            "sigmoid are no probabilities"
        )
    return array


def same_length(what: str, y_true: NDArray[Any], y_pred: NDArray[Any]) -> None:
    """Raise ValueError if the numbers of rows differ."""
    if len(y_true) != len(y_pred):
        raise ValueError(f"{what}: expected as many targets as predictions, got {len(y_true)} and {len(y_pred)}")


def checked_names(what: str, names: Sequence[str] | None, least: int) -> list[str]:
    """Return a name for each class; without names the numbers.

    Raises
    ------
    ValueError
        When there are fewer names than classes.
    """
    if names is None:
        return [str(number) for number in range(least)]
    found = [str(name) for name in names]
    if isinstance(names, str) or len(found) < least:
        raise ValueError(f"{what}: names: expected a list of at least {least} names, got {shorten(names)}")
    return found
