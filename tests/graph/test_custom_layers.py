"""Layers from user-defined functions of arrays."""

import copy
import math
import pickle

import numpy as np
import pytest
from numba import njit

import fastnn as fnn
from fastnn import nopython as fnp
from fastnn.layers import Custom, RowFunction
from fastnn.testing import check_op

RNG = np.random.default_rng(4)


def radial(x, w, y):
    """Bumps around the rows of w."""
    for unit in range(len(y)):
        square = 0.0
        for i in range(len(x)):
            square += (x[i] - w[unit, i]) ** 2
        y[unit] = math.exp(-square)


@njit
def radial_gradient(x, w, dy, dx, dw):
    for unit in range(len(dy)):
        square = 0.0
        for i in range(len(x)):
            square += (x[i] - w[unit, i]) ** 2
        slope = 2.0 * dy[unit] * math.exp(-square)
        for i in range(len(x)):
            step = slope * (x[i] - w[unit, i])
            dx[i] -= step
            dw[unit, i] += step


def maxout(x, y):
    for unit in range(len(y)):
        y[unit] = max(x[2 * unit], x[2 * unit + 1])


def ordered(x, y):
    y[:] = np.sort(x)


def wrong_gradient(x, w, dy, dx, dw):
    radial_gradient(x, w, dy, dx, dw)
    dw[1, 2] *= 1.01


def build(layer, dtype="float32", shape=(3,)):
    model = fnn.Sequential([fnn.Input(shape), layer, fnn.Dense(2)], dtype=dtype, seed=2)
    model.compile("adam", "mse")
    return model


def bumps(**more):
    return Custom(radial, 6, weight_shape=(6, 3), **more)


def weights_of(model):
    return model._runtime.parameters.tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_and_gradients(dtype):
    x, y = RNG.normal(size=(11, 3)).astype(dtype), RNG.normal(size=(11, 2)).astype(dtype)
    given, without = build(bumps(gradient=radial_gradient), dtype), build(bumps(), dtype)
    w, v, b = given.get_weights()
    assert w.shape == (6, 3)
    distances = ((x[:, None, :].astype(np.float64) - w) ** 2).sum(axis=-1)
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    for model in (given, without):
        np.testing.assert_allclose(model.predict(x), np.exp(-distances) @ v + b, rtol=tolerance, atol=tolerance)
        out = np.empty((11, 2), dtype)
        fnp.predict(model.freeze(), x, out)
        assert out.tobytes() == model.predict(x).tobytes()
    for one, other in zip(given.gradients(x, y), without.gradients(x, y), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4 if dtype == "float32" else 1e-8, atol=1e-6)
    learner = pickle.loads(pickle.dumps(given.learner()))
    for n in (1, 5, 11):
        assert fnp.train_step(learner, x[:n], y[:n]) == given.train_on_batch(x[:n], y[:n])["loss"]
        assert learner.parameters.tobytes() == weights_of(given)


def test_sequences_and_shared_layers():
    x = fnn.Input((4, 3))
    with pytest.raises(ValueError, match=r"cannot compile.*'radial' is plain Python"):
        Custom(lambda x, w, y: radial(x, w, y), 3, weight_shape=(3, 3))
    layer = Custom(radial, 3, weight_shape=(3, 3), gradient=radial_gradient)
    model = fnn.Model(x, fnn.Dense(1)(layer(layer(x))), dtype="float64", seed=0)
    model.compile("sgd", "mse")
    rows, y = RNG.normal(size=(5, 4, 3)), RNG.normal(size=(5, 4, 1))
    w = model.get_weights()[0]
    (found, *_) = model.gradients(rows, y)
    for index in np.ndindex(w.shape):
        losses = []
        for sign in (-1, 1):
            moved = [each.copy() for each in model.get_weights()]
            moved[0][index] += sign * 1e-6
            other = copy.deepcopy(model)
            other.set_weights(moved)
            losses.append(other.evaluate(rows, y)["loss"])
        assert found[index] == pytest.approx((losses[1] - losses[0]) / 2e-6, rel=1e-5, abs=1e-8)


def test_derivatives_are_checked():
    assert check_op(bumps(gradient=radial_gradient), shape=3, low=-1, high=1).error < 1e-8
    assert check_op(bumps(), shape=3, low=-1, high=1).error < 1e-8
    assert check_op(Custom(maxout, 3), shape=6).error < 1e-8
    assert check_op(Custom(ordered, 5), shape=5).error < 1e-8
    with pytest.raises(AssertionError, match=r"at weight custom/w\[5\]"):
        check_op(bumps(gradient=wrong_gradient), shape=3, low=-1, high=1)


