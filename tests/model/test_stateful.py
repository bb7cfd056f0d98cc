"""Stateful recurrent layers: what a batch leaves to the next one, against whole sequences and states as arrays."""

import copy
from dataclasses import dataclass
from threading import get_ident

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nopython as fnp
from fastnn import ops, threads
from fastnn.backend.cpu.processor import cost
from fastnn.backend.cpu.threads import thread_pool
from fastnn.layers import ParameterSpec
from fastnn.saving.model_file import describe, model_from
from fastnn.training.state import state_of

ROWS, WINDOW, WINDOWS = 4, 5, 3
RNG = np.random.default_rng(0)
SERIES = RNG.normal(size=(ROWS, WINDOW * WINDOWS, 3))
TARGETS = SERIES.cumsum(axis=1)[:, :, :2] / 4
CUTS = [slice(WINDOW * k, WINDOW * (k + 1)) for k in range(WINDOWS)]


@fnn.config.register("layer")
@dataclass(eq=False, repr=False)
class Outer(fnn.Cell):
    """A state that is a vector, and one that is a matrix."""

    units: int

    @property
    def state_size(self):
        return (self.units, (self.units, 2))

    def parameters(self, shape):
        make = fnn.initializers.get("glorot_uniform")
        return (ParameterSpec("kernel", (shape[-1], self.units), make),)

    def call(self, inputs, states, kernel):
        h, matrix = states
        h = ops.tanh(inputs @ kernel + 0.5 * h + ops.sum(matrix, axis=2))
        return h, [h, 0.5 * matrix + 0.1 * ops.expand_dims(h, 2)]


LAYERS = {
    "simple": lambda **options: fnn.SimpleRNN(6, **options),
    "gru": lambda **options: fnn.GRU(6, **options),
    "lstm": lambda **options: fnn.LSTM(6, **options),
    "cell": lambda **options: fnn.RNN(Outer(6), **options),
    "backwards": lambda **options: fnn.GRU(6, go_backwards=True, **options),
    "both": lambda **options: fnn.Bidirectional(fnn.LSTM(3, **options)),
}


def windows(series=SERIES):
    """Return the windows of all rows, those of a batch one after the other."""
    return np.concatenate([series[:, cut] for cut in CUTS])


def joined(rows):
    """Return windows as sequences again."""
    return np.concatenate(np.split(rows, WINDOWS), axis=1)


def network(kind, steps=WINDOW, dtype="float32", **options):
    layers = [
        fnn.Input((steps, 3)),
        LAYERS[kind](return_sequences=True, **options),
        LAYERS[kind](return_sequences=True, **options),
        fnn.Dense(2),
    ]
    model = fnn.Sequential(layers, seed=1, dtype=dtype)
    model.compile(fnn.Adam(0.02), "mse")
    return model


def stateful(kind="lstm", **options):
    return network(kind, stateful=True, **options)


def with_arrays(kind, dtype="float32"):
    """Return the same network with states as inputs and outputs, and the shapes of the states."""
    x = fnn.Input((WINDOW, 3))
    shapes = [tuple(one.shape) for one in LAYERS[kind](return_state=True)(x)[1:]]
    inputs, found, y = [x], [], x
    for _ in range(2):
        given = [fnn.Input(shape) for shape in shapes]
        y, *states = LAYERS[kind](return_sequences=True, return_state=True)(y, initial_state=given)
        inputs += given
        found += states
    model = fnn.Model(inputs, [fnn.Dense(2)(y), *found], seed=1, dtype=dtype)
    model.compile(fnn.Adam(0.02), ["mse", *[None] * len(found)])
    return model, shapes * 2


def same_weights(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["simple", "gru", "lstm", "cell"])
def test_windows_are_the_whole_sequence(kind, dtype):
    """Bit for bit, in one call, batch by batch, from an iterable, and of any length."""
    whole = network(kind, WINDOW * WINDOWS, dtype).predict(SERIES)
    model = stateful(kind, dtype=dtype)
    assert np.array_equal(joined(model.predict(windows(), batch_size=ROWS)), whole)
    assert not np.array_equal(joined(model.predict(windows())), whole)  # it goes on
    model.reset_states()
    assert np.array_equal(np.concatenate([model.predict(SERIES[:, cut]) for cut in CUTS], axis=1), whole)
    model.reset_state()
    assert np.array_equal(joined(model.predict(iter([SERIES[:, cut] for cut in CUTS]))), whole)
    lengths = stateful(kind, steps=None, dtype=dtype)
    found = [lengths.predict(SERIES[:, first:last]) for first, last in ((0, 2), (2, 9), (9, 15))]
    assert np.array_equal(np.concatenate(found, axis=1), whole)


