"""Losses that are divided by the sum of the weights, against NumPy and against repeated rows."""

import copy
import pickle

import numpy as np
import pytest

import fastnn as fnn

RNG = np.random.default_rng(0)
N, STEPS, WIDTH, CLASSES = 12, 3, 4, 3
X = RNG.normal(size=(N, WIDTH)).astype(np.float32)
Y = RNG.integers(0, CLASSES, N)
W = RNG.uniform(0.0, 3.0, N) * (RNG.uniform(size=N) < 0.8)
HOT = np.eye(CLASSES)[Y]


def network(loss, *, dtype="float32", optimizer="sgd", shape=(WIDTH,), **more):
    model = fnn.Sequential([fnn.Input(shape), fnn.Dense(CLASSES, "softmax")], seed=1, dtype=dtype)
    model.compile(optimizer, loss, **more)
    return model


def by_weight(name="cross_entropy", **more):
    return type(fnn.losses.get(name))(normalize="weights", **more)


def probabilities(model, x):
    kernel, bias = (value.astype(np.float64) for value in model.get_weights())
    p = np.exp(x.astype(np.float64) @ kernel + bias)
    return p / p.sum(-1, keepdims=True)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["samples", "steps", "shared"])
@pytest.mark.parametrize("name", ["cross_entropy", "mse"])
def test_loss_and_gradients_are_those_of_the_formula(name, kind, dtype):
    shape = (N,) if kind == "samples" else (N, STEPS)
    x, y = RNG.normal(size=(*shape, WIDTH)).astype(np.float32), RNG.integers(0, CLASSES, shape)
    w = RNG.uniform(0.0, 2.0, shape if kind == "steps" else (N,)) * 5.0
    model = network(by_weight(name), dtype=dtype, shape=x.shape[1:])
    p, hot = probabilities(model, x), np.eye(CLASSES)[y]
    if name == "mse":
        rows, dp = ((p - hot) ** 2).mean(-1), 2 * (p - hot) / CLASSES
        dlogits, targets = p * (dp - (dp * p).sum(-1, keepdims=True)), hot
    else:
        rows, dlogits, targets = -np.log((p * hot).sum(-1)), p - hot, y
    full = np.broadcast_to(w[:, None], shape) if kind == "shared" else w
    expected = (full * rows).sum() / full.sum()
    dlogits = dlogits * (full / full.sum())[..., None]
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    assert by_weight(name)(targets, p, w) == pytest.approx(expected, rel=1e-12)
    for batch_size in (N, 5, 1):
        found = model.evaluate(x, targets, sample_weight=w, batch_size=batch_size)["loss"]
        assert found == pytest.approx(expected, rel=tolerance)
    flat = dlogits.reshape(-1, CLASSES)
    gradients = x.reshape(-1, WIDTH).T @ flat, flat.sum(0)
    for one, other in zip(model.gradients(x, targets, sample_weight=w), gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=10 * tolerance, atol=tolerance)
    before = model.get_weights()
    dx = model.input_gradients(x, targets, sample_weight=w)
    np.testing.assert_allclose(dx, dlogits @ before[0].T, rtol=10 * tolerance, atol=tolerance)
    assert model.train_on_batch(x, targets, sample_weight=w)["loss"] == pytest.approx(expected, rel=tolerance)
    for old, new, gradient in zip(before, model.get_weights(), gradients, strict=True):
        np.testing.assert_allclose(new, old - 0.01 * gradient, rtol=10 * tolerance, atol=tolerance)


def test_whole_weights_are_repeated_rows():
    """The weights of scikit-learn: a row of weight 3 is three rows."""
    times = RNG.integers(0, 4, N)
    x, y = np.repeat(X, times, 0), np.repeat(Y, times)
    weighted, repeated = network(by_weight(), dtype="float64"), network("cross_entropy", dtype="float64")
    for _ in range(5):
        one = weighted.train_on_batch(X, Y, sample_weight=times)["loss"]
        assert one == pytest.approx(repeated.train_on_batch(x, y)["loss"], rel=1e-12)
    for one, other in zip(weighted.get_weights(), repeated.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_only_ratios_of_weights_matter():
    a, b = (network(by_weight(), dtype="float64", weighted_metrics=["cross_entropy"]) for _ in range(2))
    options = dict(epochs=3, batch_size=5, verbose=0)
    one = a.fit(X, Y, sample_weight=W, **options)
    other = b.fit(X, Y, sample_weight=1000.0 * W, **options)
    np.testing.assert_allclose(one.history["loss"], other.history["loss"], rtol=1e-12)
    # as a weighted metric a loss has always been divided by the sum of the weights
    np.testing.assert_allclose(one.history["loss"], one.history["cross_entropy"], rtol=1e-12)
    for first, second in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-12)


def test_without_weights_nothing_changes():
    a, b = network(by_weight(), optimizer="adam"), network("cross_entropy", optimizer="adam")
    one, other = (model.fit(X, Y, epochs=2, batch_size=5, verbose=0).history for model in (a, b))
    assert one == other
    for first, second in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)


