"""Losses for regression: errors of predictions, and counts."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

from fastnn.checks import flag, number
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

    Targets and predictions are >= 0. A model whose outputs come from the activation exponential or `fastnn.ops.exp`,
    followed only by layers that move values (Flatten, Reshape, Concatenate of such outputs), is trained and evaluated
    from the exponential's input z instead: the loss is the mean of exp(z) - y_true z, without the 1e-7, and no gradient
    vanishes.

    Parameters
    ----------
    from_logits : bool
        Whether predictions are logarithms of rates: the loss is the mean of exp(y_pred) - y_true y_pred (PyTorch's
        `PoissonNLLLoss(log_input=True)`).
    """

    from_logits: bool = field(default=False, kw_only=True)
    target_range: ClassVar[tuple[float, float]] = (0.0, math.inf)

    def __post_init__(self) -> None:
        """Check the parameters."""
        super().__post_init__()
        flag("Poisson from_logits", self.from_logits)

    @property
    def formula(self) -> str:  # type: ignore[override]
        """The name, with the suffix `_logits` if predictions are logarithms of rates."""
        return f"{self.name}_logits" if self.from_logits else self.name

    @property
    def prediction_range(self) -> tuple[float, float]:
        """Logarithms are any numbers, rates >= 0."""
        return (-math.inf, math.inf) if self.from_logits else (0.0, math.inf)
