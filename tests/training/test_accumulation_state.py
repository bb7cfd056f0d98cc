"""Accumulated gradients and moving averages over calls, interruptions, files, threads, and in compiled code."""

import copy
import pickle
import threading

import numpy as np
import pytest

import fastnn as fnn
from accumulating import BOTH, KINDS, LABELS, OPTIONS, X, Y, batches, classifier, decaying, deep, linear, state_of
from fastnn import nopython as fnp
from saved import assert_same


@pytest.mark.parametrize("kind", ["adam", "nadam", "custom", "rmsprop"])
def test_fit_in_parts_is_fit_as_a_whole(kind):
    """Five batches an epoch and four to an update: sums of gradients go from one call to the next."""
    whole, parts = (classifier(KINDS[kind](gradient_accumulation_steps=4)) for _ in range(2))
    whole.fit(X, LABELS, epochs=7, **OPTIONS)
    for first, last in ((0, 1), (1, 4), (4, 7)):
        parts.fit(X, LABELS, initial_epoch=first, epochs=last, **OPTIONS)
        parts.compile(parts.optimizer, "cross_entropy")
    assert state_of(whole) == state_of(parts)


class Interrupt(fnn.Callback):
    every_batch = True

    def __init__(self, batch):
        super().__init__()
        self.left = batch

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("more", [{"gradient_accumulation_steps": 4}, {"use_ema": True}, BOTH], ids=str)
@pytest.mark.parametrize("at", [1, 4, 7, 15, 16])
def test_an_interrupted_training_is_resumed(more, at, tmp_path):
    whole, halted = (classifier(fnn.Adam(0.02, **more)) for _ in range(2))
    whole.fit(X, LABELS, epochs=4, **OPTIONS)
    with pytest.raises(KeyboardInterrupt):
        halted.fit(X, LABELS, epochs=4, callbacks=[Interrupt(at)], **OPTIONS)
    if at == 7:
        before = halted.get_weights()
        halted.finalize_variable_values()  # what is looked at in between changes nothing
        changed = any((one != two).any() for one, two in zip(before, halted.get_weights(), strict=True))
        # with accumulation no update has come since the average began
        assert changed == (more == {"use_ema": True})
    halted.save(tmp_path / "m")
    for model in (halted, fnn.load(tmp_path / "m"), copy.deepcopy(halted), pickle.loads(pickle.dumps(halted))):
        model.fit(X, LABELS, epochs=4, resume=True, callbacks=[Interrupt(0)], **OPTIONS)
        assert state_of(model) == state_of(whole)


@pytest.mark.parametrize("more", [{"gradient_accumulation_steps": 4}, {"use_ema": True}, BOTH], ids=str)
def test_a_finished_training_goes_on(more, tmp_path):
    """With more epochs and resume=True it is a longer training, although its averages were the weights meanwhile."""
    whole, first = (classifier(fnn.Adam(0.02, **more)) for _ in range(2))
    whole.fit(X, LABELS, epochs=5, **OPTIONS)
    first.fit(X, LABELS, epochs=3, **OPTIONS)
    first.finalize_variable_values()
    first.save(tmp_path / "m")
    loaded = fnn.load(tmp_path / "m")
    assert_same(first, loaded)
    for model in (first, loaded, copy.deepcopy(first)):
        model.fit(X, LABELS, epochs=3, resume=True, **OPTIONS)  # no epoch is left
        model.fit(X, LABELS, epochs=5, resume=True, **OPTIONS)
        assert state_of(model) == state_of(whole)


def test_weights_that_were_set_since_are_not_taken_back():
    model = classifier(fnn.Adam(0.02, use_ema=True))
    model.fit(X, LABELS, epochs=2, **OPTIONS)
    new = [0.5 * one for one in model.get_weights()]
    model.set_weights(new)
    model.fit(X, LABELS, epochs=2, resume=True, **OPTIONS)
    model._runtime.unaveraged = None
    twin = classifier(fnn.Adam(0.02, use_ema=True))
    twin.fit(X, LABELS, epochs=2, **OPTIONS)
    averages = twin.get_weights()
    for mine, average in zip(model.get_weights()[:4], averages[:4], strict=True):
        np.testing.assert_array_equal(mine, average)  # fit has ended, so the averages are put in again


def test_validation_and_callbacks_see_the_weights_themselves():
    model, plain = (linear(fnn.SGD(0.1, use_ema=average)) for average in (True, False))
    options = {"batch_size": 4, "epochs": 5, "verbose": 0, "validation_data": (X, Y)}
    one, two = model.fit(X, Y, **options), plain.fit(X, Y, **options)
    assert one.history == two.history
    assert model.evaluate(X, Y)["loss"] != one.history["val_loss"][-1]


