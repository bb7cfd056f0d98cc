"""Calls of networks and learners with several inputs and outputs, with any dtype and layout, and with metrics."""

import pickle

import numpy as np
import pytest
from numba import njit

import fastnn as fnn
import fastnn.nopython as fnp

DTYPES = ("float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool")


@njit
def predict(net, x, out, work):
    fnp.predict(net, x, out, work)


@njit
def gradient(net, x, seed, dx):
    fnp.input_gradient(net, x, seed, dx)


@njit
def step(learner, x, y, weights, work):
    return fnp.train_step(learner, x, y, work, weights)


@njit
def seeded(learner, x, seed, gradients):
    fnp.parameter_gradient(learner, x, seed, gradients)


def two_ended(dtype="float32", **compiled):
    """Make a model of two inputs and three outputs, the last of which is an input and has no loss."""
    first, second = fnn.Input(3), fnn.Input((2, 2))
    joined = fnn.Concatenate()([first, fnn.Flatten()(second)])
    hidden = fnn.Dense(7, "tanh")(joined)
    outputs = [fnn.Dense(4, "softmax", name="kind")(hidden), fnn.Dense(1, name="size")(hidden), first]
    model = fnn.Model([first, second], outputs, seed=3, dtype=dtype)
    model.compile("adam", ["cross_entropy", "mse", None], **compiled)
    return model


def data(n, dtype="float32", seed=0):
    """Return inputs and targets of `two_ended`."""
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(n, 3)).astype(dtype), draw.normal(size=(n, 2, 2)).astype(dtype)
    return x, (draw.integers(0, 4, n), draw.normal(size=(n, 1)).astype(dtype))


def outputs_for(n, dtype="float32"):
    return tuple(np.zeros((n, size), dtype) for size in (4, 1, 3))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [1, 7, 300])
def test_several_inputs_and_outputs(n, dtype):
    model, (x, _) = two_ended(dtype), data(n, dtype)
    net, wanted = model.freeze(), model.predict(list(x))
    for call in (predict, fnp.predict):
        for work in (None, fnp.workspace(net, n)):
            outs = outputs_for(n, dtype)
            call(net, x, outs, work)
            for out, expected in zip(outs, wanted, strict=True):
                np.testing.assert_array_equal(out, expected)
    restored, outs = pickle.loads(pickle.dumps(net)), outputs_for(n, dtype)
    predict(restored, x, outs, None)
    np.testing.assert_array_equal(outs[0], wanted[0])
    assert "(3,), (2, 2) -> (4,), (1,), (3,)" in repr(net)


def test_one_sample_of_several_inputs():
    model, (x, _) = two_ended(), data(5)
    outs = tuple(out[0] for out in outputs_for(1))
    predict(model.freeze(), (x[0][2], x[1][2]), outs, None)
    for out, expected in zip(outs, model.predict([x[0][2:3], x[1][2:3]]), strict=True):
        np.testing.assert_array_equal(out, expected[0])


def test_outputs_that_overlap_inputs():
    model, (x, _) = two_ended(), data(300)
    wanted, outs = model.predict(list(x)), outputs_for(300)
    memory = x[0].copy()
    # the first input is also where the last output goes
    predict(model.freeze(), (memory, x[1]), (outs[0], outs[1], memory), None)
    np.testing.assert_array_equal(outs[0], wanted[0])
    np.testing.assert_array_equal(memory, x[0])


def test_gradients_of_several_inputs():
    model, (x, _) = two_ended("float64"), data(2, "float64")
    net = model.freeze(gradients=True)
    draw = np.random.default_rng(4)
    seeds = tuple(draw.normal(size=out.shape) for out in outputs_for(2))
    dx = np.zeros((2, 3)), np.zeros((2, 2, 2))
    gradient(net, x, seeds, dx)

    def total(first, second):
        return sum((seed * out).sum() for seed, out in zip(seeds, model.predict([first, second]), strict=True))

    for which, found in enumerate(dx):
        for index in np.ndindex(found.shape):
            moved = [[array.copy() for array in x] for _ in range(2)]
            for sign, arrays in zip((1, -1), moved, strict=True):
                arrays[which][index] += sign * 1e-6
            difference = (total(*moved[0]) - total(*moved[1])) / 2e-6
            assert found[index] == pytest.approx(difference, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [1, 6, 40])
