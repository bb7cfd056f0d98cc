"""Passes over data without training: evaluation and prediction, batch by batch in one call."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.checks import size
from fastnn.data.feed import Feed
from fastnn.data.lengths import Lengths
from fastnn.lower.task import Request
from fastnn.runtime.bindings import Bindings
from fastnn.runtime.chunking import Pacer
from fastnn.runtime.feeds import architecture_for
from fastnn.runtime.runtime import Runtime

# The default rows per batch: enough to fill the cores' vector units, few enough for the caches.
DEFAULT_BATCH = 256
# The default rows per batch with `steps`, as in Keras: there the batch size decides how far the steps get.
STEP_ROWS = 32


def batch_rows(batch_size: int | None, default: int = DEFAULT_BATCH) -> int:
    """Return the rows at a time, checked."""
    return default if batch_size is None else size("batch_size", batch_size)


def rows_at_a_time(runtime: Runtime, batch_size: int | None) -> int:
    """Return the rows of a pass at a time: as many as were asked for, as states are of, or as suit the network."""
    if batch_size is None and runtime.states.rows is not None:
        return runtime.states.rows
    if batch_size is None and runtime.suited_rows:
        return min(runtime.suited_rows, DEFAULT_BATCH)
    return batch_rows(batch_size)


def last_row(steps: int | None, batch: int, first: int, n: int) -> int:
    """Return the last row of a pass of `steps` batches over [first, n) (exclusive); warns if there are fewer."""
    if steps is None:
        return n
    there = -(-(n - first) // batch)
    if there < steps:
        warn_of_few("steps", steps, there)
    return min(n, first + steps * batch)


def warn_of_few(name: str, steps: int, there: int, where: str = "") -> None:
    """Warn that the data had fewer batches than requested."""
    warnings.warn(
        f"{name}: expected {steps} batches, but the data had {there}{where}", RuntimeWarning, stacklevel=user_level()
    )


def user_level() -> int:
    """Return the `stacklevel` with which `warnings.warn` in the caller names the first line outside fastnn."""
    here = inspect.currentframe()
    level, frame = 1, None if here is None else here.f_back
    while frame is not None and frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("fastnn."):
        level, frame = level + 1, frame.f_back
    return level


def sweep(
    runtime: Runtime, feed: Feed, batch: int, first: int, last: int, request: Callable[[int], Request],
    totals: NDArray[np.float64] | None = None, before: int = 0, index: NDArray[np.int64] | None = None,
) -> None:  # fmt: skip
    """Run a program over rows [first, last), of an order if there is one: whole batches, then the rest.

    `before` is as for `Runtime.run`.
    """
    runtime.states.check(last - first, min(batch, last - first), "x")
    pacer = Pacer()
    work = Bindings(feed.addresses(), index, accumulators=totals)
    row = first
    while row < last:
        size = min(batch, last - row)
        bound = runtime.program(request(size))
        # each run has random numbers of its own
        steps = 1 if bound.program.draws else pacer.steps((last - row) // size)
        with pacer.timing(steps):
            runtime.run(bound, work, steps, cursor=row, before=before)
        row += steps * size


def evaluate(runtime: Runtime, feed: Feed, batch: int, first: int, last: int) -> tuple[NDArray[np.float64], int]:
    """Fill fresh accumulators over rows [first, last); returns them and the number of rows."""
    totals = runtime.compiled()[0].initial()
    if feed.lengths is None:
        sweep(runtime, feed, batch, first, last, partial(feed.request, "evaluate"), totals)
        return totals, last - first
    for steps, rows in feed.lengths.groups(first, last):
        request = partial(feed.request, "evaluate", indexed=True, steps=steps)
        sweep(runtime, feed, batch, 0, len(rows), request, totals, index=rows)
    return totals, last - first


def predict(
    runtime: Runtime, feed: Feed, batch: int, steps: int | None = None, before: int = 0
) -> list[NDArray[Any]]:  # fmt: skip
    """Return the outputs for all rows, or for the first `steps` batches."""
    n = last_row(steps, batch, 0, feed.n)
    shapes = architecture_for(runtime, feed).output_shapes
    if feed.lengths is not None:
        return _predict_cut(runtime, feed, feed.lengths, batch, n, shapes)
    # uninitialised: every row is stored by exactly one batch
    feed.results.extend(runtime.empty((n, *shape)) for shape in shapes)
    sweep(runtime, feed, batch, 0, n, partial(feed.request, "predict"), before=before)
    return feed.fetched()


def _predict_cut(
    runtime: Runtime, feed: Feed, lengths: Lengths, batch: int, n: int, shapes: Sequence[tuple[int, ...]]
) -> list[NDArray[Any]]:
    """Return the outputs for n rows that are cut to the steps that count; others are zero."""
    found = [np.zeros((n, *shape), runtime.table.dtype) for shape in shapes]
    for steps, rows in lengths.groups(0, n):
        sizes = [(steps, *shape[1:]) if cut else shape for shape, cut in zip(shapes, lengths.outputs, strict=True)]
        part = replace(feed, results=[runtime.empty((len(rows), *shape)) for shape in sizes], came_on_gpu=False)
        sweep(
            runtime, part, batch, 0, len(rows), partial(part.request, "predict", indexed=True, steps=steps), index=rows
        )
        there = np.arange(steps) < lengths.counts[rows, None]
        for whole, cut, result in zip(found, lengths.outputs, part.fetched(), strict=True):
            if cut:
                result[~there] = 0.0
                whole[rows, :steps] = result
            else:
                whole[rows] = result
    return found
