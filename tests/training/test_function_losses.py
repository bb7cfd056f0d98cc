"""Losses and metrics that are functions of symbols, against NumPy and central differences."""

import math
import pickle
from functools import partial

import numpy as np
import pytest

import fastnn as fnn
import fastnn.nopython as fnp
from fastnn import losses, metrics, ops

N = 37
rng = np.random.default_rng(5)
X = rng.normal(size=(N, 4))
Y = rng.normal(size=(N, 3))
LABELS = rng.integers(0, 5, N)
W = rng.uniform(0.1, 2.0, N)


def squares(y_true, y_pred):
    return ops.square(y_true - y_pred)


def per_sample(y_true, y_pred):
    return ops.sum(ops.exp(0.3 * y_pred) * ops.square(y_true - y_pred), axis=-1)


def dice(y_true, y_pred):
    both = ops.sum(y_true * ops.sigmoid(y_pred))
    return 1.0 - (2.0 * both + 1.0) / (ops.sum(ops.square(y_true)) + ops.sum(ops.sigmoid(y_pred)) + 1.0)


def correlation(y_true, y_pred):
    a, b = y_true - ops.mean(y_true, axis=0), y_pred - ops.mean(y_pred, axis=0)
    return 1.0 - ops.sum(a * b) / ops.sqrt(ops.sum(a * a) * ops.sum(b * b))


def contrastive(y_true, y_pred):
    """Pairs of rows of one label are to be near each other, others at least 1 apart."""
    apart = ops.sum(ops.square(y_pred[:, None] - y_pred[None, :]), axis=-1)
    same = y_true[:, None] == y_true[None, :]
    return ops.mean(ops.where(same, apart, ops.square(ops.maximum(0.0, 1.0 - ops.sqrt(apart + 1e-6)))), axis=1)


def np_sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def np_dice(t, p):
    s = np_sigmoid(p)
    return 1.0 - (2.0 * (t * s).sum() + 1.0) / ((t * t).sum() + s.sum() + 1.0)


def np_contrastive(t, p):
    total = np.zeros(len(p))
    for i in range(len(p)):
        for j in range(len(p)):
            d = ((p[i] - p[j]) ** 2).sum()
            total[i] += d if t[i] == t[j] else max(0.0, 1.0 - math.sqrt(d + 1e-6)) ** 2
    return total / len(p)


def np_correlation(t, p):
    return 1.0 - np.corrcoef((t - t.mean(0)).ravel(), (p - p.mean(0)).ravel())[0, 1]


#: function, targets, the same in NumPy: a number, or one for each sample
CASES = {
    "elements": (squares, Y, lambda t, p: ((t - p) ** 2).mean(axis=1)),
    "samples": (per_sample, Y, lambda t, p: (np.exp(0.3 * p) * (t - p) ** 2).sum(axis=1)),
    "dice": (dice, Y, np_dice),
    "correlation": (correlation, Y, np_correlation),
    "contrastive": (contrastive, LABELS, np_contrastive),
}
BY_SAMPLE = ("elements", "samples", "contrastive")


def build(loss, dtype="float64", *, optimizer=None, **options):
    model = fnn.Sequential([fnn.Input(4), fnn.Dense(5, activation="tanh"), fnn.Dense(3)], seed=1, dtype=dtype)
    model.compile(optimizer or fnn.SGD(0.1), loss, **options)
    return model


def forward(weights, x):
    k1, b1, k2, b2 = weights
    return np.tanh(x @ k1 + b1) @ k2 + b2


def differences(loss, weights, step=1e-5):
    """Central differences of a function of weights."""
    found = []
    for weight in weights:
        gradient = np.zeros_like(weight)
        for index in np.ndindex(weight.shape):
            value = weight[index]
            weight[index] = value + step
            above = loss(weights)
            weight[index] = value - step
            gradient[index] = (above - loss(weights)) / (2 * step)
            weight[index] = value
        found.append(gradient)
    return found


def mean(rows, weights=None, normalize="rows"):
    rows = np.asarray(rows)
    if weights is None or rows.ndim == 0:
        return rows.mean()
    return (rows * weights).sum() / (weights.sum() if normalize == "weights" else len(weights))


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


# --- which kind of function ---------------------------------------------------------------------------------


def helper(a, b):
    return ops.maximum(a, b)


def through_a_helper(y_true, y_pred):
    return helper(y_true - y_pred, 0.0)


