"""Sample weights of time steps: a weight per row of an output, against NumPy and against one row per sample."""

import numpy as np
import pytest

import fastnn as fnn

RNG = np.random.default_rng(0)
N, STEPS, WIDTH, CLASSES = 12, 5, 3, 4
X = RNG.normal(size=(N, STEPS, WIDTH)).astype(np.float32)
Y = RNG.integers(0, CLASSES, (N, STEPS))
W = RNG.uniform(0.0, 2.0, (N, STEPS)) * (np.arange(STEPS) < RNG.integers(1, STEPS + 1, (N, 1)))
KINDS = {
    "labels": ("cross_entropy", Y),
    "one-hot": ("cross_entropy", np.eye(CLASSES)[Y]),
    "mse": ("mse", np.eye(CLASSES)[Y]),
}


def network(*shape, loss="cross_entropy", activation="softmax", dtype="float32", optimizer="sgd", **more):
    model = fnn.Sequential([fnn.Input((*shape, WIDTH)), fnn.Dense(CLASSES, activation)], seed=1, dtype=dtype)
    model.compile(optimizer, loss, **more)
    return model


def flat(values):
    """Return steps as samples."""
    return values.reshape(N * STEPS, *values.shape[2:])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradients_are_those_of_the_formula(kind, dtype):
    loss, y = KINDS[kind]
    model = network(STEPS, loss=loss, dtype=dtype)
    kernel, bias = (value.astype(np.float64) for value in model.get_weights())
    logits = X.astype(np.float64) @ kernel + bias
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    hot = np.eye(CLASSES)[Y]
    if kind == "mse":
        rows, dp = ((p - hot) ** 2).mean(-1), 2 * (p - hot) / CLASSES
        dlogits = p * (dp - (dp * p).sum(-1, keepdims=True))
    else:
        rows, dlogits = -(hot * np.log(p)).sum(-1), p - hot
    dlogits = dlogits * W[..., None] / rows.size  # Keras: the sum over all rows, divided by their number
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    assert model.evaluate(X, y, sample_weight=W)["loss"] == pytest.approx((W * rows).sum() / rows.size, rel=tolerance)
    found = model.gradients(X, y, sample_weight=W)
    expected = np.einsum("ntk,ntc->kc", X, dlogits), dlogits.sum((0, 1))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=10 * tolerance, atol=tolerance)
    # on arrays
    value = fnn.losses.get(loss)(y, p, W)
    assert value == pytest.approx((W * rows).sum() / rows.size, rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_every_call_gives_the_bits_of_one_row_per_sample(kind):
    """A step of a sequence, with its weight, is what a sample of one step is."""
    loss, y = KINDS[kind]
    metrics = ["accuracy", "cross_entropy", fnn.metrics.ConfusionMatrix(), fnn.metrics.TopKAccuracy(2)]
    metrics = metrics if loss != "mse" else ["mae", fnn.metrics.R2Score()]
    steps, samples = (
        network(*shape, loss=loss, optimizer="adam", weighted_metrics=metrics) for shape in ((STEPS,), ())
    )
    one = steps.evaluate(X, y, sample_weight=W)
    other = samples.evaluate(flat(X), flat(y), sample_weight=flat(W))
    assert one.keys() == other.keys() and len(one) > len(metrics)
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=1e-6, err_msg=name)
    for batch in range(3):
        rows = slice(4 * batch, 4 * batch + 4)
        a = steps.train_on_batch(X[rows], y[rows], sample_weight=W[rows])
        rows = slice(rows.start * STEPS, rows.stop * STEPS)
        b = samples.train_on_batch(flat(X)[rows], flat(y)[rows], sample_weight=flat(W)[rows])
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-6)
    for a, b in zip(steps.get_weights(), samples.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_fit_iterables_and_validation():
    made = [network(STEPS, weighted_metrics=["accuracy"]) for _ in range(2)]
    options = dict(epochs=2, verbose=0)
    rows = [slice(0, 5), slice(5, 10), slice(10, 12)]
    batches = [(X[part], Y[part], W[part]) for part in rows]
    a = made[0].fit(X, Y, sample_weight=W, batch_size=5, shuffle=False, validation_data=(X, Y, W), **options)
    b = made[1].fit(batches, validation_data=batches, **options)
    assert list(a.history) == list(b.history) and "val_accuracy" in a.history
    for name, values in a.history.items():
        np.testing.assert_allclose(values, b.history[name], rtol=1e-6, err_msg=name)
    for one, other in zip(made[0].get_weights(), made[1].get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    # the last epoch's validation is an evaluation
    assert a.history["val_loss"][-1] == pytest.approx(made[0].evaluate(X, Y, sample_weight=W)["loss"], rel=1e-6)
    split = network(STEPS)
    history = split.fit(X, Y, sample_weight=W, validation_split=0.25, **options).history
    assert history["val_loss"][-1] == pytest.approx(split.evaluate(X[9:], Y[9:], sample_weight=W[9:])["loss"], rel=1e-6)


def test_batches_may_have_weights_of_different_shapes():
    model = network(STEPS)
    once, each = RNG.uniform(size=4), W[4:8]
    batches = [(X[:4], Y[:4], once), (X[4:8], Y[4:8], each), (X[8:], Y[8:])]
    full = np.concatenate([np.repeat(once[:, None], STEPS, 1), each, np.ones((4, STEPS))])
    expected = model.evaluate(X, Y, sample_weight=full)["loss"]
    assert model.evaluate(batches)["loss"] == pytest.approx(expected, rel=1e-6)


def test_a_weight_per_sample_is_shared_by_its_steps():
    model, once = network(STEPS), W[:, 0]
    spread = np.repeat(once[:, None], STEPS, 1)
    for one, other in zip(
        model.gradients(X, Y, sample_weight=once), model.gradients(X, Y, sample_weight=spread), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    broadcast = np.broadcast_to(once[:, None], (N, STEPS))  # with a stride of 0
    assert model.evaluate(X, Y, sample_weight=broadcast) == model.evaluate(X, Y, sample_weight=once)


def test_weights_of_some_axes_are_shared_by_the_others():
    shape = (2, 3)
    model = fnn.Sequential([fnn.Input((*shape, 2)), fnn.Dense(1)], seed=1, dtype="float64")
    model.compile("sgd", "mse", weighted_metrics=["mae"])
    x, y, w = RNG.normal(size=(4, *shape, 2)), RNG.normal(size=(4, *shape, 1)), RNG.uniform(size=(4, 2))
    error = np.abs(model.predict(x) - y)[..., 0]
    found = model.evaluate(x, y, sample_weight=w)
    assert found["loss"] == pytest.approx((w[..., None] * error**2).mean(), rel=1e-12)
    assert found["mae"] == pytest.approx((w[..., None] * error).mean() / w.mean(), rel=1e-12)


def test_elementwise_metrics_share_a_rows_weight():
    model = fnn.Sequential([fnn.Input((STEPS, WIDTH)), fnn.Dense(2, "sigmoid")], seed=1)
    model.compile("sgd", "bce", weighted_metrics=[fnn.metrics.BinaryAccuracy()])
    y = RNG.integers(0, 2, (N, STEPS, 2)).astype(np.float32)
    right = (model.predict(X) > 0.5) == y
    expected = (W[..., None] * right).sum() / (2 * W.sum())
    assert model.evaluate(X, y, sample_weight=W)["binary_accuracy"] == pytest.approx(expected, rel=1e-6)
    assert fnn.metrics.BinaryAccuracy()(y, model.predict(X), W) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("weight", ["class", "balanced", "both"])
@pytest.mark.parametrize("kind", ["labels", "one-hot"])
def test_class_weights_of_labels_of_steps(kind, weight):
    loss, y = KINDS[kind]
    table = np.array([0.5, 2.0, 1.0, 0.25])
    if weight == "balanced":
        table = Y.size / (CLASSES * np.bincount(Y.reshape(-1), minlength=CLASSES))
    given = "balanced" if weight == "balanced" else dict(enumerate(table))
    a, b = network(STEPS, loss=loss), network(STEPS, loss=loss)
    once = RNG.uniform(size=N)
    own = once if weight == "both" else None
    factors = table[Y] * (once[:, None] if weight == "both" else 1.0)
    one = a.fit(X, y, class_weight=given, sample_weight=own, epochs=2, shuffle=False, verbose=0)
    other = b.fit(X, y, sample_weight=factors, epochs=2, shuffle=False, verbose=0)
    np.testing.assert_allclose(one.history["loss"], other.history["loss"], rtol=1e-6)
    for first, second in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-6)


def test_one_array_need_not_fit_outputs_without_targets():
    x = fnn.Input((STEPS, WIDTH), name="x")
    y, z = fnn.Dense(CLASSES, "softmax", name="y")(x), fnn.Dense(2, name="z")(fnn.Flatten()(x))
    model = fnn.Model(x, [y, z], seed=0)
    model.compile("sgd", {"y": "cross_entropy"})
    alone = network(STEPS)
    alone.set_weights(model.get_weights()[:2])
    found = model.evaluate(X, {"y": Y, "z": None}, sample_weight=W)["loss"]
    assert found == pytest.approx(alone.evaluate(X, Y, sample_weight=W)["loss"], rel=1e-6)
    model.compile("sgd", {"y": "cross_entropy", "z": "mse"})
    targets = {"y": Y, "z": np.zeros((N, 2))}
    with pytest.raises(ValueError, match=r"expected shape \(12,\) for the output 'z', got \(12, 5\)"):
        model.evaluate(X, targets, sample_weight=W)
    model.evaluate(X, targets, sample_weight={"y": W})


def test_targets_of_weight_0_are_checked_all_the_same():
    y = Y.copy()
    y[3, STEPS - 1] = -1
    masked = np.where(y < 0, 0.0, 1.0)
    with pytest.raises(ValueError, match=r"labels from 0 to 3.*row 3 has -1"):
        network(STEPS).fit(X, y, sample_weight=masked, verbose=0)


@pytest.mark.parametrize("shape", [(N, STEPS + 1), (N, STEPS, CLASSES), (N + 1, STEPS), (STEPS, N), (N, 1, STEPS), ()])
def test_weights_of_other_shapes_are_refused(shape):
    model = network(STEPS)
    for call in (model.evaluate, model.train_on_batch, model.gradients):
        with pytest.raises(ValueError, match=r"sample_weight: expected shape \(12,\) or \(12, 5\), got"):
            call(X, Y, sample_weight=np.ones(shape))
    with pytest.raises(ValueError, match=r"expected sample_weight of shape \(12,\) or \(12, 5\), got"):
        fnn.losses.CrossEntropy()(Y, model.predict(X), np.ones(shape))


@pytest.mark.parametrize("shape", [(N, 1), (N, STEPS, 1)])
def test_a_last_axis_of_one_may_be_there(shape):
    weights = RNG.uniform(size=shape)
    model = network(STEPS)
    assert model.evaluate(X, Y, sample_weight=weights) == model.evaluate(X, Y, sample_weight=weights[..., 0])
    p = model.predict(X)
    loss = fnn.losses.CrossEntropy()
    assert loss(Y, p, weights) == loss(Y, p, weights[..., 0])


def test_the_place_of_a_bad_weight_is_named():
    weights = W.copy()
    weights[7, 2] = np.nan
    with pytest.raises(ValueError, match=r"sample_weight: row 7\[2\] is nan"):
        network(STEPS).fit(X, Y, sample_weight=weights, verbose=0)
    with pytest.raises(ValueError, match=r"finite sample weights; row 7\[2\] has nan"):
        fnn.losses.MeanSquaredError()(np.eye(CLASSES)[Y], np.eye(CLASSES)[Y], weights)


def test_many_networks():
    made, alone = network(STEPS), network(STEPS)
    rows = np.arange(0, N, 2)
    fnn.train_many([made], X, Y, rows=[rows], sample_weight=W, epochs=2, batch_size=3)
    alone.fit(X[rows], Y[rows], sample_weight=W[rows], epochs=2, batch_size=3, verbose=0)
    for one, other in zip(made.get_weights(), alone.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_weighted_losses_as_metrics_count_every_row():
    model = network(STEPS, weighted_metrics=["cross_entropy"], dtype="float64")
    once, each = RNG.uniform(0.1, 1.0, size=4), 3 * W[4:8]
    full = np.concatenate([np.repeat(once[:, None], STEPS, 1), each, np.ones((4, STEPS))])
    p = model.predict(X)
    rows = -np.log(np.take_along_axis(p, Y[..., None], -1)[..., 0])
    batches = [(X[:4], Y[:4], once), (X[4:8], Y[4:8], each), (X[8:], Y[8:])]
    for found in (model.evaluate(batches), model.evaluate(X, Y, sample_weight=full)):
        assert found["cross_entropy"] == pytest.approx((full * rows).sum() / full.sum(), rel=1e-12)
