"""The base class of initializers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn import casts, checks
from fastnn.checks import number, shorten


@dataclasses.dataclass(frozen=True)
class Initializer:
    """The base of all initializers.

    A custom initializer is a frozen dataclass that derives from it and defines ``__call__``.
    """

    def __call__(
        self, shape: Sequence[int], rng: np.random.Generator, dtype: npt.DTypeLike = "float32"
    ) -> npt.NDArray[Any]:
        """Draw the values of one parameter.

        Parameters
        ----------
        shape : sequence of int
            The parameter's shape, every dimension at least 1.
        rng : numpy.random.Generator
            The source of random initial values.
        dtype : {"float32", "float64"}
            The result's dtype. Values are drawn in float64 and rounded, so that both dtypes get the same values.

        Returns
        -------
        ndarray of `shape` and `dtype`
            New, in C order.

        Raises
        ------
        TypeError
            If the shape or the generator is of another type.
        ValueError
            If the shape or dtype is not possible, or a value is too large for the dtype.
        """
        try:
            name = None if dtype is None else np.dtype(dtype).name
        except TypeError:
            name = None
        if name not in ("float32", "float64"):
            raise ValueError(f"dtype: expected 'float32' or 'float64', got {shorten(dtype)}")
        if not isinstance(rng, np.random.Generator):
            raise TypeError(f"rng: expected a numpy.random.Generator, got {type(rng).__name__}")
        values = self._sample(checks.shape("shape", shape), rng)
        return np.asarray(casts.cast(values, name, type(self).__name__), order="C")

    def _sample(self, shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[np.float64]:
        raise NotImplementedError(f"{type(self).__name__} does not define __call__(shape, rng, dtype)")


def set_reals(initializer: Initializer, *names: str, minimum: float = -math.inf) -> None:
    """Check fields that are real numbers, and set them to Python floats.

    Parameters
    ----------
    initializer : Initializer
        In its ``__post_init__``.
    *names : str
        The fields.
    minimum : float
        Inclusive lower bound.

    Raises
    ------
    TypeError
        If a field is not a real number.
    ValueError
        If it is not finite, or below the minimum.
    """
    for name in names:
        value = number(f"{type(initializer).__name__}.{name}", getattr(initializer, name), at_least=minimum)
        object.__setattr__(initializer, name, value)