@pytest.mark.parametrize("kind", LAYERS)
def test_training_is_that_of_states_as_arrays(kind):
    """Predictions and steps of training have the bits of the network that is given states, and returns them."""
    model, (plain, shapes) = stateful(kind), with_arrays(kind)
    states = [np.zeros((ROWS, *shape), np.float32) for shape in shapes]
    for cut in CUTS * 2:
        given, losses = [SERIES[:, cut], *states], []
        _, *states = plain.predict(given)
        losses.append(plain.train_on_batch(given, [TARGETS[:, cut], *[None] * len(states)])["loss"])
        losses.append(model.train_on_batch(SERIES[:, cut], TARGETS[:, cut])["loss"])
        assert losses[0] == losses[1]
    assert same_weights(model, plain)
    for cut in CUTS:
        wanted, *states = plain.predict([SERIES[:, cut], *states])
        assert np.array_equal(model.predict(SERIES[:, cut]), wanted)
    fitted = stateful(kind)
    fitted.fit(windows(), windows(TARGETS), batch_size=ROWS, shuffle=False, epochs=2, verbose=0)
    assert same_weights(fitted, model)
    listed = stateful(kind)
    listed.fit([(SERIES[:, cut], TARGETS[:, cut]) for cut in CUTS], epochs=2, verbose=0)
    assert same_weights(listed, model)


def test_gradients_do_not_go_back_beyond_the_batch():
    """They are those of given states; they leave the states, and do not decide their size."""
    model, (plain, shapes) = stateful("gru"), with_arrays("gru")
    states = [np.zeros((ROWS, *shape), np.float32) for shape in shapes]
    for cut in CUTS:
        found = [model.gradients(SERIES[:, cut], TARGETS[:, cut]) for _ in range(2)]
        wanted = plain.gradients([SERIES[:, cut], *states], [TARGETS[:, cut], None, None])
        for first, second, one in zip(*found, wanted, strict=True):
            assert np.array_equal(first, one) and np.array_equal(second, one)
        _, *states = plain.predict([SERIES[:, cut], *states])
        model.predict(SERIES[:, cut])
    model.reset_states()
    model.gradients(SERIES[:3, :WINDOW], TARGETS[:3, :WINDOW])
    model.input_gradients(SERIES[:3, :WINDOW], TARGETS[:3, :WINDOW])
    model.predict(SERIES[:2, :WINDOW])


def test_masks_and_resets():
    """States are carried over steps that a mask leaves out, to the next window, too; resets set them to zero."""
    series, begins = SERIES.copy(), RNG.random((ROWS, WINDOW * WINDOWS)) < 0.2
    series[0, 3:8] = series[1, 10:] = series[2, :5] = 0.0
    found = []
    for steps, options in ((WINDOW * WINDOWS, {}), (WINDOW, {"stateful": True})):
        x, anew = fnn.Input((steps, 3)), fnn.Input(steps)
        y = fnn.LSTM(4, return_sequences=True, **options)(fnn.Masking()(x), resets=anew)
        model = fnn.Model([x, anew], fnn.Dense(2)(y), seed=1)
        given = [(series, begins)] if not options else [(series[:, cut], begins[:, cut]) for cut in CUTS]
        found.append(np.concatenate([model.predict(list(one)) for one in given], axis=1))
    assert np.array_equal(*found)


def test_returned_states_and_dropout():
    """Layers that return their states pass on the same; with dropout training repeats with the same seed."""
    x = fnn.Input((WINDOW, 3))
    layer = fnn.GRU(4, return_state=True, stateful=True)
    y, last = layer(x)
    model = fnn.Model(x, [fnn.Dense(2)(y), last], seed=1)
    states = [model.predict(SERIES[:, cut])[1] for cut in CUTS]
    before, plain = fnn.Input(4), fnn.GRU(4)
    following = fnn.Model([x, before], plain(x, initial_state=before))
    following.set_weights(model.get_weights(layer))
    assert np.array_equal(states[2], following.predict([SERIES[:, CUTS[2]], states[1]]))
    one, other = (stateful("gru", dropout=0.3, recurrent_dropout=0.2) for _ in range(2))
    for model in (one, other):
        model.fit(windows(), windows(TARGETS), batch_size=ROWS, shuffle=False, epochs=2, verbose=0)
    assert same_weights(one, other)


