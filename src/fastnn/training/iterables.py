"""Training, evaluation and prediction on an iterable of batches, one at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import chain, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.checks import shorten
from fastnn.data import kinds
from fastnn.data.feed import Feed
from fastnn.errors import InputNotFiniteError
from fastnn.formulas.optimizers import PENALTY_COLUMN
from fastnn.program.layout import Counter
from fastnn.runtime import feeds, sweep
from fastnn.runtime.bindings import Bindings
from fastnn.runtime.runtime import Runtime
from fastnn.training.loop import Run, TrainEpoch
from fastnn.training.options import Passes
from fastnn.training.state import Trainable, TrainingState, build_for, state_of


def unpack(batch: Any, where: str = "") -> tuple[Any, Any, Any]:
    """Split (x, y) or (x, y, sample_weight)."""
    if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
        got = f"a {type(batch).__name__}"
        if isinstance(batch, (tuple, list)):
            got += f" of {len(batch)} {'value' if len(batch) == 1 else 'values'}"
        elif isinstance(batch, Mapping):
            got += f" with the keys {shorten(list(batch))}"
        raise ValueError(
            f"{where}expected an iterable of tuples (x, y) or (x, y, sample_weight), got {got}; y is an array "
            "with a target for each row of x"
        )
    return batch[0], batch[1], batch[2] if len(batch) == 3 else None


def data_of(runtime: Runtime, batch: Any, where: str = "") -> tuple[Any, Any, Any]:
    """Return x, y and sample weights of a batch; it is x alone for a model that has no targets."""
    if runtime.compiled()[0].targeted:
        return unpack(batch, where)
    return inputs_of(batch, len(runtime.table.architecture.inputs)), None, None


def inputs_of(batch: Any, n_inputs: int) -> Any:
    """Return the inputs of a batch to predict: x, or the x of a tuple (x, y) or (x, y, sample_weight)."""
    if not isinstance(batch, (tuple, list)) or len(batch) not in (1, 2, 3):
        return batch
    x = batch[0]
    if n_inputs == 1:
        # rows as lists are inputs too
        return x if isinstance(x, Mapping) or len(getattr(x, "shape", ())) > 1 or _wraps(batch) else batch
    return x if isinstance(x, (tuple, list, Mapping)) and len(x) == n_inputs else batch


def _wraps(batch: Any) -> bool:
    """Return whether a list contains arrays of rows, rather than being one row of numbers."""
    return hasattr(batch[0], "to_numpy") or (len(getattr(batch[0], "shape", ())) == 1 and isinstance(batch, tuple))


def length_of(iterable: Any) -> int | None:
    """Return the length of an iterable of batches, or None if it has none or an impossible one."""
    try:
        return len(iterable) or None
    except Exception:
        # loaders of endless or unknown length raise all kinds of errors; the length is for display only
        return None


def peek(iterable: Any) -> tuple[Any, Any]:
    """Return the first batch, and an iterable that still includes it.

    Raises
    ------
    ValueError
        When there is none.
    """
    walk = iter(iterable)
    for first in walk:
        return first, chain([first], walk) if walk is iterable else iterable
    raise ValueError("the iterable gave no batch")


def are_given(state: TrainingState, x: Any, *, listed: bool = False) -> bool:
    """Return whether x is an iterable of batches, instead of the rows of a model's inputs; see `kinds.is_batches`."""
    shapes = state.runtime.table.architecture.input_shapes if state.built else ()
    return kinds.is_batches(x, shapes[0] if len(shapes) == 1 else None, listed=listed)


def build_for_data(model: Trainable, x: Any, iterable: bool, *, pairs: bool) -> Any:
    """Infer missing shapes from data or from the first batch of an iterable; returns the data, complete.

    `pairs` says whether batches are (x, y) rather than inputs alone.
    """
    if state_of(model).built:
        return x
    first = x
    if iterable:
        first, x = peek(x)
        first = unpack(first, "batch 0: ")[0] if pairs else inputs_of(first, 1)
    build_for(model, first)
    return x


def train_batch(state: TrainingState, feed: Feed, *, fresh: bool, penalty: float | None = None) -> None:
    """Take one step on all rows of a feed; `fresh` resets the totals, `penalty` is the factor of those by step."""
    runtime = state.runtime
    with runtime.lock:
        if fresh:
            state.start_totals()
        runtime.training[Counter.CURSOR] = 0
        request = feed.request("train", feed.n, training=True, trained=runtime.table.trained())
        bound = runtime.program(request)
        hyper = runtime.compiled()[1].hyper_rows(runtime.optimizer_step(), 1, state.dtype)
        if penalty is not None:
            hyper[:, PENALTY_COLUMN] = penalty
        try:
            runtime.run(bound, Bindings(feed.addresses(), hyper=hyper, accumulators=state.totals), 1)
        except InputNotFiniteError as error:
            feed.locate(error, runtime.table.architecture.input_names)
            raise
        state.earlier_rows += feed.n
        runtime.training[Counter.CURSOR] = 0


