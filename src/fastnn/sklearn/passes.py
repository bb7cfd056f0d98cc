"""The order of the rows in each epoch, by scikit-learn's random numbers, and the weights of its batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray


class EpochOrders:
    """Orders of rows, and what samples and penalties weigh in each batch.

    A batch's loss is its weighted mean, and the penalty is divided by the sum of its weights. So weights are scaled to
    have the mean 1 in each batch, anew in each epoch. On a GPU, which has a copy, the loss divides by the sum of the
    weights itself; then the loss of an epoch is the weighted mean over its rows, not the mean of its batches' means.

    Parameters
    ----------
    rows, batch : int
    alpha : float
        The factor of the penalty alpha / 2 * sum w**2 / s of each batch, whose weights have the sum s.
    random : numpy.random.RandomState or None
        Shuffles the rows in each epoch as `sklearn.utils.shuffle` does; None leaves them in their order.
    sample_weight : ndarray, shape (rows,), optional
    dtype : dtype
        Of the scaled weights.
    scales : bool
        Whether `weights` are scaled.
    logged : tuple of str
        Names that a callback adds to the logs.
    certain : function, optional
        Returns how many epochs from the next one on are trained, whatever their losses are. Without it, or with
        weights, which are scaled in one array, it is one.

    Attributes
    ----------
    weights : ndarray, shape (rows,), or None
        The scaled weights of the current epoch, in the order of the data.
    factors : ndarray of float64, shape (steps,)
        Of each batch's sum of w**2.
    """

    def __init__(
        self, rows: int, batch: int, alpha: float, random: Any, sample_weight: Any, dtype: Any, *, scales: bool = True,
        logged: tuple[str, ...] = (), certain: Callable[[], float] | None = None,
    ) -> None:  # fmt: skip
        self.logged, self._certain = logged, certain
        self._random, self._given = random, sample_weight
        self._order = np.arange(rows)
        self._starts = np.arange(0, rows, batch)
        self._sizes = np.diff(np.append(self._starts, rows))
        self._half = 0.5 * alpha
        self.factors: NDArray[np.float64] = self._half / self._sizes
        self._scales = scales
        self.weights = None if sample_weight is None else np.array(sample_weight, dtype)

    def begin(self, epoch: int) -> NDArray[np.int64] | None:
        """Begin an epoch; returns the order of its rows, or None for the order that they have."""
        if self._random is not None:
            mixed = np.arange(len(self._order))
            self._random.shuffle(mixed)
            self._order = self._order[mixed]
        if self.weights is not None:
            chosen = self._given[self._order]
            sums = np.add.reduceat(chosen, self._starts)
            with np.errstate(divide="ignore"):
                inverse = np.where(sums != 0.0, 1.0 / sums, 0.0)
            self.factors = self._half * inverse
            if self._scales:
                self.weights[self._order] = chosen * np.repeat(self._sizes * inverse, self._sizes)
        return self._order

    def certain(self) -> float:
        """Return how many epochs from the next one on are trained whatever their losses are, 1 to inf."""
        return 1.0 if self._certain is None or self.weights is not None else max(1.0, self._certain())
