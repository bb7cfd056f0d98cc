"""Losses and metrics of symbols on a simulated GPU, against the same models on the CPU."""

import numpy as np
import pytest

import fastnn as fnn
from fastnn import ops

rng = np.random.default_rng(2)
X = rng.normal(size=(14, 3)).astype(np.float32)
LABELS = rng.integers(0, 3, 14)


def near(y_true, y_pred):
    """Rows of one label are to be near each other."""
    square = ops.sum(ops.square(y_pred[:, None] - y_pred[None, :]), axis=-1)
    return ops.mean(ops.where(y_true[:, None] == y_true[None, :], square, ops.exp(-square)), axis=1)


def largest(y_true, y_pred):
    return ops.max(y_pred)


def network(device):
    x = fnn.Input(3)
    code = fnn.Dense(4, activation="tanh")(x)
    model = fnn.Model(x, fnn.Dense(2)(code), seed=0, device=device)
    model.add_loss(0.1 * ops.sum(ops.mean(code, axis=0) ** 2))
    model.add_metric(ops.absolute(code), "size")
    model.compile(fnn.SGD(0.1), near, metrics=[largest])
    return model


def test_training_agrees_with_the_cpu():
    there, here = network("cuda"), network("cpu")
    weights = np.linspace(0.0, 1.0, 14)
    for options in ({}, {"sample_weight": weights}):
        a = there.fit(X, LABELS, batch_size=6, verbose=0, shuffle=False, **options)
        b = here.fit(X, LABELS, batch_size=6, verbose=0, shuffle=False, **options)
        for name in ("loss", "largest", "size"):
            assert a.history[name] == pytest.approx(b.history[name], rel=1e-4)
    for one, other in zip(there.get_weights(), here.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    for one, other in zip(there.gradients(X, LABELS, weights), here.gradients(X, LABELS, weights), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)
    assert there.evaluate(X, LABELS)["loss"] == pytest.approx(here.evaluate(X, LABELS)["loss"], rel=1e-4)
