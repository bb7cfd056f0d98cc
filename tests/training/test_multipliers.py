"""Factors of the learning rate by layer: against trainings with another rate, and wherever models are trained."""

import copy
import pickle

import numpy as np
import pytest
from numba import njit

import fastnn as fnn
from fastnn import config
from fastnn import nopython as fnp
from fastnn.registry import REGISTRY

RNG = np.random.default_rng(0)
X = RNG.standard_normal((40, 4), np.float32)
Y = RNG.integers(0, 3, 40)
QUARTER = {"hidden": 0.25}


def momentum(p, g, m, learning_rate, step):
    m = 0.9 * m + g
    return p - learning_rate * m, m


OPTIMIZERS = {
    "sgd": lambda rate, **more: fnn.SGD(rate, weight_decay=0.1, **more),
    "sgd_momentum": lambda rate, **more: fnn.SGD(rate, momentum=0.9, **more),
    "sgd_nesterov": lambda rate, **more: fnn.SGD(rate, momentum=0.9, nesterov=True, **more),
    "adagrad": fnn.AdaGrad,
    "rmsprop": fnn.RMSprop,
    "rmsprop_centered": lambda rate, **more: fnn.RMSprop(rate, momentum=0.5, centered=True, **more),
    "adadelta": fnn.Adadelta,
    "adam": fnn.Adam,
    "adamw": fnn.AdamW,
    "nadam": fnn.Nadam,
    "lion": fnn.Lion,
    "custom": lambda rate, **more: fnn.optimizers.Custom(momentum, rate, state={"m": 0.0}, weight_decay=0.1, **more),
}


def network(optimizer, dtype="float32"):
    layers = [fnn.Input(4), fnn.Dense(5, "tanh", name="hidden"), fnn.Dense(3, "softmax", name="classes")]
    model = fnn.Sequential(layers, seed=0, dtype=dtype)
    model.compile(optimizer, "cross_entropy")
    return model


def trained(optimizer, epochs=3, dtype="float32", **more):
    model = network(optimizer, dtype)
    model.fit(X, Y, batch_size=8, epochs=epochs, verbose=0, **more)
    return model


def same(one, two):
    for a, b in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_factor_is_another_learning_rate(kind, dtype):
    """In the first step all have the same gradients. A power of two is exact."""
    make = OPTIMIZERS[kind]
    models = [network(make(0.01, multipliers=QUARTER), dtype), network(make(0.0025), dtype), network(make(0.01), dtype)]
    for model in models:
        model.train_on_batch(X, Y)
    mixed, slow, fast = (model.get_weights() for model in models)
    for index, expected in enumerate([*slow[:2], *fast[2:]]):
        np.testing.assert_array_equal(mixed[index], expected)
        assert (slow[index] != fast[index]).any()