def test_learners_of_several_outputs_take_the_models_steps(n, dtype):
    model = two_ended(dtype, loss_weights=[0.7, 1.3, 1.0])
    learner, (x, y) = model.learner(), data(n, dtype)
    weights = np.linspace(0.5, 2.0, n).astype(dtype)
    for _ in range(3):
        loss = step(learner, x, y, (weights, weights[::-1]), None)
        logs = model.train_on_batch(list(x), [*y, None], [weights, weights[::-1], None])
        assert loss == logs["loss"]
    loss = step(learner, x, y, weights, fnp.workspace(learner, n))
    assert loss == model.train_on_batch(list(x), [*y, None], weights)["loss"]
    other = two_ended(dtype, loss_weights=[0.7, 1.3, 1.0])
    other.update_from(learner)
    for ours, theirs in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_gradients_for_the_weights_of_several_outputs():
    model, (x, _) = two_ended("float64"), data(5, "float64")
    learner = model.learner(gradients=True)
    draw = np.random.default_rng(5)
    seeds = tuple(draw.normal(size=out.shape) for out in outputs_for(5))
    found, given = np.zeros(fnp.parameter_count(learner)), np.zeros(fnp.parameter_count(learner))
    seeded(learner, x, seeds, found)
    fnp.get_parameters(learner, given)
    net = model.freeze()

    def total(flat):
        outs = outputs_for(5, "float64")
        fnp.set_parameters(net, flat)
        fnp.predict(net, x, outs)
        return sum((seed * out).sum() for seed, out in zip(seeds, outs, strict=True))

    for index in (0, 20, 55, len(given) - 1):
        up, down = given.copy(), given.copy()
        up[index] += 1e-6
        down[index] -= 1e-6
        assert found[index] == pytest.approx((total(up) - total(down)) / 2e-6, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 5, 300])
def test_inputs_of_any_dtype_and_layout_are_those_of_predict(dtype, n):
    model = fnn.Sequential([fnn.Input((2, 3)), fnn.Flatten(), fnn.Dense(5, "tanh"), fnn.Dense(2)], seed=1)
    values = np.random.default_rng(2).normal(scale=50.0, size=(2 * n, 2, 6))
    x = (np.abs(values) if dtype.startswith("u") else values).astype(dtype)
    net = model.freeze()
    for given in (x[:n, :, :3], x[::-2, :, ::2], np.asfortranarray(x[:n, :, :3]), x[:n].transpose(0, 2, 1)[:, :2, :1]):
        if given.shape[1:] != (2, 3):
            continue
        wanted = model.predict(given)
        for call in (predict, fnp.predict):
            for work in (None, fnp.workspace(net, n)):
                out = np.zeros((n, 2), np.float32)
                call(net, given, out, work)
                np.testing.assert_array_equal(out, wanted)
    one = np.zeros(2, np.float32)
    predict(net, x[0, :, ::-2], one, None)
    np.testing.assert_array_equal(one, model.predict(x[:1, :, ::-2])[0])


@pytest.mark.parametrize("dtype", ["float64", "int32", "uint8"])
@pytest.mark.parametrize("n", [1, 4, 40])
def test_steps_with_any_dtype_are_those_of_train_on_batch(dtype, n):
    model = fnn.Sequential([fnn.Input(6), fnn.Dense(5, "tanh"), fnn.Dense(2)], seed=1)
    model.compile("rmsprop", "mse")
    learner, draw = model.learner(), np.random.default_rng(3)
    x, y = (draw.integers(0, 9, (n, size)).astype(dtype) for size in (6, 2))
    weights = draw.uniform(0.5, 1.0, n)
    for work in (None, fnp.workspace(learner, n)):
        assert step(learner, x, y, weights, work) == model.train_on_batch(x, y, weights)["loss"]
    assert step(learner, x[:, ::-1], y, None, None) == model.train_on_batch(x[:, ::-1], y)["loss"]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint64"])
def test_labels_of_any_integer_dtype(dtype):
    model = fnn.Sequential([fnn.Input(4), fnn.Dense(3, "softmax")], seed=1)
    model.compile("sgd", "cross_entropy")
    learner, x = model.learner(), np.random.default_rng(3).normal(size=(6, 4)).astype(np.float32)
    labels = np.array([0, 2, 1, 1, 2, 0], dtype)
    assert step(learner, x, labels, None, None) == model.train_on_batch(x, labels)["loss"]
    bad = labels.copy()
    bad[4] = 3 if dtype == "uint8" else np.iinfo(dtype).max
    for call in (step, lambda *given: fnp.train_step(*given[:3])):
        with pytest.raises(ValueError, match=rf"labels from 0 to 2, got {bad[4]} at \(4,\)"):
            call(learner, x, bad, None, None)


def test_numbers_that_the_dtype_cannot_hold():
    model = fnn.Sequential([fnn.Input(2), fnn.Dense(1)], seed=1)
    model.compile("sgd", "mse")
    learner = model.learner()
    with pytest.raises(ValueError, match=r"x: expected no NaN or infinity, got inf at \(1, 0\)"):
        step(learner, np.array([[1.0, 2.0], [1e300, 3.0]]), np.zeros((2, 1)), None, None)


