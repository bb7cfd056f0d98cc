"""Networks of sequences, step by step from compiled code: the bits of whole sequences."""

import pickle

import numpy as np
import pytest
from numba import njit, prange

import fastnn as fnn
from fastnn import nopython as fnp

RNG = np.random.default_rng(8)


def forecaster(dtype="float32"):
    layers = [
        fnn.Input((9, 4)), fnn.LSTM(5, return_sequences=True), fnn.Dense(6, "tanh"), fnn.Dropout(0.1),
        fnn.GRU(3, return_sequences=True), fnn.LayerNorm(), fnn.SimpleRNN(17, return_sequences=True), fnn.Dense(2),
    ]  # fmt: skip
    return fnn.Sequential(layers, seed=3, dtype=dtype)


@njit
def walk(net, x, out):
    state = np.zeros((2, 30), x.dtype)
    for t in range(len(x)):
        fnp.step(net, state, x[t], out[t])


@njit(parallel=True)
def walk_all(net, states, x, out):
    for i in prange(len(x)):
        for t in range(x.shape[1]):
            fnp.step(net, states[i], x[i, t], out[i, t])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_steps_have_the_bits_of_sequences(dtype):
    model = forecaster(dtype)
    x = RNG.normal(size=(5, 9, 4)).astype(dtype)
    wanted, net = model.predict(x), model.freeze(stateful=True)
    assert fnp.state(net).shape == (2, 2 * 5 + 3 + 17) and fnp.state(net, 5).shape == (2, 5, 30)
    got = np.zeros_like(wanted)
    walk(net, x[0], got[0])
    assert got[0].tobytes() == wanted[0].tobytes()
    # rows together, from Python and compiled
    state, out = fnp.state(net, 5), np.zeros((5, 2), dtype)
    for t in range(9):
        fnp.step(net, state, x[:, t], out)
        got[:, t] = out
    assert got.tobytes() == wanted.tobytes()
    # a state for each thread's sequence
    got[:] = 0.0
    walk_all(net, np.zeros((5, 2, 30), dtype), x, got)
    assert got.tobytes() == wanted.tobytes()


def test_a_copied_state_goes_on_by_itself():
    model, x = forecaster(), RNG.normal(size=(9, 4)).astype(np.float32)
    net, out = model.freeze(stateful=True), np.zeros(2, np.float32)
    state = fnp.state(net)
    for t in range(4):
        fnp.step(net, state, x[t], out)
    branch, wanted = state.copy(), None
    for mine in (branch, state):
        for t in range(4, 9):
            fnp.step(net, mine, x[t], out)
        wanted = out.copy() if wanted is None else wanted
        assert out.tobytes() == wanted.tobytes()
    again = pickle.loads(pickle.dumps(net))
    fnp.step(again, branch, x[0], out)
    fnp.step(net, state, x[0], out)
    assert branch[0].tobytes() == state[0].tobytes()


def test_a_network_of_integers():
    layers = [
        fnn.Input(6, dtype="int64"), fnn.Embedding(9, 4, mask_zero=True), fnn.GRU(5, reset_after=False),
        fnn.Dense(9, "softmax"),
    ]  # fmt: skip
    model = fnn.Sequential(layers, seed=1)
    net, words = model.freeze(stateful=True), RNG.integers(1, 9, 6)
    state, out = fnp.state(net), np.zeros(9, np.float32)
    for word in words:
        fnp.step(net, state, word, out)
    assert out.tobytes() == model.predict(words[None])[0].tobytes()
    with pytest.raises(ValueError, match="from 0 to 8"):
        fnp.step(net, state, 9, out)


def test_a_step_allocates_nothing_with_a_workspace():
    net = forecaster().freeze(stateful=True)
    state, out, work = fnp.state(net), np.zeros(2, np.float32), fnp.workspace(net, 1)
    fnp.step(net, state, np.ones(4, np.float32), out, work)
    other = fnp.state(net)
    walk(net, np.ones((1, 4), np.float32), np.zeros((1, 2), np.float32))
    fnp.step(net, other, np.ones(4, np.float32), out)
    assert other[0].tobytes() == state[0].tobytes()


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        ([fnn.Input((5, 3)), fnn.Dense(2)], "it has no SimpleRNN, GRU, LSTM or RNN"),
        ([fnn.Input((5, 3)), fnn.GRU(2, go_backwards=True)], "goes backwards"),
        ([fnn.Input((5, 3)), fnn.GRU(2, return_sequences=True), fnn.Flatten(), fnn.Dense(1)], "takes all steps"),
        ([fnn.Input((5, 3)), fnn.Masking(), fnn.GRU(2)], "takes all steps"),
        ([fnn.Input((5, 4)), fnn.MultiHeadAttention(2, 2), fnn.GRU(2)], "takes all steps"),
        ([fnn.Input((5, 3)), fnn.Bidirectional(fnn.GRU(2)), fnn.Reshape((1, 4)), fnn.GRU(2)], "takes all steps"),
    ],
)
def test_networks_that_need_all_steps_are_refused(layers, reason):
    with pytest.raises(ValueError, match=reason):
        fnn.Sequential(layers).freeze(stateful=True)


def test_wrong_arguments():
    plain = fnn.Sequential([fnn.Input(3), fnn.Dense(2)]).freeze()
    net, out = forecaster().freeze(stateful=True), np.zeros(2, np.float32)
    x, state = np.ones(4, np.float32), fnp.state(net)
    with pytest.raises(TypeError, match="this one has no state"):
        fnp.state(plain)
    with pytest.raises(TypeError, match="this one has no state"):
        fnp.step(plain, state, x, out)
    with pytest.raises(TypeError, match="expected a NumPy array of float32"):
        fnp.step(net, state.astype(np.float64), x, out)
    with pytest.raises(ValueError, match=r"expected an array from fastnn\.nopython\.state"):
        fnp.step(net, state[0], x, out)
    with pytest.raises(ValueError, match="rows"):
        fnp.state(net, 0)
    with pytest.raises(ValueError, match="expected"):
        fnp.step(net, np.zeros((2, 29), np.float32), x, out)

    @njit
    def wrong(net, state, x, out):
        fnp.step(net, state, x, out)

    with pytest.raises(ValueError, match=r"fastnn\.nopython\.state"):
        wrong(net, np.zeros((3, 30), np.float32), x, out)
    with pytest.raises(ValueError, match="expected"):
        wrong(net, np.zeros((2, 29), np.float32), x, out)
