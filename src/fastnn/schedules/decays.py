"""Schedules that lower the learning rate: in stairs, exponentially, along a polynomial or a cosine."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastnn.checks import number, shorten, whole
from fastnn.registry import register
from fastnn.schedules.base import Schedule, Steps, Values


def half_wave(done: Values) -> Values:
    """Fall from 1 to 0 along a cosine while `done` goes from 0 to 1."""
    return np.asarray(0.5 * (1.0 + np.cos(math.pi * done)))


def decayed(initial: float, rate: float, times: Steps | Values) -> Values:
    """Multiply `initial` by `rate` to the power `times`; a rate above 1 may overflow, which the caller reports."""
    with np.errstate(over="ignore"):
        return np.asarray(initial * np.power(rate, times))


@register("schedule")
@dataclass(frozen=True)
class ExponentialDecay(Schedule):
    """``initial_learning_rate * decay_rate ** (step / decay_steps)`` (Keras ``ExponentialDecay``).

    Parameters
    ----------
    initial_learning_rate : float
        Not negative.
    decay_steps : int
        Number of steps over which the learning rate is multiplied by `decay_rate`.
    decay_rate : float
        Positive; above 1 the learning rate grows.
    staircase : bool
        Round ``step / decay_steps`` down, so that the learning rate falls in steps.
    """

    initial_learning_rate: float
    decay_steps: int
    decay_rate: float
    staircase: bool = False

    def __post_init__(self) -> None:
        """Check the hyperparameters."""
        self._check_rates("initial_learning_rate")
        self._check_counts("decay_steps")
        self._check_number("decay_rate", above=0.0)
        self._check_flag("staircase")

    def rates(self, steps: Steps) -> Values:
        """Compute unchecked learning rates for a one-dimensional array of steps."""
        decays = steps // self.decay_steps if self.staircase else steps / self.decay_steps
        return decayed(self.initial_learning_rate, self.decay_rate, decays)


@register("schedule")
@dataclass(frozen=True)
class StepDecay(Schedule):
    """The learning rate is multiplied by `decay_rate` every `decay_steps` steps (a staircase).

    Parameters
    ----------
    initial_learning_rate : float
        Not negative.
    decay_steps : int
        Number of steps of one stair.
    decay_rate : float
        Positive.
    """

    initial_learning_rate: float
    decay_steps: int
    decay_rate: float

    def __post_init__(self) -> None:
        """Check the hyperparameters."""
        self._check_rates("initial_learning_rate")
        self._check_counts("decay_steps")
        self._check_number("decay_rate", above=0.0)

    def rates(self, steps: Steps) -> Values:
        """Compute unchecked learning rates for a one-dimensional array of steps."""
        return decayed(self.initial_learning_rate, self.decay_rate, steps // self.decay_steps)


@register("schedule")
@dataclass(frozen=True)
class PiecewiseConstantDecay(Schedule):
    """``values[i]`` up to and with step ``boundaries[i]`` (Keras ``PiecewiseConstantDecay``).

    Parameters
    ----------
    boundaries : sequence of int
        Strictly increasing steps, each the last one of its piece.
    values : sequence of float
        Learning rates, one more than boundaries; the last one applies from there on.
    """

    boundaries: Sequence[int]
    values: Sequence[float]

    def __post_init__(self) -> None:
        """Check the hyperparameters."""
        for field in ("boundaries", "values"):
            if isinstance(getattr(self, field), str) or not hasattr(getattr(self, field), "__iter__"):
                raise TypeError(f"{self._name(field)}: expected a sequence, got {shorten(getattr(self, field))}")
        boundaries = tuple(whole(self._name("boundaries"), step, at_least=0) for step in self.boundaries)
        values = tuple(number(self._name("values"), value, at_least=0.0) for value in self.values)
        if len(values) != len(boundaries) + 1:
            raise ValueError(
                f"{self._name('values')}: expected {len(boundaries) + 1}, one more than boundaries, got {len(values)}"
            )
        if any(low >= high for low, high in itertools.pairwise(boundaries)):
            raise ValueError(f"{self._name('boundaries')}: expected strictly increasing steps, got {boundaries}")
        self._set(boundaries=boundaries, values=values)

    def rates(self, steps: Steps) -> Values:
        """Compute unchecked learning rates for a one-dimensional array of steps."""
        pieces = np.searchsorted(np.asarray(self.boundaries, np.int64), steps, side="left")
        return np.asarray(self.values, np.float64)[pieces]


@register("schedule")
@dataclass(frozen=True)
class PolynomialDecay(Schedule):
    """``(initial - end) * (1 - step / decay_steps) ** power + end`` (Keras ``PolynomialDecay``).

    Parameters
    ----------
    initial_learning_rate, end_learning_rate : float
        Learning rates at step 0 and from step `decay_steps` on; not negative.
    decay_steps : int
        Number of steps between them.
    power : float
        Exponent, not negative; 1 is a straight line.
    cycle : bool
        Beyond `decay_steps`, stretch the decay to the next multiple of `decay_steps` instead of staying at
        the end.
    """

    initial_learning_rate: float
    decay_steps: int
    end_learning_rate: float = 0.0001
    power: float = 1.0
    cycle: bool = False

    def __post_init__(self) -> None:
        """Check the hyperparameters."""
        self._check_rates("initial_learning_rate", "end_learning_rate")
        self._check_counts("decay_steps")
        self._check_number("power", at_least=0.0)
        self._check_flag("cycle")

    def rates(self, steps: Steps) -> Values:
        """Compute unchecked learning rates for a one-dimensional array of steps."""
        if self.cycle:
            cycles = np.maximum(-(-steps // self.decay_steps), 1)
            done = steps / (self.decay_steps * cycles)
        else:
            done = np.minimum(steps, self.decay_steps) / self.decay_steps
        span = self.initial_learning_rate - self.end_learning_rate
        return np.asarray(span * np.power(1.0 - done, self.power) + self.end_learning_rate)


@register("schedule")
@dataclass(frozen=True)
class CosineDecay(Schedule):
    """Half a cosine wave from the initial learning rate down to `alpha` times it (Keras 3 ``CosineDecay``).

    With a warm-up, the learning rate first rises linearly from `initial_learning_rate` to `warmup_target`
    over `warmup_steps`, and the cosine starts from there. Source: Loshchilov and Hutter 2016, SGDR
    (arXiv:1608.03983).

    Parameters
    ----------
    initial_learning_rate : float
        Learning rate at step 0; not negative.
    decay_steps : int
        Number of steps of the decay, without those of the warm-up.
    alpha : float
        Fraction of the learning rate that remains at the end, in [0, 1].
    warmup_target : float, optional
        Learning rate at the end of the warm-up; None for none.
    warmup_steps : int
        Number of steps of the warm-up.
    """

    initial_learning_rate: float
    decay_steps: int
    alpha: float = 0.0
    warmup_target: float | None = None
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        """Check the hyperparameters."""
        self._check_rates("initial_learning_rate")
        self._check_counts("decay_steps")
        self._check_counts("warmup_steps", at_least=0)
        self._check_number("alpha", at_least=0.0, at_most=1.0)
        if self.warmup_target is not None:
            self._check_rates("warmup_target")
        elif self.warmup_steps:
            raise ValueError(
                f"{self._name('warmup_target')}: expected the learning rate that the {self.warmup_steps} "
                "warmup_steps lead to, got None"
            )

    def rates(self, steps: Steps) -> Values:
        """Compute unchecked learning rates for a one-dimensional array of steps."""
        top = self.initial_learning_rate if self.warmup_target is None else self.warmup_target
        done = np.clip(steps - self.warmup_steps, 0, self.decay_steps) / self.decay_steps
        falling = top * ((1.0 - self.alpha) * half_wave(done) + self.alpha)
        if not self.warmup_steps:
            return np.asarray(falling)
        rising = (top - self.initial_learning_rate) * (steps / self.warmup_steps) + self.initial_learning_rate
        return np.where(steps < self.warmup_steps, rising, falling)
