"""Changing the learning rate between epochs."""

from __future__ import annotations

import inspect
import numbers
from collections.abc import Callable
from typing import Any, ClassVar

from fastnn.callbacks.base import Callback, Logs
from fastnn.callbacks.monitor import Monitor
from fastnn.checks import integer, number
from fastnn.console import say

__all__ = ["LearningRateScheduler", "ReduceLROnPlateau"]


class ReduceLROnPlateau(Callback):
    """Lower the learning rate when a quantity has stopped improving (``keras.callbacks.ReduceLROnPlateau``).

    The learning rate of each epoch goes into the logs as ``learning_rate``.

    Parameters
    ----------
    monitor : str
        The quantity, a key of the logs.
    factor : float
        The learning rate is multiplied by it; at least 0, less than 1.
    patience : int
        Number of epochs without improvement before the learning rate is lowered.
    verbose : int
        1 prints a line when that happens.
    mode : {"auto", "min", "max"}
        Whether smaller or larger values are better; ``"auto"`` decides by the name.
    min_delta : float
        Changes up to this size do not count as improvements.
    cooldown : int
        Number of epochs after a change that do not count against the patience.
    min_lr : float
        The learning rate is not lowered below it.
    """

    watched: Monitor
    state_names: ClassVar[tuple[str, ...]] = ("best", "wait", "cooldown_counter")

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        owner = "ReduceLROnPlateau"
        self.watched = Monitor(owner, monitor, mode, min_delta)
        self.monitor = monitor
        self.factor = number(f"{owner} factor", factor, at_least=0.0, below=1.0)
        self.patience = integer(f"{owner} patience", patience, at_least=0)
        self.verbose = verbose
        self.cooldown = integer(f"{owner} cooldown", cooldown, at_least=0)
        self.min_lr = number(f"{owner} min_lr", min_lr, at_least=0.0)
        self._reset()

    def _reset(self) -> None:
        self.best: float | None = None
        self.wait = 0
        self.cooldown_counter = 0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Reset the state, and refuse an optimizer whose learning rate is not a number."""
        self._reset()
        _learning_rate(self)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Compare the epoch with the best one; lower the learning rate if patience is used up."""
        rate = _learning_rate(self)
        rests = self.watched.rests(epoch, logs, self.params)
        value = None if rests else self.watched.value(logs)
        if logs is not None:
            logs["learning_rate"] = rate
        if value is None:
            return
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.wait = 0
        if self.watched.improves(value, self.best):
            self.best = value
            self.wait = 0
        elif self.cooldown_counter == 0:
            self.wait += 1
            if self.wait >= self.patience and rate > self.min_lr:
                self._lower(epoch, rate)

    def _lower(self, epoch: int, rate: float) -> None:
        lower = max(rate * self.factor, self.min_lr)
        self.model.optimizer.learning_rate = lower
        self.cooldown_counter = self.cooldown
        self.wait = 0
        if self.verbose:
            say(f"Epoch {epoch + 1}: lowered the learning rate to {lower:.5g}")


class LearningRateScheduler(Callback):
    """Set the learning rate of every epoch by a function (``keras.callbacks.LearningRateScheduler``).

    The learning rate of each epoch goes into the logs as ``learning_rate``.

    Parameters
    ----------
    schedule : callable
        ``schedule(epoch, learning_rate) -> learning_rate``, or ``schedule(epoch) -> learning_rate``, with the epoch
        counted from 0.
    verbose : int
        1 prints a line for every epoch.
    """

    state_names: ClassVar[tuple[str, ...]] = ("epoch",)

    def __init__(self, schedule: Callable[..., float], verbose: int = 0) -> None:
        if not callable(schedule):
            raise TypeError(f"LearningRateScheduler: schedule is a function of epoch and rate, got {schedule!r}")
        self.schedule = schedule
        self._takes_rate = _takes_rate(schedule)
        self.verbose = verbose
        self.epoch: int | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Reset the state of an earlier training."""
        self.epoch = None

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Set the learning rate of this epoch; a resumed epoch already has its own."""
        if epoch == self.epoch:
            return
        self.epoch = epoch
        present = _learning_rate(self)
        answer: Any = self.schedule(epoch, present) if self._takes_rate else self.schedule(epoch)
        rate = number(f"LearningRateScheduler: result of schedule({epoch}, ...)", answer, at_least=0.0)
        self.model.optimizer.learning_rate = rate
        if self.verbose:
            say(f"Epoch {epoch + 1}: set the learning rate to {rate:.5g}")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Add the learning rate to the logs."""
        if logs is not None:
            logs["learning_rate"] = _learning_rate(self)


def _takes_rate(schedule: Callable[..., Any]) -> bool:
    """Return whether a function takes an epoch and a rate, or only the epoch."""
    try:
        parameters = inspect.signature(schedule)
    except (TypeError, ValueError):  # builtins may have no signature
        return True
    for given in ((0, 0.0), (0,)):
        try:
            parameters.bind(*given)
        except TypeError:
            continue
        return len(given) == 2
    raise TypeError(
        f"LearningRateScheduler: schedule is a function of epoch and rate, or of the epoch, got {schedule!r}"
    )


def _learning_rate(callback: Callback) -> float:
    rate = callback.model.optimizer.learning_rate
    if not isinstance(rate, numbers.Real):
        raise ValueError(
            f"{type(callback).__name__} needs a constant learning rate, the optimizer has {rate!r}; "
            "give the optimizer a number, or leave the callback out"
        )
    return float(rate)
