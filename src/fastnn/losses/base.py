"""The base class of losses: a formula, parameters, checks of targets, and a call on NumPy arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn.checks import shorten
from fastnn.losses.arguments import check_arguments, of_rows
from fastnn.losses.arrays import ELEMENTWISE, ROWWISE
from fastnn.losses.targets import Kind, Shape, check_array, check_dense_shape, check_range
from fastnn.registry import snake_case

#: what the sum of weighted losses is divided by
NORMALIZE = ("rows", "weights")


@dataclass(frozen=True)
class Loss:
    """Base of the loss objects, which are immutable, comparable and hashable.

    The loss of a batch is the sum of every row's loss times its sample weight, over the number of rows (Keras'
    "sum_over_batch_size"), or over the sum of the rows' weights. A row's loss is the mean, or the sum, of its elements.
    A row of weight 0 adds nothing to the loss and has the gradient 0, even if its own loss is infinite or NaN.

    Parameters
    ----------
    normalize : {"rows", "weights"}
        What the sum is divided by: the number of rows, or the sum of their weights, as in scikit-learn's weighted means
        (Keras' "mean_with_sample_weight"). Then only ratios of weights matter, and padded steps of weight 0 do not
        count. Without weights both are the same. Where all weights are 0, the loss and its gradients are 0.

    Attributes
    ----------
    formula : str
        Name of the scalar formula, or of the row-wise kernel for cross-entropy.
    parameters : tuple of float
        Parameters of the formula, at most two.
    row_mean : bool
        Whether the loss of a row is the mean over the last axis; else it is the sum.
    target_range : tuple of float
        Least and highest target.
    target_values : tuple of float
        The only allowed targets, at most three; empty if the whole range is allowed.
    """

    normalize: str = field(default="rows", kw_only=True)
    formula: ClassVar[str]
    row_mean: ClassVar[bool] = True
    target_range: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    target_values: ClassVar[tuple[float, ...]] = ()

    def __post_init__(self) -> None:
        """Check the parameters."""
        if self.normalize not in NORMALIZE:
            expected = " or ".join(map(repr, NORMALIZE))
            raise ValueError(f"{type(self).__name__} normalize: expected {expected}, got {shorten(self.normalize)}")

    @property
    def name(self) -> str:
        """Name by which `get` finds the loss."""
        return snake_case(type(self).__name__)

    @property
    def parameters(self) -> tuple[float, ...]:
        """Parameters of the formula, in its order."""
        return ()

    @property
    def prediction_range(self) -> tuple[float, float]:
        """Bounds of meaningful predictions."""
        return (-math.inf, math.inf)

    def most(self, dtype: str) -> float:
        """Return the most that a row's loss counts for in a model of a dtype, 0 for any; gradients are not affected."""
        return 0.0

    def check_targets(self, y: NDArray[Any], output_shape: Shape, where: str) -> Kind:
        """Check targets against the shape of the output, chunk by chunk and without a copy.

        Parameters
        ----------
        y : numpy.ndarray of real numbers, shape (n, *output_shape)
            May be memory-mapped. A last axis of length 1 may be missing.
        output_shape : tuple of int
            Shape of the output without the batch.
        where : str
            Beginning of error messages.

        Returns
        -------
        str
            "classes" for integer labels, "dense" for one target per output element, "any" where both may be given.

        Raises
        ------
        TypeError
            If `y` is not an array of real numbers.
        ValueError
            If the shape does not fit, or a value is not finite or not allowed; the message names the
            first row.
        """
        array = check_array(y, where)
        check_dense_shape(array, output_shape, where)
        self.check_values(array, where)
        return "dense"

    def rows(self, targets: NDArray[Any], predictions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Compute the loss of every row, from arrays that have been checked.

        Parameters
        ----------
        targets : numpy.ndarray
            Float64 of the shape of the predictions, or int64 labels of shape predictions.shape[:-1].
        predictions : numpy.ndarray of float64, shape (n, ..., columns)

        Returns
        -------
        numpy.ndarray of float64, shape predictions.shape[:-1]
        """
        with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
            most = self.most("float64") or math.inf
            if self.formula in ROWWISE:
                return np.minimum(ROWWISE[self.formula](predictions, targets, *self.parameters), most)
            elements = ELEMENTWISE[self.formula](predictions, targets, *self.parameters)
            rows: NDArray[np.float64] = elements.mean(axis=-1) if self.row_mean else elements.sum(axis=-1)
            return np.minimum(rows, most)

    def __call__(self, y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Compute the loss of a batch in float64.

        Parameters
        ----------
        y_true : array_like, shape of `y_pred`, or another that `check_targets` allows
            Targets.
        y_pred : array_like, shape (n, ..., columns) or (n,) for a single column
            Predictions.
        sample_weight : array_like, shape (n,) or (n, ...), optional
            Finite factors of the rows' losses: one per sample, or one per row, of shape y_pred.shape[:-1].

        Returns
        -------
        float
            The sum of the weighted losses of the rows, over the number of rows or the sum of their weights.

        Raises
        ------
        TypeError
            If an argument does not hold real numbers.
        ValueError
            If shapes do not fit, or a target, prediction or weight is not allowed.
        """
        arguments = check_arguments(self.name, self.check_targets, y_true, y_pred, sample_weight, self.prediction_range)
        rows = self.rows(arguments.targets, arguments.predictions)
        if arguments.weights is None:
            return float(rows.mean())
        weights = of_rows(arguments.weights, rows.shape)
        # a row of weight 0 adds nothing, even if its loss is not finite
        counted = np.where(weights == 0.0, 0.0, rows)
        return mean_of((weights * counted).sum(), weights.sum() if self.normalize == "weights" else rows.size)

    def check_values(self, y: NDArray[Any], where: str) -> None:
        """Check dense targets element by element; raises ValueError, which names the first bad one."""
        check_range(y, where, *self.target_range)


def takes_any_target(loss: Loss) -> bool:
    """Return whether a loss takes all finite targets of the output's shape."""
    return (type(loss).check_targets, type(loss).check_values, loss.target_range) == _ANY


_ANY = Loss.check_targets, Loss.check_values, Loss.target_range


def mean_of(total: float, count: float) -> float:
    """Divide a sum of losses by the number of rows or the sum of weights; 0 where that is 0, as in Keras."""
    return float(total) / float(count) if count != 0.0 else 0.0
