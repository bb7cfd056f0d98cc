"""Losses on arrays: published formulas element by element, stability, weights, targets and errors."""

import json
import math

import numpy as np
import pytest

import fastnn as fnn
from fastnn import losses
from fastnn.config import from_config, to_config
from fastnn.registry import REGISTRY

EPS = 1e-7
RNG = np.random.default_rng(0)


def clip(p):
    return min(max(p, EPS), 1.0 - EPS)


def sigmoid(p):
    return 1.0 / (1.0 + math.exp(-p))


# loss, scalar definition f(p, t), draws of predictions and of targets
ELEMENTS = {
    "mse": (losses.MeanSquaredError(), lambda p, t: (p - t) ** 2, RNG.normal, RNG.normal),
    "mae": (losses.MeanAbsoluteError(), lambda p, t: abs(p - t), RNG.normal, RNG.normal),
    "huber": (
        losses.Huber(delta=0.7),
        lambda p, t: 0.5 * (p - t) ** 2 if abs(p - t) <= 0.7 else 0.7 * abs(p - t) - 0.5 * 0.7**2,
        RNG.normal,
        RNG.normal,
    ),
    "log_cosh": (losses.LogCosh(), lambda p, t: math.log(math.cosh(p - t)), RNG.normal, RNG.normal),
    "bce": (
        losses.BinaryCrossEntropy(),
        lambda p, t: -t * math.log(clip(p)) - (1 - t) * math.log(1 - clip(p)),
        RNG.random,
        RNG.random,
    ),
    "bce_smoothed": (
        losses.BinaryCrossEntropy(label_smoothing=0.2),
        lambda p, t: -(0.8 * t + 0.1) * math.log(p) - (0.9 - 0.8 * t) * math.log(1 - p),
        RNG.random,
        RNG.random,
    ),
    "bce_logits": (
        losses.BinaryCrossEntropy(from_logits=True),
        lambda p, t: -t * math.log(sigmoid(p)) - (1 - t) * math.log(1 - sigmoid(p)),
        RNG.normal,
        RNG.random,
    ),
    "hinge": (
        losses.Hinge(),
        lambda p, t: max(0.0, 1.0 - (1 if t > 0 else -1) * p),
        RNG.normal,
        lambda size: RNG.integers(0, 2, size),
    ),
    "perceptron": (
        losses.Perceptron(),
        lambda p, t: max(0.0, -t * p),
        RNG.normal,
        lambda size: 2 * RNG.integers(0, 2, size) - 1,
    ),
    "poisson": (
        losses.Poisson(),
        lambda p, t: p - t * math.log(p + EPS),
        RNG.random,
        lambda size: RNG.poisson(2.0, size),
    ),
    "poisson_logits": (
        losses.Poisson(from_logits=True),
        lambda p, t: math.exp(p) - t * p,
        RNG.normal,
        lambda size: RNG.poisson(2.0, size),
    ),
    "kld": (
        losses.KLDivergence(),
        lambda p, t: max(t, EPS) * math.log(max(t, EPS) / max(p, EPS)),
        RNG.random,
        RNG.random,
    ),
}


@pytest.mark.parametrize("case", ELEMENTS)
@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (4, 5, 2)])
def test_elementwise(case, shape):
    loss, scalar, predictions, targets = ELEMENTS[case]
    p, t = predictions(size=shape), targets(size=shape)
    w = RNG.random(shape[0])
    elements = np.array([scalar(float(a), float(b)) for a, b in zip(p.flat, t.flat, strict=True)])
    rows = elements.reshape(shape).sum(axis=-1)
    if case != "kld":
        rows /= shape[-1]
    assert loss.row_mean == (case != "kld")
    assert loss(t, p) == pytest.approx(rows.mean(), rel=1e-9)
    weighted = sum(w[i] * rows[i].sum() for i in range(shape[0])) / rows.size
    assert loss(t, p, sample_weight=w) == pytest.approx(weighted, rel=1e-9)
    assert loss(t, p, w[:, None]) == loss(t, p, w)


