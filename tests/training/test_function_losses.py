"""Losses and metrics that are functions of symbols: values and gradients against NumPy and central differences."""

import math

import numpy as np
import pytest

import fastnn as fnn
from fastnn import losses, ops
from fastnn import nopython as fnp
from symbol_losses import (
    BY_SAMPLE,
    CASES,
    LABELS,
    N,
    W,
    X,
    Y,
    build,
    contrastive,
    dice,
    differences,
    forward,
    mean,
    np_contrastive,
    np_dice,
    per_sample,
    rng,
    squares,
)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_values(name, dtype):
    function, y, in_numpy = CASES[name]
    model = build(function, dtype, metrics=[function])
    wanted = mean(in_numpy(y, model.predict(X).astype(np.float64)))
    logs = model.evaluate(X, y)
    assert logs["loss"] == pytest.approx(wanted, rel=1e-12 if dtype == "float64" else 2e-6)
    assert logs[function.__name__] == pytest.approx(logs["loss"], rel=1e-12 if dtype == "float64" else 2e-6)
    assert model.train_on_batch(X, y)["loss"] == pytest.approx(logs["loss"], rel=1e-12 if dtype == "float64" else 1e-6)


@pytest.mark.parametrize("name", CASES)
def test_gradients(name):
    function, y, in_numpy = CASES[name]
    model = build(function, loss_weights=0.7)
    weights = model.get_weights()
    wanted = differences(lambda w: 0.7 * mean(in_numpy(y, forward(w, X))), weights)
    for found, expected in zip(model.gradients(X, y), wanted, strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-7, atol=1e-9)
    x = X.copy()
    expected = differences(lambda w: 0.7 * mean(in_numpy(y, forward(weights, w[0]))), [x])[0]
    np.testing.assert_allclose(model.input_gradients(X, y), expected, rtol=2e-7, atol=1e-9)
    before = model.get_weights()
    model.train_on_batch(X, y)
    for new, old, gradient in zip(model.get_weights(), before, wanted, strict=True):
        np.testing.assert_allclose(new, old - 0.1 * gradient, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("normalize", ["rows", "weights"])
@pytest.mark.parametrize("name", BY_SAMPLE)
def test_sample_weights(name, normalize):
    function, y, in_numpy = CASES[name]
    model = build(losses.Function(function, normalize=normalize), weighted_metrics=[function], metrics=[function])
    weights = model.get_weights()

    def loss(w):
        return mean(in_numpy(y, forward(w, X)), W, normalize)

    logs = model.evaluate(X, y, sample_weight=W)
    assert logs["loss"] == pytest.approx(loss(weights), rel=1e-12)
    assert logs[function.__name__] == pytest.approx(mean(in_numpy(y, forward(weights, X))), rel=1e-12)
    weighted = mean(in_numpy(y, forward(weights, X)), W, "weights")
    assert logs[f"weighted_{function.__name__}"] == pytest.approx(weighted, rel=1e-12)
    for found, expected in zip(model.gradients(X, y, W), differences(loss, weights), strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-7, atol=1e-9)


@pytest.mark.parametrize("name", ["dice", "correlation"])
def test_a_single_number_takes_no_weights(name):
    function, y, _ = CASES[name]
    model = build(function)
    for call in (model.fit, model.train_on_batch, model.evaluate, model.gradients):
        with pytest.raises(ValueError, match=rf"sample_weight: the loss '{name}' is a single number for the batch"):
            call(X, y, sample_weight=W)
    model = build("mse", weighted_metrics=[function])
    with pytest.raises(ValueError, match=f"'{name}' is a single number"):
        model.evaluate(X, Y, sample_weight=W)
    assert model.step == 0


def root(y_true, y_pred):
    """The loss and its derivative are NaN or infinite for negative and zero predictions."""
    return ops.sum(ops.sqrt(y_pred) + ops.log(y_true), axis=-1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_row_of_weight_0_counts_for_nothing(dtype):
    x = np.array([[4.0], [-1.0], [0.0], [9.0]])
    y, weight = np.array([[1.0], [1.0], [1.0], [1.0]]), np.array([1.0, 0.0, 0.0, 2.0])
    layer = fnn.Dense(1, use_bias=False, kernel_initializer="ones")
    model = fnn.Sequential([fnn.Input(1), layer], dtype=dtype)
    model.compile(fnn.SGD(0.0), root)
    assert model.evaluate(x, y, sample_weight=weight)["loss"] == pytest.approx((2.0 + 2.0 * 3.0) / 4)
    (gradient,) = model.gradients(x, y, weight)
    assert gradient[0, 0] == pytest.approx((4.0 / 4.0 + 2.0 * 9.0 / 6.0) / 4)
    np.testing.assert_allclose(model.input_gradients(x, y, weight)[:, 0], [0.0625, 0.0, 0.0, 2.0 / 24])
    assert math.isnan(model.evaluate(x, y)["loss"])
    # a weight that is not 0 leaves NaN where it is
    assert math.isnan(model.gradients(x, y, np.array([1.0, 1.0, 0.0, 2.0]))[0][0, 0])


def test_class_weights():
    for y in (LABELS, LABELS.astype(np.uint8)):
        model = build(contrastive)
        chosen = {0: 3.0, 1: 0.0, 4: 0.5}
        factors = np.array([chosen.get(label, 1.0) for label in LABELS])
        before = model.evaluate(X, y, sample_weight=factors)["loss"]
        assert model.train_on_batch(X, y, class_weight=chosen)["loss"] == pytest.approx(before, rel=1e-12)
    history = build(contrastive).fit(X, LABELS, batch_size=N, verbose=0, class_weight="balanced", shuffle=False)
    factors = N / (5 * np.bincount(LABELS)[LABELS])
    model = build(contrastive)
    assert history.history["loss"][0] == pytest.approx(model.evaluate(X, LABELS, sample_weight=factors)["loss"])


@pytest.mark.parametrize("name", CASES)
def test_several_batches(name):
    """A loss of a batch counts by its rows."""
    function, y, in_numpy = CASES[name]
    model = build(function, metrics=[function])
    p = model.predict(X)
    parts = [(slice(i, i + 10)) for i in range(0, N, 10)]
    wanted = sum(mean(in_numpy(y[one], p[one])) * len(p[one]) for one in parts) / N
    logs = model.evaluate(X, y, batch_size=10)
    assert logs["loss"] == pytest.approx(wanted, rel=1e-12)
    assert logs[function.__name__] == pytest.approx(wanted, rel=1e-12)
    still = build(function, optimizer=fnn.SGD(0.0))
    history = still.fit(X, y, batch_size=10, shuffle=False, verbose=0, epochs=2, validation_data=(X, y))
    assert history.history["loss"] == pytest.approx([wanted] * 2, rel=1e-12)
    assert history.history["val_loss"][0] == pytest.approx(mean(in_numpy(y, p)), rel=1e-12)
    batches = [(X[one], y[one]) for one in parts]
    assert model.evaluate(batches)["loss"] == pytest.approx(wanted, rel=1e-12)


def test_shapes_of_targets():
    """A last axis of length 1 may be missing or too much: then y_true has the output's shape; others are kept."""
    seen = []

    def loss(y_true, y_pred):
        seen.append((y_true.shape[1:], y_pred.shape[1:]))
        return ops.mean(ops.square(y_pred), axis=-1) + 0.0 * ops.mean(y_true)

    one = fnn.Sequential([fnn.Input(4), fnn.Dense(1)])
    one.compile("sgd", loss)
    for y in (np.zeros(N), np.zeros((N, 1)), np.zeros((N, 1, 1))):
        one.evaluate(X, y)
    assert set(seen) == {((1,), (1,))}
    model = build(loss)
    for shape in ((), (1,), (3,), (2, 5)):
        seen.clear()
        model.evaluate(X, np.zeros((N, *shape)))
        assert set(seen) == {(shape, (3,))}
    seen.clear()
    flat = fnn.Sequential([fnn.Input(4), fnn.Dense(1), fnn.Reshape(())], dtype="float64")
    flat.compile(fnn.SGD(0.1), lambda t, p: ops.square(t - p), metrics=[lambda t, p: ops.absolute(t - p)])
    p, y = flat.predict(X), rng.normal(size=N)
    assert flat.evaluate(X, y) == pytest.approx(
        {"loss": ((p - y) ** 2).mean(), "<lambda>": np.abs(p - y).mean()}, rel=1e-12
    )
    assert flat.train_on_batch(X, y, sample_weight=W)["loss"] == pytest.approx((W * (p - y) ** 2).mean())


def test_labels_for_several():
    """Beside losses and metrics of labels a function gets them as numbers."""

    def confidence(y_true, y_pred):
        return ops.sum(ops.one_hot(ops.cast(y_true, "int64"), 3) * y_pred, axis=-1)

    model = fnn.Sequential([fnn.Input(4), fnn.Dense(3, activation="softmax")], dtype="float64")
    model.compile("sgd", "cross_entropy", metrics=["accuracy", confidence])
    y = LABELS % 3
    p = model.predict(X)
    wanted = {
        "loss": -np.log(p[np.arange(N), y]).mean(), "accuracy": (p.argmax(1) == y).mean(),
        "confidence": p[np.arange(N), y].mean(),
    }  # fmt: skip
    assert model.evaluate(X, y) == pytest.approx(wanted, rel=1e-10)
    model.compile("sgd", confidence, metrics=["accuracy"])
    assert model.evaluate(X, y) == pytest.approx({"loss": wanted["confidence"], "accuracy": wanted["accuracy"]})


def test_integers_that_float32_does_not_hold():
    y = np.array([0, 1 << 24, (1 << 24) + 1] + [0] * (N - 3))
    with pytest.raises(ValueError, match=r"row 2 has 16777217"):
        build(contrastive, "float32").evaluate(X, y)
    build(contrastive, "float64").evaluate(X, y)
    with pytest.raises(ValueError, match="finite"):
        build(contrastive).evaluate(X, np.where(LABELS > 3, np.nan, 0.0))


def test_several_outputs():
    x = fnn.Input(4)
    hidden = fnn.Dense(5, activation="tanh")(x)
    a, b = fnn.Dense(3, name="a")(hidden), fnn.Dense(3, name="b")(hidden)
    model = fnn.Model(x, [a, b], seed=0, dtype="float64")
    model.compile("sgd", {"a": dice, "b": contrastive}, loss_weights={"b": 0.25}, metrics={"a": [squares], "b": []})
    p, q = model.predict(X)
    logs = model.evaluate(X, [Y, LABELS])
    wanted = {
        "a_loss": np_dice(Y, p), "b_loss": np_contrastive(LABELS, q).mean(), "a_squares": ((Y - p) ** 2).mean()
    }  # fmt: skip
    wanted["loss"] = wanted["a_loss"] + 0.25 * wanted["b_loss"]
    assert logs == pytest.approx(wanted, rel=1e-12)
    model.compile("sgd", [per_sample, "mse"], loss_weights=[0.0, 1.0])
    plain = fnn.Model(x, [a, b], seed=0, dtype="float64")
    plain.compile("sgd", [None, "mse"])
    plain.set_weights(model.get_weights())
    for mine, others in zip(model.gradients(X, [Y, Y])[-2:], plain.gradients(X, [Y, Y])[-2:], strict=True):
        np.testing.assert_allclose(mine, others)


def test_rows_of_samples():
    """A loss for each time step, with a weight for each."""
    x, y = rng.normal(size=(6, 5, 4)), rng.normal(size=(6, 5, 3))
    model = fnn.Sequential([fnn.Input((5, 4)), fnn.Dense(3)], dtype="float64")
    weights = {(): rng.uniform(size=6), (5,): rng.uniform(size=(6, 5))}
    for function, axes in ((squares, (2,)), (lambda t, p: ops.sum(ops.square(t - p), axis=-1), ())):
        model.compile("sgd", function)
        p = model.predict(x)
        steps = ((y - p) ** 2).mean(axis=2) if axes else ((y - p) ** 2).sum(axis=2)
        for w in weights.values():
            spread = w if w.ndim == 2 else w[:, None] * np.ones((6, 5))
            found = model.evaluate(x, y, sample_weight=w)["loss"]
            assert found == pytest.approx((spread * steps).mean(), rel=1e-12)
            kernel = np.einsum("bti,btj->ij", x, 2.0 * (p - y) * spread[..., None]) / (90 if axes else 30)
            np.testing.assert_allclose(model.gradients(x, y, w)[0], kernel, rtol=1e-10)
    model.compile("sgd", lambda t, p: ops.sum(ops.square(t - p), axis=(1, 2)))
    model.evaluate(x, y, sample_weight=weights[()])
    with pytest.raises(ValueError, match=r"has the shape \(B,\), which weights of shape \(B, 5\) do not fit"):
        model.evaluate(x, y, sample_weight=weights[(5,)])


@pytest.mark.parametrize(
    "loss",
    [
        lambda y_true, y_pred: ops.mean(ops.cast(ops.argmax(y_pred, 1), "float") + ops.sum(y_true)),
        lambda y_true, y_pred: ops.square(ops.stop_gradient(y_pred) - y_true),
        lambda y_true, y_pred: ops.sum(y_true, axis=1) + 0.0 * ops.floor(y_pred[:, 0]),
    ],
)
def test_a_loss_without_a_gradient_is_no_loss(loss):
    model = fnn.Sequential([fnn.Input(4), fnn.Dense(3)], seed=0)
    model.compile("sgd", loss)
    x, y = np.ones((6, 4)), np.ones((6, 3))
    assert np.isfinite(model.evaluate(x, y)["loss"])
    for train in (model.fit, model.train_on_batch, lambda x, y: model.learner()):
        with pytest.raises(ValueError, match="loss does not depend on any weight that is to be trained, or only"):
            train(x, y)
    model.trainable = False
    model.train_on_batch(x, y)


def absolute(y_true, y_pred):
    return ops.mean(ops.absolute(y_true - y_pred), axis=-1)


def masked(how, loss, **options):
    """A network of sequences of at most 6 steps, data, the steps that there are, and arguments of `fit`."""
    steps = None if how == "lengths" else 6
    layers = [fnn.Masking()] if how == "masking" else []
    model = fnn.Sequential([fnn.Input((steps, 3)), *layers, fnn.GRU(4, return_sequences=True), fnn.Dense(2)], seed=0)
    model.compile(fnn.SGD(0.1), loss, **options)
    lengths = np.array([4, 6, 4, 1, 6, 2, 4, 4])
    there = np.arange(6) < lengths[:, None]
    x = np.where(there[..., None], np.random.default_rng(0).standard_normal((8, 6, 3)), 0.0)
    return model, x, there, {"lengths": lengths} if how == "lengths" else {}


@pytest.mark.parametrize("normalize", ["rows", "weights"])
@pytest.mark.parametrize("how", ["masking", "lengths"])
def test_losses_of_steps_with_masks(how, normalize):
    y, w = rng.normal(size=(8, 6, 2)), rng.uniform(0.1, 2.0, (8, 6)).astype(np.float32)
    function = losses.Function(absolute, normalize=normalize)
    model, x, there, options = masked(how, function, metrics=[absolute], weighted_metrics=[squares])
    builtin = masked(how, losses.MeanAbsoluteError(normalize=normalize))[0]
    p = model.predict(x, **options)
    wanted = np.abs(y - p).mean(axis=-1)
    for given in (None, w, w[:, 0]):
        weights = there * (1.0 if given is None else w if given.ndim == 2 else given[:, None])
        logs = model.evaluate(x, y, sample_weight=given, **options)
        total = weights.sum() if normalize == "weights" else there.sum()
        assert logs["loss"] == pytest.approx((wanted * weights).sum() / total, rel=1e-5)
        assert logs["absolute"] == pytest.approx(wanted[there].mean(), rel=1e-5)
        by_weight = (((y - p) ** 2).mean(axis=-1) * weights).sum() / weights.sum()
        assert logs["weighted_squares"] == pytest.approx(by_weight, rel=1e-5)
    # trains as the built-in loss does, and in compiled code
    for one in (model, builtin):
        one.fit(x, y, sample_weight=w, batch_size=3, epochs=2, shuffle=False, verbose=0, **options)
    np.testing.assert_allclose(model.predict(x, **options), builtin.predict(x, **options), rtol=1e-4, atol=1e-6)
    if how == "masking":
        np.testing.assert_allclose(model.gradients(x, y, w)[0], builtin.gradients(x, y, w)[0], rtol=1e-4, atol=1e-7)
        given = x.astype(np.float32), y.astype(np.float32)
        found = [fnp.train_step(each.learner(), *given, sample_weight=w) for each in (model, builtin)]
        assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_targets_of_any_shape_are_not_cut_with_lengths():
    """The targets are one number for each row of the data, which begin with no axis of steps."""
    model, x, there, options = masked("lengths", lambda t, p: ops.mean(ops.square(p - t[:, None, :]), axis=-1))
    y = rng.normal(size=(8, 2))
    wanted = ((model.predict(x, **options) - y[:, None]) ** 2).mean(axis=-1)[there].mean()
    assert model.evaluate(x, y, **options)["loss"] == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("how", ["masking", "lengths"])
@pytest.mark.parametrize(
    ("function", "said"),
    [(lambda t, p: ops.mean((t - p) ** 2), "a single number for the batch"),
     (lambda t, p: ops.mean((t - p) ** 2, axis=(1, 2)), r"of shape \(B,\)")],
)  # fmt: skip
def test_masks_need_a_value_for_each_step(how, function, said):
    y = np.zeros((8, 6, 2))
    model, x, _, options = masked(how, function)
    for call in (model.fit, model.evaluate, model.train_on_batch)[: 2 if options else 3]:
        with pytest.raises(ValueError, match=f"the loss '<lambda>' is {said}, but the output has a mask of steps"):
            call(x, y, **options)
    model = masked(how, "mse", metrics=[function])[0]
    with pytest.raises(ValueError, match=f"the metric '<lambda>' is {said}, but the output has a mask of steps"):
        model.evaluate(x, y, **options)
