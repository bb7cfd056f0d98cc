"""Recurrent layers: against plain NumPy and differences, and the same bits in every way."""

from random import Random

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nopython as fnp
from fastnn import threads
from fastnn.backend.cpu.processor import cost
from fastnn.backend.cpu.threads import thread_pool
from sequences import differences, random_cell, random_network, run


def seeds(quick, slow):
    return [*range(quick), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(quick, slow))]


@pytest.fixture(autouse=True)
def small_work_is_cut(monkeypatch):
    monkeypatch.setattr(cost, "PART_NANOSECONDS", 1e-6)
    monkeypatch.setattr(thread_pool, "WAKE_NANOSECONDS", 0.0)
    # what does not choose a number of threads runs on one
    monkeypatch.setattr(threads, "_chosen", 1)


@pytest.mark.parametrize("block", seeds(3, 20))
def test_values_of_layers(block):
    """Ten layers each, with masks and initial states in some, in both dtypes, and rows by themselves."""
    for seed in range(10 * block, 10 * block + 10):
        random, rng = Random(seed), np.random.default_rng(seed)
        layer = random_cell(random, return_sequences=random.random() < 0.6, return_state=True)
        n, steps, features = random.choice([1, 2, 5, 26]), random.randint(1, 8), random.choice([1, 3, 17])
        x_in = fnn.Input((steps, features))
        given = [rng.normal(size=(n, steps, features)).astype(np.float32)]
        states = mask = mask_in = states_in = None
        if random.random() < 0.5:
            states = [rng.normal(size=(n, layer.units)).astype(np.float32) for _ in range(layer.cell.states)]
            states_in = [fnn.Input(layer.units) for _ in states]
            given += states
        if random.random() < 0.5:
            mask = (rng.random((n, steps)) < 0.6).astype(np.float32)
            mask_in = fnn.Input(steps)
            given.append(mask)
        results = layer(x_in, initial_state=states_in, mask=mask_in)
        inputs = [x_in, *(states_in or []), *([] if mask is None else [mask_in])]
        for dtype, tolerance in (("float64", 1e-11), ("float32", 3e-5)):
            model = fnn.Model(inputs, list(results), dtype=dtype)
            if dtype == "float64":
                weights = [0.5 * rng.normal(size=weight.shape).astype(np.float32) for weight in model.get_weights()]
            model.set_weights(weights)
            got = model.predict(given)
            expected = run(layer, [np.float64(weight) for weight in weights], given[0], states, mask)
            for one, other in zip(got, expected, strict=True):
                np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance, err_msg=str(layer))
            alone = [model.predict([part[row : row + 1] for part in given]) for row in range(n)]
            for number, one in enumerate(got):
                assert np.concatenate([row[number] for row in alone]).tobytes() == one.tobytes(), layer


@pytest.mark.parametrize("seed", seeds(16, 200))
def test_networks(seed):
    network = random_network(seed)
    x, y = network.x, network.y
    model = network.model("float64")
    gradients = model.gradients(x, y)
    differences(
        model, lambda: model.test_on_batch(x, y)["loss"], model.get_weights(), model.set_weights, gradients, network
    )
    found = model.input_gradients(x, y)
    found = found if isinstance(found, list) else [found]
    if not any(isinstance(layer, fnn.Masking) for layer in network.layers):  # zeros are no steps there
        moved = {}
        differences(
            model, lambda: model.test_on_batch(moved["x"], y)["loss"], x, lambda arrays: moved.update(x=arrays), found,
            network,
        )  # fmt: skip
    # float32 is close to float64
    x, y = [array.astype(np.float32) for array in x], y.astype(np.float32)
    exact, single = model.predict(x), network.model("float32").predict(x)
    atol = 1e-4 * max(1.0, np.abs(exact).max())
    np.testing.assert_allclose(single, exact, rtol=1e-3, atol=atol, err_msg=str(network))
    # any number of threads computes the same bits, and so does compiled code
    for dtype, counts in (("float32", (1, 2, 3, 5)), ("float64", (3, 1))):
        wanted = None
        rows = [array.astype(dtype) for array in x]
        for count in counts:
            fnn.set_num_threads(count)
            model = network.model(dtype)
            predictions = model.predict(x, batch_size=len(y))
            frozen = np.full_like(predictions, np.nan)
            fnp.predict(model.freeze(), rows[0] if len(rows) == 1 else tuple(rows), frozen)
            assert frozen.tobytes() == predictions.tobytes(), network
            losses = [model.train_on_batch(x, y)["loss"] for _ in range(2)]
            bits = [predictions.tobytes(), losses, [weight.tobytes() for weight in model.get_weights()]]
            wanted = bits if wanted is None else wanted
            assert bits == wanted, f"{network} on {count} threads, {dtype}"
        twin = network.model(dtype)
        learner = twin.learner()
        given = rows[0] if len(rows) == 1 else tuple(rows)
        assert [fnp.train_step(learner, given, y.astype(dtype)) for _ in range(2)] == losses
        twin.update_from(learner)
        assert [weight.tobytes() for weight in twin.get_weights()] == wanted[2], network


