"""Models on a simulated GPU, through the public interface, against the same models on the CPU."""

import copy
import signal
import threading

import numpy as np
import pytest

import fastnn as fnn
from fastnn.errors import InputNotFiniteError
from fastnn.runtime.device import placement, streaming
from fastnn.training import shuffle


def data(n=24, classes=3, width=5):
    rng = np.random.default_rng(1)
    return rng.standard_normal((n, width)).astype(np.float32), rng.integers(0, classes, n)


def network(**more):
    model = fnn.Sequential(
        [fnn.Input((5,)), fnn.Dense(8, "gelu"), fnn.Dropout(0.2), fnn.LayerNorm(), fnn.Dense(3, "softmax")],
        seed=3,
        **more,
    )
    model.compile(fnn.Adam(0.01, clipnorm=1.0), "cross_entropy", metrics=["accuracy"])
    return model


def close(one, other, tolerance=2e-5):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def test_a_gpu_is_simulated():
    assert fnn.cuda.is_available() and fnn.cuda.why_not() is None
    assert fnn.cuda.device_count() == 1
    (info,) = fnn.cuda.devices()
    assert info.device == "cuda:0" and "simulator" in info.name


def test_training_agrees_with_the_cpu():
    x, y = data()
    there, here = network(device="cuda"), network()
    assert (there.device, here.device) == ("cuda:0", "cpu")
    close(there.get_weights(), here.get_weights(), 0.0)
    options = dict(epochs=2, batch_size=9, verbose=0, validation_split=0.25)
    a, b = there.fit(x, y, **options), here.fit(x, y, **options)
    assert a.history.keys() == b.history.keys()
    for name in b.history:
        np.testing.assert_allclose(a.history[name], b.history[name], rtol=1e-4)
    close(there.get_weights(), here.get_weights())
    assert there.step == here.step == 4
    close([there.predict(x)], [here.predict(x)])
    close(there.gradients(x, y), here.gradients(x, y))
    close([there.input_gradients(x, y)], [here.input_gradients(x, y)])
    scores, expected = there.evaluate(x, y), here.evaluate(x, y)
    assert scores["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    assert scores["accuracy"] == expected["accuracy"]


def images(**more):
    layers = [
        fnn.Conv2D(4, 3, padding="same", activation="relu"), fnn.MaxPooling2D(2),
        fnn.Conv2D(8, 2, strides=2, activation="tanh"), fnn.AveragePooling2D((1, 2)), fnn.Flatten(),
        fnn.Dense(3, "softmax"),
    ]  # fmt: skip
    model = fnn.Sequential([fnn.Input((8, 9, 2)), *layers], seed=3, **more)
    model.compile(fnn.SGD(0.1), "cross_entropy")
    return model


def test_training_of_convolutions_agrees_with_the_cpu():
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((8, 8, 9, 2)).astype(np.float32), rng.integers(0, 3, 8)
    there, here = images(device="cuda"), images()
    close(there.gradients(x, y), here.gradients(x, y))
    close([there.input_gradients(x, y)], [here.input_gradients(x, y)])
    for model in (there, here):
        model.fit(x, y, epochs=1, batch_size=4, verbose=0)
    close(there.get_weights(), here.get_weights())
    close([there.predict(x)], [here.predict(x)])


def test_joined_probabilities_and_losses_as_metrics_agree_with_the_cpu():
    """The loss uses the logits before Concatenate and Reshape on both devices: probabilities are 0 and 1."""
    x, found = data()[0], []
    y = np.random.default_rng(2).integers(0, 2, (24, 2, 2)).astype(np.float32)
    weights = np.random.default_rng(3).uniform(size=24)
    for device in ("cuda", "cpu"):
        a = fnn.Input(5)
        joined = fnn.Concatenate()([fnn.Dense(2, "sigmoid")(a), fnn.Dense(2, "sigmoid")(a)])
        model = fnn.Model(a, fnn.Reshape((2, 2))(joined), seed=0, device=device)
        model.compile(fnn.SGD(0.1), "bce", metrics=["huber"], weighted_metrics=["bce", "mae"])
        model.set_weights([100.0 * w for w in model.get_weights()])
        history = model.fit(x, y, epochs=2, batch_size=9, sample_weight=weights, verbose=0).history
        scores = model.evaluate(x, y, sample_weight=weights)
        found.append(([*scores.values(), *np.concatenate(list(history.values()))], model.get_weights()))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-4)
    close(found[0][1], found[1][1], 1e-4)
    assert found[1][0][0] > 17.0  # more than clipped probabilities could give


