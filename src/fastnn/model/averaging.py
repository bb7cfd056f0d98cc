"""Moving averages of the weights: they take the weights' place, and give it back where a training goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastnn.optimizers.base import AVERAGE

if TYPE_CHECKING:
    from fastnn.model.model import Model


class Unaveraged(NamedTuple):
    """The weights that averages have replaced, in the layout of the model's, and the step after which they did."""

    step: int
    weights: NDArray[np.uint8]


def finalize(model: Model) -> None:
    """Put the averages in the weights' place; see `Model.finalize_variable_values`."""
    if not model.optimizer.use_ema:
        return
    runtime = model._runtime
    with runtime.lock:
        if _replaced(model, runtime.unaveraged):
            return
        before = runtime.parameters.copy()
        after = _averaged(model, before)
        # in this order: whoever is interrupted in between has the weights as they were
        runtime.unaveraged = Unaveraged(runtime.step_count(), before)
        runtime.parameters[...] = after


def take_back(model: Model) -> None:
    """Give a training that goes on the weights that averages have replaced at its end, unless they were set since."""
    runtime = model._runtime
    with runtime.lock:
        kept = runtime.unaveraged
        if kept is not None and _replaced(model, kept):
            runtime.parameters[...] = kept.weights
        runtime.unaveraged = None


def _replaced(model: Model, kept: Unaveraged | None) -> bool:
    """Return whether the weights are the averages that have replaced others."""
    runtime = model._runtime
    if kept is None or kept.step != runtime.step_count() or not model.optimizer.use_ema:
        return False
    return np.array_equal(runtime.parameters, _averaged(model, kept.weights))


def _averaged(model: Model, weights: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a copy of weights with the averages of those that are trained; what has none stays."""
    table, optimizer, state = model._table, model.optimizer, model._runtime.optimizer_state
    slot, made = optimizer.slots.index(AVERAGE), weights.copy()
    for entry, trained in zip(table, model._trained(), strict=True):
        if trained:
            mean = table.view(state, entry, slot)
            np.copyto(table.view(made, entry), mean, where=~np.isnan(mean))
    return made