# --- what each option does --------------------------------------------------------------------------------------

RNG = np.random.default_rng(4)
X = RNG.normal(size=(6, 5, 3))


@pytest.mark.parametrize("kind", [fnn.SimpleRNN, fnn.GRU, fnn.LSTM])
def test_weights_are_those_of_keras(kind):
    gates = {fnn.SimpleRNN: 1, fnn.GRU: 3, fnn.LSTM: 4}[kind]
    model = fnn.Sequential([fnn.Input((5, 3)), kind(4)], seed=1)
    kernel, recurrent, bias = model.get_weights()
    assert kernel.shape == (3, 4 * gates) and recurrent.shape == (4, 4 * gates)
    assert bias.shape == ((2, 12) if kind is fnn.GRU else (4 * gates,))
    np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(4), atol=1e-6)
    assert np.abs(kernel).max() <= np.sqrt(6.0 / (3 + 4 * gates))
    if kind is fnn.LSTM:
        np.testing.assert_array_equal(bias, np.repeat([0.0, 1.0, 0.0, 0.0], 4))
        plain = fnn.Sequential([fnn.Input((5, 3)), kind(4, unit_forget_bias=False)]).get_weights()
        assert not plain[2].any()
    else:
        assert not bias.any()
    assert fnn.Sequential([fnn.Input((5, 3)), kind(4, use_bias=False)]).get_weights()[-1].shape == recurrent.shape


@pytest.mark.parametrize("of", ["dropout", "recurrent_dropout"])
def test_dropout_drops_the_same_in_all_steps(of):
    """A linear layer without a bias: what a step of SGD changes in a kernel tells which features came through."""
    x = fnn.Input((4, 30))
    layer = fnn.SimpleRNN(30, None, use_bias=False, return_sequences=True, **{of: 0.5})
    model = fnn.Model(x, layer(x), seed=2)
    through = np.eye(30, dtype=np.float32)
    model.set_weights([through, np.zeros((30, 30)) if of == "dropout" else through])
    model.compile(fnn.SGD(1.0), "mse")
    ones = np.ones((1, 4, 30), np.float32)
    if of == "dropout":
        np.testing.assert_array_equal(model.predict(ones), ones)  # nothing is dropped in prediction
    before = model.get_weights()
    model.train_on_batch(ones, np.zeros((1, 4, 30)))
    moved = np.abs(model.get_weights()[of != "dropout"] - before[of != "dropout"]).sum(axis=1)
    assert 5 < (moved == 0.0).sum() < 25  # rows of dropped features have no gradient from any step
    if of == "dropout":  # each kept feature is 2 in all four steps, so it has the same gradient as another
        np.testing.assert_allclose(moved[moved > 0.0], moved.max(), rtol=1e-6)


@pytest.mark.parametrize("kind", [fnn.SimpleRNN, fnn.GRU, fnn.LSTM])
def test_training_with_dropout_is_repeated_by_the_seed(kind):
    losses = []
    for count in (1, 2):
        fnn.set_num_threads(count)
        layers = [fnn.Input((5, 3)), kind(4, dropout=0.3, recurrent_dropout=0.4), fnn.Dense(1)]
        model = fnn.Sequential(layers, seed=1)
        model.compile("sgd", "mse")
        losses.append(model.fit(X, X[:, 0, :1], epochs=3, verbose=0).history["loss"])
    assert losses[0] == losses[1]