@pytest.mark.parametrize("clipping", [{}, {"clipnorm": 0.1}, {"global_clipnorm": 0.1}, {"clipvalue": 0.01}], ids=str)
def test_many_steps_of_sgd_against_numpy(clipping):
    model = network(
        fnn.SGD(0.5, weight_decay=0.1, multipliers={"*": 0.5, "classes/bias": 3.0, "hidden": 0.0}, **clipping)
    )
    before = weights = model.get_weights()
    factors, limits = (
        (0.0, 0.0, 0.5, 3.0),
        {**{"clipnorm": np.inf, "global_clipnorm": np.inf, "clipvalue": np.inf}, **clipping},
    )
    for _ in range(5):
        gradients = [np.clip(g, -limits["clipvalue"], limits["clipvalue"]) for g in model.gradients(X, Y)]
        whole = np.sqrt(sum((g**2).sum() for g in gradients))
        norms = [np.sqrt((g**2).sum()) for g in gradients]
        gradients = [
            g * min(1.0, limits["clipnorm"] / norm, limits["global_clipnorm"] / whole)
            for g, norm in zip(gradients, norms, strict=True)
        ]
        weights = [w - 0.5 * factor * (0.1 * w + g) for w, g, factor in zip(weights, gradients, factors, strict=True)]
        model.train_on_batch(X, Y)
        for one, two in zip(weights, model.get_weights(), strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(before[0], model.get_weights()[0])


def test_factors_of_1_change_nothing():
    plain, ones = trained(fnn.Adam(0.01)), trained(fnn.Adam(0.01, multipliers={"hidden": 1.0, "*/bias": 1}))
    same(plain, ones)
    assert str(plain.program) == str(ones.program)


def test_with_0_the_state_moves():
    """A frozen layer has no gradient, and its state stays."""
    model = trained(fnn.Adam(0.01, multipliers={"hidden": 0}))
    weights, other = network("adam").get_weights(), model.get_weights()
    for index in range(4):
        assert np.array_equal(weights[index], other[index]) == (index < 2)
    size = model._runtime.table.entries[0].size
    assert np.any(model._runtime.optimizer_state.view(np.float32)[:size])


def test_threads_interruptions_files_and_copies(tmp_path):
    def adam():
        return fnn.Nadam(fnn.schedules.ExponentialDecay(0.02, 5, 0.9), multipliers={"classes": 3.0, "hidden": 0.1})

    whole, part = trained(adam(), 6), trained(adam(), 2)
    part.save(tmp_path / "m")
    for model in (fnn.load(tmp_path / "m"), copy.deepcopy(part), pickle.loads(pickle.dumps(part))):
        assert model.optimizer == adam()
        model.fit(X, Y, batch_size=8, epochs=6, verbose=0, resume=True)
        same(model, whole)
    threads = fnn.get_num_threads()
    try:
        fnn.set_num_threads(1)
        same(trained(adam(), 6), whole)
    finally:
        fnn.set_num_threads(threads)


def test_many_networks_at_once():
    models = [network(fnn.Adam(0.01, multipliers=one)) for one in (QUARTER, None, {"classes": 0.25})]
    fnn.train_many(models, X, Y, batch_size=8, epochs=3, verbose=0)
    for model, one in zip(models, (QUARTER, None, {"classes": 0.25}), strict=True):
        same(model, trained(fnn.Adam(0.01, multipliers=one)))


@njit
def learn(learner, x, y):
    for start in range(0, len(x), 8):
        fnp.train_step(learner, x[start : start + 8], y[start : start + 8])


@pytest.mark.parametrize("kind", ["adamw", "nadam", "custom"])
def test_compiled_code_takes_the_same_steps(kind):
    one, two = (network(OPTIMIZERS[kind](0.01, multipliers=QUARTER)) for _ in range(2))
    learner = one.learner()
    for _ in range(3):
        learn(learner, X, Y)
        for start in range(0, len(X), 8):
            two.train_on_batch(X[start : start + 8], Y[start : start + 8])
    one.update_from(learner)
    same(one, two)


def test_weights_of_models_within():
    """Names of models that a model is made of stand for all their layers."""

    def made(multipliers):
        encoder = fnn.Sequential([fnn.Input(4), fnn.Dense(5, "tanh")], seed=1, name="encoder")
        x = fnn.Input(4)
        model = fnn.Model(x, fnn.Dense(3, "softmax")(encoder(x)), seed=0)
        model.compile(fnn.Adam(0.01, multipliers=multipliers), "cross_entropy")
        first = model.get_weights()
        model.fit(X, Y, batch_size=8, epochs=2, verbose=0)
        return [np.array_equal(a, b) for a, b in zip(first, model.get_weights(), strict=True)]

    assert made({"encoder": 0.0}) == [True, True, False, False]
    assert made({"encoder": 0.0, "encoder/*/bias": 1.0}) == [True, False, False, False]


def test_a_training_function():
    model = network("sgd")
    x, y = fnn.Input(4), fnn.Input(3)
    optimizer = fnn.SGD(0.5, multipliers={"*/hidden": 0.0})
    step = fnn.train_function([x, y], fnn.ops.mean((model(x) - y) ** 2), update=[model], optimizer=optimizer)
    before = model.get_weights()
    step(X, np.eye(3, dtype=np.float32)[Y])
    assert [np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True)] == [
        True,
        True,
        False,
        False,
    ]


def test_a_name_that_is_not_there():
    with pytest.raises(ValueError, match=r"Adam\.multipliers: there is no weight 'dense'; .*hidden/kernel"):
        network(fnn.Adam(multipliers={"dense": 0.1}))


@pytest.mark.parametrize(
    "given, error",
    [
        ([("hidden", 1.0)], TypeError),
        ({1: 1.0}, TypeError),
        ({"hidden": "fast"}, TypeError),
        ({"hidden": -1.0}, ValueError),
        ({"hidden": np.nan}, ValueError),
    ],
)
def test_invalid_factors(given, error):
    with pytest.raises(error, match=r"SGD\.multipliers"):
        fnn.SGD(multipliers=given)


def test_a_rate_that_is_too_large_with_its_factor():
    model = network(fnn.SGD(1e30, multipliers={"hidden": 1e10}))
    with pytest.raises(ValueError, match=r"makes step 1e\+40, too large for float32"):
        model.train_on_batch(X, Y)


def test_files():
    optimizer = fnn.AdamW(multipliers={"a*": 0.5, "b": 0.0})
    described = config.to_config(optimizer)
    assert described["multipliers"] == {"class": "<dict>", "items": [["a*", 0.5], ["b", 0.0]]}
    assert config.from_config(described, REGISTRY["optimizer"], "optimizer") == optimizer
    for wrong in ([["a", "b"]], [["a"]], [[1, 2.0]], {"a": 1.0}, [["a", -1.0]]):
        with pytest.raises(ValueError, match="multipliers"):
            config.from_config(
                {**described, "multipliers": {"class": "<dict>", "items": wrong}}, REGISTRY["optimizer"], "optimizer"
            )
