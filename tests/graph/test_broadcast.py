"""Sums and products of inputs whose shapes are the ends of others."""

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nopython as fnp

RNG = np.random.default_rng(0)
SHAPES = [((4, 3), (3,)), ((3,), (4, 3)), ((2, 4, 3), (4, 3)), ((2, 4, 3), (3,)), ((5,), ()), ((4, 3), (3,), (4, 3))]


def model(layer, shapes):
    inputs = [fnn.Input(shape) for shape in shapes]
    return fnn.Model(inputs, layer()(inputs), dtype="float64")


def repeated(x, rank):
    return x.reshape(len(x), *(1,) * (rank - x.ndim), *x.shape[1:])


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize(("layer", "function"), [(fnn.Add, np.add), (fnn.Multiply, np.multiply)])
def test_values_and_gradients(layer, function, shapes):
    net = model(layer, shapes)
    net.compile("sgd", "mse")
    x = [RNG.normal(size=(7, *shape)) for shape in shapes]
    rank = 1 + max(map(len, shapes))
    y = [repeated(each, rank) for each in x]
    expected = y[0]
    for each in y[1:]:
        expected = function(expected, each)
    np.testing.assert_allclose(net.predict(x), expected, rtol=1e-14)
    target = RNG.normal(size=expected.shape)
    dy = 2.0 * (expected - target) / expected.size
    for number, (got, each) in enumerate(zip(net.input_gradients(x, target), y, strict=True)):
        others = [one for index, one in enumerate(y) if index != number]
        slope = dy if layer is fnn.Add else dy * np.prod(np.broadcast_arrays(*others, dy)[:-1], axis=0)
        axes = tuple(axis for axis in range(1, rank) if each.shape[axis] == 1 != expected.shape[axis])
        wanted = slope.sum(axis=axes).reshape(x[number].shape)
        np.testing.assert_allclose(got, wanted, rtol=1e-11, atol=1e-14)


def test_networks_that_gate_rows_freeze_and_learn():
    x = fnn.Input((5, 3))
    gate = fnn.Dense(3, "sigmoid")(fnn.Flatten()(x))
    net = fnn.Model(x, fnn.Flatten()(fnn.Multiply()([x, gate])), seed=0)
    rows, out = RNG.normal(size=(40, 5, 3)).astype(np.float32), np.empty((40, 15), np.float32)
    fnp.predict(net.freeze(), rows, out)
    np.testing.assert_array_equal(out, net.predict(rows))
    net.compile("sgd", "mse")
    learner = net.learner()
    y = RNG.normal(size=(40, 15)).astype(np.float32)
    assert fnp.train_step(learner, rows, y) == net.train_on_batch(rows, y)["loss"]


def test_other_shapes_are_refused():
    for shapes in (((4, 3), (4,)), ((4, 3), (5, 3)), ((4, 1), (4, 3))):
        with pytest.raises(ValueError, match="takes inputs of one shape, or of shapes that are the end of the longest"):
            model(fnn.Add, shapes)
