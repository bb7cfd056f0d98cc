"""Losses and metrics of inner symbols (`add_loss`, `add_metric`), against NumPy and central differences."""

import copy
import pickle

import numpy as np
import pytest

import fastnn as fnn
import fastnn.nopython as fnp
from fastnn import ops
from symbol_losses import N, X, Y, differences

CODE = 2


class Interrupt(fnn.Callback):
    """Stop after a step."""

    every_batch = True

    def __init__(self, step):
        super().__init__()
        self.step = step

    def on_train_batch_end(self, batch, logs=None):
        self.step -= 1
        if self.step == 0:
            raise KeyboardInterrupt


def build(dtype="float64", *, seed=3, loss=None, optimizer=None, metrics=None):
    """An autoencoder whose code is penalised; it has no other loss unless one is given."""
    x = fnn.Input(4)
    code = fnn.Dense(CODE, activation="tanh", name="code")(x)
    y = fnn.Dense(4, name="decoded")(code)
    model = fnn.Model(x, y, seed=seed, dtype=dtype)
    model.add_loss(ops.mean(ops.square(y - x), axis=-1), "reconstruction")
    model.add_loss(0.1 * ops.sum(ops.mean(code, axis=0) ** 2), "centre")
    model.add_metric(ops.absolute(code), "size")
    model.add_metric(ops.max(code), "largest")
    model.compile(optimizer or fnn.SGD(0.1), loss, metrics=metrics)
    return model


def encoded(weights, x):
    return np.tanh(x @ weights[0] + weights[1])


def added(weights, x):
    code = encoded(weights, x)
    y = code @ weights[2] + weights[3]
    return ((y - x) ** 2).mean() + 0.1 * (code.mean(axis=0) ** 2).sum()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values(dtype):
    model = build(dtype)
    tolerance = 1e-12 if dtype == "float64" else 1e-6
    weights = [weight.astype(np.float64) for weight in model.get_weights()]
    code = encoded(weights, X)
    logs = {"loss": added(weights, X), "size": np.abs(code).mean(), "largest": code.max()}
    assert model.evaluate(X) == pytest.approx(logs, rel=tolerance)
    assert model.evaluate(X, sample_weight=np.full(N, 7.0)) == pytest.approx(logs, rel=tolerance)
    assert model.train_on_batch(X) == pytest.approx(logs, rel=tolerance)
    assert model.step == 1


def test_gradients():
    model = build()
    weights = model.get_weights()
    wanted = differences(lambda w: added(w, X), weights)
    for found, expected in zip(model.gradients(X), wanted, strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-7, atol=1e-9)
    expected = differences(lambda w: added(weights, w[0]), [X.copy()])[0]
    np.testing.assert_allclose(model.input_gradients(X), expected, rtol=2e-7, atol=1e-9)
    model.fit(X, batch_size=N, verbose=0, shuffle=False)
    for new, old, gradient in zip(model.get_weights(), weights, wanted, strict=True):
        np.testing.assert_allclose(new, old - 0.1 * gradient, rtol=1e-6, atol=1e-9)


def test_with_another_loss():
    model = build(loss="mse", metrics=["mae"])
    weights = model.get_weights()
    p = encoded(weights, X) @ weights[2] + weights[3]
    target = np.roll(X, 1, axis=1)
    logs = model.evaluate(X, target)
    assert logs["loss"] == pytest.approx(((p - target) ** 2).mean() + added(weights, X), rel=1e-12)
    assert list(logs) == ["loss", "mae", "size", "largest"]
    with pytest.raises(ValueError, match="y"):
        model.fit(X, verbose=0)


@pytest.mark.parametrize(
    "options", [{}, {"global_clipnorm": 0.01}, {"clipnorm": 0.01}, {"gradient_accumulation_steps": 2}]
)
def test_as_a_loss_of_the_output(options):
    """An added loss trains as the same loss of the output does, also if the optimizer has accumulators of its own."""
    x = fnn.Input(4)
    y = fnn.Dense(4, kernel_regularizer="l2")(fnn.Dense(3, activation="tanh")(x))
    one, other = (fnn.Model(x, y, seed=5, dtype="float64") for _ in range(2))
    one.add_loss(ops.mean(ops.square(y - x)))
    one.compile(fnn.Adam(0.01, **options))
    other.compile(fnn.Adam(0.01, **options), "mse")
    histories = [one.fit(X, epochs=3, batch_size=10, verbose=0), other.fit(X, X, epochs=3, batch_size=10, verbose=0)]
    np.testing.assert_allclose(histories[0].history["loss"], histories[1].history["loss"], rtol=1e-10)
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-12)


