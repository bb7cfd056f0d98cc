"""States that are set to zero inside of sequences: each piece is computed as a sequence of its own."""

import itertools

import numpy as np
import pytest
from numba import njit

import fastnn as fnn
from fastnn import nopython as fnp

RNG = np.random.default_rng(0)
LAYERS = {"SimpleRNN": fnn.SimpleRNN, "GRU": fnn.GRU, "LSTM": fnn.LSTM}
STEPS, FEATURES, UNITS = 9, 3, 5


def starts(rows):
    """Make resets; in one row there is none, in one at the first step, and one after the other."""
    found = np.zeros((rows, STEPS), np.float32)
    found[1, 0] = found[1, 4] = found[1, 5] = 1.0
    for row in range(2, rows):
        found[row] = RNG.uniform(size=STEPS) < 0.4
    return found


def network(layer, dtype="float64", **options):
    x, resets = fnn.Input((STEPS, FEATURES)), fnn.Input(STEPS)
    y = LAYERS[layer](UNITS, return_sequences=True, **options)(x, resets=resets)
    return fnn.Model([x, resets], y, seed=1, dtype=dtype)


def plain(model, layer, **options):
    x = fnn.Input((STEPS, FEATURES))
    found = fnn.Model(x, LAYERS[layer](UNITS, return_sequences=True, **options)(x), dtype="float64")
    found.set_weights(model.get_weights())
    return found


def in_pieces(model, x, resets):
    """Return the states of a sequence whose pieces are predicted each by itself."""
    found = np.zeros((STEPS, UNITS), x.dtype)
    edges = [0, *(np.flatnonzero(resets[1:]) + 1), STEPS]
    for first, last in itertools.pairwise(edges):
        piece = np.zeros((1, STEPS, FEATURES), x.dtype)
        piece[0, : last - first] = x[first:last]
        found[first:last] = model.predict(piece)[0, : last - first]
    return found


@pytest.mark.parametrize("layer", LAYERS)
def test_pieces_are_sequences_of_their_own(layer):
    model, x, resets = network(layer), RNG.normal(size=(6, STEPS, FEATURES)), starts(6)
    alone = plain(model, layer)
    wanted = np.stack([in_pieces(alone, *given) for given in zip(x, resets, strict=True)])
    np.testing.assert_array_equal(model.predict([x, resets]), wanted)
    # any number but 0 resets
    np.testing.assert_array_equal(model.predict([x, -7.5 * resets]), wanted)


@pytest.mark.parametrize("layer", LAYERS)
def test_backwards_the_pieces_end_at_resets(layer):
    model, x, resets = network(layer, go_backwards=True), RNG.normal(size=(4, STEPS, FEATURES)), starts(4)
    forwards = network(layer)
    forwards.set_weights(model.get_weights())
    turned = forwards.predict([x[:, ::-1], resets[:, ::-1]])
    np.testing.assert_array_equal(model.predict([x, resets]), turned)


