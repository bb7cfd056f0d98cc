"""Inputs of integers in compiled code: the bits of the model, checked in every call."""

import pickle

import numpy as np
import pytest
from numba import njit

import fastnn as fnn
import fastnn.nopython as fnp

RNG = np.random.default_rng(0)
STEPS, DEPTH = 3, 5
DTYPES = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool")
INT64 = np.iinfo(np.int64)


@njit
def predict(net, x, out, work=None):
    fnp.predict(net, x, out, work)


@njit
def gradient(net, x, seed, dx):
    fnp.input_gradient(net, x, seed, dx)


@njit
def step(learner, x, y, work=None):
    return fnp.train_step(learner, x, y, work)


@njit
def seeded(learner, x, seed, gradients):
    fnp.parameter_gradient(learner, x, seed, gradients)


PREDICTS = pytest.mark.parametrize("call", [predict, fnp.predict], ids=["compiled", "python"])
STEPS_TAKEN = pytest.mark.parametrize("take", [step, fnp.train_step], ids=["compiled", "python"])


def network(dtype="float32", **compiled):
    x = fnn.Input(STEPS, dtype="int64", name="x")
    y = fnn.Dense(2)(fnn.Flatten()(fnn.Dense(4, "tanh")(fnn.OneHot(DEPTH, name="hot")(x))))
    model = fnn.Model(x, y, seed=1, dtype=dtype)
    model.compile("adam", "mse", **compiled)
    return model


def mixed(dtype="float32"):
    """Make a model of numbers and of one integer a sample."""
    a, b = fnn.Input(3, name="a"), fnn.Input((), dtype="int64", name="b")
    hidden = fnn.Dense(6, "tanh")(fnn.Concatenate()([a, fnn.OneHot(4)(b)]))
    model = fnn.Model([a, b], [fnn.Dense(3, "softmax")(hidden), fnn.Dense(1)(hidden)], seed=2, dtype=dtype)
    model.compile("rmsprop", ["cross_entropy", "mse"])
    return model


def integers(n, dtype="int64", steps=STEPS):
    return RNG.integers(0, 2 if dtype == "bool" else DEPTH, (n, steps)).astype(dtype)


def weights_of(one):
    return (one if isinstance(one, fnp.Learner) else one._runtime).parameters.tobytes()


# --- networks --------------------------------------------------------------------------------------------------------


@PREDICTS
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 7, 256, 300])
def test_predictions_are_those_of_the_model(call, dtype, n):
    model = network()
    net, wide = model.freeze(), integers(2 * n, dtype, 2 * STEPS)
    # contiguous, every other row and column, backwards, and in another order
    for x in (wide[:n, :STEPS].copy(), wide[::2, ::2], wide[:n, STEPS - 1 :: -1], np.asfortranarray(wide[n:, :STEPS])):
        wanted = model.predict(x)
        for work in (None, fnp.workspace(net, n)):
            out = np.zeros((n, 2), np.float32)
            call(net, x, out, work)
            np.testing.assert_array_equal(out, wanted)
    one = np.zeros(2, np.float32)
    call(net, wide[0, ::2], one)
    np.testing.assert_array_equal(one, model.predict(wide[:1, ::2])[0])


@PREDICTS
@pytest.mark.parametrize("dtype", ["int64", "int8"])
def test_no_rows(call, dtype):
    call(network().freeze(), np.zeros((0, STEPS), dtype), np.zeros((0, 2), np.float32))


OUT_OF_RANGE = [
    ("int64", DEPTH), ("int64", -1), ("int64", INT64.max), ("int64", INT64.min), ("int8", -128), ("uint8", 255),
    ("int32", 2**31 - 1), ("uint32", 2**32 - 1), ("uint64", 2**63 - 1), ("uint64", 2**63), ("uint64", 2**64 - 1),
]  # fmt: skip


@pytest.mark.parametrize("call", [predict, fnp.predict, fnp.check], ids=["compiled", "python", "check"])
@pytest.mark.parametrize(("dtype", "bad"), OUT_OF_RANGE)
def test_integers_out_of_range_are_refused_before_anything_is_computed(call, dtype, bad):
    net = network().freeze()
    x = np.zeros((600, STEPS), dtype)
    x[0], x[1] = 0, DEPTH - 1  # the ends of the range
    call(net, x, np.zeros((600, 2), np.float32))
    # the last of several blocks, of an array that is read in place, and of one that is converted
    x[520, 1] = bad
    for given in (x, np.asfortranarray(x)):
        for work in (None, fnp.workspace(net, 600)):
            out = np.full((600, 2), 7, np.float32)
            with pytest.raises(ValueError, match=rf"x: expected integers from 0 to 4, got {bad} at \(520, 1\)$"):
                call(net, given, out, work)
            assert (out == 7).all()
    out = np.full(2, 7, np.float32)
    with pytest.raises(ValueError, match=rf"got {bad} at \(1,\)$"):
        call(net, x[520], out)
    assert (out == 7).all()


