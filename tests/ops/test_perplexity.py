"""Perplexity: the exponential of a mean cross-entropy, alone and in models, weighted, of logits and of sequences."""

import pickle

import numpy as np
import pytest

import fastnn as fnn

RNG = np.random.default_rng(4)
N, STEPS, CLASSES = 40, 3, 6


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


LABELS = RNG.integers(0, CLASSES, N)
LOGITS = RNG.normal(size=(N, CLASSES))
WEIGHTS = RNG.uniform(0.0, 2.0, N)


def expected(labels, probabilities, weights=None):
    picked = np.take_along_axis(probabilities, labels[..., None], -1)[..., 0]
    return float(np.exp(np.average(-np.log(picked), weights=weights)))


def test_alone():
    perplexity = fnn.metrics.Perplexity()
    probabilities = softmax(LOGITS)
    assert perplexity(LABELS, probabilities) == pytest.approx(expected(LABELS, probabilities))
    assert perplexity(LABELS, probabilities, WEIGHTS) == pytest.approx(expected(LABELS, probabilities, WEIGHTS))
    of_logits = fnn.metrics.Perplexity(fnn.CrossEntropy(from_logits=True))
    assert of_logits(LABELS, LOGITS) == pytest.approx(expected(LABELS, probabilities))
    for rows in (slice(0, 7), slice(7, N)):
        perplexity.update_state(LABELS[rows], probabilities[rows])
    assert perplexity.result() == pytest.approx(expected(LABELS, probabilities))


@pytest.mark.parametrize("count", [2, 6, 100])
def test_what_does_not_choose_has_the_number_of_classes(count):
    labels = np.arange(count)
    assert fnn.metrics.Perplexity()(labels, np.full((count, count), 1.0 / count)) == pytest.approx(count)
    assert fnn.metrics.Perplexity()(labels, np.eye(count)) == pytest.approx(1.0, rel=1e-6)


def test_without_rows_and_beyond_all_numbers():
    perplexity = fnn.metrics.Perplexity(fnn.CrossEntropy(from_logits=True))
    assert np.isnan(perplexity(LABELS, LOGITS, np.zeros(N)))
    assert perplexity([0], [[-1000.0, 0.0]]) == np.inf


@pytest.mark.parametrize("from_logits", [False, True])
def test_in_a_model(from_logits):
    layers = [fnn.Input(STEPS, dtype="int64"), fnn.Embedding(9, 5), fnn.Dense(CLASSES)]
    layers += [] if from_logits else [fnn.Activation("softmax")]
    model = fnn.Sequential(layers, seed=0)
    model.compile("adam", fnn.CrossEntropy(from_logits=from_logits), metrics=["perplexity", "cross_entropy"])
    x, y = RNG.integers(0, 9, (N, STEPS)), RNG.integers(0, CLASSES, (N, STEPS))
    logs = model.evaluate(x, y, batch_size=7)
    predicted = model.predict(x).astype(np.float64)
    wanted = expected(y, softmax(predicted) if from_logits else predicted)
    assert logs["perplexity"] == pytest.approx(wanted, rel=1e-5)
    assert logs["perplexity"] == pytest.approx(np.exp(logs["loss"]), rel=1e-6)
    assert logs["cross_entropy"] == pytest.approx(logs["loss"], rel=1e-6)
    history = model.fit(x, y, epochs=2, validation_data=(x, y), verbose=0).history
    np.testing.assert_allclose(history["perplexity"], np.exp(history["loss"]), rtol=1e-6)
    assert history["val_perplexity"][1] < history["val_perplexity"][0]


def test_early_stopping_knows_that_less_is_better():
    assert fnn.metrics.get("perplexity").better == "min"
    assert fnn.metrics.get("perplexity") == fnn.metrics.Perplexity()


def test_files(tmp_path):
    model = fnn.Sequential([fnn.Dense(CLASSES, "softmax")], seed=0)
    model.compile("sgd", "cross_entropy", metrics=[fnn.metrics.Perplexity()])
    model.fit(LOGITS, LABELS, verbose=0)
    model.save(tmp_path / "m.safetensors")
    for other in (fnn.load(tmp_path / "m.safetensors"), pickle.loads(pickle.dumps(model))):
        assert other.evaluate(LOGITS, LABELS) == model.evaluate(LOGITS, LABELS)


def test_other_losses():
    with pytest.raises(TypeError, match="Perplexity: expected a CrossEntropy, got MeanSquaredError"):
        fnn.metrics.Perplexity("mse")