def test_an_epochs_mean_is_that_of_all_its_batches():
    """Also if batches have weights of different shapes, or none."""
    x, y = RNG.normal(size=(N, STEPS, WIDTH)).astype(np.float32), RNG.integers(0, CLASSES, (N, STEPS))
    model = network(by_weight(), shape=(STEPS, WIDTH), optimizer=fnn.SGD(0.0))
    once, each = RNG.uniform(size=4), RNG.uniform(size=(4, STEPS))
    batches = [(x[:4], y[:4], once), (x[4:8], y[4:8], each), (x[8:], y[8:])]
    full = np.concatenate([np.repeat(once[:, None], STEPS, 1), each, np.ones((4, STEPS))])
    rows = -np.log(np.take_along_axis(probabilities(model, x), y[..., None], -1)[..., 0])
    expected = (full * rows).sum() / full.sum()
    assert model.evaluate(batches)["loss"] == pytest.approx(expected, rel=1e-6)
    assert model.fit(batches, epochs=1, verbose=0).history["loss"] == pytest.approx([expected], rel=1e-6)


def test_weights_of_zero_change_nothing():
    model = network(by_weight(), weighted_metrics=["accuracy"])
    before = model.get_weights()
    assert model.train_on_batch(X, Y, sample_weight=np.zeros(N))["loss"] == 0.0
    assert model.evaluate(X, Y, sample_weight=np.zeros(N))["loss"] == 0.0
    assert by_weight()(Y, model.predict(X), np.zeros(N)) == 0.0
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_several_outputs_and_penalties():
    x = fnn.Input(WIDTH)
    a = fnn.Dense(CLASSES, "softmax", name="a", kernel_regularizer=fnn.L2(0.1))(x)
    b = fnn.Dense(1, name="b")(x)
    model = fnn.Model(x, [a, b], seed=0, dtype="float64")
    model.compile("sgd", {"a": by_weight(), "b": "mse"}, loss_weights={"a": 0.5, "b": 2.0})
    t = RNG.normal(size=(N, 1))
    p, q = model.predict(X)
    kernel = model.get_weights()[0]
    ce, se = -np.log((p * HOT).sum(-1)), ((q - t) ** 2)[:, 0]
    found = model.evaluate(X, {"a": Y, "b": t}, sample_weight=W, batch_size=5)
    assert found["a_loss"] == pytest.approx((W * ce).sum() / W.sum(), rel=1e-12)
    assert found["b_loss"] == pytest.approx((W * se).mean(), rel=1e-12)
    expected = 0.5 * found["a_loss"] + 2.0 * found["b_loss"] + 0.1 * (kernel**2).sum()
    assert found["loss"] == pytest.approx(expected, rel=1e-12)


def test_class_weights_and_user_defined_losses():
    def squares(target, prediction):
        return (target - prediction) ** 2

    custom = fnn.losses.Custom(squares, normalize="weights")
    model, other = network(custom, dtype="float64"), network(by_weight("mse"), dtype="float64")
    table = {0: 2.0, 1: 0.5, 2: 0.0}
    factors = np.array(list(table.values()))[Y]
    one = model.train_on_batch(X, HOT, class_weight=table)["loss"]
    rows = ((probabilities(network("mse", dtype="float64"), X) - HOT) ** 2).mean(-1)
    assert one == pytest.approx((factors * rows).sum() / factors.sum(), rel=1e-9)
    assert other.train_on_batch(X, HOT, sample_weight=factors)["loss"] == pytest.approx(one, rel=1e-9)
    assert pickle.loads(pickle.dumps(fnn.Huber(normalize="weights"))) == fnn.Huber(normalize="weights")
    assert copy.deepcopy(custom) == custom and copy.deepcopy(custom).normalize == "weights"


def test_models_keep_it(tmp_path):
    model = network(by_weight())
    model.save(tmp_path / "model.safetensors")
    loaded = fnn.load(tmp_path / "model.safetensors")
    found = loaded.evaluate(X, Y, sample_weight=W)["loss"]
    assert found == model.evaluate(X, Y, sample_weight=W)["loss"]
    assert found == pytest.approx(network("cross_entropy").evaluate(X, Y, sample_weight=W)["loss"] / W.mean(), rel=1e-6)
    assert by_weight() == fnn.CrossEntropy(normalize="weights") != fnn.CrossEntropy()


@pytest.mark.parametrize("make", [fnn.MeanSquaredError, fnn.Huber, fnn.CrossEntropy, fnn.BinaryCrossEntropy])
def test_other_values_are_refused(make):
    for value in ("weight", None, True, "sum"):
        with pytest.raises(ValueError, match=f"{make.__name__} normalize: expected 'rows' or 'weights', got"):
            make(normalize=value)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_weight_of_a_sample_has_the_bits_of_one_for_each_of_its_rows(dtype):
    x, y = RNG.normal(size=(N, STEPS, WIDTH)), RNG.integers(0, CLASSES, (N, STEPS))
    options = dict(dtype=dtype, optimizer="adam", shape=x.shape[1:], weighted_metrics=["cross_entropy", "accuracy"])
    one, other = network(by_weight(), **options), network(by_weight(), **options)
    spread = np.repeat(W[:, None], STEPS, 1)
    for _ in range(3):
        assert one.train_on_batch(x, y, sample_weight=W) == other.train_on_batch(x, y, sample_weight=spread)
        for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
