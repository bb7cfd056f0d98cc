"""Training steps without the general path: what is prepared after a step of it, on the CPU or on a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastnn.runtime.calls import live_step
from fastnn.runtime.calls.step_state import StepState
from fastnn.runtime.device import captured_steps

if TYPE_CHECKING:
    from fastnn.data.feed import Feed


def learn(state: StepState, feed: Feed, x: Any, y: Any, sample_weight: Any) -> None:
    """Prepare steps on data like these, on which the general path has just taken one."""
    if state.runtime.table.architecture.is_open or state.runtime.states:
        return  # what is prepared has one shape, and no states
    if state.runtime.on_host:
        live_step.learn(state, feed)
    elif sample_weight is None:
        captured_steps.learn(state, x, y)
