"""Epochs over arrays: in chunks of steps, or whole epochs at a time if they are short."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cpu.executor.engine import BoundProgram
from fastnn.backend.cpu.executor.epoch import MOST_EPOCHS, Lap
from fastnn.data.feed import Feed
from fastnn.errors import InputNotFiniteError
from fastnn.program.layout import Counter
from fastnn.runtime import sweep
from fastnn.runtime.programs import Request
from fastnn.runtime.runtime import Pass, fail_where_not_finite
from fastnn.threads import get_num_threads
from fastnn.training.chunking import stop_if_asked
from fastnn.training.shuffle import Orders, key_of

if TYPE_CHECKING:
    from fastnn.model.model import Model
    from fastnn.training.loop import Run

# Plain integers: an enumeration's member costs 0.15 µs as an index.
_CURSOR = int(Counter.CURSOR)
# Row numbers that epochs in one call may take together: 8 MB.
_MOST_ROWS = 2**20


class ArrayEpochs:
    """Trains one epoch after the other on the first n rows, starting at the training's cursor.

    With `steps` an epoch is this many batches, and the next one continues where it stopped, until the rows are used up:
    the last epoch of such a pass may be shorter. `origin` is the epoch at which the first pass begins.

    A short epoch is trained in one call of compiled code. Python takes 65 µs for an epoch, and delays
    other threads that train, so one call may also train several epochs, if nothing can observe that the weights are
    ahead (`Run.may_run_ahead`). The results of an epoch then wait in `Run.ahead` for their turn.
    """

    def __init__(
        self, feed: Feed, n: int, batch: int, shuffle: bool, steps: int | None = None, origin: int = 0
    ) -> None:
        self.feed, self.n, self.batch, self.shuffle = feed, n, batch, shuffle
        self.steps, self.origin, self._warned = steps, origin, False
        self.addresses = feed.addresses()
        self.n_steps = -(-n // batch)
        self._sizes = [(size, steps) for size, steps in ((batch, n // batch), (n % batch, 1)) if size and steps]
        self._requests: dict[tuple[int, tuple[bool, ...]], Request] = {}
        self._orders: list[NDArray[np.int64] | None] = []
        self._ahead = Orders(n, shuffle)

    def __call__(self, run: Run, epoch: int) -> dict[str, Any]:
        """Train an epoch, or take the results of one that is already trained; returns its logs."""
        model = run.model
        runtime, counters, batch = model._runtime, model._runtime.training, self.batch
        if run.ahead:
            return self._take(run)
        first, last, part = self._span(epoch)
        if counters[_CURSOR] == 0:
            model._start_totals()
            count = self._epochs_at_once(run, epoch)
            if count:
                if self._train_whole(run, count):
                    run.after_steps(self.n_steps)
                return self._take(run)
            counters[_CURSOR] = first
        # rows before the first one belong to earlier epochs
        model._earlier_rows = -first
        more = epoch + 1 < run.last
        index = self._ahead.next(model, more) if self.steps is None else self._ahead.part_of(model, part)
        while (row := int(counters[_CURSOR])) < last and not model.stop_training:
            size = min(batch, last - row)
            bound = self._program(model, size)
            steps = 1 if run.callbacks.every_batch else run.pacer.steps((last - row) // size)
            if run.callbacks.every_batch:
                run.callbacks.on_train_batch_begin((row - first) // batch)
            hyper = model.optimizer.hyper_rows(runtime.optimizer_step(), steps, model.dtype)
            work = Pass(self.addresses, index, hyper, model._totals)
            try:
                with run.pacer.timing(steps):
                    runtime.run(bound, work, steps)
            except InputNotFiniteError as error:
                self.feed.locate(error, model.input_names)
                raise
            run.after_steps(-(-(min(last, int(counters[_CURSOR])) - first) // batch))
        return model._logs_so_far()

    def _span(self, epoch: int) -> tuple[int, int, int]:
        """Return an epoch's first row, the row after its last one, and how many epochs ago its pass began."""
        if self.steps is None:
            return 0, self.n, 0
        part = (epoch - self.origin) % -(-self.n_steps // self.steps)
        first = part * self.steps * self.batch
        last = min(self.n, first + self.steps * self.batch)
        found = -(-(last - first) // self.batch)
        if found < self.steps and not self._warned:
            self._warned = True
            sweep.warn_of_few(
                "steps_per_epoch", self.steps, found, f" for epoch {epoch + 1}; the next one starts again"
            )
        return first, last, part

    def _program(self, model: Model, size: int) -> BoundProgram:
        wanted = (size, model._trained())
        if wanted not in self._requests:
            self._requests[wanted] = self.feed.request(
                "train", size, training=True, indexed=self.shuffle, trained=wanted[1]
            )
        return model._runtime.program(self._requests[wanted], model._objective, model._optimizer)

    def _epochs_at_once(self, run: Run, epoch: int) -> int:
        """Return how many epochs to train in the next call; 0 if it trains a part of one."""
        if self.steps is not None or run.callbacks.every_batch or run.model._runtime.placement is not None:
            return 0
        count = run.pacer.steps(MOST_EPOCHS * self.n_steps) // self.n_steps
        if get_num_threads() > 1 and any(self._program(run.model, size).shared for size, _ in self._sizes):
            return 0
        return min(count, run.last - epoch, max(1, _MOST_ROWS // self.n)) if run.may_run_ahead else min(count, 1)

    def _train_whole(self, run: Run, count: int) -> bool:
        """Train epochs in one call; returns False if a row that is not finite has ended it."""
        model, n_steps = run.model, self.n_steps
        runtime, objective = model._runtime, model._objective_or_fail()
        while len(self._orders) < count:
            self._orders.append(np.empty(self.n, np.int64) if self.shuffle else None)
        totals = [model._totals, *(objective.initial() for _ in range(1, count))]
        laps = [Lap(key_of(model, later), self._orders[later], totals[later]) for later in range(count)]
        hyper = model.optimizer.hyper_rows(runtime.optimizer_step(), n_steps * count, model.dtype)
        work = Pass(self.addresses, self._orders[0], hyper, model._totals)
        parts = [(self._program(model, size), steps) for size, steps in self._sizes]
        if count > 1:
            # not after the call: then its epochs have to be recorded
            stop_if_asked()
        with run.pacer.timing(n_steps * count, stops=count == 1):
            done = runtime.run_epochs(parts, work, laps)
        run.ahead.extend((each, None) for each in totals[: done // n_steps])
        if done == n_steps * count:
            return True
        try:
            fail_where_not_finite(runtime.training, runtime.table.dtype)
        except InputNotFiniteError as error:
            self.feed.locate(error, model.input_names)
            run.ahead.append((totals[done // n_steps], (error, int(runtime.training[_CURSOR]))))
        return False

    def _take(self, run: Run) -> dict[str, Any]:
        """Set the model's counters and totals to the end of the next trained epoch."""
        model, counters = run.model, run.model._runtime.training
        totals, failure = run.ahead.popleft()
        model._totals = totals
        if failure is not None:
            error, counters[_CURSOR] = failure
            raise error
        counters[_CURSOR] = self.n
        return model._logs_so_far()
