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
    net, out = model.freeze(stateful=True), np.zeros(9, np.float32)
    for words in (RNG.integers(1, 9, 6), np.array([3, 0, 2, 0, 0, 7]), np.array([0, 0, 4, 5, 0, 0])):
        state = fnp.state(net)
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
        ([fnn.Input((5, 3)), fnn.Dense(2)], "it has no recurrent layer that goes step by step"),
        ([fnn.Input((5, 3)), fnn.GRU(2, go_backwards=True)], "goes backwards"),
        ([fnn.Input((5, 3)), fnn.GRU(2, return_sequences=True), fnn.Flatten(), fnn.Dense(1)], "takes all steps"),
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


def writer(dtype="float32", steps=70):
    """A transformer that is small enough for rows of few steps, and has more steps than a block of keys."""
    x = fnn.Input(steps, dtype="int64")
    h = fnn.Embedding(7, 12)(x)
    h = fnn.Add()([h, fnn.PositionEmbedding(steps)(h)])
    for attention in (fnn.MultiHeadAttention(3, 4, causal=True), fnn.GroupedQueryAttention(5, 4, 2, causal=True)):
        h = fnn.Add()([h, attention(fnn.LayerNorm()(h))])
    h = fnn.GRU(5, return_sequences=True)(h)
    model = fnn.Model(x, fnn.Dense(7, "softmax")(h), dtype=dtype)
    rng = np.random.default_rng(4)
    model.set_weights([rng.normal(0, 0.4, w.shape).astype(dtype) for w in model.get_weights()])
    return model


@njit
def write(net, state, x, out):
    for t in range(len(x)):
        fnp.step(net, state, x[t], out[t])


@njit(parallel=True)
def write_all(net, states, x, out):
    for i in prange(len(x)):
        write(net, states[i], x[i], out[i])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_steps_of_attention_have_the_bits_of_sequences(dtype):
    model = writer(dtype)
    x = RNG.integers(0, 7, (4, 70))
    wanted, net = model.predict(x), model.freeze(stateful=True)
    got = np.zeros_like(wanted)
    write(net, fnp.state(net), x[0], got[0])
    assert got[0].tobytes() == wanted[0].tobytes()
    got[:] = 0.0
    write_all(net, np.stack([fnp.state(net)] * 4), x, got)
    assert got.tobytes() == wanted.tobytes()
    # rows together, which are at different steps
    state, out = fnp.state(net, 4), np.zeros((4, 7), dtype)
    for row in range(4):
        one = fnp.state(net)
        write(net, one, x[row, : 9 * row], got[row])
        state[:, row] = one
    for t in range(70 - 27):
        fnp.step(net, state, x[np.arange(4), t + 9 * np.arange(4)], out)
        for row in range(4):
            assert out[row].tobytes() == wanted[row, t + 9 * row].tobytes()


def test_a_transformer_goes_on_from_a_copied_state():
    net, x = writer().freeze(stateful=True), RNG.integers(0, 7, 30)
    state, out = fnp.state(net), np.zeros((30, 7), np.float32)
    write(net, state, x[:10], out)
    branches = np.stack([state] * 3)
    several = np.zeros((3, 20, 7), np.float32)
    write_all(net, branches, np.stack([x[10:], x[:20], x[10:]]), several)
    write(net, state, x[10:], out[10:])
    assert several[0].tobytes() == several[2].tobytes() == out[10:].tobytes() != several[1].tobytes()
    assert branches[2].tobytes() == state.tobytes()


def test_a_sequence_that_is_full():
    net, x = writer(steps=5).freeze(stateful=True), np.arange(5)
    state, out = fnp.state(net), np.zeros((5, 7), np.float32)
    write(net, state, x, out)
    before = state.copy()
    for call in (fnp.step, write):
        with pytest.raises(ValueError, match="no room for another step: the sequence in row 0 has had 5"):
            call(net, state, 3 if call is fnp.step else x[3:4], out[0] if call is fnp.step else out[:1])
        assert state.tobytes() == before.tobytes()
    several = fnp.state(net, 3)
    several[:, 1] = state
    with pytest.raises(ValueError, match="in row 1"):
        fnp.step(net, several, np.zeros(3, np.int64), out[:3])
    for wrong in (-1.0, 0.5, np.nan, np.inf):
        state[0, 0] = wrong
        with pytest.raises(ValueError, match="expected a number of steps so far from 0 to 4 in row 0"):
            fnp.step(net, state, 3, out[0])


def test_results_apart_from_the_state():
    net = writer().freeze(stateful=True)
    state = fnp.state(net)
    with pytest.raises(ValueError, match="memory apart from that of the state"):
        fnp.step(net, state, 1, state[1, :7])

    @njit
    def wrong(net, state):
        fnp.step(net, state, 1, state[1, :7])

    with pytest.raises(ValueError, match="memory apart from that of the state"):
        wrong(net, state)


