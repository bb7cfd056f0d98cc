"""Quick training steps: a cache of prepared `train_on_batch` calls.

An entry is valid for batches of one shape and dtype, until the model is compiled again or trains other
layers. Target values are checked in every batch, in one pass that accepts values that are certainly valid; the general
path checks all others, and reports what is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastnn import casts
from fastnn.backend.cpu.executor.engine import Runner
from fastnn.errors import DeviceMemoryError, InputNotFiniteError
from fastnn.losses import Loss
from fastnn.program.layout import MAX_BUFFERS, Counter
from fastnn.runtime.bindings import Bindings, fail_where_not_finite
from fastnn.runtime.device.graph import locked
from fastnn.runtime.device.interrupts import interrupts_later
from fastnn.runtime.device.kept import MOST_BYTES, keep
from fastnn.runtime.feeds import checked
from fastnn.runtime.runtime import Runtime
from fastnn.threads import get_num_threads

if TYPE_CHECKING:
    from fastnn.data.feed import Feed
    from fastnn.objective.objective import Objective


class Totals(Protocol):
    """The part of a training's state that a step sets.

    Attributes
    ----------
    runtime : Runtime
    totals : ndarray
        The accumulators.
    earlier_rows : int
        The rows that they are of.
    """

    runtime: Runtime
    totals: NDArray[np.float64]
    earlier_rows: int


#: takes a training's state, x and y; returns whether the step was taken, or None if it has to be prepared again
Step = Callable[[Totals, Any, Any], bool | None]

_KEPT = 16


def key_of(runtime: Runtime, x: Any, y: Any) -> Any:
    """Return everything that determines the step on a batch of two plain arrays; None if they have no quick step."""
    if type(x) is not np.ndarray or type(y) is not np.ndarray:
        return None
    return x.shape, x.dtype, y.shape, y.dtype, tuple(runtime.table.trainable_layers())


def learn(runtime: Runtime, x: NDArray[Any], y: NDArray[Any], key: Any) -> None:
    """Keep the step on batches like this one, which the general path has just taken, if it is small."""
    objective, _ = runtime.compiled()
    if runtime.table.architecture.takes_integers or runtime.owners:
        return  # as in `prediction.learn`
    if x.nbytes + y.nbytes > MOST_BYTES or len(objective.losses) != 1:
        return
    known = runtime.quick_steps.get(key)
    if known is _never:
        return
    if runtime.placement is not None and known is None:
        # a shape seen once may never come again, and preparing takes longer than the step
        keep(runtime.quick_steps, key, _seen, _MARKERS, _KEPT)
        return
    try:
        with interrupts_later():
            made = _make(runtime, objective, x, y)
    except DeviceMemoryError:
        made = _never  # the step itself has found enough memory
    keep(runtime.quick_steps, key, made, _MARKERS, _KEPT)


def _make(runtime: Runtime, objective: Objective, x: NDArray[Any], y: NDArray[Any]) -> Step:
    """Make the step on batches like this one, or return `_never`."""
    placement = runtime.placement
    wanted = [(x.shape, x.dtype), (y.shape, y.dtype)]
    rows, targets = (np.empty(*each) for each in wanted) if placement is None else locked(placement.device, wanted)
    rows[...], targets[...] = x, y
    feed = checked(runtime, rows, targets, None, None)
    found = feed.targets[0]
    passes = None if found is None else _test(objective, targets, runtime.table.dtype, labels=found.labels)
    if found is None or passes is None or not np.may_share_memory(feed.inputs[0].array, rows):
        return _never
    if not np.may_share_memory(found.rows.array, targets):
        return _never
    return (_freeze if placement is None else _on_device)(runtime, feed, rows, targets, passes)


def _seen(state: Totals, x: Any, y: Any) -> bool | None:
    """Mark a step that came once."""
    return None


def _never(state: Totals, x: Any, y: Any) -> bool | None:
    """Mark a step that the general path has to take."""
    return None


_MARKERS = (_seen, _never)


def _test(objective: Objective, targets: NDArray[Any], dtype: str, *, labels: bool) -> Callable[[], bool] | None:
    """Return a test for certainly valid targets, or None if the objective needs more checks than it can do."""
    loss, metrics = objective.losses[0], [reading.metric for reading in objective.readings]
    if not all(type(one).__module__.startswith("fastnn.") for one in (loss, *metrics)) or loss is None:
        return None
    if labels:
        # as unsigned numbers, labels below 0 are large: one pass instead of two
        unsigned, classes = targets.view(f"u{targets.itemsize}"), objective.output_shapes[0][-1]
        return lambda: bool(unsigned.max() < classes)
    plain = type(loss).check_targets is Loss.check_targets and type(loss).check_values is Loss.check_values
    bounded = loss.target_range != (-math.inf, math.inf)
    if not plain or bounded or any(metric.accumulator != "regression_sums" for metric in metrics):
        return None
    if targets.dtype.kind != "f":
        return lambda: True
    if targets.itemsize <= np.dtype(dtype).itemsize:
        return lambda: bool(np.isfinite(targets).all())
    # NaN fails the comparison
    limit = casts.LIMITS[dtype]
    return lambda: bool(np.abs(targets).max() < limit)


def _freeze(
    runtime: Runtime, feed: Feed, rows: NDArray[Any], targets: NDArray[Any], passes: Callable[[], bool]
) -> Step:
    """Make the step; it runs under the runtime's lock, and returns whether the targets were certainly valid.

    The runtime is not kept: its cache must not keep it alive.
    """
    objective, optimizer = runtime.compiled()
    initial, totals, hyper = objective.initial(), objective.initial(), optimizer.hyper_rows(0, 1)
    request = feed.request("train", feed.n, training=True, trained=runtime.table.trained())
    bound = runtime.program(request)
    if bound.calls_python:
        return _never
    context, kept = runtime.context_of(bound, Bindings(feed.addresses(), hyper=hyper, accumulators=totals))
    training, addresses, n, dtype = runtime.training, context[:MAX_BUFFERS], feed.n, runtime.table.dtype
    names = runtime.table.architecture.input_names
    counters, runner = memoryview(training.data), Runner(training)
    start = runner.prepared(bound, 1, get_num_threads())
    cleared = [int(counter) for counter in (Counter.CURSOR, Counter.CHUNK_STEP, Counter.STATUS, Counter.BAD_LOSS_STEP)]

    def step(state: Totals, x: Any, y: Any) -> bool | None:
        targets[...] = y
        if not passes():
            return False
        rows[...] = x
        hyper[...] = optimizer.hyper_rows(state.runtime.optimizer_step(), 1, dtype)
        totals[...] = initial
        state.totals, state.earlier_rows = totals, 0
        training[:MAX_BUFFERS] = addresses
        for counter in cleared:
            counters[counter] = 0
        if start() != 1:
            runner.check(bound)
            try:
                fail_where_not_finite(training, dtype)
            except InputNotFiniteError as error:
                feed.locate(error, names)
                raise
        counters[cleared[0]] = 0
        state.earlier_rows = n
        return True

    # the memory that the context and the entry point to lives as long as the function
    step.kept = (bound, kept)  # type: ignore[attr-defined]
    return step


def _on_device(
    runtime: Runtime, feed: Feed, rows: NDArray[Any], targets: NDArray[Any], passes: Callable[[], bool]
) -> Step:
    """Make the step by a captured run on the GPU; see `_freeze`."""
    (objective, optimizer), dtype = runtime.compiled(), runtime.table.dtype
    placement = runtime.placement
    assert placement is not None
    initial, totals, hyper = objective.initial(), objective.initial(), optimizer.hyper_rows(0, 1)
    there, n, training, names = placement.bring(feed), feed.n, runtime.training, runtime.table.architecture.input_names
    request = there.request("train", n, training=True, trained=runtime.table.trained())
    work = Bindings(there.addresses(), hyper=hyper, accumulators=totals)
    data = [(slot, rows if slot == 0 else targets) for slot, _ in there.slots()]
    run = runtime.prepared(runtime.program(request), work, there, data, trains=True)

    def step(state: Totals, x: Any, y: Any) -> bool | None:
        targets[...] = y
        if not passes():
            return False
        rows[...] = x
        hyper[...] = optimizer.hyper_rows(state.runtime.optimizer_step(), 1, dtype)
        totals[...] = initial
        state.totals, state.earlier_rows = totals, 0
        with interrupts_later():
            try:
                done = run()
            except InputNotFiniteError as error:
                feed.locate(error, names)
                raise
            if done is None:
                return None
            training[Counter.CURSOR] = 0
            state.earlier_rows = n
        return True

    return step