def test_several_batches():
    """A number of a batch counts by its rows, in losses and metrics."""
    model = build(optimizer=fnn.SGD(0.0))
    weights = model.get_weights()
    parts = [X[i : i + 10] for i in range(0, N, 10)]
    loss = sum(added(weights, part) * len(part) for part in parts) / N
    largest = sum(encoded(weights, part).max() * len(part) for part in parts) / N
    history = model.fit(X, epochs=2, batch_size=10, shuffle=False, verbose=0, validation_data=(X,))
    assert history.history["loss"] == pytest.approx([loss] * 2, rel=1e-12)
    assert history.history["largest"] == pytest.approx([largest] * 2, rel=1e-12)
    assert history.history["val_loss"][0] == pytest.approx(added(weights, X), rel=1e-12)
    assert model.evaluate(iter(parts))["loss"] == pytest.approx(loss, rel=1e-12)
    assert model.evaluate(X, batch_size=10)["largest"] == pytest.approx(largest, rel=1e-12)
    given = model.fit(iter(parts), epochs=1, verbose=0, validation_data=X)
    assert given.history["loss"][0] == pytest.approx(loss, rel=1e-12)
    split = model.fit(X, epochs=1, verbose=0, validation_split=0.3)
    assert "val_largest" in split.history


def test_files(tmp_path):
    path = tmp_path / "model.safetensors"
    model = build(optimizer=fnn.Adam(0.01))
    model.fit(X, epochs=2, verbose=0)
    model.save(path)
    loaded, copied, pickled = fnn.load(path), copy.deepcopy(model), pickle.loads(pickle.dumps(model))
    wanted = model.evaluate(X)
    for one in (loaded, copied, pickled):
        assert one.evaluate(X) == wanted
    for one in (model, loaded, copied, pickled):
        one.fit(X, epochs=4, initial_epoch=2, verbose=0)
        assert all(np.array_equal(a, b) for a, b in zip(one.get_weights(), model.get_weights(), strict=True))
    model.save(path, include_optimizer=False)
    bare = fnn.load(path)
    bare.compile("adam")
    assert bare.evaluate(X) == model.evaluate(X)


def test_resumed_bit_for_bit(tmp_path):
    path = tmp_path / "model.safetensors"
    whole = build(optimizer=fnn.Adam(0.01))
    whole.fit(X, epochs=4, batch_size=8, verbose=0)

    interrupted = build(optimizer=fnn.Adam(0.01))
    with pytest.raises(KeyboardInterrupt):
        interrupted.fit(X, epochs=4, batch_size=8, verbose=0, callbacks=[Interrupt(7)])
    interrupted.save(path)
    resumed = fnn.load(path)
    history = resumed.fit(X, epochs=4, batch_size=8, verbose=0, resume=True, callbacks=[Interrupt(-1)])
    assert history.history["loss"] == whole.history.history["loss"]
    assert history.history["size"] == whole.history.history["size"]
    for a, b in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_sequential(tmp_path):
    model = fnn.Sequential([fnn.Input(4), fnn.Dense(3, activation="tanh"), fnn.Dense(4)], seed=0, dtype="float64")
    before = model.get_weights()
    model.add_loss(ops.mean(ops.square(model.outputs[0] - model.inputs[0])), "mse")
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    with pytest.raises(RuntimeError, match="before add_loss"):
        model.add(fnn.Dense(1))
    model.build(4)
    assert len(model.layers) == 2
    model.compile("adam")
    p = model.predict(X)
    assert model.evaluate(X)["loss"] == pytest.approx(((p - X) ** 2).mean(), rel=1e-12)
    path = tmp_path / "model.safetensors"
    model.save(path)
    loaded = fnn.load(path)
    assert isinstance(loaded, fnn.Sequential) and len(loaded.layers) == 2
    assert loaded.evaluate(X) == model.evaluate(X)
    loaded.train_on_batch(X)
    with pytest.raises(RuntimeError, match="not built"):
        fnn.Sequential([fnn.Dense(3)]).add_loss(ops.mean(model.outputs[0]))


