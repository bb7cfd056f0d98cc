"""Inputs that leave sizes open: sequences of any length, without compiling, and the steps of them that count."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nopython as fnp
from fastnn.backend.cpu.loading import library
from open_sequences import LONGEST, ROWS, compiled, reader, sequences, tagger, unequal

STEPS = (1, 4, 9)


def transformer(steps: int | None, *, mask_zero: bool = True, pool: bool = False) -> fnn.Model:
    """Return a network of attention, of integers."""
    words = fnn.Input((steps,), dtype="int64")
    x = fnn.Embedding(12, 8, mask_zero=mask_zero)(words)
    x = fnn.Add()([x, fnn.PositionEmbedding(LONGEST)(x)])
    x = fnn.Add()([x, fnn.MultiHeadAttention(2, 4)(fnn.LayerNorm()(x))])
    return compiled(fnn.Model(words, fnn.Dense(2)(fnn.GlobalAveragePooling1D()(x) if pool else x), seed=0))


def convolution(steps: int | None) -> fnn.Sequential:
    """Return a network of windows."""
    layers = [fnn.Conv1D(4, 3, padding="same"), fnn.MaxPooling1D(2, padding="same"), fnn.GlobalMaxPooling1D()]
    return compiled(fnn.Sequential([fnn.Input((steps, 3)), *layers, fnn.Dense(2)], seed=0))


def targets_for(model: Any, x: np.ndarray) -> np.ndarray:
    """Return targets of the shape of the outputs."""
    return np.random.default_rng(1).standard_normal(model.predict(x).shape)


@pytest.mark.parametrize("make", [reader, tagger, convolution, transformer])
def test_results_are_those_of_a_network_of_the_length(make: Callable[[int | None], Any]) -> None:
    whole = make(None)
    weights = whole.get_weights()
    for steps in STEPS:
        fixed, one = make(steps), make(None)
        one.set_weights(weights)
        fixed.set_weights(weights)
        x: Any = sequences(steps)
        if make is transformer:
            x = np.random.default_rng(steps).integers(0, 12, (10, steps))
        y = targets_for(fixed, x)
        assert np.array_equal(whole.predict(x), fixed.predict(x))
        assert whole.evaluate(x, y) == fixed.evaluate(x, y)
        histories = [each.fit(x, y, epochs=2, batch_size=4, verbose=0).history for each in (one, fixed)]
        assert histories[0] == histories[1]
        assert one.train_on_batch(x, y) == fixed.train_on_batch(x, y)
        for mine, its in zip(one.get_weights(), fixed.get_weights(), strict=True):
            assert np.array_equal(mine, its)


def test_one_model_learns_from_batches_of_all_lengths() -> None:
    model = reader(None)
    batches = [(sequences(steps, 4, steps), np.ones((4, 2))) for steps in (3, 7, 5)]
    first = model.evaluate(batches)["loss"]
    model.fit(batches, epochs=20, verbose=0)
    assert model.evaluate(batches)["loss"] < first / 2
    assert model.predict(batches[0][0]).shape == (4, 2)
    assert model.predict(x for x, _ in batches).shape == (12, 2)


def test_new_lengths_compile_nothing_and_are_bounded() -> None:
    model = reader(None)
    x = sequences(200, 4)
    y = np.zeros((4, 2))
    for steps in (1, 2, 3, 50):
        model.predict(x[:, :steps])
        model.train_on_batch(x[:, :steps], y)
    before = library.statistics()
    for steps in range(4, 150):
        model.predict(x[:, :steps])
        model.train_on_batch(x[:, :steps], y)
    assert library.statistics() == before
    assert len(model._runtime._programs) <= 64


def test_shapes_that_do_not_fit() -> None:
    model, x = reader(None), sequences(5)
    with pytest.raises(ValueError, match=r"expects shape \(n, None, 3\), got \(10, 5, 2\)"):
        model.predict(x[:, :, :2])
    with pytest.raises(ValueError, match=r"one sample is x\[None\], of shape \(1, 5, 3\)"):
        model.predict(x[0])
    with pytest.raises(ValueError, match="at least one step"):
        model.predict(x[:, :0])
    with pytest.raises(ValueError, match=r"targets of shape \(n, 5, 2\), got \(10, 4, 2\)"):
        tagger(None).fit(x, np.zeros((10, 4, 2)), verbose=0)
    with pytest.raises(ValueError, match=r"samples of shape \(20,\) do not fit: .* at most 19 steps"):
        transformer(None).predict(np.ones((2, 20), int))
    with pytest.raises(ValueError, match="outputs of samples of different shapes"):
        tagger(None).predict(iter([x, x[:, :3]]))


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([fnn.Flatten(), fnn.Dense(2)], r"weights would depend on sizes.*\(3, 2\).*\(6, 2\)"),
        ([fnn.Reshape((4, 3)), fnn.Dense(2)], "needs sizes, such as the number of steps"),
        ([fnn.PositionEmbedding(1)], "of at most 1 steps"),
    ],
)
def test_layers_that_need_the_length(layers: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fnn.Sequential([fnn.Input((None, 3)), *layers])


def test_files_and_copies(tmp_path: Path) -> None:
    model, x, y = reader(None), sequences(6), np.ones((10, 2))
    model.fit(x, y, epochs=1, verbose=0)
    model.save(tmp_path / "model.fnn")
    for other in (fnn.load(tmp_path / "model.fnn"), pickle.loads(pickle.dumps(model))):
        for steps in STEPS:
            assert np.array_equal(other.predict(x[:, :steps]), model.predict(x[:, :steps]))
        assert other.train_on_batch(x[:, :5], y) == pickle.loads(pickle.dumps(model)).train_on_batch(x[:, :5], y)


def test_summary_shows_open_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    tagger(None).summary()
    shown = capsys.readouterr().out
    assert "(None, None, 3)" in shown and "samples of (100, 3)" in shown


def test_models_of_models() -> None:
    inner, x = tagger(None), sequences(6)
    for steps in (None, 6):
        start = fnn.Input((steps, 3))
        outer = compiled(fnn.Model(start, inner(start)))
        assert np.array_equal(outer.predict(x), inner.predict(x))
        outer.train_on_batch(x, np.zeros((10, 6, 2)))
        assert np.array_equal(outer.predict(x), inner.predict(x))
    stack = fnn.Sequential([fnn.Masking(), inner], seed=0)
    stack.build((None, None, 3))
    assert np.array_equal(stack.predict(x), inner.predict(x))


def test_gradients_functions_and_images() -> None:
    x = sequences(6)
    start = fnn.Input((None, 3))
    total = fnn.function(start, fnn.ops.sum(start * start, axis=(1, 2)))
    for steps in STEPS[:2]:
        np.testing.assert_allclose(total(x[:, :steps]), (x[:, :steps] ** 2).sum(axis=(1, 2)), rtol=1e-5)
    y = np.zeros((10, 2))
    assert np.array_equal(reader(None).input_gradients(x, y), reader(6).input_gradients(x, y))
    layers = [fnn.Conv2D(3, 3, padding="same"), fnn.GlobalAveragePooling2D()]
    nets = [fnn.Sequential([fnn.Input((*size, 1)), *layers], seed=0) for size in ((None, None), (5, 7))]
    image = sequences(35, 2)[:, :, 0].reshape(2, 5, 7, 1)
    nets[1].set_weights(nets[0].get_weights())
    assert np.array_equal(nets[0].predict(image), nets[1].predict(image))
    with pytest.raises(ValueError, match="maximize: expected inputs of a known size"):
        fnn.inspect.maximize(nets[0], nets[0].layers[0], 0)


def test_compiled_code_needs_the_length() -> None:
    model = tagger(None)
    for call in (model.freeze, model.learner, lambda: fnn.train_many([model], sequences(5), np.zeros((10, 5, 2)))):
        with pytest.raises(ValueError, match=r"takes models of known sizes.*fastnn.Input\(\(100, 3\)\)"):
            call()
    with pytest.raises(ValueError, match=r"^c_function takes models of known sizes"):
        model.c_function()
    with pytest.raises(ValueError, match="step by step with attention or positions takes models of known sizes"):
        transformer(None, mask_zero=False).freeze(stateful=True)
    x, start = sequences(5, 1), fnn.Input((5, 3))
    fixed = fnn.Model(start, model(start)).freeze()
    out = np.zeros((1, 5, 2), np.float32)
    fnp.predict(fixed, x, out)
    assert np.array_equal(out, model.predict(x))
    net = model.freeze(stateful=True)
    states, step = fnp.state(net), np.zeros(2, np.float32)
    for at in range(5):
        fnp.step(net, states, x[0, at], step)
        assert np.array_equal(step, out[0, at])


def writer(steps: int | None, *, causal: bool = True) -> fnn.Model:
    """Return a network that gives scores of the next token."""
    words = fnn.Input((steps,), dtype="int64")
    x = fnn.Embedding(12, 8)(words)
    x = fnn.Add()([x, fnn.MultiHeadAttention(2, 4, causal=causal)(fnn.LayerNorm()(x))])
    return fnn.Model(words, fnn.Dense(12, "softmax")(x), seed=0)


def test_generation_without_a_known_length() -> None:
    whole, fixed = writer(None), writer(8)
    options: dict[str, Any] = {"temperature": 0}
    expected = fixed.generate([5], 7, **options)
    assert np.array_equal(whole.generate([5], 7, cache=False, **options), expected)
    with pytest.raises(ValueError, match=r"^generate: going step by step .* takes models of known sizes.*cache=False"):
        whole.generate([5], 7, **options)
    with pytest.raises(ValueError, match="expected a causal network"):
        writer(None, causal=False).generate([5], 7, cache=False, **options)
    layers = [fnn.Embedding(12, 8), fnn.GRU(8, return_sequences=True), fnn.Dense(12, "softmax")]
    nets = [fnn.Sequential([fnn.Input((steps,), dtype="int64"), *layers], seed=0) for steps in (None, 8)]
    assert np.array_equal(nets[0].generate([5], 20, **options), nets[1].generate([5], 20, **options))


# --- the steps that count ------------------------------------------------------------------------------------------


def padded(x: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return sequences with zeros for steps that do not count."""
    return np.where(np.arange(LONGEST)[:, None] < lengths[:, None, None], x, np.float32(0.0))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_predictions_are_those_of_each_row_alone(dtype: str) -> None:
    model, (x, lengths) = reader(None, dtype), unequal()
    found = model.predict(x, lengths=lengths)
    for row in np.flatnonzero(lengths):
        assert np.array_equal(found[row : row + 1], model.predict(x[row : row + 1, : lengths[row]]))