@pytest.mark.parametrize("layer", LAYERS)
def test_no_gradient_passes_a_reset(layer):
    """Gradients of the weights are the sums of those of the pieces; those of inputs stay in their piece."""
    x, resets = RNG.normal(size=(1, STEPS, FEATURES)), np.zeros((1, STEPS))
    resets[0, 6] = 1.0
    model = network(layer)
    alone = plain(model, layer)
    for each in (model, alone):
        each.compile("sgd", "mse")
    y = RNG.normal(size=(1, STEPS, UNITS))
    whole, of_pieces = model.gradients([x, resets], y), []
    for first, last in ((0, 6), (6, STEPS)):
        piece, target = np.zeros_like(x), np.zeros_like(y)
        piece[:, : last - first] = x[:, first:last]
        target[:, : last - first], weights = y[:, first:last], np.zeros((1, STEPS))
        weights[:, : last - first] = 1.0
        of_pieces.append(alone.gradients(piece, target, sample_weight=weights))
    for found, first, second in zip(whole, *of_pieces, strict=True):
        np.testing.assert_allclose(found, first + second, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("layer", LAYERS)
def test_beside_masks_and_initial_states(layer):
    """Steps that are left out reset nothing; a reset at the first step forgets the initial state."""
    count = 2 if layer == "LSTM" else 1
    x, resets, mask = fnn.Input((STEPS, FEATURES)), fnn.Input(STEPS), fnn.Input(STEPS)
    states = [fnn.Input(UNITS) for _ in range(count)]
    y = LAYERS[layer](UNITS, return_sequences=True, zero_output_for_mask=True)(x, states, mask, resets)
    model = fnn.Model([x, resets, mask, *states], y, seed=1, dtype="float64")
    alone = plain(model, layer)
    given, there = RNG.normal(size=(1, STEPS, FEATURES)), np.ones((1, STEPS))
    there[0, [2, 5]] = 0.0
    anew = np.zeros((1, STEPS))
    anew[0, [0, 2, 6]] = 1.0
    begin = [RNG.normal(size=(1, UNITS)) for _ in states]
    found = model.predict([given, anew, there, *begin])[0]
    kept, cut = np.flatnonzero(there[0]), np.zeros(STEPS)
    cut[: len(kept)] = anew[0, kept]
    shorter = np.zeros((STEPS, FEATURES))
    shorter[: len(kept)] = given[0, kept]
    wanted = np.zeros((STEPS, UNITS))
    wanted[kept] = in_pieces(alone, shorter, cut)[: len(kept)]
    np.testing.assert_array_equal(found, wanted)


def test_training_saving_and_threads(tmp_path):
    x, resets = RNG.normal(size=(64, STEPS, FEATURES)).astype(np.float32), starts(64)
    y = RNG.normal(size=(64, STEPS, UNITS)).astype(np.float32)
    before, weights = fnn.get_num_threads(), []
    try:
        for threads in (1, 2):
            fnn.set_num_threads(threads)
            model = network("GRU", "float32", dropout=0.1, recurrent_dropout=0.1)
            model.compile(fnn.Adam(0.01), "mse")
            losses = model.fit([x, resets], y, batch_size=16, epochs=4, verbose=0).history["loss"]
            weights.append(model.get_weights())
    finally:
        fnn.set_num_threads(before)
    assert losses[-1] < losses[0]
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)
    model.save(tmp_path / "m.safetensors")
    again = fnn.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(again.predict([x, resets]), model.predict([x, resets]))


@njit
def follow(learner, x, resets, y, window, units):
    """Train on a long series in windows, whose states go on; returns the mean loss."""
    h, out, following = np.zeros((1, units), x.dtype), np.zeros((1, window, 1), x.dtype), np.zeros((1, units), x.dtype)
    total, count = 0.0, len(x) // window
    for number in range(count):
        part = slice(number * window, (number + 1) * window)
        given = (x[part].reshape(1, window, x.shape[1]), resets[part].reshape(1, window), h)
        fnp.predict(learner, given, (out, following))
        total += fnp.train_step(learner, given, y[part].reshape(1, window, 1))
        h[:] = following
    return total / count


def test_a_learner_in_windows_with_resets():
    """Truncated backpropagation through time in compiled code: the states go on from window to window."""
    window, units = 8, 12
    x, resets, h = fnn.Input((window, 2)), fnn.Input(window), fnn.Input(units)
    states, last = fnn.GRU(units, return_sequences=True, return_state=True)(x, h, resets=resets)
    model = fnn.Model([x, resets, h], [fnn.Dense(1)(states), last], seed=0)
    model.compile(fnn.Adam(0.01), ["mse", None])
    rng = np.random.default_rng(1)
    # the sum of an episode's inputs so far
    series, anew = rng.uniform(0, 1, (4000, 2)).astype(np.float32), (rng.uniform(size=4000) < 0.1).astype(np.float32)
    sums, total = np.zeros((4000, 1), np.float32), 0.0
    for t in range(4000):
        total = series[t].sum() + (0.0 if anew[t] else total)
        sums[t] = total / 10.0
    learner = model.learner()
    losses = [follow(learner, series, anew, sums, window, units) for _ in range(3)]
    assert losses[-1] < 0.2 * sums.var()
    # without resets the sums cannot be told
    other = model.learner()
    without = [follow(other, series, np.zeros_like(anew), sums, window, units) for _ in range(3)]
    assert without[-1] > 0.8 * sums.var()


def test_wrong_resets():
    x, steps = fnn.Input((STEPS, FEATURES)), fnn.Input(STEPS + 1)
    with pytest.raises(ValueError, match=r"takes resets of shape \(batch, 9\), got \(batch, 10\)"):
        fnn.GRU(4)(x, resets=steps)

    class Sum(fnn.Cell):
        units = FEATURES

        def call(self, inputs, states):
            return inputs + states[0], [inputs + states[0]]

    with pytest.raises(ValueError, match="takes no resets"):
        fnn.RNN(Sum())(x, resets=fnn.Input(STEPS))
