"""Cells of the user's own in `RNN` on a simulated GPU, against the same models on the CPU."""

from collections import Counter

import numpy as np
import pytest

import fastnn as fnn
from fastnn import ops
from fastnn.backend.cuda.launch import fusion
from fastnn.backend.cuda.launch.engine import CudaProgram
from fastnn.demo.warm_cuda import Listed
from fastnn.model import inspection
from fastnn.program.loop_rules import in_loops, loops_of
from fastnn.program.verify import verify
from fastnn.runtime.device import replayer
from own_cells import CELLS, Associative, Gated, Leaky, Plain, data, network


@pytest.fixture(autouse=True)
def verified(monkeypatch):
    """Check the programs of GPUs, whose records are not those of the CPU's; returns them."""
    made, usual = [], CudaProgram.__init__

    def make(self, *arguments):
        usual(self, *arguments)
        verify(self.program)
        made.append(self)

    monkeypatch.setattr(CudaProgram, "__init__", make)
    return made


TOLERANCE = {"float32": 1e-4, "float64": 1e-11}


def same_on_both(make, x, y, dtype="float32", batches=((0, 3),), times=2):
    """Compare predictions, gradients, losses of steps and weights of a model on both devices."""
    found = []
    for device in ("cpu", "cuda"):
        model = make()
        model.to(device)
        results = [model.predict(x), *model.gradients(x, y)]
        results += [
            model.train_on_batch(cut(x, *rows), cut(y, *rows))["loss"] for rows in batches for _ in range(times)
        ]
        results += [model.predict(x), *model.get_weights()]
        found.append(results)
    for on_cpu, on_gpu in zip(*found, strict=True):
        np.testing.assert_allclose(on_gpu, on_cpu, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    return found[1]


def cut(given, first, last):
    return [each[first:last] for each in given] if isinstance(given, list) else given[first:last]


# rows of four are aligned in all steps, rows of three with an odd number of units are not
@pytest.mark.parametrize(("cell", "dtype"), [*((cell, "float32") for cell in CELLS), (Gated, "float64")])
def test_two_layers_with_a_mask(cell, dtype, verified):
    x, y = data(4, steps=3, dtype=dtype)
    rounds = ((0, 4), (1, 4)) if cell is Plain else ((1, 4),)

    def make():
        z = fnn.Input((3, 3))
        h = fnn.RNN(cell(2), return_sequences=True)(fnn.Masking()(z))
        h = fnn.RNN(cell(3), go_backwards=True)(fnn.Dense(3)(h))
        model = fnn.Model(z, fnn.Dense(2)(fnn.Dense(3, "tanh")(h)), seed=3, dtype=dtype)
        model.compile(fnn.Adam(0.01), "mse")
        return model

    same_on_both(make, x, y, dtype, rounds)
    kinds = Counter(name.op for bound in verified for name in bound.program.kernels)
    assert kinds["repeat"] >= 2 * len(verified)


def test_windows_are_copied_where_they_are_not_aligned():
    """A step of four rows is a multiple of 16 bytes, whatever the number of units."""
    copies = {}
    for rows in (3, 4):
        program = inspection.program(network(Gated, steps=4)._runtime, rows)
        bound = CudaProgram(program, Listed())
        before, after = (Counter(key.op for key in each.kernels) for each in (program, bound.program))
        copies[rows] = after["copy_columns"] - before["copy_columns"]
        windows = sum(name.op == "window" for name in bound.program.kernels)
        values = [value for value in bound.program.values if value.name.startswith("window")]
        assert len(values) == copies[rows] <= windows
        # outside loops no operand is in a window, and each loop has all its rounds
        launches = bound.launches({buffer: (buffer + 1) << 40 for buffer in range(96)}, 1 << 39)
        looped, rounds = in_loops(bound.program.records), [loop.times for loop in loops_of(bound.program.records)]
        assert rounds == [4] * 4 and looped.sum() > 4 * len(rounds)
        tanh = sum(name.op == "activation" and mapped.variant == "tanh"
                   for name, mapped in zip(bound.program.kernels, bound.program.maps, strict=True))  # fmt: skip
        assert sum(each.key.op == "activation" and each.key.variant == "tanh" for each in launches) == 4 * tanh == 8
        # only copies are of what is not aligned
        of_copies, others = (
            [word for each in launches if (each.key.op == "copy_columns") is copies for word in each.record
             if (4 << 40) <= word < (5 << 40)] for copies in (True, False)
        )  # fmt: skip
        assert others and all(word % 16 == 0 for word in others)
        assert (rows == 4) == all(word % 16 == 0 for word in of_copies)
    assert copies[4] == 0 < copies[3]


def test_layers_before_and_behind_a_loop_are_fused_and_its_body_is_not(monkeypatch, verified):
    x, y = data(4, steps=2)
    monkeypatch.setattr(fusion, "ENABLED", True)

    class Deep(Plain):
        def call(self, inputs, states, kernel, w):
            h = ops.tanh(ops.tanh(inputs @ kernel + states[0] @ w) @ w) @ w
            return h, [h]

    def make():
        dense = [fnn.Dense(4, "tanh") for _ in range(4)]
        layers = [fnn.Input((2, 3)), *dense[:2], fnn.RNN(Deep(4)), *dense[2:], fnn.Dense(2)]
        model = fnn.Sequential(layers, seed=1)
        model.compile("sgd", "mse")
        return model

    same_on_both(make, x, y, batches=((0, 4),))
    assert any(work.key.op == "fused_forward" for bound in verified for work in bound._works)


def test_both_directions_with_initial_states_and_a_mask():
    rng = np.random.default_rng(3)
    given = [rng.normal(size=(3, 3, 2)), *(rng.normal(size=(3, 3)) for _ in range(2))]
    given.append((rng.random((3, 3)) < 0.7).astype(float))

    def make():
        x, mask, starts = fnn.Input((3, 2)), fnn.Input(3), [fnn.Input(3) for _ in range(2)]
        layer = fnn.RNN(Gated(3), return_sequences=True, return_state=True, zero_output_for_mask=True)
        model = fnn.Model(
            [x, *starts, mask], list(fnn.Bidirectional(layer)(x, initial_state=starts, mask=mask)), seed=3
        )
        model.compile("adam", "mse")
        return model

    shapes = [one.shape for one in make().predict(given)]
    targets = [rng.normal(size=shape) for shape in shapes]
    found = []
    for device in ("cpu", "cuda"):
        model = make()
        model.to(device)
        losses = [model.train_on_batch(given, targets)["loss"] for _ in range(3)]
        found.append([*model.predict(given), losses, *model.input_gradients(given, targets)[:3]])
    for on_cpu, on_gpu in zip(*found, strict=True):
        np.testing.assert_allclose(on_gpu, on_cpu, rtol=1e-4, atol=1e-5)


def test_a_matrix_as_a_state_goes_from_one_layer_to_another():
    x, y = data(3, steps=3)

    def make():
        z = fnn.Input((3, 3))
        h, *states = fnn.RNN(Associative(2), return_sequences=True, return_state=True)(z)
        h = fnn.RNN(Associative(2))(h, initial_state=states)
        model = fnn.Model(z, fnn.Dense(2)(h), seed=1)
        model.compile("adam", "mse")
        return model

    same_on_both(make, x, y)


def test_dropout_is_drawn_outside_and_is_that_of_the_cpu():
    """A state that never changes, whose initial value is what dropout makes of ones."""
    x, y = data(3, steps=3)

    class Dropping(Plain):
        state_size = (5, 5)

        def call(self, inputs, states, kernel, w, training):
            h = ops.tanh(inputs @ kernel + (states[0] * states[1]) @ w) * (1.0 if training else 0.5)
            return h, [h, states[1]]

    def make():
        z, zeros, ones = fnn.Input((3, 3)), fnn.Input(5), fnn.Input(5)
        h = fnn.RNN(Dropping(5))(z, initial_state=[zeros, fnn.Dropout(0.5)(ones)])
        model = fnn.Model([z, zeros, ones], fnn.Dense(2)(h), seed=2)
        model.compile("adam", "mse")
        return model

    same_on_both(make, [x, np.zeros((3, 5)), np.ones((3, 5))], y)


class Counting(Plain):
    """Integers that are made in a step and kept for its gradient, a product of slices, and a norm."""

    def call(self, inputs, states, kernel, w):
        h, n = states[0], self.units - 1
        best, places = ops.top_k(h + inputs @ kernel, 2)
        h = ops.tanh(h[:, :n] @ w[:n] + ops.take_along_axis(h, places[:, :1]) + best[:, 1:])
        return h / (1.0 + ops.norm(h, axis=-1, keepdims=True)), [h]


def test_integers_and_slices_in_a_step(verified):
    x, y = data(3, steps=3)

    def make():
        layers = [fnn.Input((3, 3)), fnn.RNN(Counting(3), return_sequences=True), fnn.Flatten(), fnn.Dense(2)]
        model = fnn.Sequential(layers, seed=2)
        model.compile("adam", "mse")
        return model

    same_on_both(make, x, y, batches=((0, 3), (0, 1)), times=1)
    written = str(verified[-1].program) + "".join(str(bound.program) for bound in verified)
    assert "made_int64=" in written and "batched_matmul" in written


def test_epochs_validation_and_lengths():
    """Programs of several lengths, a last batch that is smaller, and graphs that are replayed."""
    rng, found = np.random.default_rng(0), []
    x, lengths = rng.normal(size=(7, 4, 3)), np.array([4, 1, 3, 2, 0, 4, 2])
    y = rng.normal(size=(7, 4, 1))
    for device in ("cpu", "cuda"):
        layers = [fnn.Input((None, 3)), fnn.RNN(Leaky(3), return_sequences=True), fnn.Dense(1)]
        model = fnn.Sequential(layers, seed=1, device=device)
        model.compile(fnn.Adam(0.01), "mse")
        options = {"epochs": 2, "batch_size": 3, "verbose": 0}
        history = model.fit(x, y, validation_data=(x[:2], y[:2], None, lengths[:2]), lengths=lengths, **options)
        results = [history.history["loss"], history.history["val_loss"], model.predict(x, lengths=lengths)]
        for steps in (3, 1, 3, 3):
            results += [model.predict(x[:2, :steps]), model.train_on_batch(x[:3, :steps], y[:3, :steps])["loss"]]
        found.append([*results, *model.get_weights()])
    for on_cpu, on_gpu in zip(*found, strict=True):
        np.testing.assert_allclose(on_gpu, on_cpu, rtol=1e-4, atol=1e-5)


def test_graphs_of_many_launches_are_forgotten_earlier(monkeypatch):
    monkeypatch.setattr(replayer, "_KEPT_LAUNCHES", 40)
    model = fnn.Sequential([fnn.Input((None, 3)), fnn.RNN(Plain(3))], seed=1, device="cuda")
    graphs, kept = model._runtime.placement._replayer._graphs, []
    for steps in (1, 2, 3, 9, 1, 2):
        model.predict(np.ones((5, steps, 3), np.float32), batch_size=2)
        kept.append(len(graphs))
    # two programs each: of two rows, and of the last one
    assert kept[0] == 2 and max(kept) < 8 and kept[3] == 1


def test_runs_have_the_same_bits():
    x, y = data(3, steps=3)
    bits = []
    for _ in range(2):
        model = fnn.Sequential([fnn.Input((3, 3)), fnn.RNN(Plain(3)), fnn.Dense(2)], seed=1, device="cuda")
        model.compile("adam", "mse")
        losses = [model.train_on_batch(x, y)["loss"] for _ in range(3)]
        bits.append([losses, model.predict(x).tobytes(), [weight.tobytes() for weight in model.get_weights()]])
    assert bits[0] == bits[1]


def test_through_the_driver(fake):
    """Launches of all rounds become one graph; compiled code for users' kernels has no loops."""
    rng, found = np.random.default_rng(0), []
    x, y = rng.normal(size=(7, 3, 3)), rng.normal(size=(7, 2))
    for device in ("cpu", "cuda"):
        model = fnn.Sequential([fnn.Input((3, 3)), fnn.RNN(Plain(3), name="mine"), fnn.Dense(2)], seed=1)
        with pytest.raises(NotImplementedError, match=r"mine: .* runs? on the CPU only"):
            model.freeze(device="cuda")
        model.compile("adam", "mse")
        model.to(device)
        history = model.fit(x, y, batch_size=3, epochs=2, verbose=0).history["loss"]
        steps = [model.train_on_batch(x[:3], y[:3])["loss"] for _ in range(3)]
        found.append([history, steps, *(model.predict(x[:3]) for _ in range(3)), *model.get_weights()])
    assert "cuGraphLaunch" in fake.calls
    for on_cpu, on_gpu in zip(*found, strict=True):
        np.testing.assert_allclose(on_gpu, on_cpu, rtol=1e-4, atol=1e-6)
