"""Initializers whose variance depends on the kernel's fans, so that signals keep their size across layers."""

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from fastnn.initializers.base import Initializer, set_reals
from fastnn.initializers.distributions import truncated_standard_normal
from fastnn.registry import register

Mode = Literal["fan_in", "fan_out", "fan_avg"]
Distribution = Literal["truncated_normal", "untruncated_normal", "uniform"]

_MODES = ("fan_in", "fan_out", "fan_avg")
_DISTRIBUTIONS = ("truncated_normal", "untruncated_normal", "uniform")
_TRUNCATED_STDDEV = 0.87962566103423978  # standard deviation of the normal distribution cut at -2 and 2


@register("initializer")
@dataclasses.dataclass(frozen=True)
class VarianceScaling(Initializer):
    """Zero mean and variance scale / n, where n is a fan of the kernel or the mean of both.

    Parameters
    ----------
    scale : float
        The numerator, > 0.
    mode : {"fan_in", "fan_out", "fan_avg"}
        The meaning of n.
    distribution : {"truncated_normal", "untruncated_normal", "uniform"}
        The distribution of the values.
    """

    scale: float = 1.0
    mode: Mode = "fan_in"
    distribution: Distribution = "truncated_normal"

    def __post_init__(self) -> None:
        """Check the hyperparameters."""
        set_reals(self, "scale", minimum=0.0)
        if self.scale == 0.0:
            raise ValueError("VarianceScaling.scale: expected a number > 0, got 0")
        if self.mode not in _MODES:
            raise ValueError(f"VarianceScaling.mode: expected one of {_MODES}, got {self.mode!r}")
        if self.distribution not in _DISTRIBUTIONS:
            raise ValueError(
                f"VarianceScaling.distribution: expected one of {_DISTRIBUTIONS}, got {self.distribution!r}"
            )

    def _sample(self, shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[np.float64]:
        return _scaled(shape, rng, self.scale, self.mode, self.distribution)


@dataclasses.dataclass(frozen=True)
class _Scaled(Initializer):
    _scaling: ClassVar[tuple[float, Mode, Distribution]]

    def _sample(self, shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[np.float64]:
        return _scaled(shape, rng, *self._scaling)


@register("initializer")
@dataclasses.dataclass(frozen=True)
class GlorotNormal(_Scaled):
    """Truncated normal of variance 2 / (fan_in + fan_out), for sigmoid and tanh (Glorot and Bengio 2010)."""

    _scaling = (1.0, "fan_avg", "truncated_normal")


@register("initializer")
@dataclasses.dataclass(frozen=True)
class GlorotUniform(_Scaled):
    """Uniform in +-sqrt(6 / (fan_in + fan_out)), the default of kernels (Glorot and Bengio 2010)."""

    _scaling = (1.0, "fan_avg", "uniform")


@register("initializer")
@dataclasses.dataclass(frozen=True)
class HeNormal(_Scaled):
    """Truncated normal of variance 2 / fan_in, for ReLU (He et al. 2015)."""

    _scaling = (2.0, "fan_in", "truncated_normal")


@register("initializer")
@dataclasses.dataclass(frozen=True)
class HeUniform(_Scaled):
    """Uniform in +-sqrt(6 / fan_in), for ReLU (He et al. 2015)."""

    _scaling = (2.0, "fan_in", "uniform")


@register("initializer")
@dataclasses.dataclass(frozen=True)
class LecunNormal(_Scaled):
    """Truncated normal of variance 1 / fan_in, for SELU (LeCun et al. 1998, Klambauer et al. 2017)."""

    _scaling = (1.0, "fan_in", "truncated_normal")


@register("initializer")
@dataclasses.dataclass(frozen=True)
class LecunUniform(_Scaled):
    """Uniform in +-sqrt(3 / fan_in) (LeCun et al. 1998)."""

    _scaling = (1.0, "fan_in", "uniform")


def compute_fans(shape: Sequence[int]) -> tuple[int, int]:
    """Return the number of inputs per output of a kernel (fan_in), and outputs per input (fan_out), as in Keras.

    Parameters
    ----------
    shape : sequence of int
        (..., n_in, n_out): leading dimensions, a convolution's window, multiply both fans. A vector counts as
        its length in both, a scalar as 1.
    """
    if len(shape) < 2:
        n = shape[0] if shape else 1
        return n, n
    window = math.prod(shape[:-2])
    return window * shape[-2], window * shape[-1]


def _scaled(
    shape: tuple[int, ...], rng: np.random.Generator, scale: float, mode: Mode, distribution: Distribution
) -> npt.NDArray[np.float64]:
    fan_in, fan_out = compute_fans(shape)
    variance = scale / {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2.0}[mode]
    if distribution == "uniform":
        limit = math.sqrt(3.0 * variance)
        return limit * (2.0 * rng.random(shape) - 1.0)
    if distribution == "untruncated_normal":
        return math.sqrt(variance) * rng.standard_normal(shape)
    return math.sqrt(variance) / _TRUNCATED_STDDEV * truncated_standard_normal(shape, rng)