@pytest.mark.parametrize("normalize", ["rows", "weights"])
def test_weights_of_time_steps_agree_with_the_cpu(normalize):
    rng, found = np.random.default_rng(4), []
    x, y = rng.standard_normal((24, 3, 5)).astype(np.float32), rng.integers(0, 4, (24, 3))
    weights = rng.uniform(size=(24, 3)) * (rng.uniform(size=(24, 3)) < 0.7)
    for device in ("cuda", "cpu"):
        model = fnn.Sequential([fnn.Input((3, 5)), fnn.Dense(4, "softmax")], seed=0, device=device)
        loss = fnn.CrossEntropy(normalize=normalize)
        model.compile("sgd", loss, weighted_metrics=["accuracy", "cross_entropy"])
        history = model.fit(x, y, epochs=2, batch_size=9, sample_weight=weights, verbose=0).history
        scores = model.evaluate(x, y, sample_weight=weights)
        found.append(([*scores.values(), *np.concatenate(list(history.values()))], model.get_weights()))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-5)
    close(found[0][1], found[1][1])


@pytest.mark.parametrize("layer", [fnn.OneHot(7), fnn.Embedding(7, 3)], ids=["one_hot", "embedding"])
def test_inputs_of_integers_agree_with_the_cpu(layer):
    rng, found = np.random.default_rng(5), []
    x, y = rng.integers(0, 7, (24, 2)), rng.integers(0, 3, 24)
    for device in ("cuda", "cpu"):
        layers = [fnn.Input(2, dtype="int64"), copy.copy(layer), fnn.Flatten(), fnn.Dense(3, "softmax")]
        model = fnn.Sequential(layers, seed=0, device=device)
        model.compile("sgd", "cross_entropy")
        losses = model.fit(x.astype(np.uint8), y, epochs=2, batch_size=9, verbose=0).history["loss"]
        for _ in range(3):  # small calls are captured at the second one, where they may be
            losses.append(model.train_on_batch(x, y)["loss"])
            prediction = model.predict(x)
        found.append((losses, prediction, model))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-5)
    close([found[0][1]], [found[1][1]])
    x[5, 1] = 7
    for call in (lambda: found[0][2].predict(x), lambda: found[0][2].train_on_batch(x, y)):
        with pytest.raises(ValueError, match=r"which layer '(one_hot|embedding)' takes; row 5 has 7"):
            call()


def test_prepared_columns_agree_with_the_cpu():
    rng = np.random.default_rng(6)
    x, codes = rng.normal(3.0, 2.0, (9, 2)).astype(np.float32), rng.integers(-2, 9, (9, 3))
    numbers, integers = fnn.Input(2), fnn.Input(3, dtype="int64")
    scale = fnn.Normalization()
    scale.adapt(x)
    parts = [
        scale(numbers),
        fnn.Flatten()(fnn.Discretization([1.0, 4.0], output_mode="one_hot")(numbers)),
        fnn.IntegerLookup(vocabulary=[7, 3, -2], output_mode="count")(integers),
    ]
    model = fnn.Model([numbers, integers], fnn.Concatenate()(parts))
    here = model.predict([x, codes])
    close([model.predict([x, codes], device="cuda")], [here])


