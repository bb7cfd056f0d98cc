"""What an estimator records of its epochs, and when a training ends: after too many that are no better."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastnn.sklearn.forward import NetworkEstimator

if TYPE_CHECKING:  # programs that import estimators may never train one
    from fastnn.optimizers import Optimizer
    from fastnn.sklearn.network import Network

Array = NDArray[Any]

#: an adaptive learning rate is divided by this until it is as small as that
_RATE_DIVISOR, _SMALLEST_RATE = 5.0, 1e-6


def trains_in_steps(estimator: Any) -> bool:
    """Return whether an estimator trains in steps, on batches."""
    return estimator.optimizer is not None or estimator.solver != "lbfgs"


@dataclass
class Training:
    """One call of `fit`.

    Attributes
    ----------
    network : Network
    rows : int
        Of an epoch.
    loss, score : function
        Return the loss of the epoch, and the score of the validation set, if there is one.
    best : list of ndarray or None
        The weights of the best score, where it decides.
    converged : bool
        Whether the training was ended.
    """

    network: Network
    rows: int
    loss: Callable[[], float]
    score: Callable[[], float] | None
    best: list[Array] | None = None
    converged: bool = False


class RecordingEstimator(NetworkEstimator):
    """An estimator that counts epochs and keeps their losses and scores."""

    # set by `fit`
    n_iter_: int
    t_: int
    loss_: float
    loss_curve_: list[float]
    validation_scores_: list[float] | None
    validation_loss_curve_: list[float] | None
    best_validation_score_: float | None
    best_loss_: float | None
    #: whether the score of validation data decides when to stop, and which weights are kept
    _by_score: bool
    _no_improvement_count: int

    @property
    def _stochastic(self) -> bool:
        return trains_in_steps(self)

    @property
    def _schedule(self) -> str:
        """How the learning rate changes: SGD's only."""
        return str(self.learning_rate) if self.optimizer is None and self.solver == "sgd" else "constant"

    def _begin_to_compare(self) -> None:
        """Forget the best score and the best loss."""
        self.validation_loss_curve_ = None
        self._no_improvement_count = 0
        if self._by_score:
            self.validation_scores_ = []
            self.best_validation_score_ = -np.inf
            self.best_loss_ = None
        else:
            self.best_loss_ = np.inf
            self.validation_scores_ = self.best_validation_score_ = None

    def _begin_to_record(self, validation: Any) -> None:
        """Begin a training's losses and scores, which go on where an earlier one is gone on with.

        `validation` are data of the caller's, for which there are losses, too.
        """
        self.n_iter_ = 0
        if "best_loss_" not in self.__dict__:  # weights that the caller has set
            self.loss_curve_ = []
            self._begin_to_compare()
        elif (self.best_loss_ is None) != self._by_score:
            self._begin_to_compare()
        if validation is not None:
            self.validation_scores_ = [] if self.validation_scores_ is None else self.validation_scores_
            self.validation_loss_curve_ = self.validation_loss_curve_ or []

    def _certain_epochs(self) -> float:
        """Return the number of epochs after which losses can end the training: each adds at most one to the count."""
        return float(self.n_iter_no_change - self._no_improvement_count + 1)

    def _end_epoch(self, training: Training, logs: dict[str, float] | None) -> bool:
        """Record an epoch, and return True after too many without an improvement."""
        optimizer = training.network.optimizer
        self.n_iter_ += 1
        self.loss_ = training.loss()
        self.t_ += training.rows
        self.loss_curve_.append(self.loss_)
        self._say(f"Iteration {self.n_iter_}, loss = {self.loss_:.8f}")
        score = None
        if training.score is not None and self.validation_scores_ is not None:
            score = training.score()
            self.validation_scores_.append(score)
            self._say(f"Validation score: {score:f}")
            if logs is not None:
                logs["val_score"] = score
        if self._improves(score):
            training.best = training.network.all_weights()
        if self._schedule == "invscaling":
            optimizer.learning_rate = self.learning_rate_init / (self.t_ + 1) ** self.power_t
        # SciPy has its own tests of the loss
        if (self._stochastic or self._by_score) and self._no_improvement_count > self.n_iter_no_change:
            training.converged = self._stops(optimizer)
        return training.converged

    def _stops(self, optimizer: Optimizer) -> bool:
        """Return True to end the training, or False to go on with a smaller learning rate."""
        what = "Validation score" if self._by_score else "Training loss"
        text = f"{what} did not improve more than tol={self.tol:f} for {self.n_iter_no_change} consecutive epochs."
        rate = optimizer.learning_rate
        if self._schedule == "adaptive" and isinstance(rate, float) and rate > _SMALLEST_RATE:
            optimizer.learning_rate = rate / _RATE_DIVISOR
            self._no_improvement_count = 0
            self._say(f"{text} Setting learning rate to {optimizer.learning_rate:f}")
            return False
        self._say(f"{text}{' Learning rate too small.' if self._schedule == 'adaptive' else ''} Stopping.")
        return True

    def _say(self, text: str) -> None:
        if self.verbose and self.verbose != "bar":
            print(text)

    def _improves(self, score: float | None) -> bool:
        """Count the epochs without an improvement; returns whether a score that decides is the best."""
        best = False
        if self._by_score and score is not None:
            assert self.best_validation_score_ is not None
            better = not score < self.best_validation_score_ + self.tol
            best = score > self.best_validation_score_
            if best:
                self.best_validation_score_ = score
        else:
            assert self.best_loss_ is not None
            better = not self.loss_ > self.best_loss_ - self.tol
            self.best_loss_ = min(self.best_loss_, self.loss_)
        self._no_improvement_count = 0 if better else self._no_improvement_count + 1
        return best
