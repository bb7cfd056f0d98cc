"""Metrics as objects and by name through `get`; they also work on NumPy arrays, batch by batch or at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from fastnn import losses
from fastnn.hints import install
from fastnn.losses import Loss
from fastnn.metrics.base import Metric
from fastnn.metrics.classification import AUC, Accuracy, BinaryAccuracy, TopKAccuracy
from fastnn.metrics.confusion import ConfusionMatrix, F1Score, Precision, Recall
from fastnn.metrics.mean_loss import Function, MeanLoss, Perplexity
from fastnn.metrics.regression import (
    MeanAbsoluteError,
    MeanSquaredError,
    PearsonCorrelation,
    R2Score,
    RootMeanSquaredError,
)
from fastnn.registry import REGISTRY, resolve, snake_case

_ALIASES: dict[str, str | Callable[[], Metric]] = {
    "acc": "Accuracy",
    "categorical_accuracy": "Accuracy",
    "sparse_categorical_accuracy": "Accuracy",
    "top_k_categorical_accuracy": "TopKAccuracy",
    "sparse_top_k_categorical_accuracy": "TopKAccuracy",
    "f1": "F1Score",
    "f1_score": "F1Score",
    "mse": "MeanSquaredError",
    "rmse": "RootMeanSquaredError",
    "mae": "MeanAbsoluteError",
    "r2": "R2Score",
    "r2_score": "R2Score",
    "pearson": "PearsonCorrelation",
}
# Losses by name, but for those that are metrics by themselves.
_ALIASES |= {
    name: partial(MeanLoss, name)
    for name in (
        *losses.ALIASES,
        *(snake_case(kind) for kind in REGISTRY["loss"] if kind not in ("Custom", "Function")),
    )
    if name not in _ALIASES and name.replace("_", "") not in {kind.lower() for kind in REGISTRY["metric"]}
}


def get(value: object) -> Metric:
    """Give the metric that a name or object means.

    Parameters
    ----------
    value : str, Metric, Loss or function
        Names: accuracy (acc, categorical_accuracy, sparse_categorical_accuracy), binary_accuracy, top_k_accuracy
        (top_k_categorical_accuracy), precision, recall, f1_score (f1), auc, confusion_matrix, mean_squared_error
        (mse), root_mean_squared_error (rmse), mean_absolute_error (mae), r2_score (r2), pearson_correlation
        (pearson), perplexity. The name of a loss, a loss, or a function of two numbers as for `losses.Custom` means
        its `MeanLoss`; a function of symbols, as for `losses.Function`, means `Function`.

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
    if isinstance(value, Loss) or (callable(value) and not isinstance(value, (type, Metric))):
        loss = losses.get(value)
        return MeanLoss(loss) if isinstance(value, Loss) or not isinstance(loss, losses.Function) else Function(loss)
    return resolve("metric", value, _ALIASES, Metric)


__all__ = [
    "AUC",
    "Accuracy",
    "BinaryAccuracy",
    "ConfusionMatrix",
    "F1Score",
    "Function",
    "MeanAbsoluteError",
    "MeanLoss",
    "MeanSquaredError",
    "Metric",
    "PearsonCorrelation",
    "Perplexity",
    "Precision",
    "R2Score",
    "Recall",
    "RootMeanSquaredError",
    "TopKAccuracy",
    "get",
]

install(__name__)
