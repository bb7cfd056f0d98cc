"""Compiled functions of arrays (`fastnn.function`), against NumPy and against models' predictions."""

import copy
import itertools
import pickle

import numba
import numpy as np
import pytest

import fastnn as fnn
from fastnn import nopython as fnp
from fastnn import ops

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3)).astype(np.float32)
T = RNG.normal(size=(40, 2)).astype(np.float32)


def network(seed=0, **more):
    layers = [fnn.Input(3), fnn.Dense(5, "tanh"), fnn.BatchNorm(), fnn.Dense(2)]
    return fnn.Sequential(layers, seed=seed, name="net", **more)


def close(one, other, tolerance=2e-6):
    np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def test_symbols_of_all_shapes():
    model = network()
    x, t = fnn.Input(3), fnn.Input(2)
    y = model(x)
    errors = ops.square(y - t)
    distances = ops.sum(ops.square(ops.expand_dims(x, 0) - ops.expand_dims(x, 1)), axis=-1)
    f = fnn.function([x, t], [y, ops.mean(errors), distances, ops.sum(errors, axis=0), ops.argmax(y, axis=-1)])
    for n in (1, 40, 7):
        found, loss, between, sums, best = f(X[:n], T[:n])
        expected = model.predict(X[:n])
        np.testing.assert_array_equal(found, expected)
        error = (expected - T[:n]) ** 2
        close(loss, error.mean())
        assert isinstance(loss, np.float32)
        close(between, ((X[None, :n] - X[:n, None]) ** 2).sum(-1), 1e-5)
        close(sums, error.sum(0))
        assert best.dtype == np.int64
        np.testing.assert_array_equal(best, expected.argmax(-1))


def test_form_of_the_results():
    x = fnn.Input(3)
    for _ in range(3):
        assert fnn.function(x, x * 2.0)(X).shape == (40, 3)
    for made in ([x * 2.0], (x * 2.0, ops.mean(x))):
        f = fnn.function([x], made)
        for _ in range(3):
            found = f(X)
            assert isinstance(found, list)
            np.testing.assert_array_equal(found[0], X * 2.0)
    f = fnn.function(x, {"double": x * 2.0, "mean": ops.mean(x, axis=-1)})
    for _ in range(3):
        found = f(X)
        assert list(found) == ["double", "mean"]
        close(found["mean"], X.mean(-1))


@pytest.mark.parametrize("n", [1, 5, 300, 5000])
def test_independent_rows_are_predictions(n):
    model = network()
    x = fnn.Input(3)
    f = fnn.function(x, model(x))
    rows = RNG.normal(size=(n, 3)).astype(np.float32)
    for given in (rows, rows, rows, rows.astype(np.float64), np.asfortranarray(rows)):
        np.testing.assert_array_equal(f(given), model.predict(given))


def test_rows_that_depend_on_each_other_are_one_batch():
    """More rows than a network computes at a time."""
    x = fnn.Input(3)
    rows = RNG.normal(size=(1000, 3)).astype(np.float32)
    for make, expected in [
        (lambda x: x - ops.mean(x, axis=0), rows - rows.mean(0)),
        (lambda x: ops.cumsum(x, axis=0), rows.cumsum(0)),
        (lambda x: ops.flip(x, axis=0), rows[::-1]),
        (lambda x: ops.take(x, [0, 0, 0, 0], axis=0), rows[[0, 0, 0, 0]]),
        (lambda x: ops.sum(x) * x, rows.sum() * rows),
        (lambda x: x / ops.norm(x), rows / np.linalg.norm(rows)),
        (lambda x: ops.gradients(ops.mean(ops.square(x)), x), 2.0 * rows / rows.size),
    ]:
        f = fnn.function(x, make(x))
        assert not f._traits.by_row
        for _ in range(3):
            close(f(rows), expected, 2e-4)


