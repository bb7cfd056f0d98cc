"""The training loop: epochs, their records and display, and callbacks."""

from __future__ import annotations

import threading
import warnings
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.callbacks import CallbackList
from fastnn.program.layout import Counter
from fastnn.runtime.averaging import finalize
from fastnn.runtime.chunking import Pacer
from fastnn.training.history import History
from fastnn.training.progress import Progress
from fastnn.training.state import TrainingState

# Plain integers: an enumeration's member costs 0.15 µs as an index.
_CURSOR, _EPOCH, _BAD_LOSS_STEP = int(Counter.CURSOR), int(Counter.EPOCH), int(Counter.BAD_LOSS_STEP)

Validate = Callable[[], dict[str, Any]]
# Trains the epoch of a number, counted from 0, and returns its logs.
TrainEpoch = Callable[["Run", int], dict[str, Any]]
# An epoch's totals and, if a row that is not finite has ended it, the error and that row.
Trained = tuple[NDArray[np.float64], tuple[Exception, int] | None]


def warn_of_bad_loss(step: int, stacklevel: int = 8) -> None:
    """Warn the caller of `fit` that the loss has not been finite since a step."""
    warnings.warn(
        f"the loss became NaN or infinite at training step {step}; a smaller learning rate, clipping "
        "(clipnorm) or the TerminateOnNaN callback help",
        RuntimeWarning,
        stacklevel=stacklevel,
    )


@dataclass
class Run:
    """One call of `fit`: its display, callbacks and records.

    Attributes
    ----------
    first, last : int
        Epochs of this run, counted from 0.
    validate : callable or None
        Returns the validation's logs.
    bad_loss : callable
        Called once, with the first step whose loss was not finite.
    validates : callable
        Returns whether an epoch is validated.
    ahead : deque
        Epochs that were trained in one call with others, and are not recorded yet.
    """

    state: TrainingState
    first: int
    last: int
    steps: int | None
    validate: Validate | None
    callbacks: CallbackList
    progress: Progress
    history: History
    pacer: Pacer = field(default_factory=Pacer)
    bad_loss: Callable[[int], None] = warn_of_bad_loss
    validates: Callable[[int], bool] = lambda epoch: True
    warned: bool = False
    ahead: deque[Trained] = field(default_factory=deque)

    @property
    def may_run_ahead(self) -> bool:
        """Whether nothing can happen between epochs: no callback, validation, display, or Ctrl-C."""
        busy = self.callbacks.callbacks or self.validate is not None or self.progress.verbose
        return not busy and threading.current_thread() is not threading.main_thread()

    def epochs(self, train_epoch: TrainEpoch, resumed: dict[str, Any] | None) -> None:
        """Run all epochs; whatever happens, the model and its history stay usable."""
        state = self.state
        self.progress.begin(self.last, self.steps, self.first)
        logs: dict[str, Any] = {}
        try:
            self.callbacks.on_train_begin()
            if resumed is not None:
                self.callbacks.set_state(resumed["callbacks"])
                self.callbacks.set_tensors(resumed["tensors"])
            if self._unclosed():
                logs = self._close_epoch(self.first - 1)
            for epoch in range(self.first, self.last):
                if state.stop_training and not self.ahead:
                    break
                self.callbacks.on_epoch_begin(epoch)
                self.progress.epoch_begin(epoch)
                logs = train_epoch(self, epoch)
                counters = state.runtime.training
                state.run["trained"] = {"epoch": epoch, "logs": logs}
                # one assignment: an interrupt sees the epoch either unfinished or finished
                counters[_CURSOR : _EPOCH + 1 : _EPOCH - _CURSOR] = (0, counters[_EPOCH] + 1)
                state.earlier_rows = 0
                logs = self._close_epoch(epoch)
            if self.last > 0:
                finalize(state.runtime)
            self.callbacks.on_train_end(logs)
        except BaseException:
            if state.rows_done:
                self.history.partial = state.logs_so_far()
            elif "trained" in state.run:
                self.history.partial = dict(state.run["trained"]["logs"])
            raise
        finally:
            self.progress.close()
            self.callbacks.close()

    def _unclosed(self) -> bool:
        """Return whether a resumed run was interrupted after the last step of an epoch, in its validation."""
        trained, before = self.state.run.get("trained"), self.first - 1
        return trained is not None and trained["epoch"] == before and self.history.epoch[-1:] != [before]

    def _close_epoch(self, epoch: int) -> dict[str, Any]:
        """Validate and record a trained epoch, and call its callbacks; returns its logs."""
        state = self.state
        logs = dict(state.run["trained"]["logs"])
        if self.validate is not None and self.validates(epoch) and not state.stop_training:
            self.callbacks.on_test_begin()
            results = self.validate()
            self.callbacks.on_test_end(results)
            logs.update({f"val_{name}": value for name, value in results.items()})
        # recorded before the callbacks, so that a checkpoint of this epoch has it
        self.history.record(epoch, logs)
        state.run.pop("trained")
        self.callbacks.on_epoch_end(epoch, logs, self.history.amend)
        self.history.amend(logs)
        self.progress.epoch_end(epoch, logs)
        return logs

    def after_steps(self, finished: int) -> None:
        """Update the display and call callbacks after `finished` steps of the epoch, on a return from compiled code."""
        bad = int(self.state.runtime.training[_BAD_LOSS_STEP])
        if bad and not self.warned:
            self.warned = True
            self.bad_loss(bad)
        if self.progress.verbose == 1 or self.callbacks.wants("on_train_batch_end"):
            logs = self.state.logs_so_far()
            self.progress.update(finished, logs)
            self.callbacks.on_train_batch_end(finished - 1, logs)