class Loose(fnn.OneHot):
    """Takes all integers; those that have no place make zeros."""

    def input_range(self, position, *shapes):
        return None


@PREDICTS
def test_the_ends_of_int64(call):
    x = fnn.Input(2, dtype="int64", name="x")
    model = fnn.Model(x, fnn.Dense(1)(Loose(3)(x)), seed=0)
    net, out = model.freeze(), np.zeros((2, 2, 1), np.float32)
    given = np.array([[INT64.min, INT64.max], [-1, 2]])
    call(net, given, out)
    np.testing.assert_array_equal(out, model.predict(given))
    call(net, np.array([[0, 2**63 - 1], [1, 2]], np.uint64), out)
    for bad in (2**63, 2**64 - 1):
        with pytest.raises(ValueError, match=rf"from {INT64.min} to {INT64.max}, got {bad} at \(1, 0\)"):
            call(net, np.array([[0, 1], [bad, 2]], np.uint64), out)


@PREDICTS
def test_floats_are_refused(call):
    net, out = network().freeze(), np.zeros((2, 2), np.float32)
    for x in (np.zeros((2, STEPS)), np.zeros((2, STEPS), np.float32), np.full((2, STEPS), np.nan)):
        with pytest.raises(
            ValueError, match="x: expected an array of integers or an integer, got floating-point numbe"
        ):
            call(net, x, out)


@PREDICTS
@pytest.mark.parametrize("dtype", ["int64", "int32"])
def test_outputs_that_overlap_integers(call, dtype):
    model, n = network(), 300
    net, x = model.freeze(), integers(n, dtype)
    wanted, memory = model.predict(x), np.zeros(6 * n * 8, np.uint8)
    for start in (0, x.nbytes - 800):  # all of the integers, the last of them
        given = memory[: x.nbytes].view(dtype).reshape(n, STEPS)
        given[...] = x
        out = memory[start : start + 8 * n].view(np.float32).reshape(n, 2)
        call(net, given, out)
        np.testing.assert_array_equal(out, wanted)
        given[...] = x
        given[7, 1] = -1
        before = memory.copy()
        with pytest.raises(ValueError, match=r"got -1 at \(7, 1\)"):
            call(net, given, out)
        np.testing.assert_array_equal(memory, before)


@PREDICTS
def test_outputs_in_the_second_half_of_a_wider_input(call):
    """Rows are converted 256 at a time, after the outputs of earlier rows are written."""
    model = fnn.Sequential([fnn.Input(3), fnn.Dense(3)], seed=1)
    n = 600
    memory = RNG.normal(size=(n, 3))
    wanted = model.predict(memory)
    out = memory.reshape(-1).view(np.float32)[3 * n :].reshape(n, 3)
    call(model.freeze(), memory, out)
    np.testing.assert_array_equal(out, wanted)


@PREDICTS
def test_numbers_and_integers_in_one_network(call):
    model = mixed()
    net, n = model.freeze(), 9
    a, b = RNG.normal(size=(n, 3)).astype(np.float32), RNG.integers(0, 4, n)
    wanted = model.predict([a, b])
    for kind in ("int64", "uint8"):
        outs = np.zeros((n, 3), np.float32), np.zeros((n, 1), np.float32)
        call(net, (a, b.astype(kind)), outs)
        for out, expected in zip(outs, wanted, strict=True):
            np.testing.assert_array_equal(out, expected)
    for index in range(n):  # an element of an array is a number
        outs = np.zeros(3, np.float32), np.zeros(1, np.float32)
        call(net, (a[index], b[index]), outs)
        for out, expected in zip(outs, model.predict([a[index : index + 1], b[index : index + 1]]), strict=True):
            np.testing.assert_array_equal(out, expected[0])
    with pytest.raises(ValueError, match=r"x\[1\]: expected integers from 0 to 3, got 4$"):
        call(net, (a[0], 4), outs)
    with pytest.raises(ValueError, match=r"x\[1\]: expected integers from 0 to 3, got 18446744073709551615$"):
        call(net, (a[0], np.uint64(2**64 - 1)), outs)
    with pytest.raises(ValueError, match=r"x\[1\]: expected an array of integers or an integer"):
        call(net, (a[0], 1.0), outs)
    with pytest.raises(ValueError, match=r"x\[0\]: expected shape \(3,\) or \(n, 3\), got \(\)"):
        call(net, (2, 1), outs)