@pytest.mark.parametrize("lead", [(), (3,)])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_of_labels_one_hot_and_soft_targets(lead, smoothing):
    n, c = 6, 4
    logits = RNG.normal(size=(n, *lead, c))
    p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    labels = RNG.integers(0, c, (n, *lead))
    one_hot = np.eye(c)[labels]
    soft = RNG.random((n, *lead, c))
    soft /= soft.sum(axis=-1, keepdims=True)
    loss = losses.CrossEntropy(label_smoothing=smoothing)
    from_logits = losses.CrossEntropy(from_logits=True, label_smoothing=smoothing)
    for y, t in ((labels, one_hot), (labels[..., None], one_hot), (one_hot, one_hot), (soft, soft)):
        smoothed = t * (1 - smoothing) + smoothing / c
        expected = -(smoothed * np.log(p)).sum(axis=-1).mean()
        assert loss(y, p) == pytest.approx(expected, rel=1e-12)
        assert from_logits(y, logits) == pytest.approx(expected, rel=1e-12)
    w = RNG.random(n)
    rows = -np.log(np.take_along_axis(p, labels[..., None], axis=-1))[..., 0]
    expected = (w * rows.reshape(n, -1).sum(axis=1)).sum() / rows.size
    if smoothing == 0.0:
        assert loss(labels, p, w) == pytest.approx(expected, rel=1e-12)


def test_stable_far_out():
    assert losses.BinaryCrossEntropy(from_logits=True)([1.0, 0.0], [-1000.0, 1000.0]) == 1000.0
    assert losses.CrossEntropy(from_logits=True)([0], [[-1000.0, 1000.0]]) == 2000.0
    assert losses.CrossEntropy(from_logits=True)(np.eye(2)[:1], [[0.0, -np.inf]]) == 0.0
    assert losses.Poisson(from_logits=True)([0.0, 1.0], [-1000.0, -1000.0]) == 500.0
    assert losses.Poisson(from_logits=True)([1e300], [1e3]) == np.inf
    assert losses.CrossEntropy()([0], [[0.0, 1.0]]) == pytest.approx(-math.log(EPS))
    assert losses.BinaryCrossEntropy()([1], [0.0]) == pytest.approx(-math.log(EPS))
    assert losses.LogCosh()([0.0], [1e6]) == pytest.approx(1e6 - math.log(2.0))
    assert losses.LogCosh()([0.0], [1e-9]) == pytest.approx(0.5e-18, rel=1e-12)


# The loss, target, prediction, and the values that are right: limits of the formulas.
AT_THE_ENDS = [
    (losses.BinaryCrossEntropy(from_logits=True), 1.0, np.inf, 0.0, 0.0),
    (losses.BinaryCrossEntropy(from_logits=True), 0.0, -np.inf, 0.0, 0.0),
    (losses.BinaryCrossEntropy(from_logits=True), 0.0, np.inf, np.inf, 1.0),
    (losses.BinaryCrossEntropy(from_logits=True), 1.0, -np.inf, np.inf, -1.0),
    (losses.BinaryCrossEntropy(from_logits=True), 0.5, np.inf, np.inf, 0.5),
    (losses.BinaryCrossEntropy(from_logits=True, label_smoothing=0.5), 1.0, np.inf, np.inf, 0.25),
    (losses.MeanSquaredError(), 1.0, -np.inf, np.inf, -np.inf),
    (losses.MeanAbsoluteError(), 1.0, -np.inf, np.inf, -1.0),
    (losses.Huber(0.5), 1.0, np.inf, np.inf, 0.5),
    (losses.LogCosh(), 1.0, -np.inf, np.inf, -1.0),
    (losses.Hinge(), 1.0, np.inf, 0.0, 0.0),
    (losses.Hinge(), -1.0, np.inf, np.inf, 1.0),
    (losses.Perceptron(), 1.0, np.inf, 0.0, 0.0),
    (losses.Perceptron(), -1.0, np.inf, np.inf, 1.0),
    (losses.Poisson(), 0.0, np.inf, np.inf, 1.0),
    (losses.Poisson(), 3.0, np.inf, np.inf, 1.0),
    (losses.Poisson(from_logits=True), 0.0, -np.inf, 0.0, 0.0),
    (losses.Poisson(from_logits=True), 3.0, -np.inf, np.inf, -3.0),
    (losses.Poisson(from_logits=True), 3.0, np.inf, np.inf, np.inf),
]


