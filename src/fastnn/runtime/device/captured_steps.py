"""Small training steps on a GPU: captured runs, each for batches of one shape and dtype.

A run is captured when a shape comes for the second time. It is valid until the model is compiled again or trains other
layers. Target values are checked in every batch, in one pass that accepts values that are certainly valid; the general
path checks all others, and reports what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastnn import casts
from fastnn.errors import DeviceMemoryError, InputNotFiniteError
from fastnn.interrupts import interrupts_later
from fastnn.losses.base import takes_any_target
from fastnn.program.layout import Counter
from fastnn.runtime.bindings import Bindings
from fastnn.runtime.calls.step_state import StepState
from fastnn.runtime.device.graph import locked
from fastnn.runtime.device.kept import MOST_BYTES, keep
from fastnn.runtime.feeds import checked
from fastnn.runtime.runtime import Runtime

if TYPE_CHECKING:
    from fastnn.data.feed import Feed
    from fastnn.objective.objective import Objective


#: takes a training's state, x and y; returns whether the step was taken, or None if it has to be captured again
Step = Callable[[StepState, Any, Any], bool | None]

_KEPT = 16


class CapturedSteps:
    """The captured steps of a model."""

    def __init__(self) -> None:
        self._steps: dict[Any, Step] = {}

    def take(self, state: StepState, x: Any, y: Any, sample_weight: Any) -> dict[str, Any] | None:
        """Take a step and return its logs; None if it is left to the general path."""
        key = None if sample_weight is not None else _key_of(state.runtime, x, y)
        step = None if key is None else self._steps.get(key)
        taken = None if step is None else step(state, x, y)
        if taken is None and step is not None and step not in _MARKERS:
            self._steps[key] = _seen  # it has to be captured again
        return state.logs_so_far() if taken else None

    def learn(self, runtime: Runtime, x: NDArray[Any], y: NDArray[Any]) -> None:
        """Capture the step on batches like this one, which the general path has just taken, if it has come before."""
        key = _key_of(runtime, x, y)
        known = self._steps.get(key)
        if key is None or x.nbytes + y.nbytes > MOST_BYTES or (known is not None and known is not _seen):
            return
        if known is None:
            # a shape seen once may never come again, and preparing takes longer than the step
            keep(self._steps, key, _seen, _MARKERS, _KEPT)
            return
        try:
            with interrupts_later():
                made = _make(runtime, x, y)
        except DeviceMemoryError:
            made = _never  # the step itself has found enough memory
        keep(self._steps, key, made, _MARKERS, _KEPT)


def learn(state: StepState, x: Any, y: Any) -> None:
    """Prepare steps on batches like this one, on which the general path has just taken one, if it is small."""
    runtime = state.runtime
    objective, _ = runtime.compiled()
    if runtime.table.architecture.takes_integers or runtime.owners or len(objective.losses) != 1:
        return  # the range of integers is checked in every call; weights of another model may move
    steps = runtime.quick_step
    if not isinstance(steps, CapturedSteps):
        steps = runtime.quick_step = CapturedSteps()
    steps.learn(runtime, x, y)


def _key_of(runtime: Runtime, x: Any, y: Any) -> Any:
    """Return everything that determines the step on a batch of two plain arrays; None if it is never captured."""
    if type(x) is not np.ndarray or type(y) is not np.ndarray:
        return None
    return x.shape, x.dtype, y.shape, y.dtype, tuple(runtime.table.trainable_layers())


def _make(runtime: Runtime, x: NDArray[Any], y: NDArray[Any]) -> Step:
    """Capture the step on batches like this one, or return `_never`."""
    placement, (objective, _) = runtime.placement, runtime.compiled()
    assert placement is not None
    rows, targets = locked(placement.device, [(x.shape, x.dtype), (y.shape, y.dtype)])
    rows[...], targets[...] = x, y
    feed = checked(runtime, rows, targets, None, None)
    found = feed.targets[0]
    passes = None if found is None else _test(objective, targets, runtime.table.dtype, labels=found.labels)
    if found is None or passes is None or not np.may_share_memory(feed.inputs[0].array, rows):
        return _never
    if not np.may_share_memory(found.rows.array, targets):
        return _never
    return _captured(runtime, feed, rows, targets, passes)


def _seen(state: StepState, x: Any, y: Any) -> bool | None:
    """Mark a step that came once."""
    return None


def _never(state: StepState, x: Any, y: Any) -> bool | None:
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
    if not takes_any_target(loss) or any(metric.accumulator != "regression_sums" for metric in metrics):
        return None
    if targets.dtype.kind != "f":
        return lambda: True
    if targets.itemsize <= np.dtype(dtype).itemsize:
        return lambda: bool(np.isfinite(targets).all())
    # NaN fails the comparison
    limit = casts.LIMITS[dtype]
    return lambda: bool(np.abs(targets).max() < limit)


def _captured(
    runtime: Runtime, feed: Feed, rows: NDArray[Any], targets: NDArray[Any], passes: Callable[[], bool]
) -> Step:
    """Capture the step; it runs under the runtime's lock, and returns whether the targets were certainly valid.

    The runtime is not kept: its cache must not keep it alive.
    """
    (objective, optimizer), dtype = runtime.compiled(), runtime.table.dtype
    placement = runtime.placement
    assert placement is not None
    initial, totals, hyper = objective.initial(), objective.initial(), optimizer.hyper_rows(0, 1)
    there, n, training, names = placement.bring(feed), feed.n, runtime.training, runtime.table.architecture.input_names
    request = there.request("train", n, training=True, trained=runtime.table.trained())
    work = Bindings(there.addresses(), hyper=hyper, accumulators=totals)
    data = [(slot, rows if slot == 0 else targets) for slot, _ in there.slots()]
    run = runtime.prepared(runtime.program(request), work, there, data, trains=True)

    def step(state: StepState, x: Any, y: Any) -> bool | None:
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