@PREDICTS
def test_a_sample_may_be_one_integer(call):
    x = fnn.Input((), dtype="int64", name="x")
    model = fnn.Model(x, fnn.Dense(2)(fnn.OneHot(DEPTH)(x)), seed=0)
    net, out = model.freeze(), np.zeros(2, np.float32)
    for value in (0, np.int8(DEPTH - 1), np.uint64(2)):
        call(net, value, out)
        np.testing.assert_array_equal(out, model.predict(np.array([value]))[0])
    for value in (DEPTH, np.int8(-1), np.uint64(2**63)):
        with pytest.raises(ValueError, match=f"x: expected integers from 0 to 4, got {value}$"):
            call(net, value, out)


def test_pickles_and_several_networks():
    models = [network() for _ in range(2)]
    models[1].set_weights([2 * value for value in models[1].get_weights()])
    x = integers(4)
    nets = [pickle.loads(pickle.dumps(model.freeze())) for model in models]
    several = fnp.stack(nets)
    for call in (predict, fnp.predict):
        outs = np.zeros((2, 4, 2), np.float32)
        call(several, np.stack([x, x]), outs)
        for out, model in zip(outs, models, strict=True):
            np.testing.assert_array_equal(out, model.predict(x))
        with pytest.raises(ValueError, match=r"got 5 at \(3, 2\)"):
            call(several, np.stack([x, np.full_like(x, DEPTH - 1) + (np.arange(12).reshape(4, 3) == 11)]), outs)


def test_models_of_models_take_integers():
    words = fnn.Input(STEPS, dtype="int64", name="words")
    encoder = fnn.Model(words, fnn.Dense(4, "tanh")(fnn.Flatten()(fnn.OneHot(DEPTH)(words))), seed=3)
    first, second = (fnn.Input(STEPS, dtype="int64", name=name) for name in ("first", "second"))
    model = fnn.Model([first, second], fnn.Dense(1)(fnn.Multiply()([encoder(first), encoder(second)])), seed=4)
    model.compile("adam", "mse")
    a, b, y = integers(8), integers(8, "int16"), RNG.normal(size=(8, 1)).astype(np.float32)
    net, learner = model.freeze(), model.learner()
    out = np.zeros((8, 1), np.float32)
    predict(net, (a, b), out)
    np.testing.assert_array_equal(out, model.predict([a, b]))
    for _ in range(3):
        assert step(learner, (a, b), y) == model.train_on_batch([a, b], y)["loss"]
    fnp.predict(learner, (a, b), out)
    np.testing.assert_array_equal(out, model.predict([a, b]))
    with pytest.raises(ValueError, match=r"x\[1\]: expected integers from 0 to 4, got 9 at \(0, 0\)"):
        step(learner, (a, b + 9 - b[0, 0]), y)


# --- gradients -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [gradient, fnp.input_gradient], ids=["compiled", "python"])
def test_gradients_are_those_of_the_numbers(call):
    model = mixed("float64")
    net, n = model.freeze(gradients=True), 3
    a, b = RNG.normal(size=(n, 3)), RNG.integers(0, 4, n).astype(np.int32)
    seeds, dx = (RNG.normal(size=(n, 3)), RNG.normal(size=(n, 1))), np.zeros((n, 3))
    call(net, (a, b), seeds, dx)

    def total(moved):
        return sum((seed * out).sum() for seed, out in zip(seeds, model.predict([moved, b]), strict=True))

    for index in np.ndindex(dx.shape):
        up, down = a.copy(), a.copy()
        up[index] += 1e-6
        down[index] -= 1e-6
        assert dx[index] == pytest.approx((total(up) - total(down)) / 2e-6, rel=1e-5, abs=1e-8)
    with pytest.raises(ValueError, match=r"x\[1\]: expected integers from 0 to 3, got -1 at \(2,\)"):
        call(net, (a, np.array([0, 1, -1])), seeds, dx)
    with pytest.raises(ValueError, match="one array for each input and output"):
        call(net, (a, b), seeds, (dx, np.zeros(n)))


def test_gradients_of_models_leave_out_integers():
    model, n = mixed("float64"), 4
    a, b, y = RNG.normal(size=(n, 3)), RNG.integers(0, 4, n), [RNG.integers(0, 3, n), RNG.normal(size=(n, 1))]
    dx = model.input_gradients([a, b], y)
    assert dx.shape == a.shape
    for index in np.ndindex(a.shape):
        up, down = a.copy(), a.copy()
        up[index] += 1e-6
        down[index] -= 1e-6
        difference = model.evaluate([up, b], y)["loss"] - model.evaluate([down, b], y)["loss"]
        assert dx[index] == pytest.approx(difference / 2e-6, rel=1e-5, abs=1e-8)


