"""Weights that move towards another model's (`update_average`), against NumPy."""

import numpy as np
import pytest

import fastnn as fnn
from fastnn import ops
from own_steps import T, X, differ, network, same


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("tau", [0.0, 0.005, 0.5, 1.0])
def test_update_average(dtype, tau):
    target, online = network("target", 0, dtype=dtype), network("online", 1, dtype=dtype)
    online.set_weights([weight + 1.0 for weight in online.get_weights()])
    for _ in range(3):
        before, other = target.get_weights(), online.get_weights()
        target.update_average(online, tau)
        for weight, old, its in zip(target.get_weights(), before, other, strict=True):
            expected = (1.0 - tau) * old.astype(np.float64) + tau * its
            np.testing.assert_allclose(weight, expected, rtol=2e-7 if dtype == "float32" else 1e-15, atol=1e-7)
            if tau in (0.0, 1.0):
                np.testing.assert_array_equal(weight, (old, its)[int(tau)])
        same(other, online.get_weights())


def test_update_average_of_models_that_are_made_of_models():
    def make(seed):
        a, b = network("a", seed, 3, 3), network("b", seed + 1)
        x = fnn.Input(3)
        return a, fnn.Model(x, fnn.Dense(4)(b(a(x))), seed=seed + 2)

    (a, one), (c, two) = make(0), make(10)
    before, inner = one.get_weights(), a.get_weights()
    one.update_average(two, 0.25)
    for weight, old, its in zip(one.get_weights(), before, two.get_weights(), strict=True):
        np.testing.assert_allclose(weight, 0.75 * old + 0.25 * its, rtol=1e-6, atol=1e-7)
    assert any(differ(inner, a.get_weights()))
    # the part of a model that both have stays
    x = fnn.Input(3)
    three, four = (fnn.Model(x, fnn.Dense(2)(a(x)), seed=seed) for seed in (0, 1))
    inner, mine, its = a.get_weights(), three.get_weights(), four.get_weights()
    three.update_average(four, 0.5)
    same(inner, a.get_weights())
    np.testing.assert_allclose(three.get_weights()[-2], (mine[-2] + its[-2]) / 2, rtol=1e-6)
    assert c.built


def test_update_average_reaches_functions():
    online, target = network("online", 0), network("target", 1)
    x, r = fnn.Input(3), fnn.Input((), name="r")
    aim = ops.stop_gradient(r + 0.9 * ops.max(target(x), axis=-1))
    step = fnn.train_function([x, r], ops.mean(ops.square(ops.max(online(x), axis=-1) - aim)), update=online)
    q = fnn.function(x, target(x))
    for _ in range(4):
        before = target.get_weights()
        step(X, T[:, 0])
        same(before, target.get_weights())
        target.update_average(online, 0.5)
        np.testing.assert_array_equal(q(X), target.predict(X))
        assert any(differ(before, target.get_weights()))


def test_update_average_misuse():
    a, b = network("a"), network("b", outputs=4)
    for call, error, match in [
        (lambda: a.update_average(b, 0.1), ValueError, r"weight 'dense_1/kernel' has the shape \(6, 2\)"),
        (lambda: a.update_average(fnn.Sequential([fnn.Input(3), fnn.Dense(6)]), 0.1), ValueError, "8 weights"),
        (lambda: a.update_average(network(dtype="float64"), 0.1), ValueError, "has the dtype float32"),
        (lambda: a.update_average(a, 1.5), ValueError, "tau: expected a number >= 0 and <= 1, got 1.5"),
        (lambda: a.update_average("b", 0.5), TypeError, "expected a model, got str"),
    ]:
        with pytest.raises(error, match=match):
            call()
    before = a.get_weights()
    a.update_average(a, 0.5)
    same(before, a.get_weights())
