"""Initializers whose values do not depend on the shape: constants and fixed distributions."""

import dataclasses
import math

import numpy as np
import numpy.typing as npt

from fastnn.initializers.base import Initializer, set_reals
from fastnn.registry import register


@register("initializer")
@dataclasses.dataclass(frozen=True)
class Constant(Initializer):
    """One value everywhere.

    Parameters
    ----------
    value : float
        The value.
    """

    value: float = 0.0

    def __post_init__(self) -> None:
        """Check the hyperparameters."""
        set_reals(self, "value")

    def _sample(self, shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[np.float64]:
        return np.full(shape, self.value)


@register("initializer")
@dataclasses.dataclass(frozen=True)
class Zeros(Initializer):
    """Zero everywhere: the default of biases."""

    def _sample(self, shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[np.float64]:
        return np.zeros(shape)


@register("initializer")
@dataclasses.dataclass(frozen=True)
class Ones(Initializer):
    """One everywhere: the default of normalisation scales."""

    def _sample(self, shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[np.float64]:
        return np.ones(shape)


@register("initializer")
@dataclasses.dataclass(frozen=True)
class RandomNormal(Initializer):
    """Normal distribution.

    Parameters
    ----------
    mean, stddev : float
        Mean and standard deviation (>= 0).
    """

    mean: float = 0.0
    stddev: float = 0.05

    def __post_init__(self) -> None:
        """Check the hyperparameters."""
        set_reals(self, "mean")
        set_reals(self, "stddev", minimum=0.0)

    def _sample(self, shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[np.float64]:
        return self.mean + self.stddev * rng.standard_normal(shape)


@register("initializer")
@dataclasses.dataclass(frozen=True)
class TruncatedNormal(Initializer):
    """Normal distribution in which values beyond two standard deviations are drawn again.

    Parameters
    ----------
    mean, stddev : float
        Mean and standard deviation (>= 0) of the distribution before truncation, as in Keras; after it the
        standard deviation is 0.8796 `stddev`.
    """

    mean: float = 0.0
    stddev: float = 0.05

    def __post_init__(self) -> None:
        """Check the hyperparameters."""
        set_reals(self, "mean")
        set_reals(self, "stddev", minimum=0.0)

    def _sample(self, shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[np.float64]:
        return self.mean + self.stddev * truncated_standard_normal(shape, rng)


@register("initializer")
@dataclasses.dataclass(frozen=True)
class RandomUniform(Initializer):
    """Uniform distribution.

    Parameters
    ----------
    minval, maxval : float
        The bounds, `minval` <= `maxval`.
    """

    minval: float = -0.05
    maxval: float = 0.05

    def __post_init__(self) -> None:
        """Check the hyperparameters."""
        set_reals(self, "minval", "maxval")
        if self.minval > self.maxval:
            raise ValueError(f"RandomUniform: expected minval <= maxval, got {self.minval} and {self.maxval}")

    def _sample(self, shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[np.float64]:
        return self.minval + (self.maxval - self.minval) * rng.random(shape)


def truncated_standard_normal(shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Draw from the standard normal distribution; values beyond -2 or 2 are drawn again.

    Parameters
    ----------
    shape : tuple of int
        The result's shape.
    rng : numpy.random.Generator
        The source of random numbers.
    """
    values = rng.standard_normal(math.prod(shape))
    beyond = np.flatnonzero(np.abs(values) > 2.0)
    while beyond.size:
        values[beyond] = rng.standard_normal(beyond.size)
        beyond = beyond[np.abs(values[beyond]) > 2.0]
    return values.reshape(shape)
