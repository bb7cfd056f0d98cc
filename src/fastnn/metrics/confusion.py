"""Metrics of confusion matrices, of classes and of labels: the matrix itself, precision, recall and the F1 score."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, NamedTuple, Self, get_args

import numpy as np
from numpy.typing import NDArray

from fastnn.checks import flag
from fastnn.formulas.metrics import LABEL_CELLS, LEAST_WEIGHT
from fastnn.losses.targets import (
    Kind,
    Shape,
    check_array,
    check_one_class,
    check_scored_targets,
    check_several_labels,
    row_without_class,
)
from fastnn.metrics.base import PROBABILITY, Array, Metric, check_threshold
from fastnn.registry import register

Average = Literal["auto", "binary", "macro", "micro", "weighted", None]


@dataclass(frozen=True)
class Confusion(Metric):
    """Base of the metrics that are computed from confusion matrices.

    The columns of an output are classes, of which a row has one, or labels, of which it has any number. Where
    `multi_label` is None, the loss decides in a model, and the targets elsewhere. Until all targets have been seen,
    the accumulator holds both: the matrix of classes, those of labels, and whether any row lacks a single class.
    """

    threshold: float | None = field(default=None, kw_only=True)
    multi_label: bool | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Check the parameters."""
        check_threshold(self)
        if self.multi_label is not None:
            flag(f"{type(self).__name__} multi_label", self.multi_label)

    @property
    def accumulator(self) -> str:  # type: ignore[override]
        """One matrix of all classes, or one matrix for each label."""
        return "label_confusion" if self.multi_label else "confusion"

    @property
    def parameters(self) -> tuple[float, ...]:
        """The threshold."""
        return (PROBABILITY if self.threshold is None else self.threshold,)

    def has_labels(self, columns: int) -> bool | None:
        """Return whether the columns of an output are labels; None where the loss, or the targets, decide."""
        if self.multi_label is not None:
            return self.multi_label
        if columns == 1:
            return False
        # the scores of classes are compared with each other, not with a threshold
        return None if self.threshold is None else True

    def check_targets(self, y: NDArray[Any], output_shape: Shape, where: str) -> Kind:
        """Check integer labels, one-hot targets, or several labels per row; see `Metric.check_targets`."""
        array, labels = check_array(y, where), self.has_labels(output_shape[-1])
        if labels is None:
            kind = check_scored_targets(array, output_shape, where)
            if kind == "classes" or row_without_class(array) is None:
                return kind
            labels = True
        if labels:
            return check_several_labels(array, output_shape, where)
        return check_one_class(array, output_shape, where, "pass multi_label=True")

    def size(self, output_shape: Shape) -> int:
        """C true classes by C predicted classes and a column for NaN scores; for a label, both by three."""
        labels = self.has_labels(output_shape[-1])
        if labels is None:
            return sum(metric.size(output_shape) for metric in self._both()) + 1
        if labels:
            return LABEL_CELLS * output_shape[-1]
        n_classes = max(2, output_shape[-1])
        return n_classes * (n_classes + 1)

    def accumulate(self, total: Array, targets: NDArray[Any], predictions: Array, weights: Array | None = None) -> None:
        """Add rows to an accumulator; see `Metric.accumulate`."""
        labels = self.has_labels(predictions.shape[-1])
        if labels is None:
            for metric, part in zip(self._both(), self._parts(total, predictions.shape[1:]), strict=True):
                metric.accumulate(part, targets, predictions, weights)
            total[-1] = max(total[-1], _lacks_class(targets, predictions.shape[1:]))
        elif labels != self.multi_label:
            replace(self, multi_label=labels).accumulate(total, targets, predictions, weights)
        else:
            super().accumulate(total, targets, predictions, weights)

    def _settled(self, targets: NDArray[Any], output_shape: Shape) -> Self:
        labels = self.has_labels(output_shape[-1])
        return replace(self, multi_label=_lacks_class(targets, output_shape) if labels is None else labels)

    def _both(self) -> tuple[Self, Self]:
        """Return the metric of classes and that of labels."""
        return replace(self, multi_label=False), replace(self, multi_label=True)

    def _parts(self, total: Array, output_shape: Shape) -> tuple[Array, Array]:
        """Return the accumulators of both."""
        size = self._both()[0].size(output_shape)
        return total[:size], total[size:-1]

    def _result(self, total: Array, output_shape: Shape) -> float | Array:
        labels = self.has_labels(output_shape[-1])
        if labels is None:
            labels = bool(total[-1])
            total = self._parts(total, output_shape)[labels]
        return self._of_labels(total.reshape(-1, 2, 3)) if labels else self._of_classes(_matrix(total), output_shape)

    def _of_classes(self, matrix: Array, output_shape: Shape) -> float | Array:
        raise NotImplementedError

    def _of_labels(self, matrices: Array) -> float | Array:
        raise NotImplementedError


