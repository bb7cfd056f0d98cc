"""Sequences of any length on a simulated GPU, against the same models on the CPU."""

import numpy as np
import pytest

import fastnn as fnn
from fastnn.runtime.device import placement


def network(**more):
    model = fnn.Sequential([fnn.Input((None, 2)), fnn.GRU(2, return_sequences=True), fnn.Dense(1)], seed=0, **more)
    model.compile(fnn.Adam(0.01), "mse")
    return model


def data():
    rng = np.random.default_rng(0)
    return rng.standard_normal((6, 5, 2)).astype(np.float32), rng.standard_normal((6, 5, 1)).astype(np.float32)


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)


def test_any_length():
    (x, y), there, here = data(), network(device="cuda"), network()
    for steps in (5, 2, 5, 2, 5, 2):  # small predictions are captured from the second one on
        close(there.predict(x[:, :steps]), here.predict(x[:, :steps]))
        one, other = (model.train_on_batch(x[:, :steps], y[:, :steps]) for model in (there, here))
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)


@pytest.mark.parametrize("streamed", [False, True])
def test_steps_that_count(streamed, monkeypatch):
    if streamed:
        monkeypatch.setattr(placement, "_ALWAYS_FITS", 0)
        monkeypatch.setattr(placement, "_SHARE_OF_MEMORY", 0.0)
    (x, y), there, here = data(), network(device="cuda"), network()
    lengths = np.array([5, 1, 3, 2, 5, 0])
    options = {"batch_size": 2, "lengths": lengths, "verbose": 0}
    a, b = there.fit(x, y, **options), here.fit(x, y, **options)
    np.testing.assert_allclose(a.history["loss"], b.history["loss"], rtol=1e-4)
    close(there.predict(x, lengths=lengths), here.predict(x, lengths=lengths))
    assert there.evaluate(x, y, lengths=lengths)["loss"] == pytest.approx(
        here.evaluate(x, y, lengths=lengths)["loss"], rel=1e-4
    )
