"""A row of weight 0 has no influence on losses, gradients and metrics, whatever it holds."""

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nopython as fnp

# The loss, the output's activation, its columns and the targets; the second row is the masked one. Its prediction is
# 6e38 and more: infinite in float32.
X = np.array([[1.0], [3e38], [-2.0], [0.5]], np.float32)
W = np.array([1.0, 0.0, 0.5, 2.0], np.float32)
KEPT = W != 0
SIGNS, NUMBERS, LABELS = np.array([1.0, -1, 1, -1]), np.array([0.5, 1, 0, 1]), np.array([1, 0, 2, 1])
CASES = {
    "mse": ("mse", "linear", 1, NUMBERS),
    "mse of two columns": ("mse", "linear", 2, np.stack([NUMBERS, SIGNS], 1)),
    "mae": ("mae", "linear", 1, NUMBERS),
    "huber": ("huber", "linear", 1, NUMBERS),
    "log_cosh": ("log_cosh", "linear", 1, NUMBERS),
    "hinge": ("hinge", "linear", 1, SIGNS),
    "perceptron": ("perceptron", "linear", 1, SIGNS),
    "poisson": ("poisson", "softplus", 1, NUMBERS),
    "poisson of an exponential": ("poisson", "exponential", 1, NUMBERS),
    "poisson logits": (fnn.Poisson(from_logits=True), "linear", 1, NUMBERS),
    "kl_divergence": ("kl_divergence", "sigmoid", 3, np.eye(3)[LABELS]),
    "binary": ("binary_cross_entropy", "sigmoid", 2, np.eye(2)[LABELS % 2]),
    "binary logits": (fnn.BinaryCrossEntropy(from_logits=True), "linear", 1, NUMBERS),
    "labels": ("cross_entropy", "softmax", 3, LABELS),
    "labels of logits": (fnn.CrossEntropy(from_logits=True), "linear", 3, LABELS),
    "labels of many logits": (fnn.CrossEntropy(from_logits=True), "linear", 200, LABELS),
    "one-hot of logits": (fnn.CrossEntropy(from_logits=True), "linear", 3, np.eye(3)[LABELS]),
    "one-hot of many logits": (fnn.CrossEntropy(from_logits=True), "linear", 200, np.eye(200)[LABELS]),
    "one-hot": (fnn.CrossEntropy(), "softmax", 3, np.eye(3)[LABELS]),
    "custom": (fnn.losses.Custom(lambda t, p: (t - p) ** 2, lambda t, p: 2.0 * (p - t)), "linear", 1, NUMBERS),
}


def model_of(loss, activation, columns, **options):
    """Make a layer of one input whose weights give infinity for the second row of `X`."""
    model = fnn.Sequential([fnn.Input(1), fnn.Dense(columns, activation)], seed=0)
    model.compile(fnn.SGD(0.125), loss, **options)
    model.set_weights([np.linspace(2.0, 3.0, columns)[None], np.linspace(-0.5, 0.5, columns)])
    return model


