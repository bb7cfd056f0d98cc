"""Runs of training: callbacks, display, errors that name the row, resumption."""

import contextlib
import copy
import gc
import pickle
import weakref

import numpy as np
import pytest

import fastnn as fnn
from fastnn.training.shuffle import Shuffler
from trained import TARGET, X, Y, assert_same_weights, classifier, regressor

# --- callbacks in a real training ---------------------------------------------------------------------------------


def test_early_stopping_ends_and_restores():
    model = regressor(optimizer=fnn.SGD(0.2))
    stopping = fnn.EarlyStopping("loss", patience=2, min_delta=1e-3)
    seen = []
    record = fnn.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(model.get_weights()))
    history = model.fit(X, TARGET, epochs=500, callbacks=[stopping, record], verbose=0)
    assert 3 < len(history.epoch) < 500
    assert stopping.best_epoch == len(history.epoch) - 3
    for one, other in zip(model.get_weights(), seen[stopping.best_epoch], strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_learning_rate_follows_its_callbacks():
    model = regressor(optimizer=fnn.SGD(0.1))
    plateau = fnn.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=10.0)
    history = model.fit(X, TARGET, epochs=4, callbacks=plateau, verbose=0).history
    assert history["learning_rate"] == [0.1, 0.1, 0.05, 0.025]
    assert model.optimizer.learning_rate == pytest.approx(0.0125)
    scheduler = fnn.LearningRateScheduler(lambda epoch, rate: rate / 2)
    history = model.fit(X, TARGET, epochs=2, callbacks=scheduler, verbose=0).history
    assert history["learning_rate"] == pytest.approx([0.00625, 0.003125])


def test_hooks_are_called_in_order():
    calls = []
    hooks = {name: (lambda *_, name=name: calls.append(name)) for name in fnn.callbacks.base.HOOKS}
    classifier().fit(X, Y, batch_size=25, validation_split=0.2, callbacks=[fnn.LambdaCallback(**hooks)], verbose=0)
    batch = ["on_train_batch_begin", "on_train_batch_end"]
    assert calls == ["on_train_begin", "on_epoch_begin", *batch, *batch, "on_test_begin", "on_test_end",
                     "on_epoch_end", "on_train_end"]  # fmt: skip


@pytest.mark.parametrize("every_batch", [False, True])
def test_batch_hooks_see_the_loss_so_far(every_batch):
    seen = []
    callback = fnn.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append((batch, logs["loss"])),
                                  every_batch=every_batch)  # fmt: skip
    model = classifier()
    history = model.fit(X, Y, batch_size=10, epochs=2, callbacks=[callback], verbose=0)
    last = [loss for batch, loss in seen if batch == 4]
    assert last == history.history["loss"]
    if every_batch:
        assert [batch for batch, _ in seen] == [0, 1, 2, 3, 4] * 2
    assert_same_weights(model, trained_without_callbacks())


def trained_without_callbacks() -> fnn.Model:
    model = classifier()
    model.fit(X, Y, batch_size=10, epochs=2, verbose=0)
    return model


def test_csv_and_checkpoints(tmp_path):
    model = classifier()
    callbacks = [
        fnn.ModelCheckpoint(tmp_path / "{epoch:02d}-{val_loss:.3f}.safetensors"),
        fnn.CSVLogger(tmp_path / "log.csv"),
    ]
    history = model.fit(X, Y, epochs=3, validation_split=0.2, callbacks=callbacks, verbose=0)
    names = [f"{epoch + 1:02d}-{loss:.3f}.safetensors" for epoch, loss in enumerate(history.history["val_loss"])]
    assert sorted(path.name for path in tmp_path.glob("*.safetensors")) == names
    assert_same_weights(fnn.load(tmp_path / names[-1]), model)
    lines = (tmp_path / "log.csv").read_text().splitlines()
    assert lines[0].split(",") == ["epoch", *history.history]
    values = np.array([[float(value) for value in line.split(",")] for line in lines[1:]])
    np.testing.assert_array_equal(values[:, 1:].T, list(history.history.values()))