def test_bidirectional_is_both_layers():
    layer = fnn.GRU(4, return_sequences=True, return_state=True)
    x = fnn.Input((5, 3))
    model = fnn.Model(x, list(fnn.Bidirectional(layer, None)(x)), dtype="float64", seed=3)
    y, back, state, state_back = model.predict(X)
    weights = model.get_weights()
    assert len(weights) == 6
    expected = run(layer, weights[:3], X)
    np.testing.assert_allclose(y, expected[0], atol=1e-12)
    np.testing.assert_allclose(state, expected[1], atol=1e-12)
    turned = run(layer, weights[3:], X[:, ::-1])
    np.testing.assert_allclose(back, turned[0][:, ::-1], atol=1e-12)
    np.testing.assert_allclose(state_back, turned[1], atol=1e-12)
    # both last states side by side
    plain = fnn.Sequential([x, fnn.Bidirectional(fnn.GRU(4))], dtype="float64")
    plain.set_weights(weights)
    np.testing.assert_allclose(plain.predict(X), np.concatenate([state, state_back], axis=1), atol=1e-12)


def test_a_distributed_layer_is_the_layer():
    plain = fnn.Sequential([fnn.Input((5, 3)), fnn.Dense(2, "tanh")], seed=1)
    wrapped = fnn.Sequential([fnn.Input((5, 3)), fnn.TimeDistributed(fnn.Dense(2, "tanh"))], seed=1)
    np.testing.assert_array_equal(plain.predict(X), wrapped.predict(X))


def test_a_state_goes_on_in_a_second_layer():
    """An encoder's states are where a decoder begins."""
    x, y = fnn.Input((5, 3)), fnn.Input((2, 1))
    _, *states = fnn.LSTM(4, return_state=True)(x)
    model = fnn.Model([x, y], fnn.Dense(1)(fnn.LSTM(4, return_sequences=True)(y, initial_state=states)), seed=1)
    model.compile("adam", "mse")
    history = model.fit([X, X[:, :2, :1]], X[:, :2, 1:2], epochs=30, verbose=0).history["loss"]
    assert history[-1] < history[0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fnn.LSTM(0), "units"),
        (lambda: fnn.LSTM(4, stateful=1), "stateful"),
        (lambda: fnn.GRU(hidden_size=4), "it is called units"),
        (lambda: fnn.GRU(4, activation="gelu"), "keeps results of its activations alone"),
        (lambda: fnn.GRU(4, recurrent_activation="softmax"), "recurrent_activation"),
        (lambda: fnn.LSTM(4, dropout=1.0), "dropout"),
        (lambda: fnn.LSTM(4)(fnn.Input(3)), r"takes sequences of shape \(batch, steps, features\)"),
        (lambda: fnn.LSTM(4)(fnn.Input((5, 3)), initial_state=fnn.Input(4)), "takes 2 initial state"),
        (lambda: fnn.GRU(4)(fnn.Input((5, 3)), initial_state=fnn.Input(3)), r"\(batch, 3\)"),
        (lambda: fnn.GRU(4)(fnn.Input((5, 3)), mask=fnn.Input(4)), r"a mask of shape \(batch, 5\), got \(batch, 4\)"),
        (lambda: fnn.Bidirectional(fnn.Dense(3)), "expected a SimpleRNN, GRU, LSTM or RNN"),
        (lambda: fnn.Bidirectional(fnn.GRU(3), "add"), "merge_mode"),
        (lambda: fnn.Bidirectional(fnn.GRU(3), backward_layer=fnn.GRU(3)), "other direction"),
        (lambda: fnn.TimeDistributed(fnn.Conv2D(3, 3)), "Conv3D"),
        (lambda: fnn.Masking()(fnn.Input(3)), "takes sequences"),
        (lambda: fnn.Embedding(5, 2, mask_zero=True)(fnn.Input((3, 4), dtype="int64")), "with mask_zero"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()
