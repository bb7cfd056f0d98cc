"""Metrics of scores against classes: accuracies and the area under the ROC curve."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastnn.checks import whole
from fastnn.formulas.metrics import OCTAVES
from fastnn.losses.targets import (
    Kind,
    Shape,
    check_array,
    check_dense_shape,
    check_one_class,
    check_range,
    check_scored_targets,
)
from fastnn.metrics.base import PROBABILITY, Array, Metric, check_threshold
from fastnn.registry import register


@dataclass(frozen=True)
class _Fraction(Metric):
    better: ClassVar[str] = "max"

    def size(self, output_shape: Shape) -> int:
        """Two: the weight of what is correct, and of all."""
        return 2

    def _result(self, total: Array, output_shape: Shape) -> float:
        return float(total[0] / total[1]) if total[1] != 0.0 else float("nan")


@register("metric")
@dataclass(frozen=True)
class Accuracy(_Fraction):
    """Share of rows whose class is predicted (Keras `accuracy`).

    With two or more columns, the prediction is the first maximum of the scores, and targets are integer
    labels or rows whose maximum is the class. With a single column, class 1 is predicted where score >
    threshold. A row with a NaN score is not correct.

    Parameters
    ----------
    threshold : float, optional
        For a single column. None is what the loss of a model means: 0 for logits and signed scores, else 0.5.
    """

    threshold: float | None = field(default=None, kw_only=True)
    name: ClassVar[str] = "accuracy"
    accumulator: ClassVar[str] = "count_correct"

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


@register("metric")
@dataclass(frozen=True)
class BinaryAccuracy(_Fraction):
    """Share of elements where (score > threshold) is (target > 0.5) (Keras `binary_accuracy`).

    Parameters
    ----------
    threshold : float, optional
        As for `Accuracy`.
    """

    threshold: float | None = field(default=None, kw_only=True)
    name: ClassVar[str] = "binary_accuracy"
    accumulator: ClassVar[str] = "count_correct"
    elementwise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the parameters."""
        check_threshold(self)

    @property
    def parameters(self) -> tuple[float, ...]:
        """The threshold."""
        return (PROBABILITY if self.threshold is None else self.threshold,)

    def check_targets(self, y: NDArray[Any], output_shape: Shape, where: str) -> Kind:
        """Check that there is a finite target for every element; see `Metric.check_targets`."""
        array = check_array(y, where)
        check_dense_shape(array, output_shape, where)
        check_range(array, where)
        return "dense"


@register("metric")
@dataclass(frozen=True)
class TopKAccuracy(_Fraction):
    """Share of rows whose class is among the k highest scores (Keras `top_k_categorical_accuracy`).

    It is where fewer than k scores are strictly greater. NaN scores count as greater, and a class with a
    NaN score is never among the highest.

    Parameters
    ----------
    k : int
        From 1 to the number of classes.
    """

    k: int = 5
    name: ClassVar[str] = "top_k_accuracy"
    accumulator: ClassVar[str] = "top_k"

    def __post_init__(self) -> None:
        """Check the parameters."""
        object.__setattr__(self, "k", whole("TopKAccuracy k", self.k, at_least=1))

    @property
    def parameters(self) -> tuple[float, ...]:
        """The number k."""
        return (float(self.k),)

    def check_targets(self, y: NDArray[Any], output_shape: Shape, where: str) -> Kind:
        """Check labels or one-hot targets; see `Metric.check_targets`."""
        self.size(output_shape)
        return check_one_class(check_array(y, where), output_shape, where)

    def size(self, output_shape: Shape) -> int:
        """Two: the weight of what is correct, and of all; ValueError if there are fewer classes than k."""
        if output_shape[-1] == 1:
            raise ValueError(f"{self.name}: expected two or more output columns, got 1; use BinaryAccuracy")
        if self.k > output_shape[-1]:
            raise ValueError(f"{self.name}: expected k <= {output_shape[-1]} classes; got k={self.k}")
        return 2


@register("metric")
@dataclass(frozen=True)
class AUC(Metric):
    """Area under the ROC curve, by the trapezoid rule over a histogram of scores (Keras `AUC`).

    Every element is a sample; with two or more columns, integer labels mean one-hot targets. So several
    columns give the micro average. It is NaN until both positive and negative samples were seen. A NaN
    score counts as wrong as can be.

    Keras' thresholds are 1 / (num_thresholds - 1) apart, so that all scores below the first one, 0.005,
    tie. Here they are as close near 1/2, and closer towards 0 and 1: each octave of the score, and of its
    distance from 1, has num_thresholds / 4 of them, down to 1e-38 and 1e-16. So models of rare events, whose
    scores are small, are measured too: scores tie only where they differ by less than 1 / num_thresholds,
    and by less than a share of 4 / num_thresholds.

    Parameters
    ----------
    num_thresholds : int
        Number of thresholds at least as close as which those here are, >= 2. The accumulator has about 89
        float64 for each of them (142 KB by default).
    """

    num_thresholds: int = 200
    name: ClassVar[str] = "auc"
    better: ClassVar[str] = "max"
    accumulator: ClassVar[str] = "auc_histogram"
    prediction_range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __post_init__(self) -> None:
        """Check the parameters."""
        thresholds = whole("AUC num_thresholds", self.num_thresholds, at_least=2)
        object.__setattr__(self, "num_thresholds", thresholds)

    @property
    def parameters(self) -> tuple[float, ...]:
        """The number of bins."""
        return (float(self._bins),)

    @property
    def _bins(self) -> int:
        return OCTAVES * -(-self.num_thresholds // 4) + 1

    def check_targets(self, y: NDArray[Any], output_shape: Shape, where: str) -> Kind:
        """Check labels, or targets from 0 to 1; see `Metric.check_targets`."""
        array = check_array(y, where)
        kind = check_scored_targets(array, output_shape, where)
        if kind == "dense":
            check_range(array, where, 0.0, 1.0)
        return kind

    def size(self, output_shape: Shape) -> int:
        """Two histograms: of positive and of negative samples."""
        return 2 * self._bins

    def _result(self, total: Array, output_shape: Shape) -> float:
        # At threshold i, everything in the bins i, i + 1, ... is called positive.
        rates = np.zeros((2, self._bins + 1))
        rates[:, :-1] = np.cumsum(total.reshape(2, -1)[:, ::-1], axis=1)[:, ::-1]
        sums = rates[:, :1]
        if not np.all(sums > 0.0):
            return float("nan")
        true_positive, false_positive = rates / sums
        heights = 0.5 * (true_positive[:-1] + true_positive[1:])
        return float(np.sum(heights * (false_positive[:-1] - false_positive[1:])))