@pytest.mark.parametrize(
    "make",
    [
        lambda x: ops.square(x) + 1.0,
        lambda x: ops.sum(x, axis=-1),
        lambda x: ops.cumsum(x, axis=-1),
        lambda x: ops.flip(x, axis=1),
        lambda x: x[:, 1:] * 2.0,
        lambda x: ops.reshape(x, (-1, 3, 1)),
        lambda x: ops.softmax(x),
        lambda x: ops.gradients(ops.sum(ops.square(x)), x),
        lambda x: ops.take(x, [2, 0], axis=1),
        lambda x: ops.take(x, np.array([[2, 0, -1]]), axis=1),
        lambda x: ops.pad(x, [(0, 0), (1, 2)]),
        lambda x: ops.concatenate([x, x], axis=-1),
    ],
)
def test_rows_that_are_independent(make):
    x = fnn.Input(3)
    f = fnn.function(x, make(x))
    assert f._traits.by_row
    whole = f(X)
    np.testing.assert_array_equal(np.concatenate([f(X[i : i + 1]) for i in range(len(X))]), whole)
    net = f.freeze()
    out = np.empty_like(whole)
    fnp.predict(net, X, out)
    np.testing.assert_array_equal(out, whole)


def test_weights_are_those_of_the_models():
    model = network()
    x, t = fnn.Input(3), fnn.Input(2)
    f, predict = fnn.function([x, t], ops.mean(ops.square(model(x) - t))), fnn.function(x, model(x))
    model.compile("sgd", "mse")
    for _ in range(4):
        close(f(X, T), model.evaluate(X, T)["loss"])
        np.testing.assert_array_equal(predict(X), model.predict(X))
        model.train_on_batch(X, T)
    model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
    np.testing.assert_array_equal(predict(X), np.zeros((40, 2)))


def test_weights_and_gradients_as_outputs():
    model = network()
    x, t = fnn.Input(3), fnn.Input(2)
    dense = fnn.Dense(2, use_bias=False)
    y = dense(x)
    f = fnn.function([x, t], [dense.kernel, ops.gradients(ops.mean(ops.square(y - t)), dense.kernel)], seed=1)
    kernel, gradient = f(X, T)
    np.testing.assert_array_equal(kernel, f.get_weights()[0])
    close(gradient, 2.0 * X.T @ (X @ kernel - T) / T.size)
    f.set_weights([np.ones((3, 2))])
    np.testing.assert_array_equal(f(X, T)[0], np.ones((3, 2)))
    assert model.count_params() == network().count_params()


def test_training_drops_and_uses_the_batch_but_changes_nothing():
    model = fnn.Sequential([fnn.Input(3), fnn.BatchNorm(momentum=0.5), fnn.Dropout(0.5)], seed=0)
    x = fnn.Input(3)
    f, g = (fnn.function(x, model(x), training=training, seed=1) for training in (True, False))
    before = model.get_weights()
    first, second = f(X), f(X)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert ((first == 0) != (second == 0)).any()
    assert 0.3 < (first == 0).mean() < 0.7
    normal = (X - X.mean(0)) / np.sqrt(X.var(0) + 1e-3)
    kept = first != 0
    close(first[kept], 2.0 * normal[kept], 1e-4)
    close(g(X), X / np.sqrt(1.0 + 1e-3))


def test_random_numbers_are_new_in_each_call_and_follow_the_seed():
    x = fnn.Input(3)

    def make(seed):
        return fnn.function(x, x + ops.random_normal(x.whole), seed=seed)

    f, g, h = make(1), make(1), make(2)
    first = [f(X) for _ in range(4)]
    assert all((one != other).any() for one, other in itertools.pairwise(first))
    for one in first:
        np.testing.assert_array_equal(one, g(X))
    assert (h(X) != first[0]).any()


def test_float64():
    model = network(dtype="float64")
    x = fnn.Input(3)
    f = fnn.function(x, [model(x), ops.mean(x)])
    rows = RNG.normal(size=(9, 3))
    found, mean = f(rows)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, model.predict(rows))
    np.testing.assert_allclose(mean, rows.mean(), rtol=1e-14)
    with pytest.raises(ValueError, match="has the dtype float64, expected float32"):
        fnn.function(x, model(x), dtype="float32")


def test_integers_as_inputs():
    a = fnn.Input((), dtype="int64", name="a")
    q = fnn.Input(4, name="q")
    f = fnn.function([q, a], ops.sum(q * ops.one_hot(a, 4), axis=-1))
    rows, actions = RNG.normal(size=(6, 4)).astype(np.float32), RNG.integers(0, 4, 6)
    for _ in range(3):
        np.testing.assert_array_equal(f(rows, actions), rows[np.arange(6), actions])
    with pytest.raises(TypeError, match="takes integers, got float32"):
        f(rows, rows[:, 0])


