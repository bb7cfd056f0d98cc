"""Initial values against the published formulas (Keras 3, and the papers that it cites)."""

import math
from typing import Any

import numpy as np
import pytest

from fastnn import initializers
from fastnn.config import REGISTRY
from fastnn.initializers import (
    Constant,
    Initializer,
    Ones,
    Orthogonal,
    RandomNormal,
    RandomUniform,
    TruncatedNormal,
    VarianceScaling,
    Zeros,
)

SHAPE = (300, 500)
N = 300 * 500
# Variance of the standard normal distribution between -2 and 2: 1 - 4 phi(2) / (2 Phi(2) - 1).
TRUNCATED_STDDEV = math.sqrt(1.0 - 4.0 * math.exp(-2.0) / math.sqrt(2.0 * math.pi) / math.erf(math.sqrt(2.0)))

NORMAL = {"GlorotNormal": 2.0 / 800.0, "HeNormal": 2.0 / 300.0, "LecunNormal": 1.0 / 300.0}
UNIFORM = {"GlorotUniform": 6.0 / 800.0, "HeUniform": 6.0 / 300.0, "LecunUniform": 3.0 / 300.0}


def draw(initializer: Initializer, shape: tuple[int, ...] = SHAPE, seed: int = 1, dtype: str = "float64") -> Any:
    return initializer(shape, np.random.default_rng(seed), dtype)


def check_moments(values: Any, mean: float, stddev: float) -> None:
    """Mean and standard deviation within five standard errors (those of a normal distribution)."""
    assert abs(values.mean() - mean) < 5.0 * stddev / math.sqrt(values.size)
    assert abs(values.std() / stddev - 1.0) < 5.0 / math.sqrt(2.0 * values.size)


@pytest.mark.parametrize("name", NORMAL)
def test_scaled_normal(name: str) -> None:
    values = draw(initializers.get(name))
    stddev = math.sqrt(NORMAL[name])
    check_moments(values, 0.0, stddev)
    bound = 2.0 * stddev / TRUNCATED_STDDEV
    assert 0.99 * bound < np.abs(values).max() <= bound


@pytest.mark.parametrize("name", UNIFORM)
def test_scaled_uniform(name: str) -> None:
    values = draw(initializers.get(name))
    limit = math.sqrt(UNIFORM[name])
    check_moments(values, 0.0, limit / math.sqrt(3.0))
    assert -limit <= values.min() < -0.999 * limit and 0.999 * limit < values.max() <= limit


@pytest.mark.parametrize(("mode", "n"), [("fan_in", 300.0), ("fan_out", 500.0), ("fan_avg", 400.0)])
@pytest.mark.parametrize("distribution", ["truncated_normal", "untruncated_normal", "uniform"])
def test_variance_scaling(mode: Any, n: float, distribution: Any) -> None:
    values = draw(VarianceScaling(0.5, mode, distribution))
    check_moments(values, 0.0, math.sqrt(0.5 / n))
    beyond = np.abs(values).max() / math.sqrt(0.5 / n)
    low, high = {"truncated_normal": (2.2, 2.3), "untruncated_normal": (4.0, 8.0), "uniform": (1.7, 1.74)}[distribution]
    assert low < beyond < high


def test_the_named_ones_are_variance_scaling() -> None:
    for name, scale, mode in [("Glorot", 1.0, "fan_avg"), ("He", 2.0, "fan_in"), ("Lecun", 1.0, "fan_in")]:
        for ending, distribution in [("Normal", "truncated_normal"), ("Uniform", "uniform")]:
            same: Any = VarianceScaling(scale, mode, distribution)  # type: ignore[arg-type]
            np.testing.assert_array_equal(draw(initializers.get(name + ending)), draw(same))


def test_fixed_distributions() -> None:
    check_moments(draw(RandomNormal(3.0, 0.5)), 3.0, 0.5)
    values = draw(TruncatedNormal(3.0, 0.5))
    check_moments(values, 3.0, 0.5 * TRUNCATED_STDDEV)
    assert values.min() >= 2.0 and values.max() <= 4.0
    values = draw(RandomUniform(2.0, 6.0))
    check_moments(values, 4.0, 4.0 / math.sqrt(12.0))
    assert values.min() >= 2.0 and values.max() < 6.0


def test_truncated_normal_follows_its_distribution() -> None:
    values = np.sort(draw(TruncatedNormal(0.0, 1.0)).ravel())
    below_two = 0.5 * (1.0 + math.erf(math.sqrt(2.0)))
    phi = np.array([0.5 * (1.0 + math.erf(v / math.sqrt(2.0))) for v in values])
    expected = (phi - (1.0 - below_two)) / (2.0 * below_two - 1.0)
    distance = np.abs(expected - (np.arange(N) + 0.5) / N).max()
    assert distance < 1.95 / math.sqrt(N)  # Kolmogorov-Smirnov at 0.1 %


def test_constants() -> None:
    assert (draw(Zeros(), (3,)) == 0.0).all()
    assert (draw(Ones(), (3, 2)) == 1.0).all()
    assert (draw(Constant(-2), (3, 2)) == -2.0).all()
    assert draw(Constant(1.5), ()) == 1.5


