"""The six accumulators that fill every metric, on NumPy arrays in float64.

This is the definition that the compiled kernels follow. Each function adds a batch to a flat float64 array:

- targets: int64 labels of shape (rows,), or float64 of shape (rows, cols). With two or more columns, the
  label of a dense row is its first maximum; in a single column, a target > 0.5 is positive. Labels come
  with two or more columns only.
- predictions: float64 scores of shape (rows, cols), converted from the network's dtype before any arithmetic.
- weights: float64 of shape (rows,).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.formulas.metrics import LABEL_CELLS, OCTAVES, TRACE

Array = NDArray[np.float64]

REGRESSION_SUMS = ("w", "wp", "wy", "wpp", "wyy", "wpy", "absolute", "squared", "p_shift", "y_shift")
"""Rows of the accumulator `regression_sums`, each with a value a column."""


def count_correct(total: Array, targets: NDArray[Any], predictions: Array, weights: Array, threshold: float) -> None:
    """Add to [weight of correct rows, weight of rows].

    One column: correct where (score > threshold) is (target > 0.5). More: where the label's score is the
    first maximum, that is, greater than every score before it and not less than any after it. A row with a
    NaN score is not correct.
    """
    if predictions.shape[1] == 1:
        score = predictions[:, 0]
        correct = ((score > threshold) == (targets[:, 0] > 0.5)) & ~np.isnan(score)
    else:
        labels = _labels(targets)
        score = np.take_along_axis(predictions, labels[:, None], axis=1)
        before = np.arange(predictions.shape[1]) < labels[:, None]
        correct = np.where(before, predictions < score, predictions <= score).all(axis=1)
    total += (weights[correct].sum(), weights.sum())


def top_k(total: Array, targets: NDArray[Any], predictions: Array, weights: Array, k: float) -> None:
    """Add to [weight of correct rows, weight of rows].

    A row is correct where fewer than k scores are not <= the label's score: ties are in the label's
    favour, a NaN score counts as greater, and a label whose own score is NaN is never in the top k (k <=
    columns).
    """
    score = np.take_along_axis(predictions, _labels(targets)[:, None], axis=1)
    correct = (~(predictions <= score)).sum(axis=1) < k
    total += (weights[correct].sum(), weights.sum())


def confusion(total: Array, targets: NDArray[Any], predictions: Array, weights: Array, threshold: float) -> None:
    """Add to a row-major matrix of weights: C true classes by C predicted classes and one column for NaN.

    One column has C = 2 classes, 1 being predicted where score > threshold. More columns: the predicted
    class is the first maximum. A row with a NaN score is counted in the last column, as no class is
    predicted. A row of weight 0 adds `TRACE`: a macro average has to know of all classes that occur.
    """
    if predictions.shape[1] == 1:
        n_classes = 2
        labels = (targets[:, 0] > 0.5).astype(np.int64)
        predicted = (predictions[:, 0] > threshold).astype(np.int64)
    else:
        n_classes = predictions.shape[1]
        labels = _labels(targets)
        predicted = predictions.argmax(axis=1)
    predicted = np.where(np.isnan(predictions).any(axis=1), n_classes, predicted)
    np.add.at(total, labels * (n_classes + 1) + predicted, np.where(weights == 0.0, TRACE, weights))


def label_confusion(total: Array, targets: NDArray[Any], predictions: Array, weights: Array, threshold: float) -> None:
    """Add to a row-major array of weights of shape (columns, 2, 3): every column is a label, present or absent.

    The second axis is the target (absent, present), the third what is predicted (absent, present, nothing for a
    NaN score). A label is present where its dense target is > 0.5, or where it is the row's integer label. It is
    predicted where its score > threshold.
    """
    columns = np.arange(predictions.shape[1])
    present = targets[:, None] == columns if targets.ndim == 1 else targets > 0.5
    predicted = np.where(np.isnan(predictions), 2, predictions > threshold)
    places = LABEL_CELLS * columns + LABEL_CELLS // 2 * present + predicted
    np.add.at(total, places, np.broadcast_to(weights[:, None], places.shape))


def auc_histogram(total: Array, targets: NDArray[Any], predictions: Array, weights: Array, bins: float) -> None:
    """Add to bins of positive weight, followed by as many bins of negative weight.

    Every element is a sample: positive where its column is the row's label, or where its dense target is
    > 0.5. Each octave of the scores from 2^-126 to 1/2 has (bins - 1) / 177 bins of equal width, and so
    has each octave of the distances from 1 from 1/2 to 2^-53, which are rounded to float32. A NaN score
    counts as 0 for a positive and 1 for a negative sample.
    """
    n = int(bins)
    positive = targets[:, None] == np.arange(predictions.shape[1]) if targets.ndim == 1 else targets > 0.5
    score = np.where(np.isnan(predictions), np.where(positive, 0.0, 1.0), np.clip(predictions, 0.0, 1.0))
    mantissa, exponent = np.frexp(np.where(score >= 0.5, 1.0 - score, score).astype(np.float32))
    # in octaves above the least one: frexp gives 1/2 <= mantissa < 1
    octaves = exponent - 1 + np.where(score >= 0.5, 53, 126) + (2.0 * mantissa - 1.0)
    steps = np.maximum(np.floor(octaves * ((n - 1) // OCTAVES)), 0.0).astype(np.int64)
    # the exponent of 0 says nothing
    steps = np.where(mantissa == 0.0, 0, steps)
    places = np.where(score >= 0.5, n - 1 - steps, steps)
    np.add.at(total, np.where(positive, places, n + places), np.broadcast_to(weights[:, None], score.shape))


def regression_sums(total: Array, targets: NDArray[Any], predictions: Array, weights: Array) -> None:
    """Add to `REGRESSION_SUMS`, a row-major matrix of ten rows by columns.

    With p and y less the shifts of their column, the rows are sum w, sum w p, sum w y, sum w p^2, sum w
    y^2, sum w p y, sum w |p - y|, sum w (p - y)^2 (the last two without shifts), and the shifts. A shift
    that is NaN, as all are at first, becomes the column's value in the first row of a weight other than 0.
    So variances of data far from 0 keep their digits. Rows of weight 0 are left out, whatever they hold.
    """
    counted = weights != 0.0
    if not counted.any():
        return
    targets, predictions, weights = targets[counted], predictions[counted], weights[counted]
    sums = total.reshape(len(REGRESSION_SUMS), -1)
    for shift, values in ((sums[8], predictions), (sums[9], targets)):
        shift[:] = np.where(np.isnan(shift), values[0], shift)
    p = predictions - sums[8]
    y = targets - sums[9]
    error = predictions - targets
    for row, terms in enumerate((np.ones_like(p), p, y, p * p, y * y, p * y, np.abs(error), error * error)):
        sums[row] += weights @ terms


def _labels(targets: NDArray[Any]) -> NDArray[np.int64]:
    labels: NDArray[np.int64] = targets if targets.ndim == 1 else targets.argmax(axis=1)
    return labels


ACCUMULATORS: dict[str, Callable[..., None]] = {
    f.__name__: f for f in (count_correct, top_k, confusion, label_confusion, auc_histogram, regression_sums)
}
"""Accumulator name -> function of the total, targets, predictions, weights and the metric's parameters."""
