"""A layer's weight as a symbol: models that use it twice train it with the gradients of both uses."""

import copy
import pickle

import numpy as np
import pytest

import fastnn as fnn
import fastnn.nopython as fnp
from fastnn import ops
from symbol_losses import differences

N = 15
rng = np.random.default_rng(4)
X = rng.normal(size=(N, 4))


def autoencoder(dtype="float64", *, seed=1, name=None):
    """The decoder has the encoder's kernel, transposed, and a bias of its own."""
    x = fnn.Input(4)
    dense = fnn.Dense(3, activation="tanh", name="encoder")
    code = dense(x)
    decoded = code @ ops.transpose(dense.kernel)
    model = fnn.Model(x, decoded + 0.1 * ops.sum(dense.bias), seed=seed, dtype=dtype, name=name)
    model.compile(fnn.Adam(0.02), "mse")
    return model


def forward(weights, x):
    kernel, bias = weights
    return np.tanh(x @ kernel + bias) @ kernel.T + 0.1 * bias.sum()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values(dtype):
    model = autoencoder(dtype)
    weights = model.get_weights()
    assert [w.shape for w in weights] == [(4, 3), (3,)] and model.count_params() == 15
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    for _ in range(3):
        np.testing.assert_allclose(model.predict(X), forward(weights, X), rtol=tolerance, atol=tolerance)


def test_gradients_of_both_uses():
    model = autoencoder()
    weights = model.get_weights()
    wanted = differences(lambda w: ((forward(w, X) - X) ** 2).mean(), weights)
    for found, expected in zip(model.gradients(X, X), wanted, strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-7, atol=1e-9)
    model.compile(fnn.SGD(0.5), "mse")
    model.train_on_batch(X, X)
    for new, old, gradient in zip(model.get_weights(), weights, wanted, strict=True):
        np.testing.assert_allclose(new, old - 0.5 * gradient, rtol=1e-6, atol=1e-9)


def test_training():
    model = autoencoder()
    history = model.fit(X, X, epochs=40, batch_size=5, verbose=0).history["loss"]
    assert history[-1] < 0.6 * history[0]
    np.testing.assert_allclose(model.predict(X), forward(model.get_weights(), X), rtol=1e-10)


def test_files(tmp_path):
    path = tmp_path / "model.safetensors"
    model = autoencoder()
    model.fit(X, X, epochs=2, verbose=0)
    model.save(path)
    for one in (fnn.load(path), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert one.count_params() == 15
        np.testing.assert_array_equal(one.predict(X), model.predict(X))
        one.fit(X, X, epochs=4, initial_epoch=2, verbose=0)
        np.testing.assert_allclose(one.predict(X), forward(one.get_weights(), X), rtol=1e-10)
    # a symbol of a loaded model's weight
    loaded = fnn.load(path)
    kernel = loaded.get_layer("encoder").kernel
    assert kernel.shape == (4, 3) and not kernel.batched


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_freezing(dtype):
    model, other = autoencoder(dtype), autoencoder(dtype)
    x = X.astype(dtype)
    out = np.zeros((N, 4), dtype)
    fnp.predict(model.freeze(), x, out)
    np.testing.assert_array_equal(out, model.predict(x))
    learner = model.learner()
    for n in (N, 1, 4):
        loss = fnp.train_step(learner, x[:n], x[:n])
        assert loss == pytest.approx(other.train_on_batch(x[:n], x[:n])["loss"], rel=1e-5)
    model.update_from(learner)
    for mine, others in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(mine, others, rtol=1e-4, atol=1e-6)


def test_in_models_of_models(tmp_path):
    inner = autoencoder(name="inner")
    x = fnn.Input(4)
    outer = fnn.Model(x, fnn.Dense(2)(inner(x)), seed=5, dtype="float64")
    np.testing.assert_allclose(fnn.Model(x, inner(x), dtype="float64").predict(X), inner.predict(X))
    outer.compile("adam", "mse")
    outer.fit(X, X[:, :2], verbose=0)
    weights = inner.get_weights()
    np.testing.assert_allclose(inner.predict(X), forward(weights, X), rtol=1e-10)
    np.testing.assert_allclose(
        outer.predict(X), forward(weights, X) @ outer.get_weights()[-2] + outer.get_weights()[-1], rtol=1e-9
    )
    path = tmp_path / "model.safetensors"
    outer.save(path)
    np.testing.assert_array_equal(fnn.load(path).predict(X), outer.predict(X))


@pytest.mark.parametrize("by", ["part", "layer", "name"])
def test_weights_of_an_inner_model(tmp_path, by):
    """A decoder with the kernel of an encoder that is a model of its own."""
    start = fnn.Input(4)
    dense = fnn.Dense(3, activation="tanh", name="hidden")
    encoder = fnn.Model(start, dense(start), seed=3, dtype="float64", name="encoder")
    x = fnn.Input(4)
    code = encoder(x)
    chosen = {
        "part": lambda: code.layer.weight_symbol(0, code.part),
        "layer": lambda: dense.kernel,
        "name": lambda: encoder.get_layer("hidden").kernel,
    }[by]()
    model = fnn.Model(x, code @ ops.transpose(chosen), seed=4, dtype="float64")
    kernel, bias = encoder.get_weights()
    np.testing.assert_allclose(model.predict(X), np.tanh(X @ kernel + bias) @ kernel.T, rtol=1e-12)
    model.compile(fnn.SGD(0.1), "mse")
    model.fit(X, X, verbose=0)
    kernel, bias = encoder.get_weights()
    np.testing.assert_allclose(model.predict(X), np.tanh(X @ kernel + bias) @ kernel.T, rtol=1e-10)
    path = tmp_path / "model.safetensors"
    model.save(path)
    loaded = fnn.load(path)
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    assert loaded.count_params() == 15


def test_frozen_layers():
    """A layer that is not trained gives a constant."""
    x = fnn.Input(4)
    dense = fnn.Dense(3, use_bias=False)
    hidden = dense(x)
    model = fnn.Model(x, fnn.Dense(3)(hidden) @ ops.transpose(dense.kernel), seed=0, dtype="float64")
    dense.trainable = False
    model.compile("sgd", "mse")
    before = model.get_weights()
    model.fit(X, X, verbose=0)
    np.testing.assert_array_equal(model.get_weights()[0], before[0])
    assert len(model.gradients(X, X)) == 2


def test_constants():
    """Arrays are weights that are not trained: files hold them."""
    table = rng.normal(size=(4, 400))
    x = fnn.Input(4)
    model = fnn.Model(x, x @ fnn.ops.constant(table), dtype="float64")
    np.testing.assert_allclose(model.predict(X), X @ table, rtol=1e-12)
    assert sum(w.size for w in model.get_weights()) == 1600


def test_errors():
    dense = fnn.Dense(3)
    with pytest.raises(AttributeError, match="once the layer has been called on symbols"):
        _ = dense.kernel
    x = fnn.Input(4)
    dense(x)
    with pytest.raises(ValueError, match="the layer or its model is not called here"):
        fnn.Model(x, x @ dense.kernel)
    with pytest.raises(ValueError, match=r"matmul.*\(B, 3\).*\(4, 3\)"):
        dense(x) @ dense.kernel
    with pytest.raises(AttributeError, match="no attribute"):
        _ = dense.nothing


def test_what_is_shown(capsys):
    model = autoencoder()
    model.summary()
    shown = capsys.readouterr().out
    assert "encoder" in shown and "parameters: 15 (15 trainable)" in shown
    assert "matmul" in str(model.program)
