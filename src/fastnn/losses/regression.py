"""Losses for regression: errors of predictions, and counts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from fastnn.checks import number
from fastnn.losses.base import Loss
from fastnn.registry import register


@register("loss")
@dataclass(frozen=True)
class MeanSquaredError(Loss):
    """Mean of (y_pred - y_true)^2 (Keras `mean_squared_error`)."""

    formula: ClassVar[str] = "mean_squared_error"


@register("loss")
@dataclass(frozen=True)
class MeanAbsoluteError(Loss):
    """Mean of abs(y_pred - y_true) (Keras `mean_absolute_error`)."""

    formula: ClassVar[str] = "mean_absolute_error"


@register("loss")
@dataclass(frozen=True)
class Huber(Loss):
    """Squared error near 0, absolute error beyond delta (Huber 1964; Keras `huber`).

    With e = abs(y_pred - y_true): e^2 / 2 where e <= delta, else delta (e - delta / 2).

    Parameters
    ----------
    delta : float
        Error at which the loss becomes linear, finite and > 0; in the unit of the targets.
    """

    delta: float = 1.0
    formula: ClassVar[str] = "huber"

    def __post_init__(self) -> None:
        """Check the parameters."""
        super().__post_init__()
        object.__setattr__(self, "delta", number("Huber delta", self.delta, above=0.0))

    @property
    def parameters(self) -> tuple[float, ...]:
        """The error delta at which the loss becomes linear."""
        return (self.delta,)


@register("loss")
@dataclass(frozen=True)
class LogCosh(Loss):
    """Mean of log(cosh(y_pred - y_true)), a smooth absolute error (Keras `log_cosh`)."""

    formula: ClassVar[str] = "log_cosh"


@register("loss")
@dataclass(frozen=True)
class Poisson(Loss):
    """Mean of y_pred - y_true log(y_pred + 1e-7), for predicted rates of counts (Keras `poisson`).

    Targets and predictions are >= 0.
    """

    formula: ClassVar[str] = "poisson"
    target_range: ClassVar[tuple[float, float]] = (0.0, math.inf)

    @property
    def prediction_range(self) -> tuple[float, float]:
        """Rates are >= 0."""
        return (0.0, math.inf)