def test_defaults_are_those_of_keras() -> None:
    assert RandomNormal() == RandomNormal(mean=0.0, stddev=0.05)
    assert TruncatedNormal() == TruncatedNormal(mean=0.0, stddev=0.05)
    assert RandomUniform() == RandomUniform(minval=-0.05, maxval=0.05)
    assert VarianceScaling() == VarianceScaling(scale=1.0, mode="fan_in", distribution="truncated_normal")
    assert Constant() == Constant(value=0.0)
    assert Orthogonal() == Orthogonal(gain=1.0)


@pytest.mark.parametrize(
    ("shape", "fans"),
    [((), (1, 1)), ((7,), (7, 7)), ((3, 5), (3, 5)), ((4, 3, 5), (12, 20)), ((2, 3, 5, 7), (30, 42))],
)
def test_fans(shape: tuple[int, ...], fans: tuple[int, int]) -> None:
    assert initializers.compute_fans(shape) == fans
    limit = math.sqrt(6.0 / sum(fans))
    assert np.abs(draw(initializers.GlorotUniform(), shape)).max() <= limit


def test_fans_of_a_convolution_scale_its_variance() -> None:
    check_moments(draw(initializers.HeNormal(), (3, 3, 64, 128)), 0.0, math.sqrt(2.0 / (9 * 64)))


@pytest.mark.parametrize("shape", [(5, 5), (8, 3), (3, 8), (1, 4), (4, 1), (3, 3, 2, 7), (2, 2, 2, 31)])
def test_orthogonal(shape: tuple[int, ...]) -> None:
    matrix = draw(Orthogonal(gain=2.0), shape).reshape(-1, shape[-1])
    gram = matrix.T @ matrix if matrix.shape[0] >= matrix.shape[1] else matrix @ matrix.T
    np.testing.assert_allclose(gram, 4.0 * np.eye(len(gram)), atol=1e-13)


def test_orthogonal_is_uniform() -> None:
    rng = np.random.default_rng(0)
    rotations = np.array([Orthogonal()((2, 2), rng, "float64") for _ in range(2000)])
    # A Haar distributed matrix has entries of mean 0; LAPACK's raw Q has a first entry of one sign.
    assert np.abs(rotations.mean(axis=0)).max() < 5.0 * math.sqrt(0.5 / 2000)
    assert abs((np.linalg.det(rotations) > 0).mean() - 0.5) < 5.0 * 0.5 / math.sqrt(2000)


@pytest.mark.parametrize("name", REGISTRY["initializer"])
def test_result(name: str) -> None:
    initializer = REGISTRY["initializer"][name]()
    single, double = draw(initializer, (33, 7), dtype="float32"), draw(initializer, (33, 7))
    assert single.dtype == np.float32 and double.dtype == np.float64
    assert single.shape == (33, 7) and single.flags.c_contiguous and single.flags.writeable
    np.testing.assert_array_equal(single, double.astype(np.float32))
    np.testing.assert_array_equal(double, draw(initializer, (33, 7)))
    random = name not in ("Constant", "Zeros", "Ones")
    assert random == (not np.array_equal(double, draw(initializer, (33, 7), seed=2)))
    assert initializer((2, 3), np.random.default_rng()).dtype == np.float32
    assert hash(initializer) == hash(type(initializer)())


def test_arguments_are_checked() -> None:
    rng = np.random.default_rng()
    for dtype in ("float16", "int32", "no", None, 3, object):
        with pytest.raises(ValueError, match="dtype: expected 'float32' or 'float64'"):
            Zeros()((2,), rng, dtype)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"rng: expected a numpy.random.Generator, got RandomState"):
        Zeros()((2,), np.random.RandomState(1))  # type: ignore[arg-type]
    for shape in (3, "ab", None):
        with pytest.raises(TypeError, match="shape: expected a tuple of integers"):
            Zeros()(shape, rng)  # type: ignore[arg-type]
    for shape in ((2.0,), (True,), (None, 2)):
        with pytest.raises(TypeError, match=r"shape\[0\]: expected an integer, got"):
            Zeros()(shape, rng)  # type: ignore[arg-type]
    for small in ([3, 0], (3, -1)):
        with pytest.raises(ValueError, match=r"shape\[1\]: expected an integer >= 1, got"):
            Zeros()(small, rng)
    with pytest.raises(ValueError, match="at least two dimensions"):
        Orthogonal()((3,), rng)


def test_hyperparameters_are_checked() -> None:
    with pytest.raises(ValueError, match=r"RandomNormal\.stddev: expected a number >= 0"):
        RandomNormal(stddev=-1.0)
    with pytest.raises(ValueError, match=r"TruncatedNormal\.mean: expected a finite number"):
        TruncatedNormal(mean=math.nan)
    with pytest.raises(ValueError, match="minval <= maxval"):
        RandomUniform(1.0, 0.0)
    with pytest.raises(ValueError, match="scale: expected a number > 0"):
        VarianceScaling(0.0)
    with pytest.raises(ValueError, match="mode: expected one of"):
        VarianceScaling(mode="fan")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="distribution: expected one of"):
        VarianceScaling(distribution="normal")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"Constant\.value: expected a number"):
        Constant("1")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"Orthogonal\.gain: expected a number"):
        Orthogonal(None)  # type: ignore[arg-type]
