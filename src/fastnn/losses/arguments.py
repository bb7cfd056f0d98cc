"""Arguments of a loss or metric that is called on arrays: checked, float64, and of matching shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn import casts
from fastnn.losses.targets import Kind, Shape

Array = NDArray[np.float64]


class Arguments(NamedTuple):
    """Rows of targets and predictions.

    Attributes
    ----------
    kind : str
        "classes" or "dense".
    targets : numpy.ndarray
        int64 of shape predictions.shape[:-1], or float64 of the shape of the predictions.
    predictions : numpy.ndarray of float64, shape (n, ..., columns)
    weights : numpy.ndarray of float64, or None
        Of shape (n,), or with further of the first axes of the predictions' rows.
    """

    kind: Kind
    targets: NDArray[Any]
    predictions: Array
    weights: Array | None


def check_arguments(
    owner: str,
    check_targets: Callable[[NDArray[Any], Shape, str], Kind],
    y_true: ArrayLike,
    y_pred: ArrayLike,
    sample_weight: ArrayLike | None,
    y_pred_range: tuple[float, float],
) -> Arguments:
    """Check the arguments of a direct call, and convert them to one form."""
    predictions = _check_predictions(owner, y_pred, y_pred_range)
    targets = _numbers(y_true, f"{owner}: y_true")
    kind = check_targets(targets, predictions.shape[1:], f"{owner}: y_true")
    if len(targets) != len(predictions):
        raise ValueError(
            f"{owner}: expected as many rows in y_true as in y_pred, got {len(targets)} and {len(predictions)}"
        )
    if kind == "any":
        raise TypeError(f"{owner}: is a function of symbols, which has values in a model only: use model.evaluate")
    if kind == "classes":
        targets = targets.reshape(predictions.shape[:-1]).astype(np.int64)
    else:
        targets = targets.reshape(predictions.shape).astype(np.float64)
    return Arguments(kind, targets, predictions, _check_weights(owner, sample_weight, predictions.shape[:-1]))


def _numbers(value: Any, what: str) -> NDArray[Any]:
    """Return data as an array, as a model takes it; refuses the same values that `evaluate` does."""
    casts.refuse_what_is_no_data(value, what)
    if not isinstance(value, np.ndarray) and hasattr(value, "to_numpy"):
        value = value.to_numpy()
    return casts.plain(value, what)


def _check_predictions(owner: str, y_pred: ArrayLike, y_pred_range: tuple[float, float]) -> Array:
    array = _numbers(y_pred, f"{owner}: y_pred")
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{owner}: expected y_pred of a real number type, got dtype {array.dtype}")
    if array.size == 0 or array.ndim == 0:
        raise ValueError(f"{owner}: expected y_pred with a row and a column, got shape {array.shape}")
    predictions = np.asarray(array, dtype=np.float64)
    if predictions.ndim == 1:
        predictions = predictions[:, None]
    low, high = y_pred_range
    # A sum of float32 exponentials rounds: a softmax may give 1.0000001.
    bad = (predictions < low - 1e-6) | (predictions > high + 1e-6)
    if bad.any():
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        expected = "probabilities from 0 to 1" if high == 1.0 else f"predictions >= {low:g}"
        logits = "logarithms of rates" if owner == "poisson" else "logits" if "cross_entropy" in owner else ""
        hint = f"; for {logits}, pass from_logits=True" if logits else ""
        raise ValueError(
            f"{owner}: expected {expected} in y_pred; row {index[0]} has {predictions[index].item()}{hint}"
        )
    return predictions


def _check_weights(owner: str, sample_weight: ArrayLike | None, rows: Shape) -> Array | None:
    """Return weights without a last axis of length 1; `rows` is the shape of the predictions' rows."""
    if sample_weight is None:
        return None
    array = _numbers(sample_weight, f"{owner}: sample_weight")
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{owner}: expected sample_weight of a real number type, got dtype {array.dtype}")
    shape = array.shape[:-1] if array.ndim > 1 and array.shape[-1] == 1 and array.shape != rows else array.shape
    if not shape or shape != rows[: len(shape)]:
        allowed = " or ".join(str(rows[:axes]) for axes in range(1, len(rows) + 1))
        raise ValueError(f"{owner}: expected sample_weight of shape {allowed}, got {array.shape}")
    weights = array.reshape(shape).astype(np.float64)
    bad = np.argwhere(~np.isfinite(weights))
    if len(bad):
        index = tuple(int(i) for i in bad[0])
        within = f"{list(index[1:])}" if len(index) > 1 else ""
        raise ValueError(f"{owner}: expected finite sample weights; row {index[0]}{within} has {weights[index].item()}")
    return weights


def of_rows(weights: Array, rows: Shape) -> Array:
    """Spread weights over rows: a view of shape `rows`, whose first axes are those of the weights."""
    spread: Array = np.broadcast_to(weights.reshape(weights.shape + (1,) * (len(rows) - weights.ndim)), rows)
    return spread