def test_frozen_in_compiled_code():
    model = network()
    x = fnn.Input(3)
    y = model(x)
    f = fnn.function(x, [ops.softmax(y), ops.sum(ops.square(y), axis=-1, keepdims=True)])
    net = f.freeze(gradients=True)

    @numba.njit
    def run(net, rows, p, s):
        for i in range(len(rows)):
            fnp.predict(net, rows[i], (p[i], s[i]))

    p, s = np.empty((40, 2), np.float32), np.empty((40, 1), np.float32)
    run(net, X, p, s)
    one, other = f(X)
    close(p, one)
    close(s, other)


def test_what_cannot_be_frozen():
    x = fnn.Input(3)
    for made, why in [
        (ops.mean(x), "rows depend on one row"),
        (x - ops.mean(x, axis=0), "rows depend on one row"),
        (ops.argmax(x, axis=-1), "integers"),
        (x + ops.random_normal((3,)), "random numbers"),
    ]:
        with pytest.raises(ValueError, match=f"freeze: 'function' cannot be called from compiled code.*{why}"):
            fnn.function(x, made).freeze()
    with pytest.raises(ValueError, match="training=True"):
        fnn.function(x, x * 2.0, training=True).freeze()
    with pytest.raises(TypeError, match=r"fastnn\.train_function"):
        fnn.function(x, x * 2.0).learner()


@pytest.mark.parametrize("way", ["file", "pickle", "copy"])
def test_saved_and_loaded(tmp_path, way):
    model = network()
    x, t = fnn.Input(3, name="x"), fnn.Input(2, name="t")
    y = fnn.Dense(2)(model(x))
    f = fnn.function([x, t], {"y": y, "loss": ops.mean(ops.square(y - t))}, seed=3)
    if way == "file":
        f.save(tmp_path / "f.safetensors")
        g = fnn.load(tmp_path / "f.safetensors")
    else:
        g = pickle.loads(pickle.dumps(f)) if way == "pickle" else copy.deepcopy(f)
    assert type(g) is type(f)
    for one, other in zip(f(X, T).values(), g(X, T).values(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert list(g(X, T)) == ["y", "loss"]
    g.get_layer("net").set_weights([np.zeros_like(weight) for weight in model.get_weights()])
    assert g(X, T)["loss"] != f(X, T)["loss"]


def test_misuse():
    x, t = fnn.Input(3, name="x"), fnn.Input(2, name="t")
    model = network()
    for call, error, match in [
        (lambda: fnn.function([x], model(x) + t), ValueError, "depend on the input 't'"),
        (lambda: fnn.function([], x), TypeError, "inputs: expected results of fastnn.Input"),
        (lambda: fnn.function(model(x), x), ValueError, "come from fastnn.Input"),
        (lambda: fnn.function(x, []), TypeError, "outputs: expected symbols"),
        (lambda: fnn.function(x, 3.0), TypeError, "outputs: expected symbols"),
        (lambda: fnn.function(x, {1: x}), TypeError, "expected texts as names"),
        (lambda: fnn.function(x, x, training=1), TypeError, "training"),
        (lambda: fnn.function(x, x, dtype="float16"), ValueError, "dtype"),
        (lambda: fnn.function(x, x)(), TypeError, r"takes 1 array\(s\) \(x\), got 0"),
        (lambda: fnn.function(x, x)(X, T), TypeError, "got 2"),
        (lambda: fnn.function([x, t], model(x) + t)(X, T[:3]), ValueError, "numbers of rows differ"),
        (lambda: fnn.function(x, x)(T), ValueError, r"expects shape \(n, 3\), got \(40, 2\)"),
        (lambda: fnn.function(x, x)("rows"), TypeError, "expected numbers"),
        (lambda: fnn.function(x, x)(X[:0]), ValueError, "at least one row"),
    ]:
        with pytest.raises(error, match=match):
            call()


def test_summary_and_program():
    model, x = network(), fnn.Input(3)
    f = fnn.function(x, [model(x), ops.mean(model(x))])
    assert str(f.program).startswith("program 'predict'")
    assert repr(f) == "<Function 'function': 52 parameters, float32>"


def test_nan_propagates():
    x = fnn.Input(3)
    f = fnn.function(x, [x * 2.0, ops.sum(x, axis=0)])
    rows = X.copy()
    rows[3, 1] = np.nan
    double, sums = f(rows)
    assert np.isnan(double).sum() == 1
    np.testing.assert_array_equal(np.isnan(sums), [False, True, False])
