"""The NumPy baseline of the benchmarks computes what it claims: gradients, Adam, batches, dropout."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

PATH = Path(__file__).parents[1] / "numpy_mlp.py"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("numpy_mlp_under_test", PATH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


NumpyMLP: Any = _load().NumpyMLP

CASES = [
    ((3, 5, 4, 2), "tanh", "mse"),
    ((3, 5, 4, 1), "tanh", "mse"),
    ((3, 7, 4), "relu", "cross_entropy"),
    ((6, 5, 5, 3), "relu", "cross_entropy"),
    ((4, 3), "relu", "cross_entropy"),
    ((4, 2), "tanh", "mse"),
]


def data(sizes: tuple[int, ...], loss: str, n: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, sizes[0]))
    if loss == "cross_entropy":
        return X, rng.integers(0, sizes[-1], n)
    return X, rng.standard_normal((n, sizes[-1]))


def naive_loss(weights: list[np.ndarray], activation: str, loss: str, X: np.ndarray, y: np.ndarray) -> float:
    h = X
    for i in range(0, len(weights), 2):
        h = h @ weights[i] + weights[i + 1]
        if i < len(weights) - 2:
            h = np.tanh(h) if activation == "tanh" else np.where(h > 0, h, 0.0)
    if loss == "mse":
        return float(np.mean((h - y) ** 2))
    probabilities = np.exp(h) / np.exp(h).sum(axis=1, keepdims=True)
    return float(np.mean(-np.log(probabilities[np.arange(len(y)), y])))


def naive_gradients(weights: list[np.ndarray], *problem: Any, step: float = 1e-6) -> list[np.ndarray]:
    gradients = [np.zeros_like(weight) for weight in weights]
    for weight, gradient in zip(weights, gradients, strict=True):
        for index in np.ndindex(weight.shape):
            kept = weight[index]
            weight[index] = kept + step
            above = naive_loss(weights, *problem)
            weight[index] = kept - step
            below = naive_loss(weights, *problem)
            weight[index] = kept
            gradient[index] = (above - below) / (2 * step)
    return gradients


def flat(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([array.ravel() for array in arrays])


@pytest.mark.parametrize(("sizes", "activation", "loss"), CASES)
def test_loss_and_gradients_against_finite_differences(sizes: tuple[int, ...], activation: str, loss: str) -> None:
    X, y = data(sizes, loss, 9)
    net = NumpyMLP(sizes, activation, loss, batch_size=9, seed=3, dtype=np.float64)
    weights = [w + 0.05 for w in net.get_weights()]
    net.set_weights(weights)
    assert net.train_step(X, y) == pytest.approx(naive_loss(weights, activation, loss, X, y), rel=1e-12)
    expected = flat(naive_gradients(weights, activation, loss, X, y))
    np.testing.assert_allclose(net.gradients, expected, rtol=1e-6, atol=1e-9)


def test_adam_is_the_formula_of_keras() -> None:
    sizes, problem = (3, 4, 2), ("tanh", "mse")
    X, y = data(sizes, "mse", 8)
    net = NumpyMLP(sizes, *problem, 8, dtype=np.float64, learning_rate=0.01, beta_1=0.8, beta_2=0.95, epsilon=1e-3)
    weights = net.get_weights()
    m = [np.zeros_like(w) for w in weights]
    v = [np.zeros_like(w) for w in weights]
    for t in range(1, 6):
        net.train_step(X, y)
        alpha = 0.01 * np.sqrt(1 - 0.95**t) / (1 - 0.8**t)
        for i, g in enumerate(naive_gradients(weights, *problem, X, y)):
            m[i] += (g - m[i]) * (1 - 0.8)
            v[i] += (g * g - v[i]) * (1 - 0.95)
            weights[i] = weights[i] - alpha * m[i] / (np.sqrt(v[i]) + 1e-3)
    np.testing.assert_allclose(net.parameters, flat(weights), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(("sizes", "activation", "loss"), CASES)
def test_epoch_is_the_steps_of_its_batches(sizes: tuple[int, ...], activation: str, loss: str) -> None:
    X, y = data(sizes, loss, 50)
    permutation = np.random.default_rng(0).permutation(50)[:43]
    by_epoch = NumpyMLP(sizes, activation, loss, 8, seed=5, dtype=np.float64)
    by_step = NumpyMLP(sizes, activation, loss, 8, seed=5, dtype=np.float64)
    for _ in range(2):
        mean = by_epoch.train_epoch(X, y, permutation)
        batches = [permutation[start : start + 8] for start in range(0, 43, 8)]
        losses = [by_step.train_step(X[rows], y[rows]) * rows.size for rows in batches]
        assert mean == pytest.approx(sum(losses) / 43, rel=1e-12)
    assert by_epoch.steps == by_step.steps == 12
    np.testing.assert_allclose(by_epoch.parameters, by_step.parameters, rtol=1e-12, atol=1e-14)


def test_gathering_in_several_blocks_takes_every_row_once() -> None:
    X, y = data((300, 2), "mse", 400)
    net = NumpyMLP((300, 2), "tanh", "mse", 8, dtype=np.float64, learning_rate=0.0)
    permutation = np.random.default_rng(0).permutation(400)
    expected = naive_loss(net.get_weights(), "tanh", "mse", X, y)
    assert net.train_epoch(X, y, permutation) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("activation", "loss"), [("relu", "cross_entropy"), ("tanh", "mse")])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_loss_decreases_in_float32(activation: str, loss: str, dropout: float) -> None:
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (512, 2)).astype(np.float32)
    inside = (X**2).sum(axis=1) < 0.6
    y = inside.astype(np.int64) if loss == "cross_entropy" else inside[:, None].astype(np.float32)
    net = NumpyMLP((2, 32, 32, 2 if loss == "cross_entropy" else 1), activation, loss, 32, dropout=dropout)
    losses = [net.train_epoch(X, y, rng.permutation(512)) for _ in range(40)]
    assert losses[-1] < 0.5 * losses[0]
    assert net.parameters.dtype == net.predict(X).dtype == np.float32


def test_predict_gives_probabilities_and_agrees_with_the_training_loss() -> None:
    X, y = data((6, 5, 3), "cross_entropy", 20)
    net = NumpyMLP((6, 5, 3), "relu", "cross_entropy", 20, dtype=np.float64)
    p = net.predict(X)
    np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=1e-12)
    assert net.train_step(X, y) == pytest.approx(-np.log(p[np.arange(20), y]).mean(), rel=1e-12)


def test_large_logits_give_a_finite_loss() -> None:
    net = NumpyMLP((1, 2), "relu", "cross_entropy", 1)
    net.set_weights([[[1000.0, -1000.0]], [0.0, 0.0]])
    assert net.train_step([[1.0]], [1]) == 2000.0


def test_dropout_gradient_is_the_gradient_of_the_masked_network() -> None:
    X, y = data((3, 6, 5, 2), "mse", 4)
    net = NumpyMLP((3, 6, 5, 2), "tanh", "mse", 4, dtype=np.float64, dropout=0.4, learning_rate=0.0)
    weights = net.get_weights()
    net.train_step(X, y)
    masks = [layer.mask.T.copy() for layer in net._workspace(4).hidden]
    assert {0.0} < set(np.unique(np.concatenate(masks, axis=1))) <= {0.0, 1.0 / 0.6}

    def masked_loss() -> float:
        h = np.tanh(X @ weights[0] + weights[1]) * masks[0]
        h = np.tanh(h @ weights[2] + weights[3]) * masks[1]
        return float(np.mean((h @ weights[4] + weights[5] - y) ** 2))

    offset = 0
    for weight in weights:
        index = tuple(size - 1 for size in weight.shape)
        kept, h = weight[index], 1e-6
        weight[index] = kept + h
        above = masked_loss()
        weight[index] = kept - h
        below = masked_loss()
        weight[index] = kept
        offset += weight.size
        assert net.gradients[offset - 1] == pytest.approx((above - below) / (2 * h), rel=1e-5, abs=1e-9)


def test_weights_round_trip_and_are_copies() -> None:
    net = NumpyMLP((3, 4, 2), seed=1)
    weights = net.get_weights()
    assert [w.shape for w in weights] == [(3, 4), (4,), (4, 2), (2,)]
    other = NumpyMLP((3, 4, 2), seed=2)
    other.set_weights(weights)
    np.testing.assert_array_equal(other.parameters, net.parameters)
    weights[0][:] = 7.0
    assert not (net.parameters == 7.0).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sizes": (3,)}, "two or more sizes"),
        ({"sizes": (3, 2), "activation": "gelu"}, "expected relu or tanh"),
        ({"sizes": (3, 2), "dropout": 1.0}, "dropout rate"),
        ({"sizes": (3, 2), "dtype": np.int32}, "float32 or float64"),
    ],
)
def test_bad_configurations_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NumpyMLP(**arguments)


def test_bad_data_are_refused() -> None:
    net = NumpyMLP((3, 2))
    X = np.zeros((4, 3))
    with pytest.raises(ValueError, match="labels from 0 to 1"):
        net.train_step(X, np.array([0, 1, 2, 0]))
    with pytest.raises(ValueError, match="expected X of shape"):
        net.train_step(X[:, :2], np.zeros(4, int))
    with pytest.raises(ValueError, match="row numbers"):
        net.train_epoch(X, np.zeros(4, int), [0, 4])
    with pytest.raises(ValueError, match="weights of shapes"):
        net.set_weights([np.zeros((2, 3)), np.zeros(2)])
