"""Models and losses whose values of a batch are not in proportion to its rows, also where calls run codes."""

import numpy as np
import pytest

import fastnn as fnn
from fastnn import ops

X = np.random.default_rng(0).normal(size=(31, 4))


def test_predictions_of_products_of_all_rows():
    x = fnn.Input(4)
    model = fnn.Model(x, (x @ x.T) @ x, dtype="float64")
    for _ in range(4):  # the second and later calls are those that codes take
        np.testing.assert_allclose(model.predict(X), X @ X.T @ X, rtol=1e-12)
    trained = fnn.Model(x, fnn.Dense(2)((x @ x.T) @ x))
    trained.compile("sgd", "mse")
    with pytest.raises(NotImplementedError, match=r"learner: a loss or a layer .*B²"):
        trained.learner()


def _loss(y_true, y_pred):
    return ops.square(ops.mean(ops.softmax(y_pred @ y_pred.T) @ y_true - y_pred, axis=1))


def _value(y_true, y_pred):
    scores = np.exp(y_pred @ y_pred.T)
    return np.mean(np.mean(scores / scores.sum(1, keepdims=True) @ y_true - y_pred, axis=1) ** 2)


def test_steps_of_a_loss_of_all_pairs():
    model = fnn.Sequential([fnn.Input(4), fnn.Dense(3)], seed=0, dtype="float64")
    model.compile(fnn.SGD(0.01), _loss)
    losses = []
    for _ in range(6):
        losses.append(model.train_on_batch(X, X[:, :3])["loss"])
        kernel, bias = model.get_weights()
        before = _value(X[:, :3], X @ kernel + bias)
    assert losses[-1] > before > 0.0
    other = fnn.Sequential([fnn.Input(4), fnn.Dense(3)], seed=0, dtype="float64")
    other.compile(fnn.SGD(0.01), _loss)
    assert losses == other.fit(X, X[:, :3], batch_size=31, epochs=6, shuffle=False, verbose=0).history["loss"]
    with pytest.raises(NotImplementedError, match=r"learner: .*all pairs of a batch's rows.*B²"):
        model.learner()


def test_values_of_fewer_rows_than_their_share():
    """2B - 1 rows of 64 bytes: ten times as much as those of 16 rows is too little for those of 160."""
    x = fnn.Input(16)
    joined = ops.concatenate([x, x], 0)[1:]
    y = ops.concatenate([joined, x[:1]], 0)
    rows = np.random.default_rng(0).normal(size=(160, 16))
    model = fnn.Model(x, ops.reshape(ops.tanh(y), (None, 32)))
    wanted = np.tanh(np.concatenate([rows, rows])[np.r_[1:320, 0]]).reshape(160, 32)
    for _ in range(4):
        np.testing.assert_allclose(model.predict(rows), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x - ops.mean(x, 0),
        lambda x: x[::-1],
        lambda x: ops.softmax(x, 0),
        lambda x: (x @ x.T) @ x,
        lambda x: x + x[0],
        lambda x: ops.roll(x, 1, 0),
        lambda x: ops.cumsum(x, 0),
        lambda x: x * ops.random_bernoulli(x),
    ],
)
def test_what_cannot_be_frozen(function):
    x = fnn.Input(4)
    model = fnn.Model(x, function(x))
    for make in (model.freeze, model.c_function):
        with pytest.raises(ValueError, match=r"freeze: 'model' cannot be called from compiled code: .*(rows|random)"):
            make()
