"""Sums over many rows, at large offsets, and of squares that overflow float32: statistics, gradients, norms."""

import numpy as np
import pytest

import fastnn as fnn
from fastnn.formulas import custom
from making import Case
from running import run_cpu

RNG = np.random.default_rng(0)
EPS = 2.0**-23
OFFSETS = (0.0, 1e2, 1e4, 1e6, -1e7)
EPSILON = 1e-3


def float32(values) -> np.ndarray:
    """Round to float32, and return it as float64."""
    return np.asarray(values, np.float32).astype(np.float64)


def error(got: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest error in units of float32's eps of the largest value."""
    assert np.isfinite(got).all()
    return np.abs(got - expected).max() / np.abs(expected).max() / EPS


def statistics(x: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return x normalised, the mean and 1 / sqrt(variance + epsilon), in float64."""
    mean = x.mean(axis=axis, keepdims=True)
    rstd = 1.0 / np.sqrt(((x - mean) ** 2).mean(axis=axis, keepdims=True) + EPSILON)
    return (x - mean) * rstd, mean, rstd


def batch_norm(x: np.ndarray, parts: int = 1) -> dict[str, np.ndarray]:
    """Run batch normalisation with a momentum that sets the moving statistics to the batch's."""
    case = Case("batch_norm", dict(zip(("rows", "cols"), x.shape, strict=True)),
                params={"epsilon": EPSILON, "momentum": 0.0})  # fmt: skip
    return dict(run_cpu(case, "float32", parts, {"x": x, "moving_variance": np.ones(x.shape[1])}).outputs)


def layer_norm(x: np.ndarray) -> dict[str, np.ndarray]:
    """Run layer normalisation."""
    case = Case("layer_norm", dict(zip(("rows", "cols"), x.shape, strict=True)), params={"epsilon": EPSILON})
    return dict(run_cpu(case, "float32", 1, {"x": x}).outputs)


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("shape", [(1, 3), (8, 2), (49, 70), (63, 5), (200, 130), (30_000, 1), (9000, 3)])
def test_batch_norm_is_right_at_any_offset_and_number_of_rows(offset, shape):
    x = float32(offset + RNG.normal(size=shape))
    normal, mean, _ = statistics(x, 0)
    found = batch_norm(x)
    if len(x) > 1:
        assert error(found["y"], normal) < 4
        assert error(found["moving_variance"], x.var(axis=0)) < 8
    assert error(found["moving_mean"], mean[0]) < (4 if offset else 400)  # a mean near 0 is a difference
    for name, value in batch_norm(x, 3).items():
        assert value.tobytes() == found[name].tobytes()


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("shape", [(3, 7), (33, 64), (2, 768), (1, 30_000)])
def test_layer_norm_is_right_at_any_offset_and_length(offset, shape):
    x = float32(offset + RNG.normal(size=shape))
    normal, _, rstd = statistics(x, 1)
    found = layer_norm(x)
    assert error(found["y"], normal) < 4
    assert error(found["rstd"], rstd[:, 0]) < 4


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize(
    "op, shape",
    [
        ("batch_norm_grad", (9000, 3)),
        ("batch_norm_grad", (49, 70)),
        ("layer_norm_grad", (33, 64)),
        ("layer_norm_grad", (1, 30_000)),
        ("layer_norm_param_grad", (9000, 3)),
        ("layer_norm_param_grad", (49, 70)),
    ],
)
def test_gradients_of_norms_are_right_at_any_offset(offset, op, shape):
    axis = 0 if op == "batch_norm_grad" else 1
    x, dy = float32(offset + RNG.normal(size=shape)), float32(0.5 + RNG.normal(size=shape))
    normal, mean, rstd = statistics(x, axis)
    rstd = float32(rstd)
    optional = {"batch_norm_grad": ("dx", "dgamma", "dbeta"), "layer_norm_grad": ()}.get(op, ("dgamma", "dbeta"))
    case = Case(op, {"rows": shape[0], "cols": shape[1]}, optional=frozenset(optional))
    changed = {"x": x, "dy": dy, "mean": mean.reshape(-1), "rstd": rstd.reshape(-1)}
    found = run_cpu(case, "float32", 1, changed).outputs
    expected = {
        "dx": rstd * (dy - dy.mean(axis, keepdims=True) - normal * (dy * normal).mean(axis, keepdims=True)),
        "dgamma": (dy * normal).sum(axis=0), "dbeta": dy.sum(axis=0),
    }  # fmt: skip
    for name, value in found.items():
        assert error(value, expected[name]) < 12, name


@pytest.mark.parametrize("scale", [1e15, 1e19, 1e20, 1e30, 1e38])
def test_norms_of_numbers_whose_squares_overflow(scale):
    x = float32(scale * RNG.uniform(-1.0, 1.0, (40, 20)))
    assert error(batch_norm(x)["y"], statistics(x, 0)[0]) < 4
    assert error(layer_norm(x)["y"], statistics(x, 1)[0]) < 4


def test_norms_of_float64_whose_squares_overflow():
    x = 1e200 * RNG.uniform(-1.0, 1.0, (30, 20))
    for op, axis in (("batch_norm", 0), ("layer_norm", 1)):
        params = {"epsilon": EPSILON} | ({"momentum": 0.9} if axis == 0 else {})
        found = run_cpu(Case(op, {"rows": 30, "cols": 20}, params=params), "float64", 1, {"x": x}).outputs["y"]
        np.testing.assert_allclose(found, statistics(x / 1e200 * 1e100, axis)[0], rtol=1e-12, atol=1e-15)


def test_only_the_columns_that_overflow_are_summed_another_algorithm():
    x = float32(RNG.normal(size=(50, 70)))
    x[:, 33] *= float32(1e25)
    found = batch_norm(x)
    assert error(found["y"], statistics(x, 0)[0]) < 4
    others = np.arange(70) != 33
    assert error(found["moving_variance"][others], x.var(axis=0)[others]) < 4
    # the largest float32 replaces a variance that overflows
    assert found["moving_variance"][33] == np.finfo(np.float32).max


def normalised(x: np.ndarray, momentum: float = 0.0) -> fnn.Sequential:
    """Train a batch normalisation on one batch, which sets only its statistics."""
    model = fnn.Sequential([fnn.Input(x.shape[1]), fnn.BatchNorm(momentum=momentum)], seed=0)
    model.compile(fnn.SGD(0.0), "mse")
    model.train_on_batch(x, np.zeros(x.shape))
    return model


def test_batch_norm_of_a_constant_feature_is_zero():
    x = np.full((49, 1), 123456.7, np.float32)
    model = normalised(x)
    assert 0.0 <= model.get_weights()[3] < 1e-12
    assert abs(model.predict(x[:1])[0, 0]) < 1e-3


def test_batch_norm_statistics_of_a_large_batch():
    x = (1e4 + np.random.default_rng(0).normal(size=(200_000, 1))).astype(np.float32)
    mean, variance = normalised(x).get_weights()[2:]
    assert mean == pytest.approx(x.mean(axis=0, dtype=np.float64), rel=2 * EPS)
    assert variance == pytest.approx(x.var(axis=0, dtype=np.float64), rel=4 * EPS)


def test_batch_norm_of_large_finite_columns():
    x = np.array([[1], [-1], [2], [-2]], np.float32) * np.float32(1e20)
    assert np.abs(normalised(x).predict(x)).min() > 0.1


@pytest.mark.parametrize("inputs, units", [(1, 1), (1, 3), (4, 1), (5, 3), (40, 33)])
def test_kernel_gradient_of_a_large_batch(inputs, units):
    """With equal inputs a kernel's gradient equals that of the bias; a single sum of float32 is 0.1 % off."""
    rows = 100_000
    model = fnn.Sequential([fnn.Input(inputs), fnn.Dense(units)], seed=0)
    model.compile("sgd", "mse")
    kernel, bias = model.gradients(np.ones((rows, inputs), np.float32), np.full((rows, units), -1000.1))
    exact = 2.0 * (model.predict(np.ones((1, inputs)))[0].astype(np.float64) + 1000.1) / units
    assert bias == pytest.approx(exact, rel=1e-6)
    assert kernel == pytest.approx(np.tile(exact, (inputs, 1)), rel=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (1, 600), (3, 1), (5, 7), (40, 66)])
@pytest.mark.parametrize("form", ["NN", "NT", "TN", "TT"])
def test_errors_of_products_do_not_grow_with_their_depth(shape, form):
    m, n, k = *shape, 60_000
    a, b = np.full((m, k), 1.1, np.float32), np.full((k, n), 0.3, np.float32)
    left = np.ascontiguousarray(a.T).T if form[0] == "T" else a
    right = np.ascontiguousarray(b.T).T if form[1] == "T" else b
    exact = k * float(a[0, 0]) * float(b[0, 0])
    assert fnn.matmul(left, right) == pytest.approx(np.full((m, n), exact), rel=1e-5)


@pytest.mark.parametrize("shape", [(100_000, 1), (60_000, 7), (5000, 2100)])
def test_sums_over_many_rows(shape):
    x = np.full(shape, 1.1)
    case = Case("sum_rows", dict(zip(("rows", "cols"), shape, strict=True)))
    found = run_cpu(case, "float32", 1, {"x": x}).outputs["y"]
    assert error(found, float32(x).sum(axis=0)) < 16


def _scaled(x, w, y):
    for unit in range(len(y)):
        y[unit] = w[unit] * x[unit]


def _scaled_gradient(x, w, dy, dx, dw):
    for unit in range(len(dy)):
        dx[unit] += w[unit] * dy[unit]
        dw[unit] += x[unit] * dy[unit]


def test_gradients_of_custom_layers_of_a_large_batch():
    key = custom.make("scaled", _scaled, _scaled_gradient, shape=(2,)).key
    case = Case("row_function_grad", {"rows": 30_001, "cols": 2, "units": 2, "size": 2}, variant=key,
                optional=frozenset(("w", "dw")))  # fmt: skip
    x, dy = np.full((30_001, 2), 1.1), np.full((30_001, 2), 0.3)
    found = run_cpu(case, "float32", 1, {"x": x, "dy": dy}).outputs["dw"]
    assert error(found, (float32(x) * float32(dy)).sum(axis=0)) < 16


def test_max_norm_of_large_finite_weights():
    model = fnn.Sequential([fnn.Input(4), fnn.Dense(1, kernel_constraint=fnn.MaxNorm(1.0))], seed=0)
    model.compile(fnn.SGD(0.0), "mse")
    model.set_weights([np.full((4, 1), 1e20), np.zeros(1)])
    model.train_on_batch(np.zeros((8, 4)), np.zeros((8, 1)))
    assert model.get_weights()[0] == pytest.approx(np.full((4, 1), 0.5), rel=1e-6)


@pytest.mark.parametrize("dtype, size", [("float32", 3e38), ("float64", 1e300)])
@pytest.mark.parametrize("axes", [(1, 5000, 1), (3, 40, 7)])
def test_max_norm_of_the_largest_numbers(dtype, size, axes):
    w = size * RNG.uniform(0.5, 1.0, axes)
    case = Case("max_norm", dict(zip(("outer", "size", "inner"), axes, strict=True)), params={"limit": 2.0})
    found = run_cpu(case, dtype, 1, {"w": w}).outputs["w"]
    unit = w / size
    expected = 2.0 * unit / np.sqrt((unit**2).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(found, expected, rtol=4 * np.finfo(dtype).eps)
    np.testing.assert_allclose(fnn.MaxNorm(2.0, axis=1)(w), expected, rtol=1e-14)


@pytest.mark.parametrize("size", [1e25, 3e38])
def test_clipping_by_norm_of_large_finite_gradients(size):
    """The factor is below the smallest number of float32 for the larger of them."""
    g = float32(np.full(40_000, size))
    total = np.array([(g**2).sum()])
    case = Case("clip_by_norm", {"n": len(g)}, params={"limit": 2.0})
    found = run_cpu(case, "float32", 3, {"g": g, "total": total}).outputs["g"]
    assert found == pytest.approx(np.full(len(g), 2.0 / 200.0), rel=4 * EPS)


def one_row(*layers, shape: tuple[int, ...] = (4,)) -> fnn.Sequential:
    """Make a model of some layers."""
    model = fnn.Sequential([fnn.Input(shape), *layers], seed=0)
    model.compile(fnn.SGD(0.0), "mse")
    return model


def test_batch_norm_says_when_a_batch_of_one_row_enters_the_statistics():
    x = np.random.default_rng(0).normal(size=(33, 4)).astype(np.float32)
    with pytest.warns(RuntimeWarning, match="norm: a training batch of one row") as caught:
        one_row(fnn.BatchNorm(momentum=0.5, name="norm")).fit(x, x, batch_size=32, epochs=5, shuffle=False, verbose=0)
    assert len(caught) == 1 and caught[0].filename == __file__
    with pytest.warns(RuntimeWarning, match="one row") as caught:
        model = one_row(fnn.BatchNorm())
        for _ in range(3):
            model.train_on_batch(x[:1], x[:1])
    assert len(caught) == 1
    with pytest.warns(RuntimeWarning, match="one row"):
        fnn.train_many([one_row(fnn.BatchNorm())], x[:5], x[:5], batch_size=4, verbose=0)


def test_one_row_that_changes_no_moving_statistics_is_trained_on_in_silence():
    x = np.random.default_rng(0).normal(size=(1, 2, 4)).astype(np.float32)
    one_row(fnn.BatchNorm(), shape=(2, 4)).train_on_batch(x, x)
    for layer in (fnn.BatchNorm(trainable=False), fnn.BatchNorm(momentum=1.0), fnn.LayerNorm()):
        model = one_row(fnn.Dense(4), layer)
        model.train_on_batch(x[:, 0], x[:, 0])
    one_row(fnn.BatchNorm()).predict(x[:, 0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rms_norm_at_any_scale(dtype):
    """Squares of large rows overflow, and those of small ones underflow, where epsilon is all that is left."""
    model = fnn.Sequential([fnn.Input(2), fnn.RMSNorm(epsilon=1e-6)], dtype=dtype)
    largest = 1e30 if dtype == "float32" else 1e300
    x = np.array([[3.0, 4.0], [3e-30, 4e-30], [3.0 * largest, 4.0 * largest]], dtype)
    expected = np.array([[3.0, 4.0], [3e-27, 4e-27], [3.0, 4.0]]) / np.sqrt([[12.5], [1.0], [12.5]])
    np.testing.assert_allclose(model.predict(x), expected, rtol=1e-6)
