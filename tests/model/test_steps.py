"""Counts of steps in `fit`, `evaluate` and `predict`, validated epochs, and class weights."""

import copy
import math

import numpy as np
import pytest

import fastnn as fnn

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 4))
Y = X.sum(axis=1, keepdims=True)
LABELS = np.arange(40) % 10 // 7  # 28 of class 0, 12 of class 1


def make(units=1, activation=None, loss="mse"):
    model = fnn.Sequential([fnn.Input(4), fnn.Dense(units, activation)], seed=0)
    model.compile("adam", loss)
    return model


def same(one, other):
    return all((a == b).all() for a, b in zip(one.get_weights(), other.get_weights(), strict=True))


# --- steps ----------------------------------------------------------------------------------------------------


def test_epochs_of_steps_go_on_where_the_last_one_stopped():
    model, stepped = make(), make()
    with pytest.warns(RuntimeWarning, match="steps_per_epoch: expected 2 batches, but the data had 1 for epoch 3"):
        history = model.fit(X, Y, batch_size=8, epochs=4, steps_per_epoch=2, shuffle=False, verbose=0)
    losses = []
    # five batches: the third epoch has what is left, the fourth starts again
    for epoch in ([0, 1], [2, 3], [4], [0, 1]):
        each = [stepped.train_on_batch(X[8 * i : 8 * i + 8], Y[8 * i : 8 * i + 8])["loss"] for i in epoch]
        losses.append(np.mean(each))
    assert same(model, stepped)
    assert history.history["loss"] == pytest.approx(losses, rel=1e-6)


def test_steps_of_a_pass_take_every_row_once():
    whole, parts = make(), make()
    whole.optimizer.learning_rate = parts.optimizer.learning_rate = 0.0
    by_pass = whole.fit(X, Y, batch_size=5, epochs=3, verbose=0).history["loss"]
    by_part = parts.fit(X, Y, batch_size=5, epochs=12, steps_per_epoch=2, verbose=0).history["loss"]
    np.testing.assert_allclose(np.reshape(by_part, (3, 4)).mean(axis=1), by_pass, rtol=1e-5)
    assert len({round(loss, 6) for loss in by_part}) > 4  # shuffled


def test_more_steps_than_batches_are_all_batches():
    model, other = make(), make()
    with pytest.warns(RuntimeWarning, match="expected 100 batches, but the data had 5"):
        model.fit(X, Y, batch_size=8, epochs=2, steps_per_epoch=100, verbose=0)
    other.fit(X, Y, batch_size=8, epochs=2, verbose=0)
    assert same(model, other)


class Interrupt(fnn.Callback):
    """Raise in the middle of an epoch, once."""

    every_batch = True

    def __init__(self, after):
        self.left = after

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("after", [1, 2, 3, 4, 5, 8, 11])
@pytest.mark.parametrize("way", ["same", "copy", "file"])
def test_epochs_of_steps_are_resumed_bit_for_bit(after, way, tmp_path):
    options = {"batch_size": 5, "epochs": 5, "steps_per_epoch": 3, "validation_freq": 2, "validation_split": 0.25,
               "initial_epoch": 1, "verbose": 0}  # fmt: skip
    whole, model = make(), make()
    expected = whole.fit(X, Y, **options).history
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y, callbacks=[Interrupt(after)], **options)
    if way == "copy":
        model = copy.deepcopy(model)
    elif way == "file":
        model.save(tmp_path / "m.safetensors")
        model = fnn.load(tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match="steps_per_epoch"):
        model.fit(X, Y, resume=True, **options | {"steps_per_epoch": 2})
    found = model.fit(X, Y, resume=True, callbacks=[Interrupt(-1)], **options).history
    assert same(model, whole)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


@pytest.mark.parametrize(
    "freq, epochs", [(1, [0, 1, 2, 3, 4]), (2, [1, 3]), ([1, 5], [0, 4]), (range(2, 4), [1, 2]), (9, [])]
)
def test_which_epochs_are_validated(freq, epochs):
    model, every = make(), make()
    history = model.fit(X, Y, epochs=5, validation_data=(X, Y), validation_freq=freq, verbose=0).history
    expected = every.fit(X, Y, epochs=5, validation_data=(X, Y), verbose=0).history["val_loss"]
    found = history.get("val_loss", [math.nan] * 5)
    assert [epoch for epoch in range(5) if not math.isnan(found[epoch])] == epochs
    assert [found[epoch] for epoch in epochs] == [expected[epoch] for epoch in epochs]
    assert same(model, every)


