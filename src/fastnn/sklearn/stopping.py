"""The end of a training, and learning rates, by scikit-learn's rules."""

from __future__ import annotations

from typing import Any

from fastnn.callbacks import Callback

#: the adaptive learning rate is divided by this until it is as small as that
_DIVISOR, _SMALLEST_RATE = 5.0, 1e-6


class EpochEnd(Callback):
    """What an estimator does at the end of an epoch: records, learning rates, and the decision to stop.

    Parameters
    ----------
    estimator : BaseMLP
        Its attributes are set.
    network : Network
    rows : int
        Of the training.
    loss_of : function
        Returns the loss as scikit-learn reports it, of the mean loss of the data and the mean penalty.

    Attributes
    ----------
    score : function or None
        Returns the score of the validation set, if there is one.
    best : list of ndarray or None
        The weights of the best score.
    converged : bool
        Whether the training was ended.
    """

    def __init__(self, estimator: Any, network: Any, rows: int, loss_of: Any) -> None:
        self._estimator, self._network, self._rows, self._loss_of = estimator, network, rows, loss_of
        self.score: Any = None
        self.best: list[Any] | None = None
        self.converged = False

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Record the epoch."""
        one, network = self._estimator, self._network
        one.n_iter_ += 1
        one.loss_ = self._loss_of(*network.losses(self._rows))
        one.t_ += self._rows
        one.loss_curve_.append(one.loss_)
        if one.verbose and one.verbose != "bar":
            print(f"Iteration {one.n_iter_}, loss = {one.loss_:.8f}")
        self._count(logs)
        optimizer = network.optimizer
        if one._schedule == "invscaling":
            optimizer.learning_rate = float(one.learning_rate_init) / (one.t_ + 1) ** one.power_t
        if one._no_improvement_count > one.n_iter_no_change:
            self._stop(optimizer)

    def _count(self, logs: dict[str, float] | None) -> None:
        """Count the epochs without an improvement."""
        one = self._estimator
        score = None
        if self.score is not None:
            score = self.score()
            one.validation_scores_.append(score)
            if logs is not None:
                logs["val_score"] = score
            if one.verbose and one.verbose != "bar":
                print(f"Validation score: {score:f}")
        if score is None or not one.early_stopping:
            better = not one.loss_curve_[-1] > one.best_loss_ - one.tol
            one.best_loss_ = min(one.best_loss_, one.loss_curve_[-1])
        else:
            better = not score < one.best_validation_score_ + one.tol
            if score > one.best_validation_score_:
                one.best_validation_score_ = score
                self.best = self._network.all_weights()
        one._no_improvement_count = 0 if better else one._no_improvement_count + 1

    def _stop(self, optimizer: Any) -> None:
        one = self._estimator
        what = "Validation score" if one.early_stopping else "Training loss"
        text = f"{what} did not improve more than tol={one.tol:f} for {one.n_iter_no_change} consecutive epochs."
        said = ""
        if one._schedule != "adaptive":
            said = " Stopping."
        elif optimizer.learning_rate <= _SMALLEST_RATE:
            said = " Learning rate too small. Stopping."
        if said:
            self.converged = self.model.stop_training = True
        else:
            optimizer.learning_rate = optimizer.learning_rate / _DIVISOR
            one._no_improvement_count = 0
            said = f" Setting learning rate to {optimizer.learning_rate:f}"
        if one.verbose and one.verbose != "bar":
            print(text + said)