def test_resets_of_one_layer():
    """`layer.reset_states` sets its own states to zero, in all models; those of all layers free the size."""
    first, second = (fnn.GRU(3, stateful=True, return_sequences=True) for _ in range(2))
    x = fnn.Input((WINDOW, 3))
    middle = first(x)
    model, inner = fnn.Model(x, second(middle), seed=1), fnn.Model(x, middle)
    inner.set_weights(model.get_weights(first))
    start = inner.predict(SERIES[:, CUTS[0]])
    model.predict(SERIES[:, CUTS[0]])
    kept, went_on = copy.deepcopy(second), model.predict(SERIES[:, CUTS[0]])
    first.reset_states()
    assert kept.times_reset == second.times_reset
    assert np.array_equal(inner.predict(SERIES[:, CUTS[0]]), start)
    partly = model.predict(SERIES[:, CUTS[0]])
    assert not np.array_equal(partly, went_on)
    with pytest.raises(ValueError, match="states of 4 samples"):
        model.predict(SERIES[:2, CUTS[0]])
    first.reset_states()
    second.reset_states()
    fresh = model.predict(SERIES[:2, CUTS[0]])
    assert not np.array_equal(fresh, partly[:2])
    both = fnn.Bidirectional(fnn.GRU(3, stateful=True))
    around = fnn.Sequential([fnn.Input((WINDOW, 3)), both])
    start = around.predict(SERIES[:, CUTS[0]])
    both.reset_states()
    assert np.array_equal(around.predict(SERIES[:, CUTS[0]]), start)


def test_models_have_states_of_their_own():
    """A model within another one shares weights, not states; a layer that is called twice has states for each call."""
    inner = fnn.Sequential([fnn.Input((WINDOW, 3)), fnn.GRU(3, stateful=True)], seed=1)
    x = fnn.Input((WINDOW, 3))
    outer = fnn.Model(x, inner(x))
    start = inner.predict(SERIES[:, CUTS[0]])
    assert np.array_equal(outer.predict(SERIES[:, CUTS[0]]), start)
    assert np.array_equal(outer.predict(SERIES[:, CUTS[1]]), inner.predict(SERIES[:, CUTS[1]]))
    layer, two = fnn.GRU(3, stateful=True), fnn.Input((WINDOW, 3))
    twice = fnn.Model([x, two], [layer(x), layer(two)])
    twice.set_weights(inner.get_weights())
    inner.reset_states()
    for cut in CUTS:
        a, b = twice.predict([SERIES[:, cut], np.zeros((ROWS, WINDOW, 3))])
        assert np.array_equal(a, inner.predict(SERIES[:, cut])) and not b.any()


def test_evaluation_goes_on_and_validation_does_not():
    """`evaluate` moves states as `predict` does; validation begins with zeros, and leaves those of the training."""
    model, other = stateful(), stateful()
    losses = [model.evaluate(SERIES[:, cut], TARGETS[:, cut])["loss"] for cut in CUTS]
    errors = network("lstm", WINDOW * WINDOWS).predict(SERIES) - TARGETS
    assert losses == pytest.approx([np.mean(errors[:, cut] ** 2) for cut in CUTS], rel=1e-5)
    assert other.evaluate(windows(), windows(TARGETS), batch_size=ROWS)["loss"] == pytest.approx(np.mean(losses))
    assert np.array_equal(model.predict(SERIES[:, CUTS[0]]), other.predict(SERIES[:, CUTS[0]]))
    trained, validated, split = stateful(), stateful(), stateful()
    held = SERIES[:2, :WINDOW], TARGETS[:2, :WINDOW]  # fewer rows than the training's batches
    both = [np.concatenate([windows(part), windows(part)]) for part in (SERIES, TARGETS)]
    options = {"batch_size": ROWS, "shuffle": False, "epochs": 2, "verbose": 0}
    trained.fit(windows(), windows(TARGETS), **options)
    history = validated.fit(windows(), windows(TARGETS), validation_data=held, **options).history
    assert same_weights(trained, validated)
    assert np.array_equal(trained.predict(SERIES[:, CUTS[0]]), validated.predict(SERIES[:, CUTS[0]]))
    validated.reset_states()
    assert history["val_loss"][-1] == validated.evaluate(*held)["loss"]
    split.fit(*both, validation_split=0.5, **options)
    assert same_weights(trained, split)