def test_stopping_on_nan():
    model = regressor(optimizer=fnn.SGD(1e25))
    with pytest.warns(RuntimeWarning, match="became NaN or infinite"):
        history = model.fit(X, TARGET, epochs=50, callbacks=[fnn.TerminateOnNaN()], verbose=0)
    assert len(history.epoch) < 5


def test_verbose_shows_every_epoch(capsys):
    classifier().fit(X, Y, epochs=2, verbose=2)
    out, err = capsys.readouterr()
    assert out.count("Epoch ") == 2 and "accuracy" in out and not err
    classifier().fit(X, Y, epochs=2, verbose=1)
    out, err = capsys.readouterr()
    assert "accuracy" in err and not out
    classifier().fit(X, Y, epochs=2, verbose=0)
    assert capsys.readouterr() == ("", "")


def test_a_model_is_trained_by_one_at_a_time():
    model = classifier()
    callback = fnn.LambdaCallback(on_epoch_end=lambda epoch, logs: model.fit(X, Y, verbose=0))
    with pytest.raises(RuntimeError, match="being trained already"):
        model.fit(X, Y, callbacks=[callback], verbose=0)
    model.fit(X, Y, verbose=0)


# --- bad data -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shuffle", [True, False])
def test_a_bad_row_is_named_and_the_weights_stay_those_before_its_step(value, dtype, shuffle):
    bad = X.astype(dtype)
    bad[33, 2] = value
    model, clean = classifier(), classifier()
    with pytest.raises(ValueError, match=r"row 33 .*NaN"):
        model.fit(bad, Y, batch_size=8, epochs=1, shuffle=shuffle, verbose=0)
    rows = np.arange(50) if not shuffle else Shuffler(50, True).next(clean._runtime)
    before = rows.tolist().index(33) // 8
    for start in range(0, 8 * before, 8):
        part = rows[start : start + 8]
        clean.train_on_batch(X[part], Y[part])
    assert model.step == before
    assert_same_weights(model, clean)
    if before:
        assert model.history.partial["loss"] > 0
    with pytest.raises(ValueError, match="row 33 "):
        model.train_on_batch(bad, Y)
    assert_same_weights(model, clean)
    # predictions return whatever the arithmetic gives
    assert np.isnan(model.predict(bad)[33]).any()
    assert np.isfinite(np.delete(model.predict(bad), 33, axis=0)).all()


def test_a_bad_row_of_a_strided_input_is_named():
    wide = np.zeros((50, 8))
    wide[:, ::2] = X
    wide[17, 4] = np.nan
    with pytest.raises(ValueError, match="row 17 "):
        classifier().fit(wide[:, ::2], Y, verbose=0)


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (np.where(np.arange(50) == 7, 3, Y), "row 7"),
        (np.where(np.arange(50) == 7, -1, Y), "row 7"),
        (Y[:49], "50 rows"),
        (Y + 0.5, "labels"),
        (np.eye(3)[Y] * 2, "row 0"),
        (np.full((50, 3), np.nan), "row 0"),
    ],
)
def test_bad_targets_are_named_before_anything_runs(y, words):
    model = classifier()
    before = model.get_weights()
    for method in (model.fit, model.evaluate, model.train_on_batch, model.gradients):
        with pytest.raises((ValueError, TypeError), match=words):
            method(X, y)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert model.step == 0


def test_a_diverging_loss_is_reported_with_its_step_where_fit_was_called():
    steps = regressor(optimizer=fnn.SGD(1e12))
    losses = []
    with pytest.warns(RuntimeWarning):
        while not losses or np.isfinite(losses[-1]):
            losses.append(steps.train_on_batch(X, TARGET)["loss"])
    assert len(losses) > 1
    model = regressor(optimizer=fnn.SGD(1e12))
    with pytest.warns(RuntimeWarning, match=f"training step {len(losses)};") as caught:
        model.fit(X, TARGET, batch_size=50, epochs=10, shuffle=False, verbose=0)
    assert len(caught) == 1
    assert caught[0].filename == __file__


