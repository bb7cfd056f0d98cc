"""RNN: cells of the user's own, against NumPy, differences, and the layers that fastnn has."""

import copy
import pickle
from dataclasses import dataclass
from random import Random

import numpy as np
import pytest
from numba import njit

import fastnn as fnn
from computed import build, check_derivatives
from fastnn import nopython as fnp
from fastnn import ops, threads
from fastnn.backend.cpu.processor import cost
from fastnn.backend.cpu.threads import thread_pool
from fastnn.layers.base import Scope
from fastnn.program.verify import verify
from own_cells import CELLS, Associative, Gated, Leaky, Plain, Swapping, data, network
from sequences import differences


@pytest.fixture(autouse=True)
def small_work_is_cut(monkeypatch):
    monkeypatch.setattr(cost, "PART_NANOSECONDS", 1e-6)
    monkeypatch.setattr(thread_pool, "WAKE_NANOSECONDS", 0.0)
    # what does not choose a number of threads runs on one
    monkeypatch.setattr(threads, "_chosen", 1)


def by_hand(layer, weights, x, states=None, mask=None):
    """Return what a layer gives for sequences, as `sequences.run` does for layers of fastnn."""
    n, steps = x.shape[:2]
    states = [np.zeros((n, *shape)) for shape in layer.state_shapes] if states is None else states
    mask = np.ones((n, steps)) if mask is None else mask
    results, y = [], None
    for t in range(steps - 1, -1, -1) if layer.go_backwards else range(steps):
        new, after = layer.cell.in_numpy(x[:, t], states, *weights)
        if y is None:  # an output that is a state is the initial one before the first step that there is
            y = next((old for old, state in zip(states, after, strict=True) if state is new), np.zeros_like(new))
        there = mask[:, t] != 0
        y = np.where(there[:, None], new, y)
        states = [
            np.where(there.reshape(-1, *[1] * (a.ndim - 1)), a, b) for a, b in zip(after, states, strict=True)
        ]  # fmt: skip
        results.append(np.where(there[:, None], y, 0.0) if layer.zero_output_for_mask else y)
    return [np.stack(results, axis=1) if layer.return_sequences else y, *states]


def drawn(cell, seed):
    """Draw a network of one layer, with its data."""
    random, rng = Random(seed), np.random.default_rng(seed)
    units, n, steps = random.choice([1, 2, 5, 17]), random.choice([1, 2, 7, 26]), random.randint(1, 6)
    features = 3 if cell is Swapping else random.choice([1, 3, 9])
    flags = ("return_sequences", "go_backwards", "zero_output_for_mask")
    layer = fnn.RNN(cell(units), return_state=True, **{name: random.random() < 0.5 for name in flags})
    inputs, given = [fnn.Input((steps, features))], [rng.normal(size=(n, steps, features))]
    states = mask = states_in = mask_in = None
    if random.random() < 0.5:
        states = [rng.normal(size=(n, *shape)) for shape in layer.state_shapes]
        states_in = [fnn.Input(shape) for shape in layer.state_shapes]
        inputs, given = inputs + states_in, given + states
    if random.random() < 0.5:
        mask, mask_in = (rng.random((n, steps)) < 0.6).astype(float), fnn.Input(steps)
        inputs, given = [*inputs, mask_in], [*given, mask]
    results = layer(inputs[0], initial_state=states_in, mask=mask_in)
    return layer, inputs, list(results), given, (states, mask)


