"""Metrics as objects and by name through `get`; they also work on NumPy arrays, batch by batch or at once."""

from __future__ import annotations

from collections.abc import Callable

from fastnn.hints import install
from fastnn.metrics.base import Metric
from fastnn.metrics.classification import AUC, Accuracy, BinaryAccuracy, TopKAccuracy
from fastnn.metrics.confusion import ConfusionMatrix, F1Score, Precision, Recall
from fastnn.metrics.regression import (
    MeanAbsoluteError,
    MeanSquaredError,
    PearsonCorrelation,
    R2Score,
    RootMeanSquaredError,
)
from fastnn.registry import resolve

_ALIASES: dict[str, str | Callable[[], Metric]] = {
    "acc": "Accuracy",
    "f1": "F1Score",
    "f1_score": "F1Score",
    "mse": "MeanSquaredError",
    "rmse": "RootMeanSquaredError",
    "mae": "MeanAbsoluteError",
    "r2": "R2Score",
    "r2_score": "R2Score",
    "pearson": "PearsonCorrelation",
}


def get(value: object) -> Metric:
    """Give the metric that a name or object means.

    Parameters
    ----------
    value : str or Metric
        Names: accuracy (acc), binary_accuracy, top_k_accuracy, precision, recall, f1_score (f1), auc,
        confusion_matrix, mean_squared_error (mse), root_mean_squared_error (rmse), mean_absolute_error (mae),
        r2_score (r2), pearson_correlation (pearson).

    Returns
    -------
    Metric
        The object itself, or one with the defaults of its class.

    Raises
    ------
    ValueError
        If the name is unknown; the message lists the names.
    TypeError
        If the value is neither a string nor a metric.
    """
    return resolve("metric", value, _ALIASES, Metric)


__all__ = [
    "AUC",
    "Accuracy",
    "BinaryAccuracy",
    "ConfusionMatrix",
    "F1Score",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Metric",
    "PearsonCorrelation",
    "Precision",
    "R2Score",
    "Recall",
    "RootMeanSquaredError",
    "TopKAccuracy",
    "get",
]

install(__name__)
