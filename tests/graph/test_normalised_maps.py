"""Batch normalisation of maps: its records, what joins them, and its statistics over many rows."""

import numpy as np
import pytest

import fastnn as fnn
from computed import build
from fastnn.graph.ops.elementwise import activation, elementwise
from fastnn.graph.ops.norms import batch_norm

EPS = 2.0**-23


def normalised(shape, *, training, formula="", add="", more=False, batch=3, dtype="float32"):
    """Build batch normalisation, what may be added before or after it, and an activation."""

    def make(graph, x, other, gamma, beta, mean, variance):
        y = batch_norm(
            graph, x, gamma, beta, (mean, variance), epsilon=1e-3, momentum=0.9, training=training, label="n"
        )
        if add:
            y = elementwise(graph, "add", (y, other)[:: 1 if add == "right" else -1], "a")
        mapped = activation(graph, y, formula, (), "f") if formula else y
        return [mapped, y] if more else [mapped]

    columns = shape[-1:]
    inputs = [(True, shape), (True, shape), *[(False, columns)] * 4]
    made = build(make, inputs, batch, dtype)
    rng = np.random.default_rng(0)
    values = [rng.normal(0.3, 2.0, (batch, *shape)), rng.normal(size=(batch, *shape))]
    values += [rng.uniform(0.5, 1.5, columns), rng.normal(size=columns), rng.normal(size=columns),
               rng.uniform(0.5, 2.0, columns)]  # fmt: skip
    return made, [value.astype(dtype) for value in values]


def expected(values, *, training, formula="", add=""):
    x, other, gamma, beta, mean, variance = (value.astype(np.float64) for value in values)
    rows = x.reshape(-1, x.shape[-1])
    if training:
        mean, variance = rows.mean(axis=0), rows.var(axis=0)
    y = (x - mean) / np.sqrt(variance + 1e-3) * gamma + beta + (other if add else 0.0)
    return {"": y, "relu": np.maximum(y, 0.0), "relu6": np.clip(y, 0.0, 6.0), "tanh": np.tanh(y)}[formula]


CHUNKED = ["column_moments", "batch_statistics", "normalize_columns"]


