"""The base class of schedules, the constant schedule, and user-defined functions."""

from __future__ import annotations

import math
import numbers
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from fastnn.checks import flag, number, shorten, whole
from fastnn.registry import REGISTRY, register

Steps: TypeAlias = npt.NDArray[np.int64]
Values: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Schedule(ABC):
    """Base class of the schedules; a custom schedule is any function of the step (see `UserSchedule`)."""

    @property
    def is_pure(self) -> bool:
        """Whether values may be computed ahead of the step, because no user-defined function is called."""
        return True

    @abstractmethod
    def rates(self, steps: Steps) -> Values:
        """Compute unchecked learning rates for a one-dimensional array of steps."""

    def _set(self, **fields: object) -> None:
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def _name(self, field: str) -> str:
        return f"{type(self).__name__}.{field}"

    def _check_number(self, field: str, **bounds: float) -> None:
        self._set(**{field: number(self._name(field), getattr(self, field), **bounds)})

    def _check_rates(self, *fields: str) -> None:
        for field in fields:
            self._check_number(field, at_least=0.0)

    def _check_counts(self, *fields: str, at_least: int = 1) -> None:
        for field in fields:
            self._set(**{field: whole(self._name(field), getattr(self, field), at_least=at_least)})

    def _check_flag(self, field: str) -> None:
        self._set(**{field: flag(self._name(field), getattr(self, field))})

    @overload
    def __call__(self, step: int) -> float: ...
    @overload
    def __call__(self, step: npt.NDArray[np.integer[Any]]) -> Values: ...

    def __call__(self, step: int | npt.NDArray[np.integer[Any]]) -> float | Values:
        """Return the learning rate of a step, or of every step of an array.

        Parameters
        ----------
        step : int or integer ndarray
            Step or integer array of steps, counted from 0.

        Returns
        -------
        float or ndarray of float64
            Finite and not negative, of the shape of `step`.

        Raises
        ------
        TypeError
            `step` is not of an integer type.
        ValueError
            A step is negative, or the schedule does not return a finite, non-negative number for it.
        """
        array = np.asarray(step)
        if array.dtype.kind not in "iu":
            raise TypeError(f"step: expected an integer or an integer array, got {shorten(step)}")
        steps = array.astype(np.int64).ravel()
        if steps.size and steps.min() < 0:
            raise ValueError(f"step: expected >= 0, got {steps.min()}")
        values = self.rates(steps)
        check_rates(self, steps, values)
        return float(values[0]) if array.ndim == 0 else values.reshape(array.shape)


LearningRate: TypeAlias = float | Schedule | Callable[[int], float]


def check_rates(schedule: Schedule, steps: Steps, rates: Values) -> None:
    """Refuse learning rates that are negative or not finite.

    Raises
    ------
    ValueError
        Names the schedule, the first such step and its value.
    """
    bad = ~((rates >= 0.0) & (rates < np.inf))
    if bad.any():
        first = int(np.argmax(bad))
        raise ValueError(
            f"{schedule!r} gives the learning rate {rates[first]} at step {steps[first]}; expected a finite number >= 0"
        )


@register("schedule")
@dataclass(frozen=True)
class ConstantSchedule(Schedule):
    """The same learning rate at every step.

    Parameters
    ----------
    learning_rate : float
        Not negative.
    """

    learning_rate: float

    def __post_init__(self) -> None:
        """Check the hyperparameter."""
        self._check_rates("learning_rate")

    def rates(self, steps: Steps) -> Values:
        """Compute unchecked learning rates for a one-dimensional array of steps."""
        return np.full(len(steps), self.learning_rate)


@register("schedule")
@dataclass(frozen=True)
class UserSchedule(Schedule):
    """A user-defined function of the step.

    Parameters
    ----------
    function : function
        Called with one step (an int, counted from 0), in the order of the steps and not before a step's
        chunk runs; returns a finite, non-negative number. It may be called more than once for a step.
    """

    function: Callable[[int], float]

    def __post_init__(self) -> None:
        """Check that the function can be called."""
        if isinstance(self.function, type) or not callable(self.function):
            raise TypeError(f"{self._name('function')}: expected a function of the step, got {shorten(self.function)}")

    @property
    def is_pure(self) -> bool:
        """Whether values may be computed ahead of the step."""
        return False

    def rates(self, steps: Steps) -> Values:
        """Compute unchecked learning rates for a one-dimensional array of steps."""
        return np.array([self._value(step) for step in steps.tolist()], np.float64)

    def _value(self, step: int) -> float:
        value: Any = self.function(step)
        if isinstance(value, np.ndarray) and value.ndim == 0:
            value = value.item()
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise TypeError(
                f"the learning-rate function {self.function!r} returned {shorten(value)} of type "
                f"{type(value).__name__} at step {step}; expected a finite number >= 0"
            )
        rate = float(value)
        if not 0.0 <= rate < math.inf:
            raise ValueError(
                f"the learning-rate function {self.function!r} returned {rate} at step {step}; "
                "expected a finite number >= 0"
            )
        return rate


def get(value: LearningRate) -> Schedule:
    """Return `value` as a schedule.

    Parameters
    ----------
    value : float, Schedule or function
        A number (constant learning rate), a schedule, or a function ``step -> learning rate``.

    Raises
    ------
    TypeError
        None of these.
    ValueError
        The number is negative or not finite.
    """
    if isinstance(value, Schedule):
        return value
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return ConstantSchedule(value)
    ours = any(type(value) in family.values() for family in REGISTRY.values())
    if callable(value) and not isinstance(value, type) and not ours:
        return UserSchedule(value)
    raise TypeError(
        "expected a learning rate (a number, a schedule or a function of the step), "
        f"got {shorten(value)} of type {type(value).__name__}"
    )
