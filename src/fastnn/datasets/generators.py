"""Generated data sets: small problems that a linear model cannot solve, and a linear one.

Arguments and meaning follow scikit-learn's functions of the same names, where they exist. All random numbers come
from one seed; no global random state is used.
"""

from __future__ import annotations

import math
import numbers
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from fastnn.checks import number
from fastnn.seeding import as_seed, derive

Features = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Seed = int | np.integer[Any] | np.random.Generator | None


def make_xor(n_samples: int = 100, noise: float = 0.0, seed: Seed = None) -> tuple[Features, Labels]:
    """Make points at the corners of the unit square, labelled by exclusive or, which no single neuron learns.

    Parameters
    ----------
    n_samples : int
        Number of points, spread as evenly as possible over the corners (0, 0), (0, 1), (1, 0), (1, 1).
    noise : float
        Standard deviation of the normal noise on both coordinates, >= 0.
    seed : int, numpy.random.Generator or None
        None draws a new seed every time.

    Returns
    -------
    X : ndarray of float32, shape (n_samples, 2)
    y : ndarray of int64, shape (n_samples,)
        1 where exactly one coordinate of the corner is 1, else 0.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another type, or out of range.
    """
    n_samples, noise, rng = _checked("make_xor", n_samples, noise, seed)
    corner = np.arange(n_samples) % 4
    a, b = corner // 2, corner % 2
    return _finish(np.stack([a, b], axis=1), a ^ b, noise, rng)


def make_moons(n_samples: int = 100, noise: float = 0.0, seed: Seed = None) -> tuple[Features, Labels]:
    """Make two interleaved half circles of radius 1.

    Parameters
    ----------
    n_samples : int
        Number of points; if it is odd, class 0 has one more.
    noise : float
        Standard deviation of the normal noise on both coordinates, >= 0.
    seed : int, numpy.random.Generator or None
        None draws a new seed every time.

    Returns
    -------
    X : ndarray of float32, shape (n_samples, 2)
        Without noise, evenly spaced on the upper half circle around (0, 0) and the lower one around (1, 0.5).
    y : ndarray of int64, shape (n_samples,)
        0 for the upper half circle, 1 for the lower.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another type, or out of range.
    """
    n_samples, noise, rng = _checked("make_moons", n_samples, noise, seed)
    n_upper = n_samples - n_samples // 2
    upper, lower = np.linspace(0.0, math.pi, n_upper), np.linspace(0.0, math.pi, n_samples - n_upper)
    X = np.concatenate(
        [
            np.stack([np.cos(upper), np.sin(upper)], axis=1),
            np.stack([1.0 - np.cos(lower), 0.5 - np.sin(lower)], axis=1),
        ]
    )
    return _finish(X, np.arange(n_samples) >= n_upper, noise, rng)


def make_spirals(
    n_samples: int = 100, n_classes: int = 2, noise: float = 0.0, seed: Seed = None, *, n_turns: float = 1.0
) -> tuple[Features, Labels]:
    """Make interleaved spirals, one per class.

    Parameters
    ----------
    n_samples : int
        Number of points, spread as evenly as possible over the classes.
    n_classes : int
        Number of spirals, >= 1.
    noise : float
        Standard deviation of the normal noise on both coordinates, >= 0.
    seed : int, numpy.random.Generator or None
        None draws a new seed every time.
    n_turns : float
        How often a spiral winds around the origin, >= 0.

    Returns
    -------
    X : ndarray of float32, shape (n_samples, 2)
        Without noise, the radius grows evenly to 1 and the angle with it to `n_turns` turns; spiral k is
        rotated by k / n_classes of a turn.
    y : ndarray of int64, shape (n_samples,)
        The class, 0 to n_classes - 1.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another type, or out of range.
    """
    n_samples, noise, rng = _checked("make_spirals", n_samples, noise, seed)
    n_classes = _integer("make_spirals: n_classes", n_classes)
    n_turns = number("make_spirals: n_turns", n_turns, at_least=0.0)
    y = np.arange(n_samples) % n_classes
    position = np.arange(n_samples) // n_classes
    radius = (position + 1) / (position[-1] + 1)
    angle = 2.0 * math.pi * (n_turns * radius + y / n_classes)
    return _finish(np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1), y, noise, rng)


@overload
def make_regression(
    n_samples: int = ..., n_features: int = ..., noise: float = ..., seed: Seed = ..., *,
    bias: float = ..., return_coef: Literal[False] = ...,
) -> tuple[Features, Features]: ...  # fmt: skip


@overload
def make_regression(
    n_samples: int = ..., n_features: int = ..., noise: float = ..., seed: Seed = ..., *,
    bias: float = ..., return_coef: Literal[True],
) -> tuple[Features, Features, Features]: ...  # fmt: skip


def make_regression(
    n_samples: int = 100,
    n_features: int = 10,
    noise: float = 0.0,
    seed: Seed = None,
    *,
    bias: float = 0.0,
    return_coef: bool = False,
) -> tuple[Features, Features] | tuple[Features, Features, Features]:
    """Make a linear regression problem y = X @ coef + bias + noise.

    Parameters
    ----------
    n_samples, n_features : int
        Numbers of rows and columns, >= 1.
    noise : float
        Standard deviation of the normal noise on `y`, >= 0.
    seed : int, numpy.random.Generator or None
        None draws a new seed every time.
    bias : float
        The intercept.
    return_coef : bool
        Whether to return the coefficients too.

    Returns
    -------
    X : ndarray of float32, shape (n_samples, n_features)
        Standard normal.
    y : ndarray of float32, shape (n_samples,)
        Computed in float64 from the rounded `X` and `coef`, then rounded.
    coef : ndarray of float32, shape (n_features,)
        Standard normal; only with `return_coef`.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another type, or out of range.
    """
    n_samples, noise, rng = _checked("make_regression", n_samples, noise, seed)
    n_features = _integer("make_regression: n_features", n_features)
    bias = number("make_regression: bias", bias)
    coef = rng.standard_normal(n_features).astype(np.float32)
    X = rng.standard_normal((n_samples, n_features)).astype(np.float32)
    y = X.astype(np.float64) @ coef.astype(np.float64) + bias + noise * rng.standard_normal(n_samples)
    rounded = y.astype(np.float32)
    return (X, rounded, coef) if return_coef else (X, rounded)


def _checked(function: str, n_samples: int, noise: float, seed: Seed) -> tuple[int, float, np.random.Generator]:
    n = _integer(f"{function}: n_samples", n_samples)
    stddev = number(f"{function}: noise", noise, at_least=0.0)
    return n, stddev, derive(as_seed(seed), function)


def _integer(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name}: expected an int, got {value!r} of type {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name}: expected at least 1, got {value}")
    return int(value)


def _finish(
    points: npt.NDArray[np.float64] | npt.NDArray[np.int64],
    labels: npt.NDArray[np.int64] | npt.NDArray[np.bool_],
    noise: float,
    rng: np.random.Generator,
) -> tuple[Features, Labels]:
    order = rng.permutation(len(points))
    noisy = points + noise * rng.standard_normal(points.shape)
    return noisy[order].astype(np.float32), labels[order].astype(np.int64)
