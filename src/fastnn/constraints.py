"""Constraints on parameters, applied after every optimizer step, with Keras 3's names and defaults."""

from __future__ import annotations

import dataclasses
import numbers

import numpy as np
import numpy.typing as npt

from fastnn.checks import number
from fastnn.hints import install
from fastnn.registry import register, resolve


@dataclasses.dataclass(frozen=True)
class Constraint:
    """The base class of constraints: a subclass defines the projection ``__call__(weights)``."""

    def __call__(self, weights: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return the constrained weights in float64.

        Parameters
        ----------
        weights : array_like of real numbers
            A parameter.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define __call__(weights)")


@register("constraint")
@dataclasses.dataclass(frozen=True)
class MaxNorm(Constraint):
    """An upper bound on the Euclidean norm of a unit's incoming weights (Srivastava et al. 2014).

    Parameters
    ----------
    max_value : float
        The bound, >= 0.
    axis : int
        The axis along which a norm is taken: 0, a unit's column, for a dense kernel (n_in, n_out).
    """

    max_value: float = 2.0
    axis: int = 0

    def __post_init__(self) -> None:
        """Check the hyperparameters."""
        object.__setattr__(self, "max_value", number("MaxNorm.max_value", self.max_value, at_least=0.0))
        if isinstance(self.axis, bool) or not isinstance(self.axis, numbers.Integral):
            raise TypeError(f"MaxNorm.axis: expected an int, got {self.axis!r} of type {type(self.axis).__name__}")
        object.__setattr__(self, "axis", int(self.axis))

    def __call__(self, weights: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Scale the vectors along the axis whose norm is above the bound: w * max_value / norm.

        Parameters
        ----------
        weights : array_like of real numbers
            Of any shape that has the axis.

        Returns
        -------
        ndarray of float64
            Of the same shape.

        Raises
        ------
        ValueError
            If the weights do not have the axis.
        """
        w = np.asarray(weights, dtype=np.float64)
        if not -w.ndim <= self.axis < w.ndim:
            raise ValueError(f"MaxNorm: expected weights with the axis {self.axis}, got the shape {w.shape}")
        # in units of the largest element, so that no square overflows
        largest = np.abs(w).max(axis=self.axis, keepdims=True, initial=0.0)
        unit = np.where((largest > 0.0) & np.isfinite(largest), largest, 1.0)
        norm = np.sqrt(np.square(w / unit).sum(axis=self.axis, keepdims=True))
        above = norm * unit > self.max_value
        scale = np.divide(self.max_value, norm, out=np.ones_like(norm), where=above)
        constrained: npt.NDArray[np.float64] = np.where(above, w / unit * scale, w)
        return constrained


def get(value: str | Constraint | None) -> Constraint | None:
    """Return the constraint for an argument.

    Parameters
    ----------
    value : str, Constraint or None
        A name (``"max_norm"``), an object, or None for no constraint.

    Raises
    ------
    ValueError
        If the name is unknown.
    TypeError
        If it is of another type.
    """
    return None if value is None else resolve("constraint", value, {}, Constraint)


__all__ = [
    "Constraint",
    "MaxNorm",
    "get",
]

install(__name__)