def test_attention_agrees_with_the_cpu():
    rng, found = np.random.default_rng(6), []
    x, y = rng.standard_normal((6, 5, 3)).astype(np.float32), rng.standard_normal((6, 5, 3)).astype(np.float32)
    there = (rng.random((6, 5)) < 0.7).astype(np.float32)
    for device in ("cuda", "cpu"):
        steps, mask = fnn.Input((5, 3)), fnn.Input(5)
        heads = fnn.MultiHeadAttention(2, 2, dropout=0.3, causal=True, rotary=9.0)(steps)
        result = fnn.GroupedQueryAttention(2, 2, 1)([heads, steps, steps, mask])
        model = fnn.Model([steps, mask], result, seed=0, device=device)
        model.compile("sgd", "mse")
        losses = model.fit([x, there], y, epochs=2, batch_size=3, verbose=0).history["loss"]
        found.append((losses, model.predict([x, there]), model.get_weights()))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-5)
    close([found[0][1], *found[0][2]], [found[1][1], *found[1][2]])


def test_moving_keeps_weights_and_the_optimizers_state():
    x, y = data()
    moved, stayed = network(), network()
    for model in (moved, stayed):
        model.fit(x, y, epochs=1, batch_size=12, verbose=0)
    assert moved.to("cuda") is moved
    moved.fit(x, y, epochs=1, batch_size=12, verbose=0)
    moved.to("cpu")
    assert moved.device == "cpu"
    stayed.fit(x, y, epochs=1, batch_size=12, verbose=0)
    close(moved.get_weights(), stayed.get_weights())
    for model in (moved, stayed):
        model.fit(x, y, epochs=1, batch_size=12, verbose=0)
    close(moved.get_weights(), stayed.get_weights())


def test_device_for_one_call():
    x, y = data()
    model = network()
    model.fit(x, y, epochs=1, batch_size=12, verbose=0, device="cuda")
    assert model.device == "cpu"
    here = model.predict(x)
    close([model.predict(x, device="cuda")], [here])
    assert model.evaluate(x, y, device="cuda:0")["loss"] == pytest.approx(model.evaluate(x, y)["loss"], rel=1e-4)
    assert model.device == "cpu"


def test_set_weights_reaches_the_gpu():
    x, _ = data()
    there, here = network(device="cuda"), network()
    there.predict(x)
    weights = [np.float32(0.5) * w + np.float32(0.1) for w in here.get_weights()]
    there.set_weights(weights)
    here.set_weights(weights)
    close([there.predict(x)], [here.predict(x)])


def test_train_on_batch():
    x, y = data()
    there, here = network(device="cuda"), network()
    for start in (0, 8, 16):
        rows = slice(start, start + 8)
        a, b = there.train_on_batch(x[rows], y[rows]), here.train_on_batch(x[rows], y[rows])
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)
    close(there.get_weights(), here.get_weights())


def test_accumulated_gradients_and_averages():
    """By `fit`, by single batches, after a move in the middle of a sum, and in the averages that end it."""
    x, y = data()
    there, here = network(device="cuda"), network()
    for model in (there, here):
        optimizer = fnn.Adam(
            0.01, gradient_accumulation_steps=4, use_ema=True, ema_momentum=0.8, ema_overwrite_frequency=2
        )
        model.train_on_batch(x, y)  # so that the state begins at another step than the first
        model.compile(optimizer, "cross_entropy")
        model.fit(x, y, epochs=2, batch_size=8, verbose=0)
        averages = model.get_weights()
        for start in (0, 8, 16, 0, 8):
            model.train_on_batch(x[start : start + 8], y[start : start + 8])
        assert any((one != two).any() for one, two in zip(averages, model.get_weights(), strict=True))
        if model is there:
            model.to("cpu").to("cuda")
        model.fit(x, y, batch_size=6, verbose=0)
    close(there.get_weights(), here.get_weights())
    width, dtype = here._runtime.table.nbytes, np.float32
    for slot in (2, 3):  # the sum of gradients, and the averages
        each = slice(slot * width, (slot + 1) * width)
        states = [model._runtime.optimizer_state[each].view(dtype) for model in (there, here)]
        assert np.nansum(np.abs(states[0])) > 0.0
        close(states[:1], states[1:])
    before = there._runtime.optimizer_state.copy()
    with pytest.raises(InputNotFiniteError):
        there.train_on_batch(np.full_like(x, np.inf), y)
    np.testing.assert_array_equal(there._runtime.optimizer_state, before)


