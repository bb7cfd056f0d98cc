"""Penalties on parameters that are added to the loss, l1 * sum |w| + l2 * sum w**2.

Names and defaults are Keras 3's.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.checks import number
from fastnn.hints import install
from fastnn.registry import register, resolve


@dataclasses.dataclass(frozen=True)
class Regularizer:
    """The base class of regularizers: two coefficients."""

    @property
    def l1(self) -> float:
        """Coefficient of the sum of absolute values."""
        return 0.0

    @property
    def l2(self) -> float:
        """Coefficient of the sum of squares."""
        return 0.0

    @property
    def by_step(self) -> bool:
        """Whether each step of a training that gives them has a factor of its own for the penalty."""
        return False

    def __call__(self, weights: npt.ArrayLike) -> float:
        """Compute the penalty in float64.

        Parameters
        ----------
        weights : array_like of real numbers
            A parameter of any shape.

        Returns
        -------
        float
            l1 * sum |w| + l2 * sum w**2.
        """
        w: npt.NDArray[Any] = np.asarray(weights, dtype=np.float64)
        return float(self.l1 * np.abs(w).sum() + self.l2 * np.square(w).sum())

    def __post_init__(self) -> None:
        """Check the hyperparameters."""
        for field in dataclasses.fields(self):
            value = number(f"{type(self).__name__}.{field.name}", getattr(self, field.name), at_least=0.0)
            object.__setattr__(self, field.name, value)


@register("regularizer")
@dataclasses.dataclass(frozen=True)
class L1(Regularizer):
    """The penalty l1 * sum |w|, which drives weights to zero (Tibshirani 1996).

    Parameters
    ----------
    l1 : float
        The coefficient, >= 0.
    """

    l1: float = 0.01


@register("regularizer")
@dataclasses.dataclass(frozen=True)
class L2(Regularizer):
    """The penalty l2 * sum w**2, which keeps weights small (Hoerl and Kennard 1970).

    Parameters
    ----------
    l2 : float
        The coefficient, >= 0.
    """

    l2: float = 0.01


@register("regularizer")
@dataclasses.dataclass(frozen=True)
class L1L2(Regularizer):
    """The penalty l1 * sum |w| + l2 * sum w**2, the elastic net (Zou and Hastie 2005).

    Parameters
    ----------
    l1, l2 : float
        The coefficients, >= 0.
    """

    l1: float = 0.0
    l2: float = 0.0


def get(value: str | Regularizer | None) -> Regularizer | None:
    """Return the regularizer for an argument.

    Parameters
    ----------
    value : str, Regularizer or None
        A name (``"l1"``, ``"l2"``, ``"l1_l2"``), an object, or None for no penalty.

    Raises
    ------
    ValueError
        If the name is unknown.
    TypeError
        If it is of another type.
    """
    return None if value is None else resolve("regularizer", value, {"l1_l2": "L1L2"}, Regularizer)


__all__ = [
    "L1",
    "L1L2",
    "L2",
    "Regularizer",
    "get",
]

install(__name__)