def test_wide_products_are_packed_with_and_without_a_workspace():
    model = fnn.Sequential([fnn.Input(300), fnn.Dense(400, "relu"), fnn.Dense(300)], seed=1)
    model.compile("adam", "mse")
    net, learner = model.freeze(), model.learner()
    x = np.random.default_rng(3).normal(size=(230, 300)).astype(np.float32)
    wanted = model.predict(x)
    for work in (None, fnp.workspace(net, 1), fnp.workspace(net, 230)):
        out = np.zeros((230, 300), np.float32)
        if work is not None and len(work) < 1000:
            with pytest.raises(ValueError, match="workspace"):
                predict(net, x, out, work)
            continue
        predict(net, x, out, work)
        np.testing.assert_array_equal(out, wanted)
    for work in (None, fnp.workspace(learner, 230)):
        assert step(learner, x, x, None, work) == model.train_on_batch(x, x)["loss"]


def test_metrics_of_learners():
    metrics = {"metrics": [["accuracy"], ["mae"], []], "weighted_metrics": [["accuracy"], [], []]}
    model = two_ended(**metrics)
    learner, batches = model.learner(metrics=True), [data(n, seed=n) for n in (5, 1, 8)]
    with pytest.raises(ValueError, match="has taken no step"):
        model.learner_logs(learner)
    losses, counts = [], []
    for x, y in batches:
        counts.append(len(x[0]))
        losses.append(step(learner, x, y, None, None))
    reference = two_ended(**metrics)
    history = reference.fit((list(x), [*y, None]) for x, y in batches)
    logs, wanted = model.learner_logs(learner), history.history
    assert logs.keys() == wanted.keys() - {"learning_rate"}
    assert logs == {name: pytest.approx(wanted[name][0], rel=1e-12) for name in logs}
    assert logs["loss"] == pytest.approx(np.average(losses, weights=counts))
    again = pickle.loads(pickle.dumps(learner))
    assert model.learner_logs(again) == logs
    model.reset_learner_logs(learner)
    with pytest.raises(ValueError, match="has taken no step"):
        model.learner_logs(learner)
    with pytest.raises(ValueError, match="without metrics"):
        model.learner_logs(model.learner())
    with pytest.raises(TypeError, match="expected a Learner"):
        model.learner_logs(model.freeze())
    with pytest.raises(ValueError, match="another architecture, loss or metrics"):
        two_ended().learner_logs(learner)


def test_exchanged_totals_are_refused():
    model = two_ended(metrics=[["accuracy"], [], []])
    learner, (x, y) = model.learner(metrics=True), data(4)
    for totals in (learner.totals[:-1].copy(), np.zeros(3)):
        with pytest.raises(RuntimeError, match="exchanged"):
            step(learner._replace(totals=totals), x, y, None, None)


def test_targets_by_output():
    model = two_ended()
    learner, (x, y) = model.learner(targets=["dense", None]), data(4)
    rows = np.eye(4, dtype=np.float32)[y[0]]
    assert step(learner, x, (rows, y[1]), None, None) == model.train_on_batch(list(x), [rows, y[1], None])["loss"]
    with pytest.raises(ValueError, match="one for each of 2 outputs"):
        model.learner(targets=["dense"])
    with pytest.raises(ValueError, match="takes no labels"):
        model.learner(targets=[None, "labels"])


@pytest.mark.parametrize("call", [step, lambda *given: fnp.train_step(*given[:3])])
def test_errors_name_the_array(call):
    learner, (x, y) = two_ended().learner(), data(4)
    for given, message in (
        (((x[0], x[1][:3]), y), r"x\[1\]: expected shape \(4, 2, 2\), got \(3, 2, 2\)"),
        ((x, (y[0], y[1][:2])), r"y\[1\]: expected shape \(4, 1\), got \(2, 1\)"),
        ((x, (y[0] + 9, y[1])), r"y\[0\]: expected labels from 0 to 3, got \d+ at \(0,\)"),
        (((x[0], x[1] * np.float32(np.nan)), y), r"x\[1\]: expected no NaN or infinity"),
        ((x, y[0]), "one array for each input and output"),
        ((x[0], y), "one array for each input and output"),
    ):
        with pytest.raises(ValueError, match=message):
            call(learner, *given, None, None)


def test_c_functions_have_one_input_and_one_output():
    with pytest.raises(ValueError, match="one input and one output, this one has 2 and 3"):
        two_ended().c_function()