def refuse_lengths(lengths: Any) -> None:
    """Raise ValueError if there are lengths besides an iterable of batches."""
    if lengths is not None:
        raise ValueError(
            "lengths: cannot be given with an iterable of batches: give arrays, batches of one length each "
            "(fastnn.data.buckets), or mark padding by Masking or Embedding(mask_zero=True)"
        )


def train_iterable(
    iterable: Iterable[Any], steps: int | None, class_weight: Any, passes: Passes | None = None
) -> TrainEpoch:
    """Make the function that trains one epoch on batches: all of them, or the next `steps`.

    `passes` has factors of penalties.
    """
    endless: Iterator[Any] | None = iter(iterable) if steps is not None else None

    def train_epoch(run: Run, epoch: int) -> dict[str, Any]:
        nonlocal endless
        state = run.state
        state.start_totals()
        state.runtime.training[Counter.CURSOR] = 0
        done = 0
        source = iter(iterable) if endless is None else endless
        while (steps is None or done < steps) and not state.stop_training:
            try:
                batch = next(source)
            except StopIteration:
                if steps is None:
                    break
                source = endless = iter(iterable)
                try:
                    batch = next(source)
                except StopIteration:
                    raise ValueError(
                        f"the iterable of batches ended after {done} of {steps} steps of epoch {epoch + 1} and "
                        "cannot start again"
                    ) from None
            if run.callbacks.every_batch:
                run.callbacks.on_train_batch_begin(done)
            x, y, weight = data_of(state.runtime, batch, f"batch {done}: ")
            try:
                feed = feeds.feed(state.runtime, x, y, weight, class_weight, f"batch {done}: ")
                train_batch(state, feed, fresh=False, penalty=None if passes is None else passes.factors[done])
            except InputNotFiniteError as error:
                error.cell = f"{error.cell} of batch {done}"
                raise
            done += 1
            run.after_steps(done)
        if done == 0:
            raise ValueError(
                f"the iterable gave no batch in epoch {epoch + 1}; one that can be iterated only once, such as a "
                "generator, needs epochs=1 or steps_per_epoch"
            )
        return state.logs_so_far()

    return train_epoch


def evaluate(runtime: Runtime, iterable: Iterable[Any], steps: int | None = None) -> tuple[NDArray[np.float64], int]:
    """Fill fresh accumulators over all batches, or the next `steps`; returns them and the number of rows."""
    totals, rows = runtime.compiled()[0].initial(), 0
    for number, batch in _some(iterable, steps):
        x, y, weight = data_of(runtime, batch, f"batch {number}: ")
        feed = feeds.feed(runtime, x, y, weight, None, f"batch {number}: ")
        sweep.sweep(runtime, feed, feed.n, 0, feed.n, partial(feed.request, "evaluate"), totals, rows)
        rows += feed.n
    return totals, rows


def predict(runtime: Runtime, iterable: Iterable[Any], steps: int | None = None) -> Any:
    """Return the outputs for all batches of inputs, or the next `steps`, joined."""
    found, n_inputs, rows = [], len(runtime.table.architecture.inputs), 0
    for number, batch in _some(iterable, steps):
        feed = feeds.inputs(runtime, inputs_of(batch, n_inputs), f"batch {number}: ")
        found.append(sweep.predict(runtime, feed, feed.n if runtime.states else sweep.DEFAULT_BATCH, before=rows))
        rows += feed.n
    for results in zip(*found, strict=True):
        shapes = {result.shape[1:] for result in results}
        if len(shapes) > 1:
            raise ValueError(
                f"x: batches gave outputs of samples of different shapes, {' and '.join(map(str, sorted(shapes)))}, "
                "which make no one array: predict them one by one"
            )
    joined = [np.concatenate(parts) for parts in zip(*found, strict=True)]
    return joined[0] if len(joined) == 1 else joined


def _some(iterable: Iterable[Any], steps: int | None) -> Iterator[tuple[int, Any]]:
    """Yield batches with their numbers, at most `steps`; warns if there are fewer, raises if there is none."""
    count = 0
    for batch in islice(iterable, steps):
        yield count, batch
        count += 1
    if count == 0:
        raise ValueError("the iterable gave no batch")
    if steps is not None and count < steps:
        sweep.warn_of_few("steps", steps, count)