def test_callbacks_reset_states():
    """Between epochs, so that each begins with zeros."""

    class Anew(fnn.Callback):
        def on_epoch_begin(self, epoch, logs):
            self.model.reset_states()

    by_callback, by_hand = stateful(), stateful()
    options = {"batch_size": ROWS, "shuffle": False, "verbose": 0}
    by_callback.fit(windows(), windows(TARGETS), epochs=3, callbacks=Anew(), **options)
    for _ in range(3):
        by_hand.reset_states()
        by_hand.fit(windows(), windows(TARGETS), **options)
    assert same_weights(by_callback, by_hand)


@pytest.mark.parametrize("kind", ["gru", "cell"])
def test_resumed_training(kind, tmp_path):
    """An interrupted training goes on bit for bit, also from a file or a copy, which have the states."""

    class Stop(fnn.Callback):
        every_batch = True

        def __init__(self, left):
            super().__init__()
            self.left = left

        def on_train_batch_end(self, batch, logs):
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt

    whole, model = stateful(kind), stateful(kind)
    options = {"batch_size": ROWS, "shuffle": False, "verbose": 0, "epochs": 2}
    whole.fit(windows(), windows(TARGETS), **options)
    with pytest.raises(KeyboardInterrupt):
        model.fit(windows(), windows(TARGETS), callbacks=Stop(5), **options)
    model.save(tmp_path / "model.safetensors")
    others = [fnn.load(tmp_path / "model.safetensors"), copy.deepcopy(model), model]
    wanted = whole.predict(SERIES[:, CUTS[0]])
    for other in others:
        other.fit(windows(), windows(TARGETS), resume=True, callbacks=Stop(0), **options)
        assert same_weights(other, whole)
        assert np.array_equal(other.predict(SERIES[:, CUTS[0]]), wanted)
    bare = fnn.load(tmp_path / "model.safetensors", compile=False)
    bare.predict(SERIES[:2, :WINDOW])  # no states, so any size


def test_files_are_checked():
    model = stateful("gru")
    model.predict(SERIES[:, CUTS[0]])
    state = state_of(model)
    tensors, document = describe(state, "Sequential", "model")
    for samples, message in ((0, "samples"), (True, "samples"), (5, r"expected float32 \(5, 6\)")):
        wrong = {**document, "training": {**document["training"], "samples": samples}}
        with pytest.raises(ValueError, match=message):
            model_from(fnn.Sequential, tensors, wrong, lambda place, kind: fnn.Sequential)


@pytest.mark.parametrize("kind", ["lstm", "cell"])
def test_threads_do_not_change_bits(kind, monkeypatch):
    monkeypatch.setattr(cost, "PART_NANOSECONDS", 1e-6)
    monkeypatch.setattr(thread_pool, "WAKE_NANOSECONDS", 0.0)
    found = []
    for count in (1, 2, 5):
        monkeypatch.setattr(threads, "_chosen", count)
        model = stateful(kind)
        model.fit(windows(), windows(TARGETS), batch_size=ROWS, shuffle=False, epochs=2, verbose=0)
        found.append([*model.get_weights(), model.predict(SERIES[:, CUTS[0]])])
    for others in found[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(found[0], others, strict=True))


def test_several_models_at_once():
    models = [stateful(), stateful()]
    fnn.train_many(models, windows(), windows(TARGETS), batch_size=ROWS, shuffle=False, epochs=2)
    alone = stateful()
    alone.fit(windows(), windows(TARGETS), batch_size=ROWS, shuffle=False, epochs=2, verbose=0)
    assert all(same_weights(model, alone) for model in models)


