"""Base of all metrics: an accumulator, its size and result, and a state for streaming use."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn.checks import number
from fastnn.locks import cached_property
from fastnn.losses.arguments import check_arguments, of_rows
from fastnn.losses.targets import Kind, Shape, check_array, check_scored_targets
from fastnn.metrics.accumulators import ACCUMULATORS

Array = NDArray[np.float64]

#: the threshold of probabilities, for a metric whose own is None
PROBABILITY = 0.5


class _Stream:
    """Mutable state of a metric that is used on its own."""

    total: Array | None = None
    output_shape: Shape = ()


@dataclass(frozen=True)
class Metric:
    """Base of the metric objects.

    An object holds hyperparameters, which are immutable and which comparison and hashing see. Beside, it
    has a state for use on its own: `update_state`, `result`, `reset_state`. A model reads the
    hyperparameters only.

    Attributes
    ----------
    name : str
        Name by which `get` finds the metric and under which a model reports it.
    accumulator : str
        Name of the accumulator. Metrics of equal `accumulator`, `parameters` and `elementwise` can share one.
    parameters : tuple of float
        Parameters of the accumulator.
    elementwise : bool
        Whether the accumulator sees every element as a row of one column.
    better : str
        "max" or "min": which values are better; callbacks that watch the metric read it. Empty for arrays.
    """

    name: ClassVar[str]
    accumulator: ClassVar[str]
    better: ClassVar[str]
    elementwise: ClassVar[bool] = False
    prediction_range: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    #: whether the result is a number; arrays are not shown in logs
    is_number: ClassVar[bool] = True

    @property
    def parameters(self) -> tuple[Any, ...]:
        """Parameters of the accumulator, in its order."""
        return ()

    def check_targets(self, y: NDArray[Any], output_shape: Shape, where: str) -> Kind:
        """Check targets against the shape of the output, chunk by chunk and without a copy.

        Parameters
        ----------
        y : numpy.ndarray of real numbers
            Integer labels of shape (n, *output_shape[:-1]) where the output has two or more columns, or
            finite targets of shape (n, *output_shape).
        output_shape : tuple of int
            Shape of the output without the batch.
        where : str
            Beginning of error messages.

        Returns
        -------
        str
            "classes" for integer labels, "dense" for one target an output element.

        Raises
        ------
        TypeError
            If `y` is no array of real numbers, or has labels of a floating type.
        ValueError
            If the shape does not fit, or a value is not allowed; the message names the first row.
        """
        return check_scored_targets(check_array(y, where), output_shape, where)

    def size(self, output_shape: Shape) -> int:
        """Return the accumulator's size in float64 numbers.

        Parameters
        ----------
        output_shape : tuple of int
            Shape of the output without the batch.

        Raises
        ------
        ValueError
            If the metric is not defined for this shape.
        """
        raise NotImplementedError

    def initial(self, output_shape: Shape) -> Array:
        """Make an accumulator to which nothing has been added.

        Parameters
        ----------
        output_shape : tuple of int
            Shape of the output without the batch.

        Returns
        -------
        numpy.ndarray of float64, shape (size,)
        """
        return np.zeros(self.size(output_shape))

    def accumulate(self, total: Array, targets: NDArray[Any], predictions: Array, weights: Array | None = None) -> None:
        """Add rows to an accumulator, in place, from arrays that are known to fit.

        Parameters
        ----------
        total : numpy.ndarray of float64, shape (size,)
        targets : numpy.ndarray
            Float64 of the shape of the predictions, or int64 labels of shape predictions.shape[:-1].
        predictions : numpy.ndarray of float64, shape (n, ..., columns)
        weights : numpy.ndarray of float64, shape (n,) or (n, ...), optional
            One per sample, or with further of the first axes of the predictions' rows.
        """
        cols = 1 if self.elementwise else predictions.shape[-1]
        p = predictions.reshape(-1, cols)
        y = targets.reshape(-1) if targets.ndim < predictions.ndim else targets.reshape(-1, cols)
        rows = predictions.shape[:-1]
        w = np.ones(rows) if weights is None else of_rows(weights, rows)
        w = np.repeat(w.reshape(-1), len(p) // w.size)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            ACCUMULATORS[self.accumulator](total, y, p, w, *self.parameters)

    def result(self, total: Array | None = None, output_shape: Shape | None = None) -> float | Array:
        """Compute the metric from an accumulator, or from the rows that `update_state` has seen.

        Parameters
        ----------
        total : numpy.ndarray of float64, shape (size,), optional
            An accumulator; without it, the metric's own state is used.
        output_shape : tuple of int, optional
            Shape of the output without the batch; goes with `total`.

        Returns
        -------
        float or numpy.ndarray
            NaN where it is not defined, as when all weights were 0.

        Raises
        ------
        RuntimeError
            If there is no accumulator and nothing has been seen.
        ValueError
            If only one of the arguments is given, or the accumulator's shape does not fit.
        """
        if (total is None) != (output_shape is None):
            raise ValueError(f"{self.name}: result expected both an accumulator and output_shape, or neither")
        if total is None or output_shape is None:
            if self._stream.total is None:
                raise RuntimeError(f"{self.name}: nothing has been seen yet; call update_state first")
            total, output_shape = self._stream.total, self._stream.output_shape
        if total.shape != (self.size(output_shape),):
            raise ValueError(
                f"{self.name}: expected an accumulator of shape ({self.size(output_shape)},), got {total.shape}"
            )
        with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
            return self._result(total, output_shape)

    def update_state(self, y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> None:
        """Add a batch to the metric's own state.

        Parameters
        ----------
        y_true : array_like
            Targets of `y_pred`'s shape, or integer labels of shape (n, ...) for two or more columns.
        y_pred : array_like, shape (n, ..., columns) or (n,) for a single column
            Predictions.
        sample_weight : array_like, shape (n,) or (n, ...), optional
            Finite weights: one per sample, or one per row, of shape y_pred.shape[:-1].

        Raises
        ------
        TypeError
            If an argument does not hold real numbers.
        ValueError
            If shapes do not fit each other or earlier batches, or a value is not allowed.
        """
        stream = self._stream
        targets, predictions, weights = self._arguments(y_true, y_pred, sample_weight)
        output_shape = predictions.shape[1:]
        if stream.total is None:
            stream.total, stream.output_shape = self.initial(output_shape), output_shape
        elif stream.output_shape != output_shape:
            raise ValueError(
                f"{self.name}: expected predictions of shape (n, *{stream.output_shape}) as before, got "
                f"{predictions.shape}; call reset_state to begin again"
            )
        self.accumulate(stream.total, targets, predictions, weights)

    def reset_state(self) -> None:
        """Forget all batches."""
        self._stream.total = None

    def __call__(self, y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float | Array:
        """Compute the metric of one batch, leaving the state alone.

        Parameters
        ----------
        y_true, y_pred, sample_weight : array_like
            As for `update_state`.

        Returns
        -------
        float or numpy.ndarray
            As from `result`.

        Raises
        ------
        TypeError, ValueError
            As `update_state`.
        """
        targets, predictions, weights = self._arguments(y_true, y_pred, sample_weight)
        output_shape = predictions.shape[1:]
        metric = self._settled(targets, output_shape)
        total = metric.initial(output_shape)
        metric.accumulate(total, targets, predictions, weights)
        return metric.result(total, output_shape)

    def _settled(self, targets: NDArray[Any], output_shape: Shape) -> Metric:
        """Return the metric that this one is for all the targets that there are."""
        return self

    @cached_property
    def _stream(self) -> _Stream:
        return _Stream()

    def _arguments(
        self, y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None
    ) -> tuple[NDArray[Any], Array, Array | None]:
        return check_arguments(self.name, self.check_targets, y_true, y_pred, sample_weight, self.prediction_range)[1:]

    def _result(self, total: Array, output_shape: Shape) -> float | Array:
        raise NotImplementedError


def check_threshold(metric: Any) -> None:
    """Check a metric's threshold, where it has one of its own."""
    if metric.threshold is not None:
        threshold = number(f"{type(metric).__name__} threshold", metric.threshold)
        object.__setattr__(metric, "threshold", threshold)