@pytest.mark.parametrize("quick", [True, False])
def test_a_loss_of_a_batch_that_is_not_finite_is_reported_once_until_it_is_finite_again(quick):
    model = regressor(optimizer=fnn.SGD(0.0))
    x, y = (X, TARGET) if quick else ([X], TARGET)
    weights = model.get_weights()
    for _ in range(2):
        model.set_weights([np.full_like(weight, 1e30) for weight in weights])
        with pytest.warns(RuntimeWarning, match=f"training step {model.step + 1};") as caught:
            for _ in range(3):
                assert not np.isfinite(model.train_on_batch(x, y)["loss"])
        assert len(caught) == 1 and caught[0].filename == __file__
        model.set_weights(weights)
        assert np.isfinite(model.train_on_batch(x, y)["loss"])


class Watching(fnn.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.predict(X)


@pytest.mark.parametrize(
    ("make", "held"),
    [
        (lambda model: fnn.EarlyStopping("loss", patience=3), True),
        (lambda model: fnn.ReduceLROnPlateau("loss"), True),
        (lambda model: Watching(), True),
        # holds the model itself, as long as it lives
        (lambda model: fnn.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(step=model.step)), False),
    ],
    ids=["stopping", "rates", "own", "closure"],
)
@pytest.mark.parametrize("interrupted", [False, True])
def test_a_trained_model_is_freed_at_once(make, held, interrupted):
    def stop(epoch, logs):
        if interrupted and epoch == 1:
            raise KeyboardInterrupt

    gc.collect()
    gc.disable()
    try:
        model = classifier()
        callbacks = [fnn.LambdaCallback(on_epoch_begin=stop), make(model)]
        with contextlib.suppress(KeyboardInterrupt):
            model.fit(X, Y, epochs=2, verbose=0, validation_split=0.2, callbacks=callbacks)
        model.predict(X)
        here = weakref.ref(model)
        if not held:
            del callbacks
        del model
        assert here() is None
    finally:
        gc.enable()


def test_callbacks_can_be_copied_and_know_their_model():
    model, stopping = classifier(), fnn.EarlyStopping("loss")
    assert stopping.model is None
    model.fit(X, Y, verbose=0, callbacks=stopping)
    assert stopping.model is model
    for twin in (copy.deepcopy(stopping), pickle.loads(pickle.dumps(stopping))):
        assert twin.model is None and twin.best == stopping.best


def test_what_cannot_be_trained_is_said_before_anything_runs():
    model = regressor(fnn.Dense(3, "step", name="neuron"), fnn.Dense(2))
    with pytest.raises(ValueError, match=r"neuron.*step.*no gradient"):
        model.fit(X, TARGET, verbose=0)
    assert model.step == 0
    model.get_layer("neuron").trainable = False
    model.fit(X, TARGET, verbose=0)
    assert set(np.unique(fnn.Sequential([fnn.Input(4), fnn.Dense(3, "step")]).predict(X))) <= {0.0, 1.0}


def test_resuming_needs_the_same_training():
    model = classifier()
    with pytest.raises(ValueError, match="no training to continue"):
        model.fit(X, Y, resume=True, verbose=0)
    model.fit(X, Y, batch_size=10, verbose=0)
    others = ((X[:40], Y[:40], {"batch_size": 10}), (X, Y, {}), (X, Y, {"batch_size": 10, "shuffle": False}))
    for x, y, options in others:
        with pytest.raises(ValueError, match="the interrupted training had"):
            model.fit(x, y, resume=True, verbose=0, **options)
    with pytest.raises(ValueError, match=r"had the callbacks \[\], now there are \['EarlyStopping'\]"):
        model.fit(X, Y, batch_size=10, resume=True, callbacks=[fnn.EarlyStopping("loss")], verbose=0)