def test_predictions_of_steps_are_zero_where_there_are_none() -> None:
    model, (x, lengths) = tagger(None), unequal()
    found = model.predict(np.asfortranarray(x), lengths=lengths)
    for row in range(ROWS):
        steps = lengths[row]
        if steps:
            assert np.array_equal(found[row : row + 1, :steps], model.predict(x[row : row + 1, :steps]))
        assert not found[row, steps:].any()


@pytest.mark.parametrize("mask_zero", [False, True])
def test_attention_leaves_out_steps(mask_zero: bool) -> None:
    model = transformer(None, mask_zero=mask_zero, pool=True)
    rng = np.random.default_rng(0)
    x, lengths = rng.integers(0, 12, (ROWS, LONGEST)), rng.integers(1, LONGEST + 1, ROWS)
    found = model.predict(x, lengths=lengths)
    for row in range(ROWS):
        np.testing.assert_allclose(found[row], model.predict(x[row : row + 1, : lengths[row]])[0], rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["encoder", "decoder", "sines", "rotary", "adapted"])
def test_layers_of_transformers_leave_out_steps(name: str) -> None:
    words = fnn.Input((None,), dtype="int64")
    x = (fnn.LoRA(fnn.Embedding(12, 8), rank=2) if name == "adapted" else fnn.Embedding(12, 8))(words)
    if name == "sines":
        x = x + fnn.SinePositionEncoding()(x)
    attention = fnn.MultiHeadAttention(2, 4, rotary=10000.0 if name == "rotary" else None)
    blocks = {"encoder": fnn.TransformerEncoder(16, 2), "decoder": fnn.TransformerDecoder(16, 2)}
    x = fnn.GlobalAveragePooling1D()(blocks.get(name, attention)(x))
    model, rng = fnn.Model(words, fnn.Dense(2)(x), seed=0), np.random.default_rng(0)
    tokens, lengths = rng.integers(0, 12, (ROWS, LONGEST)), rng.integers(1, LONGEST + 1, ROWS)
    found = model.predict(tokens, lengths=lengths)
    for row in range(ROWS):
        alone = model.predict(tokens[row : row + 1, : lengths[row]])[0]
        np.testing.assert_allclose(found[row], alone, rtol=2e-5, atol=1e-6)