def test_callbacks_wait_for_the_epochs_that_are_validated(tmp_path):
    model = make()
    stop = fnn.EarlyStopping(patience=1, min_delta=100.0)
    keep = fnn.ModelCheckpoint(tmp_path / "{epoch}", save_best_only=True)
    history = model.fit(
        X, Y, epochs=9, validation_data=(X, Y), validation_freq=3, verbose=0,
        callbacks=[stop, keep, fnn.ReduceLROnPlateau(patience=1, min_delta=100.0)],
    )  # fmt: skip
    # the second validation brings no improvement by 100
    assert history.epoch == list(range(6)) and stop.stopped_epoch == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3", "6"]
    assert len(history.history["learning_rate"]) == 6


@pytest.mark.parametrize("split", [False, True])
def test_validation_steps_are_the_first_batches(split):
    model, other = make(), make()
    options = {"validation_split": 0.5} if split else {"validation_data": (X, Y)}
    rows = slice(20, 30) if split else slice(0, 10)
    history = model.fit(X[:40], Y[:40], batch_size=5, epochs=2, validation_steps=2, verbose=0, **options).history
    trained = slice(0, 20) if split else slice(0, 40)
    expected = other.fit(X[trained], Y[trained], batch_size=5, epochs=2, validation_data=(X[rows], Y[rows]), verbose=0)
    assert history["val_loss"] == expected.history["val_loss"]


def test_validation_steps_of_batches():
    def endless():
        while True:
            yield X[:8], Y[:8]

    model, other = make(), make()
    history = model.fit(X, Y, epochs=3, validation_data=endless(), validation_steps=2, verbose=0).history
    expected = other.fit(X, Y, epochs=3, validation_data=(X[:8], Y[:8]), verbose=0).history
    assert history["val_loss"] == pytest.approx(expected["val_loss"], rel=1e-6)
    with pytest.raises(ValueError, match="validation_steps"):
        model.fit(X, Y, epochs=3, validation_data=endless(), verbose=0)


def test_steps_of_predict_and_evaluate():
    model = make()
    np.testing.assert_array_equal(model.predict(X, steps=1), model.predict(X[:32]))
    np.testing.assert_array_equal(model.predict(X, batch_size=5, steps=3), model.predict(X[:15]))
    assert model.evaluate(X, Y, steps=1) == model.evaluate(X[:32], Y[:32])
    assert model.evaluate(X, Y, batch_size=5, steps=3)["loss"] == pytest.approx(model.evaluate(X[:15], Y[:15])["loss"])
    endless = (batch for _ in iter(int, 1) for batch in [(X[:8], Y[:8])])
    assert model.predict(endless, steps=3).shape == (24, 1)
    assert model.evaluate(endless, steps=3)["loss"] == pytest.approx(model.evaluate(X[:8], Y[:8])["loss"])
    for call in (lambda: model.predict(X, batch_size=20, steps=3), lambda: model.predict(iter([X, X]), steps=3)):
        with pytest.warns(RuntimeWarning, match="steps: expected 3 batches, but the data had 2"):
            assert len(call()) in (40, 80)


@pytest.mark.parametrize(
    "call, error",
    [
        (lambda m: m.predict(X, steps=0), ValueError),
        (lambda m: m.evaluate(X, Y, steps=1.5), TypeError),
        (lambda m: m.fit(X, Y, steps_per_epoch=-1, verbose=0), ValueError),
        (lambda m: m.fit(X, Y, steps_per_epoch=True, verbose=0), TypeError),
        (lambda m: m.fit(X, Y, validation_steps=0, verbose=0), ValueError),
        (lambda m: m.fit(X, Y, validation_freq=0, verbose=0), ValueError),
        (lambda m: m.fit(X, Y, validation_freq=[0], verbose=0), ValueError),
        (lambda m: m.fit(X, Y, validation_freq="2", verbose=0), TypeError),
        (lambda m: m.fit(X, Y, validation_freq=True, verbose=0), TypeError),
        (lambda m: m.fit(X, Y, validation_freq=1.5, verbose=0), TypeError),
        (lambda m: m.predict_on_batch(iter([X])), TypeError),
        (lambda m: m.test_on_batch(iter([X]), Y), TypeError),
    ],
)
def test_bad_counts_are_refused(call, error):
    model = make()
    before = model.get_weights()[0]
    with pytest.raises(error):
        call(model)
    np.testing.assert_array_equal(model.get_weights()[0], before)


def test_one_batch():
    model = make()
    weight = np.arange(40.0)
    assert model.test_on_batch(X, Y, weight) == model.evaluate(X, Y, sample_weight=weight)
    assert model.test_on_batch(X, Y, return_dict=False) == model.evaluate(X, Y)["loss"]
    np.testing.assert_array_equal(model.predict_on_batch(X), model.predict(X))


@pytest.mark.parametrize("n, share, left", [(10, 0.9, 1), (10, 0.7, 3), (100, 0.99, 1), (1000, 0.999, 1), (10, 0.1, 9),
                                            (10, 0.25, 7), (3, 1 / 3, 2), (2, 0.01, 1), (20, 0.85, 3)])  # fmt: skip
