"""Metrics of numbers: errors, the coefficient of determination and correlation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastnn.losses.targets import Kind, Shape, check_array, check_dense_shape, check_range
from fastnn.metrics.accumulators import REGRESSION_SUMS
from fastnn.metrics.base import Array, Metric
from fastnn.registry import register


@dataclass(frozen=True)
class _Regression(Metric):
    accumulator: ClassVar[str] = "regression_sums"
    better: ClassVar[str] = "min"

    def check_targets(self, y: NDArray[Any], output_shape: Shape, where: str) -> Kind:
        """Check that there is a finite target for every element; see `Metric.check_targets`."""
        array = check_array(y, where)
        check_dense_shape(array, output_shape, where)
        check_range(array, where)
        return "dense"

    def size(self, output_shape: Shape) -> int:
        """Ten numbers a column."""
        return len(REGRESSION_SUMS) * output_shape[-1]

    def initial(self, output_shape: Shape) -> Array:
        """Make an accumulator of sums 0 whose shifts are still to be taken from the first row (NaN)."""
        total = np.zeros((len(REGRESSION_SUMS), output_shape[-1]))
        total[8:] = np.nan
        return total.reshape(-1)

    def _result(self, total: Array, output_shape: Shape) -> float:
        sums = dict(zip(REGRESSION_SUMS, total.reshape(len(REGRESSION_SUMS), -1), strict=True))
        if np.any(sums["w"] == 0.0):
            return float("nan")
        return float(self._columns(sums).mean())

    def _columns(self, sums: dict[str, Array]) -> Array:
        raise NotImplementedError


@register("metric")
@dataclass(frozen=True)
class MeanSquaredError(_Regression):
    """Mean of (y_pred - y_true)^2 over all elements (Keras `mean_squared_error`)."""

    name: ClassVar[str] = "mean_squared_error"

    def _columns(self, sums: dict[str, Array]) -> Array:
        return sums["squared"] / sums["w"]


@register("metric")
@dataclass(frozen=True)
class RootMeanSquaredError(_Regression):
    """Root of the mean of (y_pred - y_true)^2 over all elements (Keras `root_mean_squared_error`)."""

    name: ClassVar[str] = "root_mean_squared_error"

    def _columns(self, sums: dict[str, Array]) -> Array:
        return np.asarray(np.sqrt((sums["squared"] / sums["w"]).mean()))


@register("metric")
@dataclass(frozen=True)
class MeanAbsoluteError(_Regression):
    """Mean of abs(y_pred - y_true) over all elements (Keras `mean_absolute_error`)."""

    name: ClassVar[str] = "mean_absolute_error"

    def _columns(self, sums: dict[str, Array]) -> Array:
        return sums["absolute"] / sums["w"]


@register("metric")
@dataclass(frozen=True)
class R2Score(_Regression):
    """Coefficient of determination 1 - sum (y - y_pred)^2 / sum (y - mean)^2 (Keras `R2Score`).

    It is computed for every column and averaged over the columns. A column of equal targets counts as 1
    if they are predicted exactly, else as 0.
    """

    name: ClassVar[str] = "r2_score"
    better: ClassVar[str] = "max"

    def _columns(self, sums: dict[str, Array]) -> Array:
        spread = _spread(sums["wyy"], sums["wy"], sums["w"])
        exact = (sums["squared"] == 0.0).astype(np.float64)
        constant = np.where(np.isnan(sums["squared"]), np.nan, exact)
        return np.where(spread == 0.0, constant, 1.0 - sums["squared"] / spread)


@register("metric")
@dataclass(frozen=True)
class PearsonCorrelation(_Regression):
    """Pearson's correlation of y_pred and y_true over the rows of every column, averaged over the columns.

    It is from -1 to 1, and NaN where the predictions or the targets of a column are all equal.
    """

    name: ClassVar[str] = "pearson_correlation"
    better: ClassVar[str] = "max"

    def _columns(self, sums: dict[str, Array]) -> Array:
        w = sums["w"]
        covariance = sums["wpy"] - sums["wp"] * sums["wy"] / w
        # Two roots: the product of the spreads could leave the range of float64.
        scale = np.sqrt(_spread(sums["wpp"], sums["wp"], w)) * np.sqrt(_spread(sums["wyy"], sums["wy"], w))
        correlation: Array = np.clip(covariance / scale, -1.0, 1.0)
        return np.where(scale == 0.0, np.nan, correlation)


def _spread(sum_of_squares: Array, total: Array, weight: Array) -> Array:
    # A sum of squares about the mean: rounding may make it a little negative.
    spread: Array = np.maximum(sum_of_squares - total * total / weight, 0.0)
    return spread
