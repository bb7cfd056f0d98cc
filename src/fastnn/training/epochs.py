"""Epochs over arrays: in chunks of steps, or whole epochs at a time if they are short."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cpu.executor.engine import BoundProgram
from fastnn.backend.cpu.executor.epoch import MOST_EPOCHS, Lap
from fastnn.data.feed import Feed
from fastnn.errors import InputNotFiniteError
from fastnn.formulas.optimizers import PENALTY_COLUMN
from fastnn.lower.task import Request
from fastnn.program.layout import Counter
from fastnn.runtime import sweep
from fastnn.runtime.bindings import Bindings, fail_where_not_finite
from fastnn.runtime.cancellation import stop_if_asked
from fastnn.runtime.runtime import Runtime
from fastnn.threads import get_num_threads
from fastnn.training.loop import Run
from fastnn.training.options import Passes
from fastnn.training.shuffle import Shuffler, key_of

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

    `passes` are orders of the caller's, and factors of penalties, for whole passes over the rows; they say themselves
    how many may be trained in one call.
    """

    def __init__(
        self, feed: Feed, n: int, batch: int, shuffle: bool, steps: int | None = None, origin: int = 0,
        passes: Passes | None = None,
    ) -> None:  # fmt: skip
        self.feed, self.n, self.batch, self.shuffle, self.passes = feed, n, batch, shuffle, passes
        self.steps, self.origin, self._warned = steps, origin, False
        self.addresses = feed.addresses()
        self.n_steps = -(-n // batch)
        self._sizes = [(size, steps) for size, steps in ((batch, n // batch), (n % batch, 1)) if size and steps]
        self._requests: dict[tuple[int, int | None, tuple[bool, ...]], Request] = {}
        self._orders: list[NDArray[np.int64] | None] = []
        self._shuffler = Shuffler(n, shuffle, batch, feed.lengths)

    def __call__(self, run: Run, epoch: int) -> dict[str, Any]:
        """Train an epoch, or take the results of one that is already trained; returns its logs."""
        state, batch = run.state, self.batch
        runtime, counters = state.runtime, state.runtime.training
        if run.ahead:
            return self._take(run)
        first, last, part = self._span(epoch)
        if counters[_CURSOR] == 0:
            state.start_totals()
            count = self._epochs_at_once(run, epoch)
            if count:
                if self._train_whole(run, epoch, count):
                    run.after_steps(self.n_steps)
                return self._take(run)
            counters[_CURSOR] = first
        # rows before the first one belong to earlier epochs
        state.earlier_rows = -first
        more = epoch + 1 < run.last
        shuffler = self._shuffler
        if self.passes is not None:
            index = self.passes.begin(epoch)
        else:
            index = shuffler.next(runtime, more) if self.steps is None else shuffler.part_of(runtime, part)
        lengths = self.feed.lengths
        cuts = None if lengths is None else lengths.of_batches(index, self.n, batch)
        _, optimizer = runtime.compiled()
        while (row := int(counters[_CURSOR])) < last and not state.stop_training:
            size, cut = min(batch, last - row), None
            there = (last - row) // size
            if cuts is not None:
                # as many batches as are cut alike
                following = cuts[row // batch :][:there]
                cut, there = int(following[0]), int(np.append(following != following[0], True).argmax())
            bound = self._program(runtime, size, cut)
            steps = 1 if run.callbacks.every_batch else run.pacer.steps(there)
            if run.callbacks.every_batch:
                run.callbacks.on_train_batch_begin((row - first) // batch)
            hyper = optimizer.hyper_rows(runtime.optimizer_step(), steps, state.dtype)
            if self.passes is not None:
                step = row // batch
                hyper[:, PENALTY_COLUMN] = self.passes.factors[step : step + steps]
            work = Bindings(self.addresses, index, hyper, state.totals)
            try:
                with run.pacer.timing(steps):
                    runtime.run(bound, work, steps)
            except InputNotFiniteError as error:
                self.feed.locate(error, runtime.table.architecture.input_names)
                raise
            run.after_steps(-(-(min(last, int(counters[_CURSOR])) - first) // batch))
        return state.logs_so_far()

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

    def _program(self, runtime: Runtime, size: int, cut: int | None = None) -> BoundProgram:
        wanted = (size, cut, runtime.table.trained())
        if wanted not in self._requests:
            self._requests[wanted] = self.feed.request(
                "train", size, training=True, indexed=self.shuffle, trained=wanted[2], steps=cut
            )
        return runtime.program(self._requests[wanted])

    def _epochs_at_once(self, run: Run, epoch: int) -> int:
        """Return how many epochs to train in the next call; 0 if it trains a part of one."""
        if self.steps is not None or run.callbacks.every_batch or run.state.runtime.placement is not None:
            return 0
        if self.feed.lengths is not None:
            return 0
        count = run.pacer.steps(MOST_EPOCHS * self.n_steps) // self.n_steps
        threads = get_num_threads()
        if threads > 1 and not self._program(run.state.runtime, self._sizes[0][0]).is_alone(threads):
            return 0  # the steps of most batches are faster on several threads
        certain = (MOST_EPOCHS if run.may_run_ahead else 1) if self.passes is None else self.passes.certain()
        return int(min(count, certain, run.last - epoch, max(1, _MOST_ROWS // self.n)))

    def _train_whole(self, run: Run, epoch: int, count: int) -> bool:
        """Train epochs in one call; returns False if a row that is not finite has ended it."""
        state, n_steps, runtime = run.state, self.n_steps, run.state.runtime
        objective, optimizer = runtime.compiled()
        totals = [state.totals, *(objective.initial() for _ in range(1, count))]
        laps = self._laps(runtime, epoch, totals)
        hyper = optimizer.hyper_rows(runtime.optimizer_step(), n_steps * count, state.dtype)
        if self.passes is not None:
            hyper[:, PENALTY_COLUMN] = np.tile(self.passes.factors, count)
        work = Bindings(self.addresses, laps[0].order, hyper, state.totals)
        parts = [(self._program(runtime, size), steps) for size, steps in self._sizes]
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
            self.feed.locate(error, runtime.table.architecture.input_names)
            run.ahead.append((totals[done // n_steps], (error, int(runtime.training[_CURSOR]))))
        return False

    def _laps(self, runtime: Runtime, epoch: int, totals: list[NDArray[np.float64]]) -> list[Lap]:
        """Return the arguments of the epochs from one on, one for each of the accumulators."""
        if self.passes is not None:
            return [Lap(None, self.passes.begin(epoch + later), each) for later, each in enumerate(totals)]
        while len(self._orders) < len(totals):
            self._orders.append(np.empty(self.n, np.int64) if self.shuffle else None)
        return [Lap(key_of(runtime, later), self._orders[later], each) for later, each in enumerate(totals)]

    def _take(self, run: Run) -> dict[str, Any]:
        """Set the training's counters and totals to the end of the next trained epoch."""
        state, counters = run.state, run.state.runtime.training
        totals, failure = run.ahead.popleft()
        state.totals = totals
        if failure is not None:
            error, counters[_CURSOR] = failure
            raise error
        counters[_CURSOR] = self.n
        return state.logs_so_far()