@pytest.mark.parametrize(
    ("shape", "training", "formula", "add", "records"),
    [
        ((8, 8, 5), True, "relu", "", CHUNKED),
        ((8, 8, 5), True, "relu6", "", CHUNKED),
        ((8, 8, 5), True, "tanh", "", [*CHUNKED, "activation"]),
        ((8, 8, 5), True, "relu", "left", CHUNKED),
        ((8, 8, 5), True, "relu", "right", CHUNKED),
        ((8, 8, 5), True, "", "left", CHUNKED),
        ((8, 8, 5), True, "tanh", "left", [*CHUNKED, "activation"]),
        ((8, 8, 5), False, "relu", "", ["batch_norm_inference"]),
        ((8, 8, 5), False, "relu6", "left", ["batch_norm_inference", "add", "activation"]),
        # few rows in a sample, or many columns
        ((5, 5, 3), True, "relu", "", ["batch_norm"]),
        ((7,), True, "relu6", "", ["batch_norm"]),
        ((7,), True, "relu", "left", ["batch_norm", "add", "activation"]),
        ((8, 8, 600), True, "relu", "", ["batch_norm"]),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_follows_joins_the_pass_over_the_maps(shape, training, formula, add, records, dtype):
    made, values = normalised(shape, training=training, formula=formula, add=add, dtype=dtype)
    assert [key.op for key in made.program.kernels] == records
    (got,) = made.run([value.copy() for value in values])
    tolerance = {"float32": 1e-5, "float64": 1e-13}[dtype]
    wanted = expected(values, training=training, formula=formula, add=add)
    np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance)
    for parts in (2, 3, 5):
        assert made.run([value.copy() for value in values], parts=parts)[0].tobytes() == got.tobytes()


def test_what_something_else_reads_stays():
    made, values = normalised((8, 8, 5), training=True, formula="relu", more=True)
    assert [key.op for key in made.program.kernels] == [*CHUNKED, "activation"]
    mapped, y = made.run(values)
    np.testing.assert_array_equal(mapped, np.maximum(y, 0.0))
    assert y.min() < 0.0


def test_a_sum_of_younger_maps_is_not_joined():
    """Where two normalised maps are added, the later one has the sum in its pass."""

    def make(graph, x, mean, variance):
        first, second = (
            batch_norm(graph, x, None, None, (mean, variance), epsilon=1e-3, momentum=0.9, training=True, label="n")
            for _ in range(2)
        )
        return elementwise(graph, "add", (first, second), "a")

    made = build(make, [(True, (8, 8, 2)), (False, (2,)), (False, (2,))], 3, "float32")
    assert [key.op for key in made.program.kernels] == CHUNKED * 2
    x = np.random.default_rng(1).normal(size=(3, 8, 8, 2)).astype(np.float32)
    (got,) = made.run([x, np.zeros(2), np.ones(2)])
    rows = x.reshape(-1, 2).astype(np.float64)
    np.testing.assert_allclose(got.reshape(-1, 2), 2.0 * (rows - rows.mean(0)) / np.sqrt(rows.var(0) + 1e-3), atol=1e-5)


def statistics(images):
    """Return the moving statistics after a step that sets them to the batch's."""
    model = fnn.Sequential([fnn.Input(images.shape[1:]), fnn.BatchNorm(momentum=0.0)], seed=0)
    model.compile(fnn.SGD(0.0), "mse")
    model.train_on_batch(images, np.zeros(images.shape))
    return model, *model.get_weights()[2:]


@pytest.mark.parametrize("offset", [0.0, 1e4, -1e7])
@pytest.mark.parametrize("shape", [(40, 16, 16, 3), (3, 9, 7, 70), (700, 5, 16, 1)])
def test_statistics_are_right_at_any_offset(offset, shape):
    rng = np.random.default_rng(2)
    # images of different brightness: the rows of a chunk do not have the mean of all
    images = offset + rng.normal(size=shape) + rng.normal(0.0, 3.0, size=(shape[0], 1, 1, 1))
    images = images.astype(np.float32)
    rows = images.reshape(-1, shape[-1]).astype(np.float64)
    _, mean, variance = statistics(images)
    assert np.abs(mean - rows.mean(axis=0)).max() <= 4 * EPS * max(1.0, abs(offset))
    np.testing.assert_allclose(variance, rows.var(axis=0), rtol=8 * EPS)


@pytest.mark.parametrize("scale", [1e19, 1e30, 1e38])
def test_maps_whose_squares_overflow(scale):
    images = (scale * np.random.default_rng(3).uniform(-1.0, 1.0, (5, 8, 8, 3))).astype(np.float32)
    images[..., 1] /= np.float32(scale)
    rows = images.reshape(-1, 3).astype(np.float64)
    made, values = normalised((8, 8, 3), training=True, batch=5)
    values[0], values[2], values[3] = images, np.ones(3), np.zeros(3)
    (got,) = made.run(values)
    np.testing.assert_allclose(
        got.reshape(-1, 3), (rows - rows.mean(0)) / np.sqrt(rows.var(0) + 1e-3), rtol=1e-5, atol=1e-6
    )
    _, _, variance = statistics(images)
    most = np.float64(np.finfo(np.float32).max)
    np.testing.assert_allclose(variance, np.minimum(rows.var(0), most), rtol=1e-5)


def test_maps_that_are_not_finite():
    images = np.random.default_rng(4).normal(size=(2, 8, 8, 3)).astype(np.float32)
    images[0, 2, 3, 1], images[1, 0, 0, 2] = np.nan, np.inf
    made, values = normalised((8, 8, 3), training=True, formula="relu", add="left", batch=2)
    values[0] = images
    (got,) = made.run(values)
    assert np.isfinite(got[..., 0]).all() and np.isnan(got[..., 1:]).all()