def by_import(y_true, y_pred):
    from fastnn import ops as functions

    return functions.square(y_true - y_pred)


def by_attribute(y_true, y_pred):
    return fnn.ops.square(y_true - y_pred)


def with_margin(margin):
    square = ops.square
    return lambda y_true, y_pred: square(y_true - y_pred - margin)


def by_operators(y_true, y_pred):
    return (y_true - y_pred) ** 2


def by_getitem(y_true, y_pred):
    return y_true[:, 0] - y_pred[:, 0]


class Margins:
    def loss(self, y_true, y_pred):
        return y_true - y_pred


def test_kinds():
    symbols = [squares, through_a_helper, by_import, by_attribute, with_margin(0.5), by_getitem, Margins().loss,
               partial(squares)]  # fmt: skip
    for function in symbols:
        assert isinstance(losses.get(function), losses.Function), function
        assert isinstance(metrics.get(function), metrics.Function), function
    for function in (by_operators, lambda t, p: math.exp(t - p)):
        assert isinstance(losses.get(function), losses.Custom)
        assert type(metrics.get(function)) is metrics.MeanLoss
    assert losses.get(partial(squares)).name == "squares"


def test_neither_kind():
    def mixed(y_true, y_pred):
        return y_true.sum() - y_pred

    with pytest.raises(ValueError, match=r"Numba cannot compile the function 'mixed'.*no function of symbols either"):
        losses.get(mixed)
    with pytest.raises(TypeError, match=r"missing a required argument.*|y_true and y_pred"):
        losses.get(lambda y_true, y_pred, weights: ops.square(y_true - y_pred))
    with pytest.raises(TypeError, match="y_true and y_pred"):
        losses.Function(3)
    with pytest.raises(TypeError, match="name"):
        losses.Function(squares, name=3)
    with pytest.raises(TypeError, match="function of symbols"):
        losses.Function(squares)(Y, Y)
    with pytest.raises(TypeError, match="function of symbols"):
        metrics.Function(squares)(Y, Y)


def test_errors_say_where():
    def wrong(y_true, y_pred):
        return ops.add(y_true[:, :2], y_pred)

    model = build(wrong)
    with pytest.raises(ValueError, match=r"add.*\(B, 2\).*\(B, 3\)") as found:
        model.fit(X, Y, verbose=0)
    notes = "\n".join(found.value.__notes__)
    assert "test_function_losses.py" in notes and "return ops.add(y_true[:, :2], y_pred)" in notes
    assert "'wrong', with y_true of shape (B, 3) and y_pred of shape (B, 3)" in notes
    for function, error, match in (
        (lambda t, p: (ops.sum(t), ops.sum(p)), TypeError, "returned 2 results"),
        (lambda t, p: ops.sum(p, axis=0), ValueError, r"shape \(3,\), expected a single number"),
        (lambda t, p: ops.sum(p) and None, TypeError, "neither true nor false"),
        (lambda t, p: math.exp(ops.sum(p)), TypeError, "no number now"),
        (lambda t, p: np.exp(ops.sum(p)), TypeError, "ufunc|__array_ufunc__|exp"),
        (lambda t, p: ops.sum(p) if t[0, 0] > 0 else 0.0, TypeError, "use fastnn.ops.where"),
    ):
        with pytest.raises(error, match=match):
            build(losses.Function(function)).evaluate(X, Y)


# --- the model around it ------------------------------------------------------------------------------------


def test_files(tmp_path):
    path = tmp_path / "model.safetensors"
    model = build(contrastive, metrics=[dice_of_labels], optimizer=fnn.Adam(0.01))
    model.fit(X, LABELS, epochs=2, verbose=0)
    model.save(path)
    with pytest.raises(fnn.ModelFileError, match="contrastive"):
        fnn.load(path)
    given = {"contrastive": contrastive, "dice_of_labels": dice_of_labels}
    loaded = fnn.load(path, custom_objects=given)
    assert loaded.evaluate(X, LABELS) == model.evaluate(X, LABELS)
    for one in (model, loaded):
        one.fit(X, LABELS, epochs=4, initial_epoch=2, verbose=0)
    copied = pickle.loads(pickle.dumps(model))
    for a, b, c in zip(model.get_weights(), loaded.get_weights(), copied.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)
    assert copied.evaluate(X, LABELS) == model.evaluate(X, LABELS)
    # without the training no function is needed
    model.save(path, include_optimizer=False)
    np.testing.assert_array_equal(fnn.load(path).predict(X), model.predict(X))