def test_in_models_of_models(tmp_path):
    """A model's losses are also those of models that are made of it, once for each call."""
    x = fnn.Input(4)
    code = fnn.Dense(CODE, activation="tanh")(x)
    encoder = fnn.Model(x, code, seed=1, dtype="float64", name="encoder")
    encoder.add_loss(0.5 * ops.mean(ops.absolute(code)), "sparsity")
    encoder.add_metric(ops.mean(code), "mean")
    a, b = fnn.Input(4), fnn.Input(4)
    outer = fnn.Model([a, b], encoder(a) - encoder(b), seed=2, dtype="float64")
    outer.compile("adam", "mse")
    other = X[::-1].copy()
    one, two = encoder.predict(X), encoder.predict(other)
    logs = outer.evaluate([X, other], np.zeros((N, CODE)))
    assert logs["loss"] == pytest.approx(
        ((one - two) ** 2).mean() + 0.5 * (np.abs(one) + np.abs(two)).mean(), rel=1e-12
    )
    assert (logs["mean"], logs["mean_1"]) == pytest.approx((one.mean(), two.mean()), rel=1e-10)
    path = tmp_path / "model.safetensors"
    outer.save(path)
    loaded = fnn.load(path)
    assert loaded.evaluate([X, other], np.zeros((N, CODE))) == logs
    # in a Sequential, alone
    stack = fnn.Sequential([encoder], dtype="float64")
    stack.compile("sgd")
    assert stack.evaluate(X)["loss"] == pytest.approx(0.5 * np.abs(one).mean(), rel=1e-12)
    stack.save(path)
    loaded = fnn.load(path)
    assert isinstance(loaded, fnn.Sequential)
    assert loaded.evaluate(X) == stack.evaluate(X)
    with pytest.raises(RuntimeError, match="other models are made of this one"):
        encoder.add_loss(ops.mean(code))


def test_weights_as_losses():
    """A penalty of a weight: its gradient is added."""
    x = fnn.Input(4)
    layer = fnn.Dense(3, use_bias=False)
    model = fnn.Model(x, layer(x), seed=0, dtype="float64")
    model.add_loss(0.3 * ops.sum(ops.square(layer.kernel)), "decay")
    model.compile("sgd", "mse")
    (kernel,) = model.get_weights()
    p = X @ kernel
    assert model.evaluate(X, Y)["loss"] == pytest.approx(((p - Y) ** 2).mean() + 0.3 * (kernel**2).sum(), rel=1e-12)
    np.testing.assert_allclose(model.gradients(X, Y)[0], 2.0 * X.T @ (p - Y) / Y.size + 0.6 * kernel, rtol=1e-10)


def test_several_outputs_without_targets():
    x = fnn.Input(4)
    a, b = fnn.Dense(3, name="a")(x), fnn.Dense(3, name="b")(x)
    model = fnn.Model(x, [a, b], seed=0, dtype="float64")
    model.add_loss(ops.mean(ops.square(a - b)), "apart")
    model.compile("sgd")
    p, q = model.predict(X)
    assert model.evaluate(X) == pytest.approx({"loss": ((p - q) ** 2).mean()}, rel=1e-12)
    model.fit(X, verbose=0)
    model.compile("sgd", {"a": "mse"})
    p, q = model.predict(X)
    logs = model.evaluate(X, {"a": Y, "b": None})
    assert logs["loss"] == pytest.approx(((p - q) ** 2).mean() + ((p - Y) ** 2).mean(), rel=1e-12)
    with pytest.raises(ValueError, match="y"):
        model.evaluate(X)


