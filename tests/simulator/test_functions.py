"""Functions of symbols on a simulated GPU, against the same functions on the CPU."""

import numpy as np
import pytest

import fastnn as fnn
from fastnn import ops

RNG = np.random.default_rng(2)
X = RNG.standard_normal((12, 3)).astype(np.float32)
T = RNG.standard_normal((12, 2)).astype(np.float32)


def close(one, other, tolerance=5e-5):
    for left, right in zip(one, other, strict=True):
        np.testing.assert_allclose(left, right, rtol=tolerance, atol=tolerance)


def networks(device):
    """Return two models, functions made of them, and a third that follows the first."""
    made = [
        fnn.Sequential([fnn.Input(3), fnn.Dense(4, "tanh"), fnn.BatchNorm(), fnn.Dense(2)], seed=seed, name=name)
        for seed, name in ((0, "a"), (1, "b"), (2, "follower"))
    ]
    a, b, follower = made
    for model in made:
        model.to(device)
    x, t = fnn.Input(3), fnn.Input(2)
    error = ops.square(a(x) + b(x) - t)
    step = fnn.train_function([x, t], ops.mean(error), update=a, metrics={"worst": ops.max(error)}, seed=3)
    other = fnn.train_function(x, ops.mean(ops.square(b(x) - a(x))), update=b, optimizer=fnn.SGD(0.1), seed=4)
    f = fnn.function([x, t], [error, ops.mean(error), ops.argmax(a(x), axis=-1), ops.sum(error, axis=0)])
    g = fnn.function(x, a(x) * 2.0)
    return a, b, follower, step, other, f, g


def results(a, b, follower, step, other, f, g):
    """Return what calls give, one after the other."""
    found = []
    for _ in range(4):
        logs = step(X, T)
        found += [logs["loss"], logs["worst"], other(X), *f(X, T), g(X)]
        follower.update_average(a, 0.25)
        found += [follower.predict(X), g(X[:1])]
    return [*found, *a.get_weights(), *b.get_weights(), *follower.get_weights()]


def test_functions_agree_with_the_cpu():
    here, there = networks("cpu"), networks("cuda")
    assert [one.device for one in there] == ["cuda:0"] * 7
    close(results(*there), results(*here))


@pytest.mark.parametrize("moved", [0, 2, 3, 5])
def test_what_they_are_made_of_may_be_elsewhere(moved):
    here, there = networks("cpu"), networks("cpu")
    close(results(*there), results(*here), 0.0)
    there[moved].to("cuda")
    close(results(*there), results(*here), 2e-4)
    there[moved].to("cpu")
    close(results(*there), results(*here), 2e-4)