@register("metric")
@dataclass(frozen=True)
class ConfusionMatrix(Confusion):
    """Weight of the rows of every true class (first axis) for which every class (second axis) is predicted.

    With two or more columns, the prediction is the first maximum of the scores. A single column has two
    classes. A row with a NaN score is in no cell. The result is a float64 array of shape (classes,
    classes); for several labels per row (see `Precision`), of shape (labels, 2, 2), a matrix for each label
    with [[true negatives, false positives], [false negatives, true positives]] (scikit-learn
    `multilabel_confusion_matrix`).

    Parameters
    ----------
    threshold : float, optional
        As for `Precision`.
    multi_label : bool, optional
        As for `Precision`.
    """

    name: ClassVar[str] = "confusion_matrix"
    is_number: ClassVar[bool] = False
    better: ClassVar[str] = ""

    def _of_classes(self, matrix: Array, output_shape: Shape) -> Array:
        return _weights(matrix)[:, :-1]

    def _of_labels(self, matrices: Array) -> Array:
        return matrices[:, :, :2].copy()


class _Counts(NamedTuple):
    """Weights of every class or label, each of shape (n,), and which of them a macro average is of."""

    true_positive: Array
    predicted: Array
    actual: Array
    averaged: NDArray[np.bool_]


@dataclass(frozen=True)
class _Averaged(Confusion):
    better: ClassVar[str] = "max"

    average: Average = "auto"

    def __post_init__(self) -> None:
        """Check the parameters."""
        super().__post_init__()
        if self.average not in get_args(Average):
            known = ", ".join(map(str, get_args(Average)))
            raise ValueError(f"{type(self).__name__} average: expected one of {known}; got {self.average!r}")

    @property
    def is_number(self) -> bool:  # type: ignore[override]
        """Whether there is an average, and so one number."""
        return self.average is not None

    def has_labels(self, columns: int) -> bool | None:
        """Return whether the columns of an output are labels; a binary average is of classes."""
        if self.multi_label is None and self.average == "binary":
            return False
        return super().has_labels(columns)

    def size(self, output_shape: Shape) -> int:
        """C (C + 1) for C classes; ValueError if a binary average is asked of more than two, or of several labels."""
        if self.average == "binary" and output_shape[-1] > (1 if self.multi_label else 2):
            expected = "one output column" if self.multi_label else "one or two output columns"
            raise ValueError(f"{self.name}: expected {expected} for average='binary', got {output_shape[-1]}")
        return super().size(output_shape)

    def _of_classes(self, matrix: Array, output_shape: Shape) -> float | Array:
        occurs = np.logical_or(matrix[:, :-1].any(axis=0), matrix.any(axis=1))
        matrix = _weights(matrix)
        counts = _Counts(matrix.diagonal(), matrix[:, :-1].sum(axis=0), matrix.sum(axis=1), occurs)
        binary = self.average == "auto" and output_shape[-1] == 1
        return self._averaged(counts, "binary" if binary else self.average, counts.actual.sum())

    def _of_labels(self, matrices: Array) -> float | Array:
        present = matrices[:, 1]
        every = np.ones(len(matrices), np.bool_)
        counts = _Counts(present[:, 1], matrices[:, :, 1].sum(axis=1), present.sum(axis=1), every)
        return self._averaged(counts, self.average, matrices[0].sum())

    def _averaged(self, counts: _Counts, average: Average, weight: float) -> float | Array:
        """Average the scores of classes or labels; `weight` is that of all rows."""
        numerator, denominator = self._fraction(counts)
        if weight == 0.0:
            return float("nan") if average is not None else np.full(len(numerator), np.nan)
        if average == "micro":
            return float(_divide(numerator.sum(), denominator.sum()))
        scores = _divide(numerator, denominator)
        if average is None:
            return scores
        if average == "binary":
            return float(scores[-1])
        if average == "weighted":
            return float(_divide(scores @ counts.actual, counts.actual.sum()))
        return float(scores[counts.averaged].mean())

    def _fraction(self, counts: _Counts) -> tuple[Array, Array]:
        raise NotImplementedError