def test_attention_that_needs_all_steps_is_refused():
    def refused(build, reason):
        x = fnn.Input((6, 8))
        with pytest.raises(ValueError, match=f"stateful=True.*{reason}"):
            fnn.Model(x, build(x)).freeze(stateful=True)

    refused(lambda x: fnn.MultiHeadAttention(2, 4)(x), "not causal")
    refused(lambda x: fnn.GroupedQueryAttention(2, 4, 1)(x), "not causal")
    refused(lambda x: fnn.MultiHeadAttention(2, 4, causal=True)([x, fnn.Dense(8)(x)]), "attends to another sequence")
    refused(lambda x: fnn.GRU(3)(fnn.Bidirectional(fnn.GRU(4, return_sequences=True))(x)), "takes all steps")
    refused(lambda x: fnn.GRU(3)(fnn.GroupNorm(2)(x)), "takes all steps")
    refused(lambda x: fnn.GRU(3)(fnn.ops.softmax(x, axis=0)), "takes all steps")
    words = fnn.Input(6, dtype="int64")
    with pytest.raises(ValueError, match=r"stateful=True.*takes a mask"):
        x = fnn.Embedding(9, 8, mask_zero=True)(words)
        fnn.Model(words, fnn.MultiHeadAttention(2, 4, causal=True)(fnn.LayerNorm()(x))).freeze(stateful=True)
    for combine in (
        lambda x: fnn.Add()([fnn.GRU(8, return_sequences=True)(x), fnn.GRU(8)(x)]),
        lambda x: fnn.Multiply()([x, fnn.LSTM(8)(x)]),
        lambda x: fnn.ops.matmul(x, fnn.Reshape((8, 4))(fnn.GRU(32)(x))),
        lambda x: fnn.MultiHeadAttention(2, 4, causal=True)(fnn.Add()([x, fnn.Dense(8)(fnn.GRU(3)(x))])),
    ):
        refused(combine, "takes all steps")
    refused(lambda x: fnn.GRU(3)(x @ fnn.ops.transpose(x, (0, 2, 1))), "takes all steps")
    x, mask = fnn.Input((6, 8)), fnn.Input(6)
    with pytest.raises(ValueError, match="several inputs"):
        fnn.Model([x, mask], fnn.MultiHeadAttention(2, 4, causal=True)([x, x, x, mask])).freeze(stateful=True)
    with pytest.raises(ValueError, match="gradients"):
        writer().freeze(stateful=True, gradients=True)
    with pytest.raises(ValueError, match="c_function"):
        fnp.c_function(writer().freeze(stateful=True))


@pytest.mark.parametrize("layer", [fnn.SimpleRNN, fnn.GRU, fnn.LSTM])
def test_masked_tokens_carry_states_on(layer):
    """Also behind layers that pass masks on, and where states of each step are returned."""
    words = fnn.Input(9, dtype="int64")
    x = fnn.Embedding(7, 5, mask_zero=True)(words)
    x = fnn.Add()([x, fnn.PositionEmbedding(9)(x)])
    h = layer(6, return_sequences=True)(fnn.Dropout(0.1)(fnn.LayerNorm()(x)))
    h = layer(4, return_sequences=True, zero_output_for_mask=True)(h)
    model = fnn.Model(words, fnn.Dense(7)(h), seed=3)
    net, given = model.freeze(stateful=True), RNG.integers(0, 3, (5, 9))
    wanted, got = model.predict(given), np.zeros((5, 9, 7), np.float32)
    state, out = fnp.state(net, 5), np.zeros((5, 7), np.float32)
    for t in range(9):
        fnp.step(net, state, np.ascontiguousarray(given[:, t]), out)
        got[:, t] = out
    assert got.tobytes() == wanted.tobytes()
    prompt = [1, 0, 2]
    found = model.generate(prompt, 6, temperature=0.0)
    assert (found == model.generate(prompt, 6, temperature=0.0, cache=False)).all()


def test_steps_that_are_left_out():
    model = fnn.Sequential([fnn.Input((8, 3)), fnn.Masking(), fnn.LSTM(5), fnn.Dense(2)], seed=0)
    x = RNG.normal(size=(8, 3)).astype(np.float32)
    x[[0, 3, 4, 7]] = 0.0
    net, out = model.freeze(stateful=True), np.zeros(2, np.float32)
    state = fnp.state(net)
    for step in x:
        fnp.step(net, state, step, out)
    assert out.tobytes() == model.predict(x[None])[0].tobytes()
