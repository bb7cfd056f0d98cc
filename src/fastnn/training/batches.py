"""Training, evaluation and prediction on an iterable of batches, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastnn.model.runtime import Pass
from fastnn.program.layout import Counter
from fastnn.training import passes
from fastnn.training.feed import Feed

if TYPE_CHECKING:
    from fastnn.model.model import Model
    from fastnn.training.loop import Run


def unpack(batch: Any) -> tuple[Any, Any, Any]:
    """Take (x, y) or (x, y, sample_weight) apart."""
    if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
        raise ValueError(
            "an iterable of batches gives tuples (x, y) or (x, y, sample_weight), got "
            + (f"{len(batch)} values" if isinstance(batch, (tuple, list)) else type(batch).__name__)
        )
    return batch[0], batch[1], batch[2] if len(batch) == 3 else None


def train_batch(model: Model, feed: Feed, *, fresh: bool) -> None:
    """Take one step on all rows of a feed; `fresh` starts new totals."""
    runtime = model._runtime
    with runtime.lock:
        if fresh:
            model._start_totals()
        runtime.training[Counter.CURSOR] = 0
        request = feed.request("train", feed.n, training=True, trained=model._trained())
        bound = runtime.program(request, model._objective, model._optimizer)
        hyper = model.optimizer.hyper_rows(runtime.optimizer_step(), 1)
        runtime.run(bound, Pass(feed.addresses(), hyper=hyper, accumulators=model._totals), 1)
        model._earlier_rows += feed.n
        runtime.training[Counter.CURSOR] = 0


def train_iterable(
    iterable: Iterable[Any], steps: int | None, class_weight: Any
) -> Callable[[Run, int], dict[str, Any]]:
    """Make the function that trains one epoch on batches: all of them, or the next `steps`."""
    endless: Iterator[Any] | None = iter(iterable) if steps is not None else None

    def train_epoch(run: Run, epoch: int) -> dict[str, Any]:
        nonlocal endless
        model = run.model
        model._start_totals()
        model._runtime.training[Counter.CURSOR] = 0
        done = 0
        source = iter(iterable) if endless is None else endless
        while (steps is None or done < steps) and not model.stop_training:
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
            x, y, weight = unpack(batch)
            train_batch(model, model._feed(x, y, weight, class_weight, f"batch {done}: "), fresh=False)
            done += 1
            run.after_steps(done)
        if done == 0:
            raise ValueError(
                f"the iterable gave no batch in epoch {epoch + 1}; one that can be walked only once, such as a "
                "generator, needs epochs=1 or steps_per_epoch"
            )
        return model._logs_so_far()

    return train_epoch


def evaluate(model: Model, iterable: Iterable[Any]) -> tuple[NDArray[np.float64], int]:
    """Fill fresh accumulators over all batches; returns them and the number of rows."""
    totals, rows = model._objective_or_fail().initial(), 0
    for number, batch in enumerate(iterable):
        x, y, weight = unpack(batch)
        feed = model._feed(x, y, weight, None, f"batch {number}: ")
        passes.sweep(model, feed, feed.n, 0, feed.n, partial(feed.request, "evaluate"), totals)
        rows += feed.n
    if rows == 0:
        raise ValueError("the iterable gave no batch")
    return totals, rows


def predict(model: Model, iterable: Iterable[Any]) -> Any:
    """Return the outputs for all batches of inputs, joined."""
    found = []
    for number, batch in enumerate(iterable):
        feed = model._inputs(batch, f"batch {number}: ")
        found.append(passes.predict(model, feed, passes.DEFAULT_BATCH))
    if not found:
        raise ValueError("the iterable gave no batch")
    joined = [np.concatenate(parts) for parts in zip(*found, strict=True)]
    return joined[0] if len(joined) == 1 else joined