def dice_of_labels(y_true, y_pred):
    return ops.mean(y_true) * ops.mean(y_pred)


@pytest.mark.parametrize("name", ["elements", "samples", "dice", "correlation"])
def test_learners(name):
    function, y, in_numpy = CASES[name]
    model, other = build(function, optimizer="adam"), build(function, optimizer="adam")
    learner = model.learner(metrics=True)
    for n in (N, 7, 1) if name == "elements" else (N, 9, 21):
        loss = fnp.train_step(learner, X[:n], y[:n])
        assert loss == pytest.approx(other.train_on_batch(X[:n], y[:n])["loss"], rel=1e-12)
    model.update_from(learner)
    for mine, others in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(mine, others, rtol=1e-10)
    gradients = np.zeros(fnp.parameter_count(learner))
    p = model.predict(X)
    loss = fnp.loss_and_gradients(learner, X, y, gradients, sample_weight=W)
    rows = in_numpy(y, p)
    assert loss == pytest.approx((W * rows).mean(), rel=1e-12)
    if np.ndim(rows):
        wanted = np.concatenate([each.ravel() for each in other.gradients(X, y, W)])
        np.testing.assert_allclose(gradients, wanted, rtol=1e-9, atol=1e-12)


def test_a_learner_of_labels():
    def to_centre(y_true, y_pred):
        return ops.sum(ops.square(y_pred - ops.expand_dims(y_true, -1)), axis=-1)

    model = build(to_centre)
    learner = model.learner(targets="labels")
    wanted = build(to_centre).train_on_batch(X, LABELS)["loss"]
    assert fnp.train_step(learner, X, LABELS) == pytest.approx(wanted, rel=1e-12)
    model.update_from(learner)
    assert model.step == 1


def test_quick_steps():
    """Small steps are taken by a code after the first ones, where it can: with the same results."""
    for name, (function, y, _) in CASES.items():
        one, other = build(function, "float32"), build(function, "float32")
        for _ in range(5):
            other._runtime.forget_quick()
            given = (W,) if name in BY_SAMPLE else ()
            a, b = one.train_on_batch(X, y, *given), other.train_on_batch(X, y, *given)
            assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
            assert one.train_on_batch(X[:9], y[:9])["loss"] == pytest.approx(
                other.train_on_batch(X[:9], y[:9])["loss"], rel=1e-5
            )
        if not given:
            with pytest.raises(ValueError, match="single number"):
                one.train_on_batch(X, y, W)


def test_many_models():
    models = [build(contrastive, metrics=[dice_of_labels]) for _ in range(3)]
    alone = build(contrastive, metrics=[dice_of_labels])
    history = alone.fit(X, LABELS, epochs=2, batch_size=8, verbose=0)
    found = fnn.train_many(models, X, LABELS, epochs=2, batch_size=8)
    assert found[0].history["loss"] == history.history["loss"]


def test_threads_change_nothing():
    found = []
    before = fnn.get_num_threads()
    try:
        for threads in (1, 2):
            fnn.set_num_threads(threads)
            model = build(contrastive, "float32", metrics=[dice_of_labels])
            model.fit(X, LABELS, epochs=2, batch_size=16, verbose=0)
            found.append(model.get_weights())
    finally:
        fnn.set_num_threads(before)
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_is_shown(capsys):
    model = build(contrastive, metrics=[dice_of_labels])
    assert "contrastive" in str(model.program)
    model.summary()
    model.fit(X, LABELS, verbose=2)
    assert "dice_of_labels" in capsys.readouterr().out
    assert repr(losses.Function(dice)) == "Function(dice)"
    # targets of another shape than the output's or that of labels: known once they have been seen
    odd = build(lambda t, p: ops.sum(t, axis=(1, 2, 3)) + ops.sum(p, axis=1))
    with pytest.raises(ValueError, match="axis"):
        odd.summary()
    odd.train_on_batch(X, np.zeros((N, 2, 2, 2)))
    odd.summary()


def test_random_losses():
    def noisy(y_true, y_pred):
        return ops.square(y_true - y_pred) + ops.random_normal(y_pred.shape)

    model = build(noisy, optimizer=fnn.SGD(0.0))
    found = {model.train_on_batch(X, Y)["loss"] for _ in range(4)}
    assert len(found) == 4
    again = build(noisy, optimizer=fnn.SGD(0.0))
    assert {again.train_on_batch(X, Y)["loss"] for _ in range(4)} == found
