"""Activations on arrays: published values, an independent scalar definition, stability, names and errors."""

import json
import math

import numpy as np
import pytest

from fastnn import activations
from fastnn.config import from_config, to_config
from fastnn.registry import REGISTRY


def sigmoid(x):
    return 1.0 / (1.0 + math.exp(-x))


def softplus(x):
    return math.log(1.0 + math.exp(x))


SCALAR = {
    "linear": lambda x: x,
    "step": lambda x: float(x >= 0.0),
    "sigmoid": sigmoid,
    "hard_sigmoid": lambda x: min(max(x + 3.0, 0.0), 6.0) / 6.0,
    "tanh": lambda x: (math.exp(x) - math.exp(-x)) / (math.exp(x) + math.exp(-x)),
    "relu": lambda x: max(0.0, x),
    "relu6": lambda x: min(max(0.0, x), 6.0),
    "leaky_relu": lambda x: x if x >= 0.0 else 0.2 * x,
    "elu": lambda x: x if x >= 0.0 else math.exp(x) - 1.0,
    "selu": lambda x: 1.05070098 * (x if x >= 0.0 else 1.67326324 * (math.exp(x) - 1.0)),
    "gelu": lambda x: 0.5 * x * (1.0 + math.erf(x / math.sqrt(2.0))),
    "gelu_tanh": lambda x: 0.5 * x * (1.0 + math.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x * sigmoid(x),
    "mish": lambda x: x * math.tanh(softplus(x)),
    "softplus": softplus,
    "softsign": lambda x: x / (1.0 + abs(x)),
    "exponential": math.exp,
}
LIMITS = {  # at -inf and inf
    "linear": (-np.inf, np.inf),
    "step": (0, 1),
    "sigmoid": (0, 1),
    "hard_sigmoid": (0, 1),
    "tanh": (-1, 1),
    "relu": (0, np.inf),
    "relu6": (0, 6),
    "leaky_relu": (-np.inf, np.inf),
    "elu": (-1, np.inf),
    "selu": (-1.7580993408473766, np.inf),
    "gelu": (0, np.inf),
    "gelu_tanh": (0, np.inf),
    "silu": (0, np.inf),
    "mish": (0, np.inf),
    "softplus": (0, np.inf),
    "softsign": (-1, 1),
    "exponential": (0, np.inf),
}


@pytest.mark.parametrize("name", SCALAR)
def test_values(name):
    x = np.concatenate([np.linspace(-7.0, 7.0, 57), [-1e-3, 1e-3]])
    expected = [SCALAR[name](float(v)) for v in x]
    np.testing.assert_allclose(activations.get(name)(x), expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", LIMITS)
def test_limits_and_nan(name):
    low, high, nan = activations.get(name)(np.array([-np.inf, np.inf, np.nan]))
    assert (low, high) == LIMITS[name]
    assert np.isnan(nan)
    finite = activations.get(name)(np.array([-1e300, -1e4, 1e4, 1e300]))
    assert not np.isnan(finite).any()


def test_tails_keep_their_digits():
    # Phi(-20) is 2.7536241186062337e-89; e^-50 and -1e-12 are the leading terms, the next is far below.
    assert activations.get("gelu")(-20.0) == pytest.approx(-20.0 * 2.7536241186062337e-89, rel=1e-12)
    assert activations.get("silu")(-50.0) == pytest.approx(-50.0 * math.exp(-50.0), rel=1e-14)
    assert activations.get("softplus")(-50.0) == pytest.approx(math.exp(-50.0), rel=1e-14)
    assert activations.get("elu")(-1e-12) == pytest.approx(-1e-12, rel=1e-11)


def test_softmax_rows():
    x = np.array([[1.0, 2.0, 3.0], [1000.0, 1000.0, -1000.0], [-5.0, 0.0, 5.0]])
    p = activations.get("softmax")(x)
    for row, scores in zip(p, x - x.max(axis=1, keepdims=True), strict=True):
        exponentials = [math.exp(v) for v in scores]
        np.testing.assert_allclose(row, np.array(exponentials) / sum(exponentials), rtol=1e-14)
    log_p = activations.get("log_softmax")(x)
    np.testing.assert_allclose(np.exp(log_p), p, rtol=1e-13)
    assert log_p[1, 2] == pytest.approx(-2000.0 - math.log(2.0))
    assert np.isnan(activations.get("softmax")([[np.nan, 1.0]])).all()


@pytest.mark.parametrize("name", [*SCALAR, "softmax", "log_softmax"])
def test_dtype_shape_and_input_unchanged(name):
    activation = activations.get(name)
    for dtype in (np.float32, np.float64):
        x = np.linspace(-2, 2, 24, dtype=dtype).reshape(2, 3, 4)
        before = x.copy()
        y = activation(x)
        assert y.dtype == dtype
        assert y.shape == x.shape
        assert not np.shares_memory(x, y)
        np.testing.assert_array_equal(x, before)
    assert activation(np.arange(3)).dtype == np.float64
    assert activation.rowwise == (name in ("softmax", "log_softmax"))


def test_parameters():
    assert activations.LeakyReLU(negative_slope=0.5)(-2.0) == -1.0
    assert activations.ELU(alpha=2.0)(-1.0) == pytest.approx(2.0 * (math.exp(-1.0) - 1.0))
    assert list(activations.Step(threshold=1.5)([1.4, 1.5, 1.6])) == [0.0, 1.0, 1.0]
    assert activations.LeakyReLU(0).parameters == (0.0,)
    assert activations.get("gelu_tanh") == activations.GELU(approximate=True)
    assert activations.GELU(approximate=True).formula == "gelu_tanh"
    assert activations.GELU().formula == "gelu"


@pytest.mark.parametrize("name", [*SCALAR, "softmax", "log_softmax"])
def test_get(name):
    activation = activations.get(name)
    assert activation.name == activation.formula == name
    assert activations.get(activation) is activation
    assert activations.get(name) == activation
    assert hash(activations.get(name)) == hash(activation)
    config = json.loads(json.dumps(to_config(activation)))
    assert from_config(config, REGISTRY["activation"], "activation") == activation


def test_get_other_names():
    assert activations.get(None) == activations.Linear()
    assert activations.get("swish") == activations.SiLU()
    assert activations.get("exp") == activations.Exponential() == activations.get("Exponential")
    with pytest.raises(ValueError, match=r"rellu.*leaky_relu.*swish"):
        activations.get("rellu")
    with pytest.raises(TypeError, match="activation"):
        activations.get(3)


def test_errors():
    with pytest.raises(ValueError, match=r"negative_slope.*-1"):
        activations.LeakyReLU(-1.0)
    with pytest.raises(ValueError, match="alpha"):
        activations.ELU(math.nan)
    with pytest.raises(TypeError, match="threshold"):
        activations.Step("0")
    with pytest.raises(TypeError, match="approximate"):
        activations.GELU(1)
    with pytest.raises(TypeError, match=r"relu.*complex"):
        activations.get("relu")(1j)
    with pytest.raises(ValueError, match=r"softmax.*\(2, 0\)"):
        activations.get("softmax")(np.zeros((2, 0)))