@pytest.mark.parametrize("cell", CELLS)
def test_values(cell):
    for seed in range(16):
        layer, inputs, results, given, (states, mask) = drawn(cell, seed)
        rng = np.random.default_rng(seed)
        for dtype, tolerance in (("float64", 1e-11), ("float32", 1e-4)):
            model = fnn.Model(inputs, results, dtype=dtype)
            if dtype == "float64":
                weights = [0.5 * rng.normal(size=weight.shape).astype(np.float32) for weight in model.get_weights()]
            model.set_weights(weights)
            got = model.predict(given, batch_size=len(given[0]))
            expected = by_hand(layer, [np.float64(weight) for weight in weights], given[0], states, mask)
            for one, other in zip(got, expected, strict=True):
                np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance, err_msg=f"{layer} {seed}")
            for row in range(min(3, len(given[0]))):
                alone = model.predict([part[row : row + 1] for part in given])
                for one, other in zip(got, alone, strict=True):
                    assert one[row].tobytes() == other[0].tobytes(), layer


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("cell", CELLS)
def test_gradients(cell, seed):
    layer, inputs, results, given, (_, mask) = drawn(cell, seed)
    rng = np.random.default_rng(seed)
    if mask is not None:  # whose gradient is asked for as well
        results.append(fnn.Activation("tanh")(inputs[-1]))
    model = fnn.Model(inputs, results, dtype="float64", seed=seed)
    model.set_weights([0.7 * rng.normal(size=weight.shape) for weight in model.get_weights()])
    model.compile("sgd", "mse")
    y = [rng.normal(size=one.shape) for one in model.predict(given, batch_size=len(given[0]))]
    if model.get_weights():
        differences(
            model, lambda: model.test_on_batch(given, y)["loss"], model.get_weights(), model.set_weights,
            model.gradients(given, y), layer,
        )  # fmt: skip
    found, moved, masks = model.input_gradients(given, y), {}, [] if mask is None else [mask]
    found = found if isinstance(found, list) else [found]
    count = len(given) - len(masks)
    differences(
        model, lambda: model.test_on_batch([*moved["x"], *masks], y)["loss"], given[:count],
        lambda arrays: moved.update(x=arrays), found[:count], layer,
    )  # fmt: skip


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_of_gradients_and_the_reference_backend(cell, masked):
    layer = fnn.RNN(cell(3), return_sequences=masked, go_backwards=masked)
    inputs = [(True, (3, 3)), *((True, shape) for shape in layer.state_shapes)]
    wanted = [*range(len(inputs)), *(len(inputs) + masked + number for number in range(len(layer.parameters((3, 3)))))]
    inputs += [(True, (3, 1))] * masked
    count = len(inputs)
    inputs += [(False, spec.shape) for spec in layer.parameters((3, 3))]
    rng = np.random.default_rng(0)
    values = [rng.normal(size=(2, *shape) if batched else shape) for batched, shape in inputs]
    if masked:
        values[count - 1] = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])[:, :, None]

    def make(graph, *xs):
        return list(layer.scanned(graph, xs[:count], xs[count:], Scope("rnn", 0, False, True)))

    check_derivatives(make, inputs, batch=2, values=values, wanted=wanted, most=3)
    computed = build(make, inputs, batch=2)
    verify(computed.program)
    for got, expected in zip(computed.run(values), computed.reference(values), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cell", [Gated, Associative])
def test_bits_are_the_same_for_threads_in_compiled_code_and_learners(cell, dtype):
    x, y = data(dtype=dtype)
    wanted = None
    for count in (1, 2, 3):
        fnn.set_num_threads(count)
        model = network(cell, dtype)
        predictions, frozen = model.predict(x), np.zeros((23, 2), dtype)
        fnp.predict(model.freeze(), x, frozen)
        assert frozen.tobytes() == predictions.tobytes()
        losses = [model.train_on_batch(x[:n], y[:n])["loss"] for n in (23, 5, 1)]
        bits = [predictions.tobytes(), losses, [weight.tobytes() for weight in model.get_weights()]]
        wanted = bits if wanted is None else wanted
        assert bits == wanted
    twin = network(cell, dtype)
    learner = twin.learner()
    assert [fnp.train_step(learner, x[:n], y[:n]) for n in (23, 5, 1)] == losses
    twin.update_from(learner)
    assert [weight.tobytes() for weight in twin.get_weights()] == wanted[2]


@pytest.mark.parametrize("options", [{}, {"return_sequences": True}, {"return_sequences": True, "go_backwards": True}])
def test_a_gru_of_ops_learns_as_the_layer_does(options):
    x, y = data()
    models = []
    for layer in (fnn.GRU(5, **options), fnn.RNN(Gated(5), **options)):
        model = fnn.Sequential([fnn.Input((6, 3)), fnn.Masking(), layer, fnn.Dense(2)], seed=1, dtype="float64")
        if models:
            model.set_weights(models[0].get_weights())
        model.compile("adam", "mse")
        models.append(model)
    wanted, got = (model.predict(x) for model in models)
    np.testing.assert_allclose(got, wanted, atol=1e-13)
    targets = np.repeat(y[:, None], 6, axis=1) if options else y
    wanted, got = (model.fit(x, targets, epochs=3, batch_size=8, verbose=0).history["loss"] for model in models)
    np.testing.assert_allclose(got, wanted, rtol=1e-10)


def test_files(tmp_path):
    x, y = data()
    model = network(Associative)
    model.fit(x, y, epochs=2, verbose=0)
    model.save(tmp_path / "model.safetensors")
    for one in (fnn.load(tmp_path / "model.safetensors"), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert one.predict(x).tobytes() == model.predict(x).tobytes()
        (layer, _) = (layer for layer in one.layers if isinstance(layer, fnn.RNN))
        assert layer.cell.units == 5 and type(layer.cell) is Associative
        one.fit(x, y, epochs=3, initial_epoch=2, verbose=0)
        fresh = copy.deepcopy(model)
        fresh.fit(x, y, epochs=3, initial_epoch=2, verbose=0)
        assert one.predict(x).tobytes() == fresh.predict(x).tobytes()
    assert repr(fnn.RNN(Gated(4), return_sequences=True)) == "RNN(return_sequences=True, cell=Gated(units=4))"

    class Unknown(Plain):
        pass

    unknown = fnn.Sequential([fnn.Input((6, 3)), fnn.RNN(Unknown(2))], seed=0)
    assert unknown.predict(x).shape == (23, 2)
    with pytest.raises(TypeError, match="Unknown is not registered"):
        unknown.save(tmp_path / "unknown.safetensors")


@njit
def walk(net, state, x, out):
    for t in range(len(x)):
        fnp.step(net, state, x[t], out[t])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cell", CELLS)
def test_steps_have_the_bits_of_sequences(cell, dtype):
    layers = [fnn.Input((6, 3)), fnn.RNN(cell(5), return_sequences=True), fnn.Dense(4), fnn.GRU(3), fnn.Dense(2)]
    model = fnn.Sequential(layers, seed=3, dtype=dtype)
    net, x = model.freeze(stateful=True), data(dtype=dtype)[0]
    state, out = fnp.state(net), np.zeros((6, 2), dtype)
    assert state.shape[1] == sum(int(np.prod(shape)) for shape in layers[1].state_shapes) + 3
    walk(net, state, x[0], out)
    assert out[-1].tobytes() == model.predict(x)[0].tobytes()


def test_states_go_from_one_layer_to_another():
    """An encoder's states, one of them a matrix, are where a decoder begins."""
    rng = np.random.default_rng(0)
    x, y = fnn.Input((5, 3)), fnn.Input((2, 1))
    _, *states = fnn.RNN(Associative(4), return_state=True)(x)
    made = fnn.RNN(Associative(4), return_sequences=True)(y, initial_state=states)
    model = fnn.Model([x, y], fnn.Dense(1)(made), seed=1)
    model.compile(fnn.Adam(0.01), "mse")
    a = rng.normal(size=(20, 5, 3))
    history = model.fit([a, a[:, :2, :1]], a[:, 3:, :1], epochs=40, verbose=0).history["loss"]
    assert history[-1] < 0.8 * history[0]


@pytest.mark.parametrize("cell", [Gated, Associative])
@pytest.mark.parametrize("merge_mode", ["concat", "sum", None])
def test_bidirectional_is_both_layers(cell, merge_mode):
    rng = np.random.default_rng(3)
    layer = fnn.RNN(cell(4), return_sequences=True, return_state=True)
    x, mask = fnn.Input((5, 3)), fnn.Input(5)
    starts = [fnn.Input(shape) for shape in layer.state_shapes * 2]
    made = fnn.Bidirectional(layer, merge_mode)(x, initial_state=starts, mask=mask)
    model = fnn.Model([x, *starts, mask], list(made), dtype="float64", seed=3)
    given = [rng.normal(size=(6, 5, 3)), *(rng.normal(size=(6, *each.shape)) for each in starts)]
    there = (rng.random((6, 5)) < 0.7).astype(float)
    got, weights, half = model.predict([*given, there]), model.get_weights(), len(starts) // 2
    count = len(weights) // 2
    first = by_hand(layer, weights[:count], given[0], given[1 : 1 + half], there)
    second = by_hand(layer, weights[count:], given[0][:, ::-1], given[1 + half :], there[:, ::-1])
    y, back = first[0], second[0][:, ::-1]
    joined = {"concat": [np.concatenate([y, back], -1)], "sum": [y + back], None: [y, back]}[merge_mode]
    for one, other in zip(got, [*joined, *first[1:], *second[1:]], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)
    with pytest.raises(ValueError, match="of one shape"):
        fnn.Bidirectional(fnn.RNN(Leaky(3)), "sum", backward_layer=fnn.RNN(Plain(3), go_backwards=True))(x)


def test_programs_do_not_grow_with_the_number_of_steps():
    for cell in CELLS:
        few, many = (network(cell, steps=steps).program for steps in (7, 700))
        assert len(many) == len(few)
    # what the gradient reads is kept for all steps; a prediction keeps what it returns
    x = np.ones((1, 2000, 3), np.float32)
    model = fnn.Sequential([fnn.Input((2000, 3)), fnn.RNN(Gated(64))], seed=0)
    assert np.isfinite(model.predict(x)).all()


def test_sequences_of_any_length():
    x = fnn.Input((None, 3))
    model = fnn.Model(x, fnn.Dense(2)(fnn.RNN(Associative(4))(fnn.RNN(Gated(3), return_sequences=True)(x))), seed=1)
    model.compile("adam", "mse")
    rng = np.random.default_rng(0)
    for steps in (1, 4, 9):
        given = rng.normal(size=(5, steps, 3)).astype(np.float32)
        known = fnn.Input((steps, 3))
        same = fnn.Model(known, model(known))
        assert model.predict(given).tobytes() == same.predict(given).tobytes()
        assert np.isfinite(model.fit(given, np.zeros((5, 2)), epochs=2, verbose=0).history["loss"]).all()
    net = model.freeze(stateful=True)
    state, out = fnp.state(net), np.zeros((9, 2), np.float32)
    walk(net, state, given[0], out)
    assert out[-1].tobytes() == model.predict(given)[0].tobytes()


def test_training_is_told():
    @dataclass(eq=False, repr=False)
    class Scaled(Plain):
        def call(self, inputs, states, kernel, w, training):
            h = inputs @ kernel + (0.5 if training else 1.0) * states[0]
            return h, [h]

    model = fnn.Sequential([fnn.Input((2, 1)), fnn.RNN(Scaled(1))], seed=0)
    model.set_weights([np.ones((1, 1)), np.zeros((1, 1))])
    model.compile(fnn.SGD(0.0), "mse")
    x = np.array([[[2.0], [3.0]]])
    assert model.predict(x)[0, 0] == 5.0
    assert model.train_on_batch(x, np.zeros((1, 1)))["loss"] == 16.0


def test_dropout_is_the_same_in_all_steps_if_it_is_drawn_outside():
    """A mask of dropout as an initial state that stays."""

    class Dropping(Plain):
        @property
        def state_size(self):
            return (self.units, self.units)

        def call(self, inputs, states, kernel, w):
            h = inputs @ kernel + (states[0] * states[1]) @ w
            return h, [h, states[1]]

    x, ones, zeros = fnn.Input((4, 30)), fnn.Input(30), fnn.Input(30)
    layer = fnn.RNN(Dropping(30))
    model = fnn.Model([x, zeros, ones], layer(x, initial_state=[zeros, fnn.Dropout(0.5)(ones)]), seed=2)
    through = np.eye(30, dtype=np.float32)
    model.set_weights([through, through])
    model.compile(fnn.SGD(1.0), "mse")
    given = [np.ones((1, 4, 30)), np.zeros((1, 30)), np.ones((1, 30))]
    model.train_on_batch(given, np.zeros((1, 30)))
    moved = np.abs(model.get_weights()[1] - through).sum(axis=1)
    assert 5 < (moved == 0.0).sum() < 25


def cell_of(function, **attributes):
    return fnn.RNN(type("Made", (Plain,), {"call": function, **attributes})(4))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fnn.RNN(fnn.GRU(3)), r"cell: expected an object of a subclass of fastnn\.Cell, got GRU"),
        (lambda: fnn.RNN(type("Empty", (fnn.Cell,), {})()), r"Empty has no method call\(inputs, states, \*weights\)"),
        (lambda: fnn.RNN(Swapping(1), return_sequences=1), "return_sequences"),
        (lambda: cell_of(Plain.call, state_size=()), "has no state"),
        (lambda: cell_of(Plain.call, state_size=(4, "a")), r"state_size\[1\]"),
        (lambda: Plain(4)(fnn.Input(3)), r"a layer of it is fastnn\.RNN\(cell\)"),
        (lambda: fnn.RNN(Plain(4))(fnn.Input(3)), r"takes sequences of shape \(batch, steps, \.\.\.\)"),
        (lambda: fnn.RNN(Plain(4))(fnn.Input((5, 3)), mask=fnn.Input(4)), "a mask of shape"),
        (lambda: fnn.RNN(Plain(4))(fnn.Input((5, 3)), initial_state=fnn.Input(3)), r"1 initial state\(s\) of shape"),
        (lambda: cell_of(lambda self, x, s: (x, s))(fnn.Input((5, 3))), r"called with \(inputs, states, kernel, w\)"),
        (lambda: cell_of(lambda self, x, s, k, w: x @ k)(fnn.Input((5, 3))), r"expected \(output, new_states\)"),
        (lambda: cell_of(lambda self, x, s, k, w: (x @ k, [*s, *s]))(fnn.Input((5, 3))), "returned 2 new state"),
        (lambda: cell_of(lambda self, x, s, k, w: (x @ k, [x]))(fnn.Input((5, 3))),
         r"numbers of shape \(B, 3\) as state 0, expected numbers of shape \(B, 4\) as state_size says"),
        (lambda: cell_of(lambda self, x, s, k, w: (w, s))(fnn.Input((5, 3))), "as output, expected numbers for each"),
        (lambda: cell_of(lambda self, x, s, k, w: (3, s))(fnn.Input((5, 3))), "as output, expected numbers for each"),
        (lambda: cell_of(lambda self, x, s, k, w: ("a", s))(fnn.Input((5, 3))), "the function returned 'a'"),
    ],
)  # fmt: skip
def test_wrong_cells(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def test_a_step_draws_no_random_numbers():
    layer = cell_of(lambda self, x, s, k, w: (x @ k + ops.random_normal((x.shape[0], 4)), s))
    model = fnn.Sequential([fnn.Input((5, 3)), layer], seed=0)
    with pytest.raises(ValueError, match="layer 'rnn': a step draws random numbers"):
        model.predict(data(steps=5)[0])
