"""Models whose programs have chains train and predict with the bits of those without, in all ways of running them."""

import gc

import numpy as np
import pytest

import fastnn as fnn
from fastnn.backend.cpu.layouts.code import CodeWord
from fastnn.lower import lower as lowering

RNG = np.random.default_rng(5)
X, Y = RNG.standard_normal((320, 96), np.float32), RNG.standard_normal((320, 3), np.float32)


@pytest.fixture(autouse=True)
def _threads():
    before = fnn.get_num_threads()
    yield
    fnn.set_num_threads(before)


def residual(dtype="float32", shape=(96,), activation="gelu"):
    """Make a model of residual blocks with dropout and noise, whose elementwise records follow each other."""
    x = fnn.Input(shape)
    h = x
    for _ in range(2):
        branch = fnn.GaussianNoise(0.1)(fnn.Dropout(0.2)(fnn.Dense(96)(fnn.LayerNormalization()(h))))
        h = fnn.Activation(activation)(fnn.Add()([h, branch]))
    model = fnn.Model(x, fnn.Dense(3)(h), seed=7, dtype=dtype)
    model.compile("adam", "mse")
    return model


def bits(model):
    return b"".join(weight.tobytes() for weight in model.get_weights())


def both(monkeypatch, work):
    """Return the results of work with and without chains; models share programs as long as one has them."""
    found = []
    for chained in (True, False):
        monkeypatch.setattr(lowering, "CHAINED", chained)
        gc.collect()
        found.append(work())
    gc.collect()
    return found


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training(threads, dtype, monkeypatch):
    def work():
        fnn.set_num_threads(threads)
        model = residual(dtype)
        history = model.fit(X, Y, batch_size=97, epochs=3, verbose=0)
        assert bool(model.program.chains) == lowering.CHAINED
        return bits(model), history.history["loss"], model.predict(X).tobytes()

    chained, plain = both(monkeypatch, work)
    assert chained == plain
    if threads > 1:
        fnn.set_num_threads(1)
        assert work() == plain


@pytest.mark.parametrize("threads", [1, 2])
def test_small_calls_of_any_number_of_rows(threads, monkeypatch):
    sizes = (64, 64, 300, 17, 1, 2, 256, 300)

    def work():
        fnn.set_num_threads(threads)
        model, found = residual(), []
        for n in sizes:
            found += [model.train_on_batch(X[:n], Y[:n])["loss"], model.predict(X[:n]).tobytes()]
        return found, bits(model)

    chained, plain = both(monkeypatch, work)
    assert chained == plain


def test_learners_and_frozen_networks(monkeypatch):
    def work():
        model = residual()
        network, learner = model.freeze(), model.learner()
        found = []
        for n in (1, 2, 5, 200, 320):
            out = np.empty((n, 3), np.float32)
            fnn.nopython.predict(network, X[:n], out)
            found += [out.tobytes(), fnn.nopython.train_step(learner, X[:n], Y[:n])]
        model.update_from(learner)
        return found, bits(model)

    chained, plain = both(monkeypatch, work)
    assert chained == plain


def test_codes_have_chains():
    code = residual().learner().code
    # the records of chains follow those that run
    assert code[CodeWord.MANY_RUN] < code[CodeWord.MANY_COUNT]


def test_a_function_that_raises_in_a_chain():
    def checked(x):
        if x > 1000.0:
            raise ValueError("too large")
        return 0.5 * x

    model = residual(activation=fnn.activations.Custom(checked))
    model.fit(X, Y, batch_size=160, verbose=0)
    chain = model.program.chains[0]
    labels = model.program.labels[chain.first : chain.last + 1]
    assert any("activation" in label for label in labels)
    for threads in (1, 2):
        fnn.set_num_threads(threads)
        for row in (0, 159):
            x = X.copy()
            x[row, 5] = 1e9
            with pytest.raises(RuntimeError, match=r"'checked' \(test_chained_training\.py, line \d+\) raised"):
                model.fit(x, Y, batch_size=160, verbose=0, shuffle=False)
            for _ in range(3):
                with pytest.raises(RuntimeError, match=r"'checked' .* raised ValueError\('too large'\)"):
                    model.train_on_batch(x[:160], Y[:160])
    assert np.isfinite(model.train_on_batch(X, Y)["loss"])
