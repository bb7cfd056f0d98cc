"""Metrics of the confusion matrix: the matrix itself, precision, recall and the F1 score."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fastnn.formulas.metrics import LEAST_WEIGHT
from fastnn.losses.targets import Kind, Shape, check_array, check_one_class
from fastnn.metrics.base import PROBABILITY, Array, Metric, check_threshold
from fastnn.registry import register

Average = Literal["auto", "binary", "macro", "micro", "weighted"]


@dataclass(frozen=True)
class _Confusion(Metric):
    accumulator: ClassVar[str] = "confusion"

    threshold: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Check the parameters."""
        check_threshold(self)

    @property
    def parameters(self) -> tuple[float, ...]:
        """The threshold."""
        return (PROBABILITY if self.threshold is None else self.threshold,)

    def check_targets(self, y: NDArray[Any], output_shape: Shape, where: str) -> Kind:
        """Check labels or one-hot targets; see `Metric.check_targets`."""
        return check_one_class(check_array(y, where), output_shape, where)

    def size(self, output_shape: Shape) -> int:
        """C true classes by C predicted classes and a column for NaN scores."""
        n_classes = max(2, output_shape[-1])
        return n_classes * (n_classes + 1)


@register("metric")
@dataclass(frozen=True)
class ConfusionMatrix(_Confusion):
    """Weight of the rows of every true class (first axis) for which every class (second axis) is predicted.

    With two or more columns, the prediction is the first maximum of the scores. A single column has two
    classes. A row with a NaN score is in no cell. The result is a float64 array of shape (classes,
    classes).

    Parameters
    ----------
    threshold : float, optional
        For a single column: class 1 is predicted where score > threshold. None as for `Accuracy`.
    """

    name: ClassVar[str] = "confusion_matrix"
    is_number: ClassVar[bool] = False
    better: ClassVar[str] = ""

    def _result(self, total: Array, output_shape: Shape) -> Array:
        return _weights(_matrix(total))[:, :-1]


@dataclass(frozen=True)
class _Averaged(_Confusion):
    better: ClassVar[str] = "max"

    average: Average = "auto"

    def __post_init__(self) -> None:
        """Check the parameters."""
        super().__post_init__()
        if self.average not in get_args(Average):
            known = ", ".join(get_args(Average))
            raise ValueError(f"{type(self).__name__} average: expected one of {known}; got {self.average!r}")

    def size(self, output_shape: Shape) -> int:
        """C (C + 1) for C classes; ValueError if a binary average is asked of more than two."""
        if self.average == "binary" and output_shape[-1] > 2:
            raise ValueError(
                f"{self.name}: expected one or two output columns for average='binary', got {output_shape[-1]}"
            )
        return super().size(output_shape)

    def _result(self, total: Array, output_shape: Shape) -> float:
        seen = _matrix(total)
        occurs = seen[:, :-1].any(axis=0) | seen.any(axis=1)
        matrix = _weights(seen)
        true_positive = matrix.diagonal()
        predicted = matrix[:, :-1].sum(axis=0)
        actual = matrix.sum(axis=1)
        if actual.sum() == 0.0:
            return float("nan")
        numerator, denominator = self._fraction(true_positive, predicted, actual)
        average = self.average
        if average == "auto":
            average = "binary" if output_shape[-1] == 1 else "macro"
        if average == "micro":
            return float(_divide(numerator.sum(), denominator.sum()))
        scores = _divide(numerator, denominator)
        if average == "binary":
            return float(scores[1])
        if average == "weighted":
            return float(scores @ actual / actual.sum())
        return float(scores[occurs].mean())

    def _fraction(self, true_positive: Array, predicted: Array, actual: Array) -> tuple[Array, Array]:
        raise NotImplementedError


@register("metric")
@dataclass(frozen=True)
class Precision(_Averaged):
    """Share of correct rows among those for which a class is predicted (scikit-learn `precision_score`).

    With two or more columns, the prediction is the first maximum of the scores. 0 / 0 counts as 0, and
    nothing is predicted for a row with a NaN score.

    Parameters
    ----------
    average : str
        "binary": the score of class 1, for one or two columns. "macro": the mean over the classes that
        occur among targets or predictions, if only in rows of weight 0. "weighted": the mean weighted by
        how often classes are the target. "micro": of the sums over all classes. "auto": "binary" for a
        single column, else "macro".
    threshold : float, optional
        For a single column: class 1 is predicted where score > threshold. None as for `Accuracy`.
    """

    name: ClassVar[str] = "precision"

    def _fraction(self, true_positive: Array, predicted: Array, actual: Array) -> tuple[Array, Array]:
        return true_positive, predicted


@register("metric")
@dataclass(frozen=True)
class Recall(_Averaged):
    """Share of correct rows among those whose target is a class (scikit-learn `recall_score`).

    Parameters
    ----------
    average : str
        As for `Precision`.
    threshold : float, optional
        As for `Precision`.
    """

    name: ClassVar[str] = "recall"

    def _fraction(self, true_positive: Array, predicted: Array, actual: Array) -> tuple[Array, Array]:
        return true_positive, actual


@register("metric")
@dataclass(frozen=True)
class F1Score(_Averaged):
    """Harmonic mean of precision and recall of every class, averaged (scikit-learn `f1_score`).

    Parameters
    ----------
    average : str
        As for `Precision`.
    threshold : float, optional
        As for `Precision`.
    """

    name: ClassVar[str] = "f1_score"

    def _fraction(self, true_positive: Array, predicted: Array, actual: Array) -> tuple[Array, Array]:
        return 2.0 * true_positive, predicted + actual


def _matrix(total: Array) -> Array:
    n_classes = math.isqrt(len(total))
    return total.reshape(n_classes, n_classes + 1)


def _weights(matrix: Array) -> Array:
    """Return the weights without the traces of rows of weight 0."""
    return np.where(np.abs(matrix) < LEAST_WEIGHT, 0.0, matrix)


def _divide(numerator: Array, denominator: Array) -> Array:
    # Only true positives can be the numerator, so a denominator of 0 has a numerator of 0.
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator != 0.0)