def test_inputs_on_the_gpu_are_used_in_place():
    x, y = data()
    there, here = network(device="cuda"), network()
    placed = there._runtime.placement.upload(x)
    result = there.predict(placed)
    assert isinstance(result, fnn.cuda.DeviceArray)
    close([result.copy_to_host()], [here.predict(x)])
    there.fit(placed, y, epochs=1, batch_size=12, verbose=0)
    here.fit(x, y, epochs=1, batch_size=12, verbose=0)
    close(there.get_weights(), here.get_weights())
    with pytest.raises(TypeError, match=r"on the GPU 'cuda:0', but the model is on the CPU"):
        here.predict(placed)


def test_a_row_that_is_not_finite_is_named_and_changes_nothing():
    x, y = data()
    x[17, 2] = np.nan
    there, here = network(device="cuda"), network()
    for model in (there, here):
        with pytest.raises(InputNotFiniteError, match="row 17 of the data"):
            model.fit(x, y, epochs=1, batch_size=4, verbose=0, shuffle=False)
        assert model.step == 4
    close(there.get_weights(), here.get_weights())


def test_files_go_from_one_device_to_the_other(tmp_path):
    x, y = data()
    there = network(device="cuda")
    there.fit(x, y, epochs=1, batch_size=12, verbose=0)
    there.save(tmp_path / "model.safetensors")
    here = fnn.load(tmp_path / "model.safetensors")
    assert here.device == "cpu"
    close(here.get_weights(), there.get_weights(), 0.0)
    for model in (there, here):
        model.fit(x, y, epochs=1, batch_size=12, verbose=0)
    close(here.get_weights(), there.get_weights())


def test_copies_are_where_the_model_is():
    there = network(device="cuda")
    twin = copy.deepcopy(there)
    assert twin.device == "cuda:0"
    close(twin.get_weights(), there.get_weights(), 0.0)


@pytest.mark.parametrize("wrong", ["gpu", "cuda:", "cuda:-1", "cuda:01x", 0, None])
def test_wrong_devices(wrong):
    with pytest.raises(ValueError, match="device: expected 'cpu', 'cuda' or 'cuda:<number>'"):
        network().to(wrong)


def test_devices_that_are_not_there():
    model = network()
    with pytest.raises(ValueError, match="device 'cuda:7': there is 1 GPU"):
        model.to("cuda:7")
    with pytest.raises(ValueError, match="precision: expected one of"):
        model.to("cuda", precision="fp8")
    with pytest.raises(ValueError, match="is for GPUs"):
        model.to("cpu", precision="tf32")
    assert model.device == "cpu"
    model.train_on_batch(*data())


def test_ctrl_c_waits_for_the_run_and_loses_no_step(ctrl_c):
    x, y = data()
    there, here = network(device="cuda"), network()
    calls = []

    class Interrupt(fnn.Callback):
        every_batch = True

        def on_train_batch_end(self, batch, logs):
            calls.append(batch)
            if batch == 1:
                threading.Timer(0.2, signal.raise_signal, (signal.SIGINT,)).start()

    with pytest.raises(KeyboardInterrupt):
        there.fit(x, y, epochs=50, batch_size=4, verbose=0, callbacks=[Interrupt()])
    assert there.step in (len(calls), len(calls) + 1)
    here.fit(x, y, epochs=50, batch_size=4, verbose=0, callbacks=[Stop(there.step)])
    close(there.get_weights(), here.get_weights())


