"""Ending training before the last epoch."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy.typing as npt

from fastnn.callbacks.base import Callback, Logs
from fastnn.callbacks.monitor import Monitor
from fastnn.checks import integer, number
from fastnn.console import say

__all__ = ["EarlyStopping", "TerminateOnNaN"]


class EarlyStopping(Callback):
    """Stop when a quantity has not improved for `patience` epochs (``keras.callbacks.EarlyStopping``).

    Parameters
    ----------
    monitor : str
        The quantity, a key of the logs.
    min_delta : float
        Changes up to this size do not count as improvements.
    patience : int
        Number of epochs without improvement that end the training.
    verbose : int
        1 prints a line when training is stopped and when weights are restored.
    mode : {"auto", "min", "max"}
        Whether smaller or larger values are better; ``"auto"`` decides by the name.
    baseline : float or None
        Only improvements beyond this value reset the patience; others do not change it.
    restore_best_weights : bool
        Whether the model ends with the weights of its best epoch (unlike Keras, by default).
    start_from_epoch : int
        Epochs before this one (counted from 0) are ignored.

    Attributes
    ----------
    best : float or None
        Best value so far.
    best_epoch, stopped_epoch : int or None
        Epochs, counted from 0, of the best value and of the stop.
    """

    watched: Monitor
    state_names: ClassVar[tuple[str, ...]] = ("best", "best_epoch", "wait", "stopped_epoch")

    def __init__(
        self,
        monitor: str = "val_loss",
        *,
        min_delta: float = 0.0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = True,
        start_from_epoch: int = 0,
    ) -> None:
        self.watched = Monitor("EarlyStopping", monitor, mode, min_delta)
        self.monitor = monitor
        self.patience = integer("EarlyStopping patience", patience, at_least=0)
        self.verbose = verbose
        self.baseline = None if baseline is None else number("EarlyStopping baseline", baseline)
        self.restore_best_weights = bool(restore_best_weights)
        self.start_from_epoch = integer("EarlyStopping start_from_epoch", start_from_epoch, at_least=0)
        self._reset()

    def _reset(self) -> None:
        self.best: float | None = None
        self.best_epoch: int | None = None
        self.stopped_epoch: int | None = None
        self.wait = 0
        self._best_weights: list[npt.NDArray[Any]] | None = None
        self._last_epoch: int | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Reset the state of an earlier training."""
        self._reset()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Compare the epoch with the best one; stop the training if patience is used up."""
        self._last_epoch = epoch
        if self.watched.rests(epoch, logs, self.params):
            return
        value = self.watched.value(logs)
        if epoch < self.start_from_epoch:
            return
        if self.watched.improves(value, self.best):
            self.best, self.best_epoch = value, epoch
            if self.restore_best_weights:
                self._best_weights = self.model.get_weights()
            if self.baseline is None or self.watched.improves(value, self.baseline):
                self.wait = 0
            # an improvement that does not reach the baseline neither resets the patience nor uses it up
            return
        self.wait += 1
        if self.wait >= self.patience:
            self.stopped_epoch = epoch
            self.model.stop_training = True
            if self.verbose:
                say(f"Epoch {epoch + 1}: stopped, no better {self.monitor} for {self.wait} epochs")

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Give the model the weights of its best epoch, unless that was the last one."""
        if self._best_weights is None or self.best_epoch is None or self.best_epoch == self._last_epoch:
            return
        self.model.set_weights(self._best_weights)
        if self.verbose:
            say(f"Restored the weights of epoch {self.best_epoch + 1}, {self.monitor} {self.best:.5g}")

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restore a state of `get_state`; a training that was stopped stays stopped."""
        super().set_state(state)
        if self.stopped_epoch is not None:
            self.model.stop_training = True

    def get_tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Return the best weights, if they are to be restored."""
        return {str(index): weight for index, weight in enumerate(self._best_weights or [])}

    def set_tensors(self, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
        """Restore the best weights of an interrupted training."""
        self._best_weights = [tensors[str(index)] for index in range(len(tensors))] or None


class TerminateOnNaN(Callback):
    """Stop as soon as the loss is NaN or infinite (``keras.callbacks.TerminateOnNaN``)."""

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Check the loss so far."""
        self._check(f"Batch {batch + 1}", logs)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Check the loss of the epoch, which may have been too short for a check in between."""
        self._check(f"Epoch {epoch + 1}", logs)

    def _check(self, when: str, logs: Logs | None) -> None:
        loss = (logs or {}).get("loss")
        # a callback may have put something else there
        if not isinstance(loss, numbers.Real) or self.model.stop_training:
            return
        if not math.isfinite(loss):
            self.model.stop_training = True
            say(f"{when}: the loss is {loss}, training stops")
