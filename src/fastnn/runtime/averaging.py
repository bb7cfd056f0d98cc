"""Moving averages of the weights: they take the weights' place, and give it back if a training goes on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastnn.optimizers.base import AVERAGE
from fastnn.runtime.buffers import Unaveraged
from fastnn.runtime.runtime import Runtime


def finalize(runtime: Runtime) -> None:
    """Put the averages in the weights' place, if there are any; see `Model.finalize_variable_values`."""
    if not _averages(runtime):
        return
    with runtime.lock:
        if _replaced(runtime, runtime.unaveraged):
            return
        before = runtime.gathered().copy()
        after = _averaged(runtime, before)
        # in this order: an interruption in between leaves the weights as they were
        runtime.unaveraged = Unaveraged(runtime.step_count(), before)
        runtime.scatter(after)


def take_back(runtime: Runtime) -> None:
    """Give a training that goes on the weights that averages have replaced at its end, unless they were set since."""
    with runtime.lock:
        kept = runtime.unaveraged
        if kept is not None and _replaced(runtime, kept):
            runtime.scatter(kept.weights)
        runtime.unaveraged = None


def _averages(runtime: Runtime) -> bool:
    return runtime.optimizer is not None and runtime.optimizer.use_ema


def _replaced(runtime: Runtime, kept: Unaveraged | None) -> bool:
    """Return whether the weights are the averages that have replaced others."""
    if kept is None or kept.step != runtime.step_count() or not _averages(runtime):
        return False
    return np.array_equal(runtime.gathered(), _averaged(runtime, kept.weights))


def _averaged(runtime: Runtime, weights: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a copy of weights with the averages of those that are trained; weights without an average stay."""
    optimizer, table, state = runtime.optimizer, runtime.table, runtime.optimizer_state
    assert optimizer is not None
    slot, made = optimizer.slots.index(AVERAGE), weights.copy()
    for entry, trained in zip(table, table.trained(), strict=True):
        if trained:
            mean = table.view(state, entry, slot)
            np.copyto(table.view(made, entry), mean, where=~np.isnan(mean))
    return made