@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradients(case):
    *given, y = CASES[case]
    model = model_of(*given)
    share = KEPT.sum() / len(KEPT)
    loss = model.evaluate(X, y, sample_weight=W)["loss"]
    assert loss == pytest.approx(share * model.evaluate(X[KEPT], y[KEPT], sample_weight=W[KEPT])["loss"], rel=1e-6)
    found = model.gradients(X, y, sample_weight=W)
    expected = model.gradients(X[KEPT], y[KEPT], sample_weight=W[KEPT])
    for got, kept in zip(found, expected, strict=True):
        np.testing.assert_allclose(got, share * kept, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("case", CASES)
def test_learners(case):
    *given, y = CASES[case]
    model = model_of(*given)
    learner = model.learner(targets="dense" if y.ndim > 1 else "labels" if y.dtype.kind == "i" else "dense")
    y = y if y.dtype.kind == "i" else y.astype(np.float32).reshape(len(X), -1)
    loss = fnp.train_step(learner, X, y, sample_weight=W)
    assert loss == model.train_on_batch(X, y, sample_weight=W)["loss"]
    assert np.isfinite(loss)
    model.update_from(learner)
    assert all(np.isfinite(weights).all() for weights in model.get_weights())


def test_class_weights_of_zero():
    model = model_of("binary_cross_entropy", "sigmoid", 1)
    x = np.array([[1.0], [np.float32(3e38)], [-2.0]])
    other = model_of("mse", "linear", 1, metrics=["mse"])
    with pytest.warns(RuntimeWarning, match="finite"):
        other.fit(x, [1, 0, 1], shuffle=False, verbose=0)
    model.fit(x, [1, 0, 1], class_weight={0: 0.0, 1: 1.0}, shuffle=False, verbose=0)
    assert all(np.isfinite(weights).all() for weights in model.get_weights())


def test_loss_weights_of_zero():
    a = fnn.Input(1)
    outputs = [fnn.Dense(1, name="kept")(a), fnn.Dense(1, name="left")(a)]
    model = fnn.Model(a, outputs, seed=0)
    model.compile(fnn.SGD(0.1), "mse", loss_weights={"kept": 1.0, "left": 0.0})
    model.set_weights([np.ones((1, 1)), np.zeros(1), np.full((1, 1), 3e38), np.full(1, 3e38)])
    x = np.ones((4, 1))
    assert model.evaluate(x, [x - 1, x])["loss"] == 1.0
    assert [float(g.ravel()[0]) for g in model.gradients(x, [x - 1, x])] == [2.0, 2.0, 0.0, 0.0]


@pytest.mark.parametrize("name", [case for case in CASES if case not in ("custom", "mse of two columns")])
@pytest.mark.parametrize("masked", [np.inf, -np.inf, np.nan])
def test_losses_on_arrays(name, masked):
    given, _, columns, y = CASES[name]
    loss = fnn.losses.get(given)
    p = np.random.default_rng(0).uniform(0.1, 0.9, (4, columns))
    expected = 0.75 * loss(y[KEPT], p[KEPT], W[KEPT])
    if np.isnan(masked) or loss.prediction_range == (-np.inf, np.inf):
        p[1] = masked
    assert loss(y, p, W) == pytest.approx(expected, rel=1e-12)


REGRESSION = ["mse", "rmse", "mae", "r2", "pearson"]


@pytest.mark.parametrize("name", REGRESSION)
@pytest.mark.parametrize("masked", [0, 1, 99])
@pytest.mark.parametrize("p", [1e9, np.inf, -np.inf, np.nan])
def test_regression_metrics(name, masked, p):
    rng = np.random.default_rng(0)
    y = rng.normal(size=100)
    predictions, weights = y + 0.1 * rng.normal(size=100), rng.uniform(0.5, 2.0, 100)
    kept = np.arange(100) != masked
    expected = fnn.metrics.get(name)(y[kept], predictions[kept], weights[kept])
    predictions[masked], weights[masked] = p, 0.0
    assert fnn.metrics.get(name)(y, predictions, weights) == pytest.approx(expected, rel=1e-12)
    metric = fnn.metrics.get(name)
    metric.reset_state()
    for first in (0, 1, 50):
        last = {0: 1, 1: 50, 50: 100}[first]
        metric.update_state(y[first:last], predictions[first:last], weights[first:last])
    assert metric.result() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", REGRESSION)
def test_compiled_regression_metrics(name):
    rng = np.random.default_rng(0)
    y, w = rng.normal(size=100), rng.uniform(0.5, 2.0, 100).astype(np.float32)
    x = (y + 0.1 * rng.normal(size=100))[:, None].astype(np.float32)
    model = fnn.Sequential([fnn.Input(1), fnn.Dense(1, use_bias=False, kernel_initializer="ones")], seed=0)
    model.compile("sgd", "mse", weighted_metrics=[name])
    kept = np.arange(100) != 0
    expected = model.evaluate(x[kept], y[kept], sample_weight=w[kept])[f"weighted_{name}"]
    y[0], w[0] = 1e9, 0.0
    model.compile("sgd", "mse", weighted_metrics=[name])
    for batch_size in (1, 32, 100):
        found = model.evaluate(x, y, sample_weight=w, batch_size=batch_size)[f"weighted_{name}"]
        assert found == pytest.approx(expected, rel=1e-6)
    x[0] = 3e38  # the square of the error is infinite in float32
    assert model.evaluate(x, y, sample_weight=w)[f"weighted_{name}"] == pytest.approx(expected, rel=1e-6)


def test_all_rows_of_a_batch_may_be_masked():
    y, p, w = np.arange(6.0), np.array([1e30, np.inf, 1.0, 2.5, 4.0, 5.5]), np.array([0.0, 0, 0, 1, 1, 1])
    metric = fnn.metrics.R2Score()
    metric.reset_state()
    metric.update_state(y[:2], p[:2], w[:2])
    assert np.isnan(metric.result())
    metric.update_state(y[2:], p[2:], w[2:])
    assert metric.result() == pytest.approx(1.0 - 0.5 / 2.0)
