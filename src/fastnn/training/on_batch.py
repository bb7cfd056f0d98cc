"""One training step on one batch, as users call it."""

from __future__ import annotations

from collections.abc import Mapping
from threading import get_ident
from typing import Any

from fastnn.runtime import feeds
from fastnn.runtime.calls import quick_step
from fastnn.training import iterables
from fastnn.training.loop import warn_of_bad_loss
from fastnn.training.state import TrainingState


def train_on_batch(
    state: TrainingState, x: Any, y: Any, sample_weight: Any, class_weight: Mapping[int, float] | None, what: str
) -> dict[str, Any]:
    """Take a step of a built and compiled model and return its logs; see `Model.train_on_batch`.

    `what` is the name of the caller, whose caller a warning names.
    """
    runtime, me = state.runtime, get_ident()
    with runtime.lock:
        inside = runtime.inside
        if me in inside or runtime.shares:
            runtime.fail_within(what)
        try:
            inside[me] = True
            quick = runtime.quick_step if class_weight is None else None
            logs = None if quick is None else quick.take(state, x, y, sample_weight)
            if logs is None:
                feed = feeds.feed(runtime, x, y, sample_weight, class_weight)
                iterables.train_batch(state, feed, fresh=True)
                if class_weight is None:
                    quick_step.learn(state, feed, x, y, sample_weight)
                logs = state.logs_so_far()
        finally:
            inside.pop(me, None)
    # the difference is NaN unless the loss is finite: twice as fast as math.isfinite
    loss = logs["loss"]
    if loss - loss != 0.0:
        if not state.bad_loss:
            state.bad_loss = True
            warn_of_bad_loss(runtime.step_count(), stacklevel=4)
    elif state.bad_loss:
        state.bad_loss = False
    return logs
