"""Schedules that raise the learning rate first: a warm-up before any schedule, and the one-cycle policy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastnn.registry import register
from fastnn.schedules.base import LearningRate, Schedule, Steps, Values, get
from fastnn.schedules.decays import half_wave


@register("schedule")
@dataclass(frozen=True)
class WarmUp(Schedule):
    """A linear rise to a schedule's first value, then the schedule from its step 0 on.

    Step ``s < warmup_steps`` has the learning rate ``schedule(0) * (s + 1) / warmup_steps``, later ones
    ``schedule(s - warmup_steps)``. Source: Goyal et al. 2017 (arXiv:1706.02677), gradual warm-up.

    Parameters
    ----------
    schedule : float, Schedule or function
        Number, schedule or function of the step.
    warmup_steps : int
        Number of steps of the rise.
    """

    schedule: LearningRate
    warmup_steps: int

    def __post_init__(self) -> None:
        """Check the hyperparameters."""
        self._set(schedule=get(self.schedule))
        self._check_counts("warmup_steps", at_least=0)

    @property
    def _inner(self) -> Schedule:
        assert isinstance(self.schedule, Schedule)
        return self.schedule

    @property
    def is_pure(self) -> bool:
        """Whether values may be computed ahead of the step."""
        return self._inner.is_pure

    def rates(self, steps: Steps) -> Values:
        """Compute unchecked learning rates for a one-dimensional array of steps."""
        rates = self._inner.rates(np.maximum(steps - self.warmup_steps, 0))
        rising = steps < self.warmup_steps
        return np.where(rising, rates * ((steps + 1) / max(self.warmup_steps, 1)), rates)


@register("schedule")
@dataclass(frozen=True)
class OneCycle(Schedule):
    """One rise to `max_learning_rate` and one fall to almost zero, both half cosine waves.

    The learning rate starts at ``max_learning_rate / div_factor``, has its maximum at step
    ``pct_start * total_steps - 1`` and ends at step ``total_steps - 1`` with the start value divided by
    `final_div_factor`, where it stays. Source: Smith and Topin 2018, super-convergence (arXiv:1708.07120),
    in the form of PyTorch's ``OneCycleLR`` with two phases; the momentum is not cycled.

    Parameters
    ----------
    max_learning_rate : float
        Highest learning rate; not negative.
    total_steps : int
        Number of steps of the whole cycle.
    pct_start : float
        Fraction of the steps in which the learning rate rises, in [0, 1].
    div_factor : float
        Highest learning rate divided by the first one; positive.
    final_div_factor : float
        First learning rate divided by the last one; positive.
    """

    max_learning_rate: float
    total_steps: int
    pct_start: float = 0.3
    div_factor: float = 25.0
    final_div_factor: float = 1e4

    def __post_init__(self) -> None:
        """Check the hyperparameters."""
        self._check_rates("max_learning_rate")
        self._check_counts("total_steps")
        self._check_number("pct_start", at_least=0.0, at_most=1.0)
        self._check_number("div_factor", above=0.0)
        self._check_number("final_div_factor", above=0.0)

    def rates(self, steps: Steps) -> Values:
        """Compute unchecked learning rates for a one-dimensional array of steps."""
        highest = self.max_learning_rate
        first = highest / self.div_factor
        last = first / self.final_div_factor
        end = float(self.total_steps - 1)
        peak = self.pct_start * self.total_steps - 1.0
        at = np.minimum(steps, end)
        # The selection below skips a phase of length zero (pct_start 0 or 1, a single step).
        rise = highest + (first - highest) * half_wave(at / (peak if peak > 0.0 else 1.0))
        fall = last + (highest - last) * half_wave((at - peak) / (end - peak if end > peak else 1.0))
        return np.where(at < peak, rise, fall)
