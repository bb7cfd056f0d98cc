"""The training loop over arrays: epochs of chunks of steps, each chunk one call into compiled code."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cpu.engine import BoundProgram
from fastnn.backend.cpu.epoch import shuffled
from fastnn.callbacks import CallbackList
from fastnn.model.programs import Request
from fastnn.model.runtime import Pass
from fastnn.program.layout import Counter
from fastnn.seeding import key
from fastnn.threads import get_num_threads
from fastnn.training.feed import Feed
from fastnn.training.history import History
from fastnn.training.pace import Pacer
from fastnn.training.progress import Progress

if TYPE_CHECKING:
    from fastnn.model.model import Model

# Plain integers: an enumeration's member costs 0.15 µs as an index.
_CURSOR, _EPOCH, _BAD_LOSS_STEP = int(Counter.CURSOR), int(Counter.EPOCH), int(Counter.BAD_LOSS_STEP)

Validate = Callable[[], dict[str, Any]]


def warn_of_bad_loss(step: int) -> None:
    """Warn the caller of `fit` that the loss is no finite number since a step."""
    warnings.warn(
        f"the loss became NaN or infinite at training step {step}; a smaller learning rate, clipping "
        "(clipnorm) or the TerminateOnNaN callback help",
        RuntimeWarning,
        stacklevel=7,
    )


@dataclass
class Run:
    """One call of `fit`: what is shown, called back and recorded.

    Attributes
    ----------
    first, last : int
        Epochs of this run, counted from 0.
    validate : callable or None
        Returns the validation's logs.
    bad_loss : callable
        Called once, with the step at which the loss was no finite number.
    """

    model: Model
    first: int
    last: int
    steps: int | None
    validate: Validate | None
    callbacks: CallbackList
    progress: Progress
    history: History
    pacer: Pacer = field(default_factory=Pacer)
    bad_loss: Callable[[int], None] = warn_of_bad_loss
    warned: bool = False

    def epochs(self, train_epoch: Callable[[Run, int], dict[str, Any]], resumed: dict[str, Any] | None) -> None:
        """Run all epochs; whatever happens, the model and its history stay usable."""
        model = self.model
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
                if model.stop_training:
                    break
                self.callbacks.on_epoch_begin(epoch)
                self.progress.epoch_begin(epoch)
                logs = train_epoch(self, epoch)
                counters = model._runtime.training
                model._run["trained"] = {"epoch": epoch, "logs": logs}
                # one assignment: an interrupt finds the epoch either unfinished or finished
                counters[_CURSOR : _EPOCH + 1 : _EPOCH - _CURSOR] = (0, counters[_EPOCH] + 1)
                model._earlier_rows = 0
                logs = self._close_epoch(epoch)
            self.callbacks.on_train_end(logs)
        except BaseException:
            if model._rows_done:
                self.history.partial = model._logs_so_far()
            elif "trained" in model._run:
                self.history.partial = dict(model._run["trained"]["logs"])
            raise
        finally:
            self.progress.close()
            self.callbacks.close()

    def _unclosed(self) -> bool:
        """Tell whether a resumed run was interrupted behind the last step of an epoch, in its validation."""
        trained, before = self.model._run.get("trained"), self.first - 1
        return trained is not None and trained["epoch"] == before and self.history.epoch[-1:] != [before]

    def _close_epoch(self, epoch: int) -> dict[str, Any]:
        """Validate, record and call back for an epoch that is trained; returns its logs."""
        model = self.model
        logs = dict(model._run["trained"]["logs"])
        if self.validate is not None and not model.stop_training:
            self.callbacks.on_test_begin()
            results = self.validate()
            self.callbacks.on_test_end(results)
            logs.update({f"val_{name}": value for name, value in results.items()})
        # recorded before the callbacks, so that a checkpoint of this epoch has it
        self.history.record(epoch, logs)
        model._run.pop("trained")
        self.callbacks.on_epoch_end(epoch, logs, self.history.amend)
        self.history.amend(logs)
        self.progress.epoch_end(epoch, logs)
        return logs

    def after_steps(self, finished: int) -> None:
        """Show and call back after a return from compiled code; `finished` steps of the epoch are done."""
        model = self.model
        bad = int(model._runtime.training[_BAD_LOSS_STEP])
        if bad and not self.warned:
            self.warned = True
            self.bad_loss(bad)
        if self.progress.verbose == 1 or self.callbacks.wants("on_train_batch_end"):
            logs = model._logs_so_far()
            self.progress.update(finished, logs)
            self.callbacks.on_train_batch_end(finished - 1, logs)


def order(model: Model, n: int, shuffle: bool) -> NDArray[np.int64] | None:
    """Return the order of the rows in the epoch that is to come: a function of the seed and its number alone."""
    if not shuffle:
        return None
    return shuffled(order_key(model), n)


def order_key(model: Model) -> bytes:
    """Return what decides the order of the rows in the epoch that is to come."""
    return key(model.seed, "shuffle", int(model._runtime.training[_EPOCH]))


def train_arrays(feed: Feed, n: int, batch: int, shuffle: bool) -> Callable[[Run, int], dict[str, Any]]:
    """Make the function that trains one epoch on the first n rows; it goes on at the training's cursor."""
    addresses = feed.addresses()
    n_steps = -(-n // batch)
    requests: dict[tuple[int, tuple[bool, ...]], Request] = {}
    sizes = [(size, steps) for size, steps in ((batch, n // batch), (n % batch, 1)) if size and steps]
    order_of_epoch = np.empty(n, np.int64) if shuffle else None

    def program(model: Model, size: int) -> BoundProgram:
        wanted = (size, model._trained())
        if wanted not in requests:
            requests[wanted] = feed.request("train", size, training=True, indexed=shuffle, trained=wanted[1])
        return model._runtime.program(requests[wanted], model._objective, model._optimizer)

    def programs(model: Model) -> list[tuple[BoundProgram, int]]:
        return [(program(model, size), steps) for size, steps in sizes]

    def train_whole(run: Run, parts: list[tuple[BoundProgram, int]]) -> None:
        """Train an epoch that takes no longer than a stretch of compiled code may, in one call."""
        model = run.model
        hyper = model.optimizer.hyper_rows(model._runtime.optimizer_step(), n_steps)
        work = Pass(addresses, order_of_epoch, hyper, model._totals)
        with run.pacer.timing(n_steps):
            model._runtime.run_epoch(parts, work, order_key(model))

    def train_epoch(run: Run, epoch: int) -> dict[str, Any]:
        model = run.model
        runtime, counters = model._runtime, model._runtime.training
        if counters[_CURSOR] == 0:
            model._start_totals()
            if not run.callbacks.every_batch and run.pacer.steps(n_steps) == n_steps:
                parts = programs(model)
                if get_num_threads() == 1 or not any(bound.shared for bound, _ in parts):
                    train_whole(run, parts)
                    run.after_steps(n_steps)
                    return model._logs_so_far()
        index = order(model, n, shuffle)
        while (row := int(counters[_CURSOR])) < n and not model.stop_training:
            size = min(batch, n - row)
            bound = program(model, size)
            steps = 1 if run.callbacks.every_batch else run.pacer.steps((n - row) // size)
            if run.callbacks.every_batch:
                run.callbacks.on_train_batch_begin(row // batch)
            hyper = model.optimizer.hyper_rows(runtime.optimizer_step(), steps)
            work = Pass(addresses, index, hyper, model._totals)
            with run.pacer.timing(steps):
                runtime.run(bound, work, steps)
            run.after_steps(min(n_steps, -(-int(counters[_CURSOR]) // batch)))
        return model._logs_so_far()

    return train_epoch