def test_rows_of_a_validation_split(n, share, left):
    seen = []
    hook = fnn.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(model._state.run["data"]["rows"]))
    model = make()
    model.fit(np.ones((n, 4)), np.ones(n), validation_split=share, callbacks=hook, verbose=0)
    assert seen == [left]


# --- weights of classes -----------------------------------------------------------------------------------------


def outputs(kind):
    """Return a model and targets of two classes."""
    if kind == "labels":
        return make(2, "softmax", "cross_entropy"), LABELS
    if kind == "one-hot":
        return make(2, "softmax", "cross_entropy"), np.eye(2)[LABELS]
    if kind == "hinge":
        return make(1, None, "hinge"), 2.0 * LABELS - 1
    return make(1, "sigmoid", "bce"), LABELS.astype(bool) if kind == "bool" else LABELS


@pytest.mark.parametrize("kind", ["labels", "one-hot", "sigmoid", "bool", "hinge"])
@pytest.mark.parametrize(
    "given, weights",
    [
        ({0: 2.0, 1: 3.0}, (2.0, 3.0)),
        ({True: 3}, (1.0, 3.0)),
        ({np.int8(1): 3, np.bool_(False): np.float32(2)}, (2.0, 3.0)),
        ("balanced", (40 / (2 * 28), 40 / (2 * 12))),
    ],
)
def test_class_weights_are_sample_weights(kind, given, weights):
    (model, y), (other, _) = outputs(kind), outputs(kind)
    more = np.linspace(0.5, 2.0, 40)
    model.fit(X, y, class_weight=given, sample_weight=more, epochs=2, verbose=0)
    other.fit(X, y, sample_weight=np.take(weights, LABELS) * more, epochs=2, verbose=0)
    assert same(model, other)


def test_balanced_weights_are_those_of_the_rows_that_are_trained_on():
    (model, y), (other, _) = outputs("labels"), outputs("labels")
    y = np.sort(y)[::-1].copy()  # the last quarter is all of class 0
    model.fit(X, y, class_weight="balanced", validation_split=0.25, verbose=0)
    weights = {0: 30 / (2 * 18), 1: 30 / (2 * 12)}
    other.fit(X[:30], y[:30], class_weight=weights, verbose=0)
    assert same(model, other)


def test_balanced_weights_count_the_classes_that_there_are():
    model, other = (make(5, "softmax", "cross_entropy") for _ in range(2))
    model.fit(X, LABELS * 3, class_weight="balanced", verbose=0)
    other.fit(X, LABELS * 3, class_weight={0: 40 / (2 * 28), 3: 40 / (2 * 12)}, verbose=0)
    assert same(model, other)


def test_balanced_weights_of_many_models():
    models = [outputs("labels")[0] for _ in range(2)]
    fnn.train_many(models, X, LABELS, rows=[np.arange(30), np.arange(10, 40)], class_weight="balanced", verbose=0)
    for model, rows in zip(models, (slice(0, 30), slice(10, 40)), strict=True):
        other = outputs("labels")[0]
        other.fit(X[rows], LABELS[rows], class_weight="balanced", verbose=0)
        assert same(model, other)


@pytest.mark.parametrize(
    "model, y",
    [
        (lambda: make(), Y),
        (lambda: make(2), np.hstack([Y, Y])),
        (lambda: make(1, "softplus", "poisson"), np.arange(40)),
        (lambda: make(1, "sigmoid", "bce"), np.full(40, 0.5)),
        (lambda: make(3, "softmax", "cross_entropy"), np.full((40, 3), 1 / 3)),
        (lambda: make(3, "sigmoid", "bce"), np.tile([1, 1, 0], (40, 1))),
        (lambda: make(3, "sigmoid", "bce"), np.zeros((40, 3))),
    ],
    ids=["numbers", "columns", "counts", "soft", "soft rows", "several labels", "no label"],
)
@pytest.mark.parametrize("given", [{0: 0.1, 1: 9.0}, "balanced"])
def test_class_weights_of_targets_that_are_no_classes_are_refused(model, y, given):
    model = model()
    before = model.get_weights()[0]
    for call in (
        lambda: model.fit(X, y, class_weight=given, verbose=0),
        lambda: model.train_on_batch(X, y, class_weight=given),
    ):
        with pytest.raises(ValueError, match=r"class_weight: needs targets that are classes.*; row \d+ is"):
            call()
    np.testing.assert_array_equal(model.get_weights()[0], before)


def test_balanced_needs_all_targets():
    with pytest.raises(ValueError, match="'balanced' needs all targets at once"):
        outputs("labels")[0].fit(iter([(X, LABELS)]), class_weight="balanced", verbose=0)
    with pytest.raises(ValueError, match="or 'balanced', got 'blanced'"):
        outputs("labels")[0].fit(X, LABELS, class_weight="blanced", verbose=0)