@register("metric")
@dataclass(frozen=True)
class Precision(_Averaged):
    """Share of what is correct among all that is predicted, of every class or label (scikit-learn `precision_score`).

    Columns are classes, of which a row has one, or labels, of which it has any number. Of two or more
    classes, the one with the first maximum of the scores is predicted; a label is predicted where its score
    is above the threshold, whatever the others are, and its dense target is positive where it is > 0.5.
    0 / 0 counts as 0. A NaN score predicts nothing: no class of its row, or not its label.

    Parameters
    ----------
    average : str or None
        "macro": the mean over all labels, or over the classes that occur among targets or predictions, if
        only in rows of weight 0. "weighted": the mean weighted by how often classes or labels are the
        target. "micro": of the sums over all classes or labels. None: an array of the scores of all classes
        or labels, which `evaluate` returns and logs leave out. "binary": the score of class 1, for one or
        two columns. "auto": "binary" for a single column, else "macro".
    threshold : float, optional
        For labels and for a single column, in which class 1 is predicted where score > threshold. None is
        what the loss of a model means: 0 for logits and signed scores, else 0.5. Several columns that have a
        threshold are labels.
    multi_label : bool, optional
        Whether two or more columns are labels. None: in a model, those of a binary cross-entropy, of a
        hinge or perceptron loss, and of sigmoids with any loss but a cross-entropy. Without a model, where
        a dense row of the targets has several ones, or none; a stream is judged by all of its rows.
    """

    name: ClassVar[str] = "precision"

    def _fraction(self, counts: _Counts) -> tuple[Array, Array]:
        return counts.true_positive, counts.predicted


@register("metric")
@dataclass(frozen=True)
class Recall(_Averaged):
    """Share of what is correct among all that is the target, of every class or label (scikit-learn `recall_score`).

    Parameters
    ----------
    average : str or None
        As for `Precision`.
    threshold : float, optional
        As for `Precision`.
    multi_label : bool, optional
        As for `Precision`.
    """

    name: ClassVar[str] = "recall"

    def _fraction(self, counts: _Counts) -> tuple[Array, Array]:
        return counts.true_positive, counts.actual


@register("metric")
@dataclass(frozen=True)
class F1Score(_Averaged):
    """Harmonic mean of precision and recall of every class or label, averaged (scikit-learn `f1_score`).

    Parameters
    ----------
    average : str or None
        As for `Precision`.
    threshold : float, optional
        As for `Precision`.
    multi_label : bool, optional
        As for `Precision`.
    """

    name: ClassVar[str] = "f1_score"

    def _fraction(self, counts: _Counts) -> tuple[Array, Array]:
        return 2.0 * counts.true_positive, counts.predicted + counts.actual


def _lacks_class(targets: NDArray[Any], output_shape: Shape) -> bool:
    """Return whether any row of targets has several labels, or none."""
    return targets.ndim > len(output_shape) and row_without_class(targets) is not None


def _matrix(total: Array) -> Array:
    n_classes = math.isqrt(len(total))
    return total.reshape(n_classes, n_classes + 1)


def _weights(matrix: Array) -> Array:
    """Return the weights without the traces of rows of weight 0."""
    return np.where(np.abs(matrix) < LEAST_WEIGHT, 0.0, matrix)


def _divide(numerator: Array, denominator: Array) -> Array:
    # Only true positives can be the numerator, so a denominator of 0 has a numerator of 0.
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator != 0.0)