def test_integers_alone_have_no_gradient():
    model = network()
    with pytest.raises(ValueError, match="input_gradients: all inputs hold integers, which have no gradient"):
        model.input_gradients(integers(4), np.zeros((4, 2)))
    with pytest.raises(ValueError, match="freeze: all inputs hold integers, which have no gradient"):
        model.freeze(gradients=True)
    learner, x = model.learner(gradients=True), integers(1)[0]
    for call in (gradient, fnp.input_gradient):
        with pytest.raises(ValueError, match=r"no gradient for its inputs.*; integers have none"):
            call(learner, x, np.zeros(2, np.float32), np.zeros(STEPS, np.float32))
    with pytest.raises(ValueError, match="integers have none"):
        fnp.jacobian(learner, x, np.zeros((2, STEPS), np.float32))


@pytest.mark.parametrize("call", [seeded, fnp.parameter_gradient], ids=["compiled", "python"])
def test_gradients_for_the_weights(call):
    model = network("float64")
    learner, x, y = model.learner(gradients=True), integers(6, "uint16"), RNG.normal(size=(6, 2))
    found, wanted = np.zeros((2, fnp.parameter_count(learner)))
    call(learner, x, 2 * (model.predict(x) - y) / y.size, found)
    fnp.loss_and_gradients(learner, x, y, wanted)
    np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-12)
    bad = x.copy()
    bad[5, 2] = DEPTH
    with pytest.raises(ValueError, match=r"got 5 at \(5, 2\); the weights are as they were"):
        call(learner, bad, y, found)


# --- learners --------------------------------------------------------------------------------------------------------


@STEPS_TAKEN
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 4, 40])
def test_steps_are_those_of_the_model(take, dtype, n):
    model = network(metrics=["mae"])
    learner, y = model.learner(metrics=True), RNG.normal(size=(n, 2)).astype(np.float32)
    wide = integers(2 * n, dtype, 2 * STEPS)
    for x in (wide[:n, :STEPS].copy(), wide[::2, ::2], wide[:n, STEPS - 1 :: -1]):
        for work in (None, fnp.workspace(learner, n)):
            model.reset_learner_logs(learner)
            wanted = model.train_on_batch(x, y)
            assert take(learner, x, y, work) == wanted["loss"]
            assert model.learner_logs(learner) == wanted
            assert weights_of(learner) == weights_of(model)
    restored = pickle.loads(pickle.dumps(learner))
    assert take(restored, wide[:n, :STEPS], y, None) == model.train_on_batch(wide[:n, :STEPS], y)["loss"]
    network(metrics=["mae"]).update_from(restored)


@STEPS_TAKEN
@pytest.mark.parametrize(("dtype", "bad"), OUT_OF_RANGE)
def test_a_learner_that_refuses_integers_stays_as_it_was(take, dtype, bad):
    learner, x, y = network().learner(), np.zeros((300, STEPS), dtype), np.zeros((300, 2), np.float32)
    take(learner, x, y)
    x[299, 2] = bad
    before = [array.copy() for array in learner]
    text = rf"x: expected integers from 0 to 4, got {bad} at \(299, 2\); the weights are as they were"
    for given in (x, x[:, ::-1][:, ::-1], np.asfortranarray(x)):
        with pytest.raises(ValueError, match=text):
            take(learner, given, y)
        with pytest.raises(ValueError, match=text):
            fnp.check(learner, given, y=y)
    with pytest.raises(ValueError, match="x: expected an array of integers or an integer, got floating-point numbers"):
        take(learner, x.astype(np.float64), y)
    for array, kept in zip(learner, before, strict=True):
        np.testing.assert_array_equal(array, kept)


@STEPS_TAKEN
def test_learners_of_numbers_and_integers(take):
    model, n = mixed(), 7
    learner, a, b = model.learner(), RNG.normal(size=(n, 3)), RNG.integers(0, 4, n).astype(np.uint32)
    y = RNG.integers(0, 3, n), RNG.normal(size=(n, 1))
    for _ in range(2):
        assert take(learner, (a, b), y) == model.train_on_batch([a, b], list(y))["loss"]
    # one sample, whose integer and targets are numbers
    wanted = model.train_on_batch([a[:1], b[:1]], [y[0][:1], y[1][:1]])["loss"]
    assert take(learner, (a[0], b[0]), (y[0][0], y[1][0, 0])) == wanted
    assert weights_of(learner) == weights_of(model)