def test_variational():
    """A sample of the code is another one in each step; its divergence has a closed form."""
    x = fnn.Input(4)
    mean, log_var = fnn.Dense(2, name="mean")(x), fnn.Dense(2, name="log_var")(x)
    z = mean + ops.exp(0.5 * log_var) * ops.random_normal(mean)
    y = fnn.Dense(4)(z)
    model = fnn.Model(x, y, seed=0, dtype="float64")
    model.add_loss(ops.sum(ops.square(y - x), axis=-1), "reconstruction")
    kl = -0.5 * ops.sum(1.0 + log_var - ops.square(mean) - ops.exp(log_var), axis=-1)
    model.add_loss(kl)
    model.add_metric(kl, "kl")
    model.compile(fnn.Adam(0.02))
    m, v = fnn.Model(x, [mean, log_var], dtype="float64"), model.get_weights()
    m.set_weights(v[:4])
    mu, logs = m.predict(X)
    assert model.evaluate(X)["kl"] == pytest.approx((-0.5 * (1 + logs - mu**2 - np.exp(logs)).sum(1)).mean(), rel=1e-10)
    first = model.fit(X, epochs=1, verbose=0).history["loss"][0]
    assert model.fit(X, epochs=60, verbose=0).history["loss"][-1] < 0.9 * first


@pytest.mark.parametrize("metrics", [False, True])
def test_learners(metrics):
    model, other = build("float32", optimizer="adam"), build("float32", optimizer="adam")
    learner = model.learner(metrics=metrics)
    x = X.astype(np.float32)
    for n in (N, 5, 1):
        assert fnp.train_step(learner, x[:n], ()) == pytest.approx(other.train_on_batch(x[:n])["loss"], rel=1e-6)
    model.update_from(learner)
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-6)
    if metrics:
        assert set(model.learner_logs(learner)) == {"loss", "size", "largest"}


def test_learners_with_targets():
    model, other = build(loss="mse", optimizer="adam"), build(loss="mse", optimizer="adam")
    learner = model.learner()
    for n in (N, 5, 1):
        assert fnp.train_step(learner, X[:n], X[:n]) == pytest.approx(
            other.train_on_batch(X[:n], X[:n])["loss"], rel=1e-12
        )


def test_many_models_and_threads():
    alone = build()
    history = alone.fit(X, epochs=2, batch_size=8, verbose=0).history
    models = [build() for _ in range(3)]
    found = fnn.train_many(models, X, None, epochs=2, batch_size=8)
    assert [one.history["size"] for one in found] == [history["size"]] * 3
    before = fnn.get_num_threads()
    try:
        fnn.set_num_threads(1)
        again = build()
        assert again.fit(X, epochs=2, batch_size=8, verbose=0).history == history
    finally:
        fnn.set_num_threads(before)


def test_programs_are_shared():
    """Added losses are made of the library's layers, so equal models use the same programs."""
    one, other = build(), build()
    for model in (one, other):
        model.evaluate(X)
    programs = [list(model._runtime._programs.values())[-1] for model in (one, other)]
    assert programs[0] is programs[1]


def test_what_is_shown(capsys):
    model = build()
    model.summary()
    model.fit(X, verbose=2, epochs=1)
    shown = capsys.readouterr().out
    assert "added losses: reconstruction, centre" in shown and "added metrics: size, largest" in shown
    assert "largest: " in shown
    text = str(model.program)
    assert "reconstruction" in text and "largest" in text


def test_errors():
    x = fnn.Input(4)
    y = fnn.Dense(3)(x)
    model = fnn.Model(x, y)
    with pytest.raises(ValueError, match="compile needs a loss"):
        model.compile("adam")
    with pytest.raises(TypeError, match="add_loss: expected a symbol, got ndarray"):
        model.add_loss(np.zeros(3))
    with pytest.raises(TypeError, match="name"):
        model.add_metric(ops.mean(y), "")
    with pytest.raises(TypeError, match="name"):
        model.add_loss(ops.mean(y), 3)
    with pytest.raises(ValueError, match="not among the model's inputs"):
        model.add_loss(ops.mean(fnn.Dense(2)(fnn.Input(3))))
    model.add_metric(ops.mean(y), "m")
    with pytest.raises(ValueError, match="'m' already"):
        model.add_metric(ops.mean(y), "m")
    for name in ("loss", "epoch", "val_loss"):
        clash = fnn.Model(x, y)
        clash.add_metric(ops.mean(y), name)
        with pytest.raises(ValueError, match=name):
            clash.compile("sgd", "mse")
    with pytest.raises(ValueError, match="compile needs a loss"):
        model.compile("adam")
    model.compile("adam", "mse")
    with pytest.raises(RuntimeError, match="compiled already"):
        model.add_loss(ops.mean(y))