def test_files_copies_and_pickles(tmp_path):
    x, y = RNG.normal(size=(20, 3)), RNG.normal(size=(20, 2))
    model = build(bumps(gradient=radial_gradient))
    model.fit(x, y, epochs=2, verbose=0)
    path = tmp_path / "m.safetensors"
    model.save(path)
    with pytest.raises(fnn.ModelFileError, match=r"the user-defined function 'radial'.*custom_objects"):
        fnn.load(path)
    loaded = fnn.load(path, custom_objects={"radial": RowFunction(radial, radial_gradient)})
    others = [loaded, copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    for one in (model, *others):
        one.fit(x, y, epochs=1, verbose=0)
    assert {weights_of(one) for one in others} == {weights_of(model)}
    assert fnn.load(path, custom_objects={"radial": radial}).predict(x).shape == (20, 2)


def polar(x, radius, direction):
    """The length of x, and x divided by it."""
    square = 0.0
    for number in x:
        square += number * number
    radius[0] = math.sqrt(square)
    for i in range(len(x)):
        direction[i] = x[i] / radius[0]


def polar_gradient(x, d_radius, d_direction, dx):
    square = along = 0.0
    for i in range(len(x)):
        square += x[i] * x[i]
        along += x[i] * d_direction[i]
    for i in range(len(x)):
        dx[i] = (x[i] * d_radius[0] + d_direction[i] - x[i] * along / square) / math.sqrt(square)


def stretched(x, w, y, total, rest):
    for i in range(len(x)):
        y[i] = w[i] * x[i]
    total[:] = y.sum()
    rest[0] = x[0] * w[-1]
    rest[1] = w[0]


def stretched_gradient(x, w, dy, d_total, d_rest, dx, dw):
    for i in range(len(x)):
        dx[i] = w[i] * (dy[i] + d_total.sum())
        dw[i] += x[i] * (dy[i] + d_total.sum())
    dx[0] += d_rest[0] * w[-1]
    dw[-1] += d_rest[0] * x[0]
    dw[0] += d_rest[1]


@pytest.mark.parametrize("gradient", [polar_gradient, None])
def test_several_outputs(gradient):
    x = fnn.Input((4, 3))
    y = Custom(polar, (1, 3), gradient=gradient)(x)
    assert isinstance(y, tuple) and [each.shape for each in y] == [(4, 1), (4, 3)]
    rows = RNG.normal(size=(6, 4, 3))
    length = np.sqrt((rows**2).sum(axis=-1, keepdims=True))
    values = [length, rows / length]
    targets = [RNG.normal(size=each.shape) for each in values]
    slopes = [2.0 * (value - target) / value.size for value, target in zip(values, targets, strict=True)]
    of_each = [
        rows / length * slopes[0],
        (slopes[1] - rows * (rows * slopes[1]).sum(-1, keepdims=True) / length**2) / length,
    ]
    # both outputs, and each alone
    for used in ([0, 1], [0], [1]):
        model = fnn.Model(x, [y[i] for i in used], dtype="float64")
        model.compile("sgd", ["mse"] * len(used))
        given = [targets[i] for i in used]
        found = model.predict(rows) if len(used) > 1 else [model.predict(rows)]
        for one, i in zip(found, used, strict=True):
            np.testing.assert_allclose(one, values[i], rtol=1e-12)
        expected = sum(of_each[i] for i in used)
        np.testing.assert_allclose(model.input_gradients(rows, given), expected, rtol=1e-8, atol=1e-11)


def test_several_outputs_and_weights(tmp_path):
    layer = Custom(stretched, (3, 1, 2), stretched_gradient, weight_shape=3)
    assert check_op(layer, shape=3).error < 1e-8
    assert check_op(Custom(stretched, (3, 1, 2), weight_shape=3), shape=3).error < 1e-8
    assert check_op(Custom(polar, [1, 3], polar_gradient), shape=(2, 3)).error < 1e-7
    assert check_op(Custom(maxout, (3,)), shape=6).error < 1e-8
    x = fnn.Input(3)
    y, total, rest = layer(x)
    (alone,) = Custom(ordered, (6,))(fnn.Concatenate()([y, total, rest]))
    model = fnn.Model(x, fnn.Dense(2)(alone), seed=0)
    model.compile("adam", "mse")
    rows, targets = RNG.normal(size=(20, 3)).astype(np.float32), RNG.normal(size=(20, 2)).astype(np.float32)
    # the gradients of all outputs are joined, not added
    assert "place-" not in str(model.program)
    learner = pickle.loads(pickle.dumps(model.learner()))
    for n in (1, 7, 20):
        assert fnp.train_step(learner, rows[:n], targets[:n]) == model.train_on_batch(rows[:n], targets[:n])["loss"]
        assert learner.parameters.tobytes() == weights_of(model)
    out = np.empty((20, 2), np.float32)
    fnp.predict(model.freeze(), rows, out)
    assert out.tobytes() == model.predict(rows).tobytes()
    model.save(tmp_path / "model")
    functions = {"stretched": RowFunction(stretched, stretched_gradient), "ordered": ordered}
    loaded = fnn.load(tmp_path / "model", custom_objects=functions)
    assert loaded.train_on_batch(rows, targets) == model.train_on_batch(rows, targets)
    assert weights_of(loaded) == weights_of(model)


def test_the_same_function_with_other_outputs_is_another_one():
    def filled(x, first, second):
        first[:] = 1.0
        second[:] = 2.0

    x = fnn.Input(2)
    for sizes in ((2, 3), (4, 1)):
        found = fnn.Model(x, list(Custom(filled, sizes)(x))).predict(np.zeros((1, 2)))
        assert [each.tolist() for each in found] == [[[1.0] * sizes[0]], [[2.0] * sizes[1]]]


def past_the_end(x, y):
    for unit in range(len(y)):
        y[unit] = x[unit]
    if x[0] > 5.0:
        y[1000] = 1.0


def test_an_index_out_of_bounds_ends_the_program():
    model = build(Custom(past_the_end, 3))
    x, y = np.ones((40, 3), np.float32), np.ones((40, 2), np.float32)
    model.train_on_batch(x, y)
    before = weights_of(model)
    x[7, 0] = 6.0
    for call in (
        lambda: model.predict(x),
        lambda: model.train_on_batch(x, y),
        lambda: model.fit(x, y, batch_size=40, verbose=0),
    ):
        with pytest.raises(RuntimeError, match="the function 'past_the_end'"):
            call()
    with pytest.raises(RuntimeError, match="a user-defined function"):
        fnp.predict(model.freeze(), x, np.empty((40, 2), np.float32))
    assert weights_of(model) == before
    model.predict(np.ones((40, 3), np.float32))


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: Custom(lambda x, y: None, 3), ValueError, "does not set 3 of the 3 numbers of y"),
        (lambda: Custom(lambda x, a, b: a.fill(0.0), (1, 2)), ValueError, "does not set 2 of the 2 numbers of y1"),
        (lambda: Custom(polar, (1, 2)), ValueError, "fails for x of 3 and y0 of 1 and y1 of 2 numbers: index 2 is out"),
        (lambda: Custom(maxout, (1, 2)), TypeError, r"expected a function of \(x, y0, y1\)"),
        (lambda: Custom(polar, (1, 3), maxout), TypeError, r"gradient: expected a function of \(x, dy0, dy1, dx\)"),
        (lambda: Custom(polar, (1, 0)), ValueError, r"units\[1\]: expected an integer >= 1, got 0"),
        (lambda: Custom(polar, ()), TypeError, "units: expected an integer, got ()"),
        (lambda: Custom(lambda x, y: y.fill(x[7]), 3), ValueError, "index 7 is out of bounds"),
        (lambda: Custom(ordered, 4), ValueError, "fails for x of 3 and y of 4 numbers"),
        (lambda: Custom(lambda x, y: x.fill(1.0), 3), ValueError, "read-only"),
        (lambda: Custom(lambda x, w, y: w.fill(1.0), 3, weight_shape=3), ValueError, "read-only"),
        (lambda: Custom(lambda x: None, 3), TypeError, r"of \(x, y\)"),
        (lambda: Custom(radial, 3), TypeError, r"of \(x, y\)"),
        (lambda: Custom(ordered, 3, weight_shape=3), TypeError, r"of \(x, w, y\)"),
        (lambda: Custom(ordered, 3, gradient=radial_gradient), TypeError, r"gradient.*of \(x, dy, dx\)"),
        (lambda: Custom(ordered, 0), ValueError, "units"),
        (lambda: Custom(radial, 3, weight_shape=(0, 3)), ValueError, "weight_shape"),
        (lambda: Custom(3, 3), TypeError, "njit"),
        (lambda: Custom(RowFunction(ordered), 3, gradient=ordered), TypeError, "already has one"),
    ],
)
def test_misuse(make, error, match):
    with pytest.raises(error, match=match):
        build(make())


def partly(x, y):
    for unit in range(len(y)):
        if x[unit] > 0.0:
            y[unit] = x[unit]


def test_what_is_not_filled_is_zero():
    x = RNG.normal(size=(30, 3)).astype(np.float32)
    model = fnn.Sequential([fnn.Input(3), Custom(partly, 3)])
    for rows in (np.ones((30, 3), np.float32), x):
        np.testing.assert_array_equal(model.predict(rows), np.maximum(rows, 0.0))


def test_representation():
    assert repr(bumps()) == "Custom(function=radial, units=6, weight_shape=(6, 3))"