def test_early_stopping_restores_what_it_has_seen():
    plain, model = (linear(fnn.SGD(0.1, use_ema=average)) for average in (False, True))
    for each in (plain, model):
        stop = fnn.EarlyStopping("loss", mode="max", patience=2)
        each.fit(X, Y, batch_size=4, epochs=9, verbose=0, callbacks=stop)
        assert stop.stopped_epoch == 2
    np.testing.assert_array_equal(model.get_weights()[0], plain.get_weights()[0])


def test_no_epochs_and_no_steps_change_nothing():
    model = linear(fnn.SGD(0.1, use_ema=True))
    before = model.get_weights()
    model.finalize_variable_values()
    model.fit(X, Y, epochs=0, verbose=0)
    model.fit(X, Y, epochs=2, initial_epoch=2, verbose=0)
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bits_do_not_depend_on_threads_or_calls(dtype):
    """On a layer that is large enough to be shared, by `fit`, by `train_on_batch` and on a thread that runs ahead."""
    optimizer = fnn.Adam(0.01, clipnorm=0.1, weight_decay=0.1, **BOTH)

    def make():
        model = fnn.Sequential([fnn.Input(3), fnn.Dense(9000, "tanh"), fnn.Dense(2)], seed=0, dtype=dtype)
        model.compile(copy.deepcopy(optimizer), "mse")
        return model

    found, before = [], fnn.get_num_threads()
    try:
        for threads in (1, 2, 3):
            fnn.set_num_threads(threads)
            model = make()
            model.fit(X, Y, batch_size=4, epochs=3, shuffle=False, verbose=0)
            found.append(state_of(model))
    finally:
        fnn.set_num_threads(before)
    by_batch = make()
    for x, y in batches(18):
        by_batch.train_on_batch(x, y)
    by_batch.finalize_variable_values()
    ahead = make()
    thread = threading.Thread(
        target=lambda: ahead.fit(X, Y, batch_size=4, epochs=3, shuffle=False, verbose=0), daemon=True
    )
    thread.start()
    thread.join(60)
    assert found == [found[0]] * 3
    assert state_of(by_batch) == state_of(ahead) == found[0]


def test_many_models():
    models = [classifier(fnn.Adam(rate, **BOTH)) for rate in (0.01, 0.02, 0.03)]
    alone = copy.deepcopy(models)
    fnn.train_many(models, X, LABELS, epochs=4, verbose=0, batch_size=5)
    for model, other in zip(models, alone, strict=True):
        other.fit(X, LABELS, epochs=4, verbose=0, batch_size=5)
        assert state_of(model) == state_of(other)


def test_models_with_other_numbers_do_not_share_programs():
    others = ({}, {"gradient_accumulation_steps": 5}, {"ema_momentum": 0.8}, {"ema_overwrite_frequency": 2})
    # all are there at a time: a program is shared as long as a model has it
    models = [linear(fnn.Adam(0.1, **{**BOTH, **more})) for more in others]
    models += [linear(fnn.Adam(0.1)), linear(fnn.Adam(0.1, use_ema=True))]
    for x, y in batches(13):
        for model in models:
            model.train_on_batch(x, y)
    found = set()
    for model in models:
        model.finalize_variable_values()
        found.add(model._runtime.parameters.tobytes())
    assert len(found) == len(models)


# --- compiled code ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["adam", "nadam", "custom", "lion"])
def test_learners_go_on_in_the_middle(kind):
    model, twin = (deep(KINDS[kind](**BOTH), "float32") for _ in range(2))
    given = [(x.astype(np.float32), y.astype(np.float32)) for x, y in batches(23)]
    for x, y in given[:5]:
        model.train_on_batch(x, y)
        twin.train_on_batch(x, y)
    twin.optimizer.learning_rate = model.optimizer.learning_rate = decaying
    learner = pickle.loads(pickle.dumps(twin.learner(steps=18)))
    gradients = np.empty(fnp.parameter_count(learner), np.float32)
    for index, (x, y) in enumerate(given[5:]):
        loss = model.train_on_batch(x, y)["loss"]
        if index % 3:
            assert fnp.train_step(learner, x, y) == loss
        else:
            assert fnp.loss_and_gradients(learner, x, y, gradients) == loss
            fnp.apply_gradients(learner, gradients)
        assert learner.parameters.tobytes() == model._runtime.parameters.tobytes(), index
    twin.update_from(learner)
    for each in (model, twin):
        each.finalize_variable_values()
        each.fit(X, Y, batch_size=4, verbose=0)
    assert state_of(model) == state_of(twin)
    x = given[0][0]
    outputs = np.empty((len(x), 2), np.float32)
    fnp.predict(twin.freeze(), x, outputs)
    np.testing.assert_array_equal(outputs, twin.predict(x))


def test_learners_of_other_numbers_are_refused():
    model = linear(fnn.Adam(0.1, **BOTH))
    for more in ({}, {**BOTH, "gradient_accumulation_steps": 5}, {**BOTH, "ema_momentum": 0.5}):
        learner = linear(fnn.Adam(0.1, **more)).learner()
        with pytest.raises(ValueError, match="another architecture, loss, optimizer"):
            model.update_from(learner)
