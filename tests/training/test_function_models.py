"""Models with losses and metrics of symbols: files, learners, quick steps, many models, what is shown."""

import pickle

import numpy as np
import pytest

import fastnn as fnn
import fastnn.nopython as fnp
from fastnn import losses, ops
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
)


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


def test_no_learner_of_pairs():
    with pytest.raises(
        NotImplementedError, match="learner: a loss or a layer computes with all pairs of a batch's rows"
    ):
        build(contrastive).learner(targets="labels")


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