def test_losses_are_those_of_a_mask() -> None:
    x, lengths = unequal()
    model, masked = reader(None), None
    layers = [fnn.Bidirectional(fnn.GRU(4, return_sequences=True)), fnn.LayerNorm(), fnn.LSTM(3), fnn.Dense(2)]
    masked = compiled(fnn.Sequential([fnn.Input((LONGEST, 3)), fnn.Masking(), *layers], seed=0))
    masked.set_weights(model.get_weights())
    y, zeros = np.random.default_rng(0).standard_normal((ROWS, 2)), padded(x, lengths)
    found, expected = model.evaluate(x, y, lengths=lengths), masked.evaluate(zeros, y)
    assert found == pytest.approx(expected, rel=1e-6)
    histories = [
        net.fit(given, y, batch_size=7, epochs=3, shuffle=False, verbose=0, **options).history
        for net, given, options in ((model, x, {"lengths": lengths}), (masked, zeros, {}))
    ]
    for name, values in histories[0].items():
        np.testing.assert_allclose(values, histories[1][name], rtol=1e-5)
    for mine, its in zip(model.get_weights(), masked.get_weights(), strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("order", ["C", "F"])
def test_losses_of_steps_are_those_of_a_mask(order: Any) -> None:
    x, lengths = unequal()
    rng = np.random.default_rng(0)
    y, weights = rng.standard_normal((ROWS, LONGEST, 2)), rng.uniform(size=(ROWS, LONGEST))
    model, masked = tagger(None), tagger(LONGEST, fnn.Masking())
    masked.set_weights(model.get_weights())
    given = [np.asarray(each, order=order) for each in (x, y, weights)]
    # batches are cut, and their means are over the same steps
    for batch in (ROWS, 7):
        histories = [
            net.fit(a, b, sample_weight=w, batch_size=batch, shuffle=False, verbose=0, **more).history
            for net, a, b, w, more in (
                (model, *given, {"lengths": lengths}), (masked, padded(x, lengths), y, weights, {}),
            )
        ]  # fmt: skip
        assert histories[0]["mae"] == pytest.approx(histories[1]["mae"], rel=1e-5)
        assert histories[0]["loss"] == pytest.approx(histories[1]["loss"], rel=1e-5)
        for mine, its in zip(model.get_weights(), masked.get_weights(), strict=True):
            np.testing.assert_allclose(mine, its, rtol=1e-4, atol=1e-6)


def test_the_loss_of_several_batches_is_the_mean_over_steps() -> None:
    """Whatever the number of steps to which batches are cut, with weights too."""
    x, lengths = unequal()
    rng = np.random.default_rng(0)
    y, w = rng.standard_normal((ROWS, LONGEST, 2)), rng.uniform(0.1, 2.0, (ROWS, LONGEST))
    w[:4] = 0.0
    model, there = tagger(None), np.arange(LONGEST) < lengths[:, None]
    model.compile(fnn.SGD(1e-30), "mse", metrics=["mae"])
    difference = y - model.predict(x, lengths=lengths)
    squares = (difference**2).mean(axis=-1)
    for given in (None, w):
        wanted = (squares * (1.0 if given is None else w))[there].sum() / there.sum()
        for batch in (3, ROWS):
            found = model.evaluate(x, y, sample_weight=given, lengths=lengths, batch_size=batch)
            assert found["loss"] == pytest.approx(wanted, rel=1e-5)
            assert found["mae"] == pytest.approx(np.abs(difference)[there].mean(), rel=1e-5)
            more: dict[str, Any] = {"sample_weight": given, "lengths": lengths, "batch_size": batch}
            history = model.fit(x, y, validation_data=(x, y, given, lengths), verbose=0, **more).history
            assert [history["loss"][0], history["val_loss"][0]] == pytest.approx([wanted] * 2, rel=1e-5)


def test_a_loss_without_any_step() -> None:
    model, x = tagger(None), sequences(4)
    assert model.evaluate(x, x[..., :2], lengths=np.zeros(10, int))["loss"] == 0.0


def test_batches_of_similar_lengths_contain_each_row_once() -> None:
    x, lengths = unequal()
    model = compiled(
        fnn.Sequential([fnn.Input((None, 3)), fnn.LSTM(2), fnn.Dense(1, kernel_initializer="zeros")], seed=0)
    )
    model.layers[1].trainable = False
    model.compile(fnn.SGD(1e-30), "mae")
    # the mean of the targets, whatever the order: the output is zero
    y = np.arange(1.0, ROWS + 1)[:, None]
    for batch in (5, 8, ROWS, 100):
        history = model.fit(x, y, batch_size=batch, epochs=3, lengths=lengths, verbose=0).history["loss"]
        np.testing.assert_allclose(history, y.mean(), rtol=1e-6)


def test_training_goes_on_where_it_stopped(tmp_path: Path) -> None:
    x, lengths = unequal()
    y = np.random.default_rng(0).standard_normal((ROWS, 2))

    class Stop(fnn.callbacks.Callback):
        """Saves in the middle of an epoch, and stops."""

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if self.model.step == 8:
                self.model.save(tmp_path / "half.fnn")
                raise KeyboardInterrupt

    whole, half = reader(None), reader(None)
    options: dict[str, Any] = {"batch_size": 5, "epochs": 4, "lengths": lengths, "verbose": 0}
    expected = whole.fit(x, y, **options).history
    with pytest.raises(KeyboardInterrupt):
        half.fit(x, y, callbacks=[Stop()], **options)
    other = fnn.load(tmp_path / "half.fnn")
    found = other.fit(x, y, callbacks=[Stop()], resume=True, **options).history
    assert found["loss"][-1] == expected["loss"][-1]
    for mine, its in zip(other.get_weights(), whole.get_weights(), strict=True):
        assert np.array_equal(mine, its)
    for different in (None, np.roll(lengths, 1)):
        with pytest.raises(ValueError, match="resume: the interrupted training had other lengths"):
            other.fit(x, y, resume=True, **{**options, "lengths": different})


def test_validation_has_lengths_too() -> None:
    x, lengths = unequal()
    y = np.ones((ROWS, 2))
    model = reader(None)
    history = model.fit(x, y, lengths=lengths, validation_split=0.25, epochs=1, verbose=0).history
    last = model.evaluate(x[18:], y[18:], lengths=lengths[18:])
    assert history["val_loss"][0] == pytest.approx(last["loss"], rel=1e-6)
    data = (x[:9], y[:9], None, lengths[:9])
    history = model.fit(x, y, lengths=lengths, validation_data=data, epochs=1, verbose=0).history
    assert history["val_loss"][0] == pytest.approx(model.evaluate(x[:9], y[:9], lengths=lengths[:9])["loss"], rel=1e-6)
    with pytest.raises(ValueError, match=r"validation_data: with lengths, expected \(x, y, sample_weight, lengths\)"):
        model.fit(x, y, lengths=lengths, validation_data=(x, y), verbose=0)


def test_short_batches_are_short() -> None:
    model, (x, _) = reader(None), unequal()
    lengths = np.full(ROWS, 4)
    x[:, 4:] = np.nan  # not even looked at
    model.fit(x, np.zeros((ROWS, 2)), lengths=lengths, verbose=0)
    assert np.isfinite(model.predict(x, lengths=lengths)).all()


@pytest.mark.parametrize(
    ("lengths", "error", "message"),
    [
        (np.full(ROWS, LONGEST + 1), ValueError, "from 0 to 19, the steps of x, got 20 in row 0"),
        (np.full(ROWS, -1), ValueError, "got -1 in row 0"),
        (np.ones(ROWS - 1, int), ValueError, r"expected shape \(24,\)"),
        (np.ones(ROWS), TypeError, "expected integers, .* got float64$"),
        (np.ones(ROWS, bool), TypeError, r"expected integers, .* got bool; of a mask .* mask\.sum\(axis=1\)"),
        (np.full(ROWS, 4, object), TypeError, r"expected integers, .* got object; numpy\.array\(lengths, dtype=int\)"),
        (np.full(ROWS, "4"), TypeError, "expected integers, .* got <U1$"),
    ],
)
def test_lengths_that_do_not_fit(lengths: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        reader(None).predict(sequences(LONGEST, ROWS), lengths=lengths)


@pytest.mark.parametrize(
    ("steps", "layers", "message"),
    [
        (None, [fnn.Conv1D(4, 3), fnn.GlobalAveragePooling1D()], "the Conv1D layer .* does not pass masks on"),
        (None, [fnn.LSTM(3, return_sequences=True), fnn.GlobalMaxPooling1D()], "GlobalMaxPooling1D"),
        (None, [fnn.BatchNorm(), fnn.LSTM(2)], "BatchNorm layer .* its statistics are of all steps"),
        (LONGEST, [fnn.LSTM(2)], "leave the number of steps open"),
    ],
)
def test_models_that_take_no_lengths(steps: int | None, layers: list[Any], message: str) -> None:
    model = compiled(fnn.Sequential([fnn.Input((steps, 3)), *layers], seed=0))
    x, lengths = unequal()
    with pytest.raises(ValueError, match=message):
        model.predict(x, lengths=lengths)
    batches = [(x, np.zeros((ROWS, 2)))]
    for call, given in ((model.predict, iter([x])), (model.evaluate, batches), (model.fit, batches)):
        with pytest.raises(ValueError, match=r"lengths: cannot be given with an iterable of batches: give arrays, .*"):
            call(given, lengths=lengths)