@pytest.mark.parametrize(("loss", "t", "p", "value", "slope"), AT_THE_ENDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_infinite_predictions(loss, t, p, value, slope, dtype):
    assert loss([t], [p]) == value
    # rates are not negative
    activation = "relu" if loss == losses.Poisson() else None
    model = fnn.Sequential([fnn.Input(1), fnn.Dense(1, activation)], dtype=dtype)
    model.compile("sgd", loss)
    model.set_weights([np.zeros((1, 1)), np.array([p])])
    assert model.evaluate(np.ones((3, 1)), np.full((3, 1), t))["loss"] == value
    assert model.gradients(np.ones((3, 1)), np.full((3, 1), t))[1][0] == pytest.approx(slope)


def test_clipped_losses_have_the_gradients_of_others():
    x, y = np.array([[300.0, 0.0], [1.0, 0.0], [-900.0, 0.0]], np.float32), np.array([1, 1, 0])
    for loss, columns, t in ((fnn.CrossEntropy, 2, y), (fnn.BinaryCrossEntropy, 1, 1 - y)):
        found = []
        for clip in (False, True):
            model = fnn.Sequential([fnn.Input(2), fnn.Dense(columns, "softmax" if columns == 2 else "sigmoid")])
            model.set_weights([np.eye(2)[:, :columns], np.zeros(columns)])
            model.compile(fnn.SGD(0.1), loss(clip=clip), metrics=[fnn.metrics.MeanLoss(loss(clip=clip))])
            logs = model.evaluate(x, t)
            assert logs["loss"] == pytest.approx(list(logs.values())[1])
            model.train_on_batch(x, t)
            found.append((logs["loss"], *model.get_weights()))
        (free, *weights), (bound, *others) = found
        assert free == pytest.approx((300 + np.log1p(np.e) + 900) / 3)
        assert bound == pytest.approx((-2 * np.log(np.finfo("float32").eps) + np.log1p(np.e)) / 3)
        assert all(np.array_equal(one, other) for one, other in zip(weights, others, strict=True))
    logits = losses.CrossEntropy(from_logits=True, clip=True)(y, x)
    assert logits == pytest.approx((-2 * np.log(np.finfo("float64").eps) + np.log1p(np.e)) / 3)
    with pytest.raises(TypeError, match="CrossEntropy clip"):
        losses.CrossEntropy(clip=1.5)


@pytest.mark.parametrize("loss", [losses.BinaryCrossEntropy(), losses.CrossEntropy(), losses.KLDivergence()])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_probabilities_of_exactly_0_and_1(loss, dtype):
    p, t = np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([[1.0, 0.0], [1.0, 0.0]])
    model = fnn.Sequential([fnn.Input(2), fnn.Flatten()], dtype=dtype)
    model.compile("sgd", loss)
    # float32 has no number closer to 1 - 1e-7 than 1.2e-7 below 1
    assert model.evaluate(p, t)["loss"] == pytest.approx(loss(t, p), rel=1e-6 if dtype == "float64" else 0.02)
    assert loss(t, p) == pytest.approx(-0.5 * math.log(EPS), abs=1e-5)
    slopes = model.input_gradients(p, t)
    assert np.isfinite(slopes).all()
    assert loss(t[1:], p[1:]) == pytest.approx(0.0, abs=2e-6)


@pytest.mark.parametrize("case", ELEMENTS)
def test_nan_predictions_reach_the_user(case):
    assert math.isnan(ELEMENTS[case][0]([1.0, 1.0], [0.5, math.nan]))
    assert math.isnan(losses.CrossEntropy()([0, 1], [[0.5, 0.5], [0.5, math.nan]]))
    assert math.isnan(losses.CrossEntropy(from_logits=True)([0, 1], [[0.5, 0.5], [math.nan, 0.0]]))


def test_a_column_may_be_missing_and_does_not_broadcast():
    t, p = RNG.normal(size=5), RNG.normal(size=5)
    expected = float(((t - p) ** 2).mean())
    for y in (t, t[:, None]):
        for z in (p, p[:, None]):
            assert losses.MeanSquaredError()(y, z) == pytest.approx(expected)


def test_kinds():
    labels = np.array([0, 2, 1], dtype=np.uint8)
    cross_entropy = losses.CrossEntropy()
    assert cross_entropy.check_targets(labels, (3,), "y") == "classes"
    assert cross_entropy.check_targets(labels[:, None], (3,), "y") == "classes"
    assert cross_entropy.check_targets(np.eye(3), (3,), "y") == "dense"
    assert cross_entropy.check_targets(np.eye(3, dtype=bool), (3,), "y") == "dense"
    assert cross_entropy.check_targets(np.zeros((2, 7), int), (7, 3), "y") == "classes"
    assert losses.BinaryCrossEntropy().check_targets(np.array([0, 1]), (1,), "y") == "dense"
    assert losses.MeanSquaredError().check_targets(np.ones((4, 2), np.float32), (2,), "y") == "dense"


Y3 = np.array([0.0, 1.0, 0.0])
BAD_TARGETS = [
    (losses.CrossEntropy(), np.array([0, 1, 3, 9]), (3,), ValueError, r"y: .*from 0 to 2.*row 2 has 3"),
    (losses.CrossEntropy(), np.array([[0], [-1]]), (3,), ValueError, "row 1 has -1"),
    (losses.CrossEntropy(), np.array([[0, 1], [1, 5]]), (2, 3), ValueError, "row 1 has 5 in column 1"),
    (losses.CrossEntropy(), Y3, (3,), TypeError, "integer class labels.*float64.*astype"),
    (losses.CrossEntropy(), np.ones((3, 4)), (3,), ValueError, r"\(n,\).*\(n, 3\).*\(3, 4\)"),
    (
        losses.CrossEntropy(),
        np.array([[0, 1], [1, 1]]),
        (2,),
        ValueError,
        "row 1 sums to 2.*binary_cross_entropy",
    ),
    (losses.CrossEntropy(), np.array([[0.5, 0.5], [1.5, -0.5]]), (2,), ValueError, "row 1 has 1.5"),
    (losses.CrossEntropy(), np.array([0, 1]), (1,), ValueError, "binary_cross_entropy"),
    (losses.BinaryCrossEntropy(), np.array([0, 1, 2]), (1,), ValueError, ">= 0 and <= 1; row 2 has 2"),
    (losses.BinaryCrossEntropy(), np.array([0, 1]), (2,), ValueError, r"\(n, 2\), got \(2,\)"),
    (losses.MeanSquaredError(), np.array([0.0, np.nan]), (1,), ValueError, "finite.*row 1 has nan"),
    (losses.MeanSquaredError(), np.array([[0.0, np.inf]]), (2,), ValueError, "row 0 has inf in column 1"),
    (losses.MeanSquaredError(), Y3, (2,), ValueError, r"\(n, 2\), got \(3,\)"),
    (losses.MeanSquaredError(), np.array(["a"]), (1,), TypeError, "real number type.*unique"),
    (losses.MeanSquaredError(), np.array([1j]), (1,), TypeError, "complex128"),
    (losses.MeanSquaredError(), [1.0], (1,), TypeError, "numpy array.*list"),
    (losses.MeanSquaredError(), np.array(1.0), (1,), ValueError, "single number"),
    (losses.Poisson(), np.array([1.0, -1.0]), (1,), ValueError, ">= 0; row 1 has -1"),
    (losses.KLDivergence(), np.array([[0.5, 1.5]]), (2,), ValueError, "row 0 has 1.5"),
    (losses.Hinge(), np.array([0, 1, 2]), (1,), ValueError, "row 2 has 2"),
    (losses.Perceptron(), np.array([1, 0]), (1,), ValueError, r"row 1 has 0"),
]


@pytest.mark.parametrize("loss, y, output_shape, error, match", BAD_TARGETS)
def test_bad_targets(loss, y, output_shape, error, match):
    with pytest.raises(error, match=match):
        loss.check_targets(y, output_shape, "y")


def test_memory_mapped_targets_are_read_in_chunks(tmp_path):
    labels = np.lib.format.open_memmap(tmp_path / "y.npy", mode="w+", dtype=np.int16, shape=(700_000,))
    labels[:] = np.arange(700_000) % 10
    assert losses.CrossEntropy().check_targets(labels, (10,), "y") == "classes"
    labels[600_001] = 10
    with pytest.raises(ValueError, match="row 600001 has 10"):
        losses.CrossEntropy().check_targets(labels, (10,), "y")
    dense = np.zeros((3, 400_000), np.float32)
    dense[2, 399_999] = np.nan
    with pytest.raises(ValueError, match="row 2 has nan in column 399999"):
        losses.MeanSquaredError().check_targets(dense, (400_000,), "y")


def test_bad_calls():
    mse, bce = losses.MeanSquaredError(), losses.BinaryCrossEntropy()
    with pytest.raises(ValueError, match=r"mean_squared_error: .*got 2 and 3"):
        mse([1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"sample_weight of shape \(2,\), got \(3,\)"):
        mse([1.0, 2.0], [1.0, 2.0], [1.0, 1.0, 1.0])
    with pytest.raises(ValueError, match="weights; row 1 has nan"):
        mse([1.0, 2.0], [1.0, 2.0], [1.0, math.nan])
    with pytest.raises(ValueError, match=r"got shape \(0,\)"):
        mse([], [])
    with pytest.raises(TypeError, match="y_pred"):
        mse([1.0], ["a"])
    with pytest.raises(TypeError, match="sample_weight"):
        mse([1.0], [1.0], ["a"])
    with pytest.raises(ValueError, match=r"probabilities.*row 1 has 3.0.*from_logits=True"):
        bce([0, 1], [0.5, 3.0])
    with pytest.raises(ValueError, match=r"predictions >= 0.*row 1 has -2.0.*logarithms of rates, pass from"):
        losses.Poisson()([0, 1], [0.5, -2.0])


def test_parameters_and_formulas():
    assert losses.Huber(2).parameters == (2.0,)
    assert losses.CrossEntropy().formula == "cross_entropy"
    assert losses.CrossEntropy(from_logits=True).formula == "cross_entropy_logits"
    assert losses.BinaryCrossEntropy(from_logits=True).formula == "binary_cross_entropy_logits"
    assert losses.Poisson().formula == "poisson"
    assert losses.Poisson(from_logits=True).formula == "poisson_logits"
    assert losses.BinaryCrossEntropy(label_smoothing=0.1).parameters == (0.1,)
    assert not losses.CrossEntropy().row_mean
    with pytest.raises(ValueError, match="delta"):
        losses.Huber(0.0)
    with pytest.raises(ValueError, match="label_smoothing"):
        losses.CrossEntropy(label_smoothing=1.5)
    with pytest.raises(TypeError, match="from_logits"):
        losses.CrossEntropy(from_logits="yes")
    with pytest.raises(TypeError, match="Poisson from_logits"):
        losses.Poisson(from_logits=1)


NAMES = {
    "mse": "MeanSquaredError",
    "mean_squared_error": "MeanSquaredError",
    "mae": "MeanAbsoluteError",
    "mean_absolute_error": "MeanAbsoluteError",
    "huber": "Huber",
    "log_cosh": "LogCosh",
    "binary_cross_entropy": "BinaryCrossEntropy",
    "binary_crossentropy": "BinaryCrossEntropy",
    "cross_entropy": "CrossEntropy",
    "categorical_crossentropy": "CrossEntropy",
    "sparse_categorical_crossentropy": "CrossEntropy",
    "hinge": "Hinge",
    "perceptron": "Perceptron",
    "poisson": "Poisson",
    "kl_divergence": "KLDivergence",
    "kld": "KLDivergence",
}


@pytest.mark.parametrize("name", NAMES)
def test_get(name):
    loss = losses.get(name)
    assert type(loss).__name__ == NAMES[name]
    assert losses.get(loss) is loss
    assert losses.get(loss.name) == loss
    config = json.loads(json.dumps(to_config(loss)))
    assert from_config(config, REGISTRY["loss"], "loss") == loss


def test_get_errors():
    with pytest.raises(ValueError, match=r"msee.*mean_squared_error.*mse"):
        losses.get("msee")
    with pytest.raises(TypeError, match="loss"):
        losses.get(None)