def test_steps_in_compiled_code_and_generation():
    """Networks that go step by step have states of their own, and leave the model's."""
    model = stateful("gru", steps=WINDOW * WINDOWS)
    net, wanted = model.freeze(stateful=True), network("gru", WINDOW * WINDOWS).predict(SERIES)
    states, out = fnp.state(net), np.zeros(2, np.float32)
    for step in range(WINDOW * WINDOWS):
        fnp.step(net, states, SERIES[0, step].astype(np.float32), out)
        np.testing.assert_allclose(out, wanted[0, step], rtol=1e-5, atol=1e-6)
    layers = [fnn.Input(8, dtype="int64"), fnn.Embedding(9, 4), fnn.LSTM(5, stateful=True, return_sequences=True)]
    writer = fnn.Sequential([*layers, fnn.Dense(9, activation="softmax")], seed=1)
    tokens = np.array([[1, 2, 3, 4, 5, 6, 7, 8]])
    writer.predict(tokens)
    before = copy.deepcopy(writer._runtime.states.arrays())
    texts = [writer.generate([3, 1], 5, seed=0, cache=cache) for cache in (True, False)]
    assert np.array_equal(*texts)
    assert all(map(np.array_equal, before, writer._runtime.states.arrays()))


def test_batches_of_other_sizes_are_refused():
    model = stateful()
    model.compile("sgd", "mse", metrics=["mae"])
    x, y = windows(), windows(TARGETS)
    before = model.get_weights()
    for run, message in (
        (lambda: model.fit(x, y, batch_size=ROWS, verbose=0), r"shuffle: layer 'lstm' is stateful.*shuffle=False"),
        (lambda: model.fit(x, y, batch_size=5, shuffle=False, verbose=0), "multiple of 5 rows, got 12: leave out the"),
        (lambda: model.fit(x, y, batch_size=5, steps_per_epoch=1, shuffle=False, verbose=0), "multiple of 5 rows"),
        (lambda: model.predict(x, batch_size=8), "multiple of 8 rows"),
        (lambda: model.evaluate(x, y, batch_size=8), "multiple of 8 rows"),
        (lambda: model.fit(x, y, batch_size=4, shuffle=False, validation_data=(x[:6], y[:6]), verbose=0),
         "validation x.*multiple of 4 rows, got 6"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            run()
    model.predict(x[:ROWS])
    for run in (
        lambda: model.predict(x[:3]),
        lambda: model.predict(x, batch_size=6),
        lambda: model.evaluate(x[:3], y[:3]),
        lambda: model.train_on_batch(x[:3], y[:3]),
        lambda: model.gradients(x[:3], y[:3]),
        lambda: model.predict(iter([x[:3]])),
        lambda: model.fit(x, y, batch_size=3, shuffle=False, verbose=0),
        lambda: model.fit([(x[:3], y[:3])], verbose=0),
    ):
        with pytest.raises(ValueError, match=r"states of 4 samples.*reset_states\(\)"):
            run()
    assert all(map(np.array_equal, before, model.get_weights()))
    assert model.predict(x).shape == (12, WINDOW, 2)  # rows at a time are those of the states
    model.reset_states()
    model.fit(x, y, batch_size=3, shuffle=False, verbose=0)


def test_what_takes_no_states():
    model = stateful(steps=None)
    known, x = stateful(), fnn.Input((WINDOW, 3))
    stateless = fnn.LSTM(3)
    stateless.reset_states()
    network("lstm").reset_states()
    none = "lstm' is stateful, and a function of symbols keeps no states"
    for run, message in (
        (lambda: known.freeze(), r"layer 'lstm' is stateful.*freeze\(stateful=True\)"),
        (lambda: known.learner(), "layer 'lstm' is stateful.*initial_state="),
        (lambda: fnn.function(x, known(x)), none),
        (lambda: fnn.train_function(x, ops.mean(known(x)), optimizer="sgd"), none),
        (lambda: model.predict(SERIES, lengths=[3] * ROWS), "lengths: layer 'lstm' is stateful"),
        (lambda: fnn.GRU(3, stateful="yes"), "stateful"),
        (lambda: fnn.Input((WINDOW, 3), batch_size=4), "stateful layers take that of the first"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            run()
    given = fnn.Input(3)
    plain = fnn.Model([x, given], fnn.GRU(3, stateful=True)(x, initial_state=given))  # it has no states of its own
    plain.freeze()
    assert np.array_equal(*(plain.predict([SERIES[:, :WINDOW], np.ones((ROWS, 3))]) for _ in range(2)))


def test_a_run_that_is_interrupted_keeps_its_states():
    model = stateful()
    model.predict(SERIES[:, CUTS[0]])
    model._runtime.running = get_ident()
    with pytest.raises(RuntimeError, match="stateful layers: nothing can be run there"):
        model.predict(SERIES[:, CUTS[1]])
    with pytest.raises(RuntimeError, match="reset_states"):
        model.reset_states()
    model._runtime.running = 0
    model.reset_states()