class Stop(fnn.Callback):
    """Ends a training at a step."""

    every_batch = True

    def __init__(self, step):
        self.last = step

    def on_train_batch_end(self, batch, logs):
        assert self.model.step <= self.last
        self.model.stop_training = self.model.step == self.last


@pytest.mark.parametrize("shuffle", [False, True])
def test_data_that_do_not_fit_are_streamed(monkeypatch, shuffle):
    x, y = data(37)
    x = np.asfortranarray(x)
    weight = np.linspace(0.5, 1.5, 37)
    monkeypatch.setattr(streaming, "CHUNK_BYTES", 10 * 36)
    monkeypatch.setattr(placement, "_ALWAYS_FITS", 0)
    there, here = network(device="cuda"), network()
    monkeypatch.setattr(type(there._runtime.placement), "_room", lambda self: 100)
    brought = []
    usual = streaming.Stream._bring
    monkeypatch.setattr(
        streaming.Stream,
        "_bring",
        lambda self, first, rows, index: brought.append(first) or usual(self, first, rows, index),
    )
    options = dict(epochs=2, batch_size=4, verbose=0, shuffle=shuffle, sample_weight=weight, validation_data=(x, y))
    a, b = there.fit(x, y, **options), here.fit(x, y, **options)
    assert len(brought) > 10
    for name in b.history:
        np.testing.assert_allclose(a.history[name], b.history[name], rtol=1e-4)
    close(there.get_weights(), here.get_weights())
    close([there.predict(x)], [here.predict(x)])
    assert there.evaluate(x, y)["loss"] == pytest.approx(here.evaluate(x, y)["loss"], rel=1e-4)


def test_a_streamed_row_that_is_not_finite_is_named(monkeypatch):
    x, y = data(37)
    x[29, 1] = np.inf
    monkeypatch.setattr(streaming, "CHUNK_BYTES", 10 * 28)
    monkeypatch.setattr(placement, "_ALWAYS_FITS", 0)
    there = network(device="cuda")
    monkeypatch.setattr(type(there._runtime.placement), "_room", lambda self: 100)
    with pytest.raises(InputNotFiniteError, match="row 29 of the data"):
        there.fit(x, y, epochs=1, batch_size=4, verbose=0)


def test_the_next_order_is_made_while_the_gpu_works(monkeypatch):
    made = []

    def shuffled(key, n):
        made.append(threading.current_thread().name)
        return usual(key, n)

    usual = shuffle.shuffled
    monkeypatch.setattr(shuffle, "LEAST_AHEAD", 1)
    monkeypatch.setattr(shuffle, "shuffled", shuffled)
    x, y = data()
    there, here = network(device="cuda"), network()
    there.fit(x, y, epochs=3, batch_size=8, verbose=0)
    assert made[0] == threading.current_thread().name and len(made) == 3
    assert all(name.startswith("fastnn-order") for name in made[1:])
    here.fit(x, y, epochs=3, batch_size=8, verbose=0)
    close(there.get_weights(), here.get_weights())


class Columns(fnn.layers.Layer):
    """Columns of x times columns of a matrix."""

    def parameters(self, *shapes):
        return (fnn.layers.ParameterSpec("w", (4, 8), fnn.initializers.get("glorot_uniform")),)

    def call(self, x, w):
        return x[:, 1:5] @ w[:, 2:5]


def test_slices_of_products():
    x, y = data()
    there, here = (fnn.Sequential([fnn.Input((5,)), Columns()], seed=3, device=device) for device in ("cuda", "cpu"))
    for model in (there, here):
        model.compile("sgd", "mse")
        model.fit(x, np.eye(3, dtype=np.float32)[y], batch_size=9, verbose=0)
    assert "strided" not in str(here.program)
    close(there.get_weights(), here.get_weights())
    close([there.predict(x)], [here.predict(x)])
