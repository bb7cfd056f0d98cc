"""Frozen networks in compiled code: the bits of `Model.predict`, and one compilation for all."""

import copy
import multiprocessing
import pickle

import numpy as np
import pytest
from numba import njit

import fastnn as fnn
from fastnn import nopython as fnp
from fastnn.backend.cpu.processor.blocking import Blocking
from frozen import (
    MODELS,
    RNG,
    at_once,
    chain,
    each,
    expected,
    in_parallel,
    predict,
    predict_with,
    residual,
    round_trip,
    rows,
)

ROWS = (1, 2, 3, 5, 16, 17, 31, 33, 100, 255, 256, 257, 300, 513)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", MODELS)
def test_the_bits_of_the_models_predictions(name, dtype):
    model = MODELS[name](dtype)
    net = model.freeze()
    work = fnp.workspace(net, max(ROWS))
    for n in ROWS if name != "sequence" else ROWS[:7]:
        x = rows(model, n, dtype)
        wanted = expected(model, x)
        for call in (predict, fnp.predict, lambda *given: predict_with(*given, work)):
            out = np.full_like(wanted, np.nan)
            call(net, x, out)
            assert out.tobytes() == wanted.tobytes(), n
    wanted = np.stack([expected(model, one[None])[0] for one in x])
    for call in (each, in_parallel):
        out = np.full_like(wanted, np.nan)
        call(net, x, out)
        assert out.tobytes() == wanted.tobytes()


def test_all_architectures_are_one_type():
    @njit
    def first(net, x, out):
        fnp.predict(net, x, out)

    for name in ("perceptron", "residual", "normalised"):
        model = MODELS[name]("float32")
        x = rows(model, 4)
        out = np.empty((4, *model.predict(x).shape[1:]), np.float32)
        first(model.freeze(), x, out)
        first(copy.deepcopy(model.freeze()), x, out)
        first(pickle.loads(pickle.dumps(model.freeze())), x, out)
    assert len(first.signatures) == 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_row_whose_products_are_large_enough_to_pack_blocks(dtype):
    """A call of one row has no memory for them: its products have to do without."""
    *_, work = Blocking.of(dtype).least
    steps = 64
    width = int((work / steps) ** 0.5) + 1
    model = chain(fnn.Dense(width, activation="tanh"), fnn.Dense(1), shape=(steps, width), dtype=dtype)
    model.compile("sgd", "mse")
    net, learner = model.freeze(gradients=True), model.learner()
    x = RNG.normal(size=(1, steps, width)).astype(dtype)
    wanted = model.predict(x)
    for n in (1, 2):
        out = np.full((n, *wanted.shape[1:]), np.nan, dtype)
        predict(net, np.repeat(x, n, axis=0), out)
        np.testing.assert_array_equal(out, np.repeat(wanted, n, axis=0))
    given = np.full_like(x, np.nan)
    fnp.input_gradient(net, x, np.ones_like(wanted), given)
    assert np.isfinite(given).all()
    loss = fnp.train_step(learner, x, np.zeros_like(wanted))
    np.testing.assert_allclose(loss, model.train_on_batch(x, np.zeros_like(wanted))["loss"], rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layer", [fnn.Activation("softmax"), fnn.Dense(1), fnn.Dense(1, "relu")], ids=repr)
def test_a_row_has_the_bits_that_it_has_among_others(layer, dtype):
    """Also where many rows are computed side by side, as those of few columns are."""
    for columns in (1, 5, 8, 10, 17, 31, 35, 100):
        model = chain(layer, shape=(columns,), dtype=dtype)
        net, x = model.freeze(), (3.0 * RNG.normal(size=(40, columns))).astype(dtype)
        wanted = model.predict(x)
        for n in (1, 2, 5, 11, 12):
            out = np.full((n, *wanted.shape[1:]), np.nan, dtype)
            for first in range(0, 40 - n, n):
                predict(net, x[first : first + n], out)
                assert out.tobytes() == wanted[first : first + n].tobytes(), (columns, n)
                assert model.predict(x[first : first + n]).tobytes() == out.tobytes()


def test_no_rows():
    net = MODELS["perceptron"]("float32").freeze()
    predict(net, np.empty((0, 6), np.float32), np.empty((0, 10), np.float32))
    fnp.predict(net, np.empty((0, 6), np.float32), np.empty((0, 10), np.float32))


def test_inputs_may_be_the_outputs():
    model = chain(fnn.Dense(6, activation="tanh"))
    net, x = model.freeze(), rows(model, 20)
    wanted, buffer = expected(model, x), np.zeros(200, np.float32)
    for call in (predict, fnp.predict, lambda *given: predict_with(*given, fnp.workspace(net, 20))):
        for first, second in ((0, 0), (0, 6), (6, 0), (0, 3)):
            given, out = (buffer[start : start + 120].reshape(20, 6) for start in (first, second))
            given[...] = x
            call(net, given, out)
            assert out.tobytes() == wanted.tobytes()


def test_not_a_number_reaches_the_caller():
    model = MODELS["perceptron"]("float32")
    x = rows(model, 5)
    x[3, 2] = np.nan
    out = np.zeros((5, 10), np.float32)
    predict(model.freeze(), x, out)
    assert np.isnan(out[3]).all() and np.isfinite(np.delete(out, 3, axis=0)).all()


def test_subnormal_numbers_count_as_zeros():
    model = chain(fnn.Dense(3, kernel_initializer="ones"), shape=(2,))
    net = model.freeze()
    for x in ([1e-39, 1e-39], [1.0, 2.0], [1e-30, 1e-39], [1.5e-38, -1.2e-38]):
        x = np.array([x], np.float32)
        for _ in range(2):
            out = np.full((1, 3), np.nan, np.float32)
            predict(net, x, out)
            assert out.tobytes() == expected(model, x).tobytes()


def test_a_frozen_network_is_a_copy():
    model = MODELS["perceptron"]("float32")
    net, x = model.freeze(), rows(model, 3)
    wanted, out = expected(model, x), np.empty((3, 10), np.float32)
    model.set_weights([w + 1 for w in model.get_weights()])
    predict(net, x, out)
    assert out.tobytes() == wanted.tobytes()
    assert "(6,) -> (10,)" in repr(net) and "350 weights" in repr(net)


def test_parameters_as_a_vector():
    model = residual()
    net, x = model.freeze(), rows(model, 5)
    count = fnp.parameter_count(net)
    assert count == sum(w.size for w in model.get_weights())
    flat = RNG.normal(size=count).astype(np.float32)
    first = 0
    weights = []
    for w in model.get_weights():
        weights.append(flat[first : first + w.size].reshape(w.shape))
        first += w.size
    back = np.empty_like(flat)
    assert round_trip(net, flat, back) == count
    np.testing.assert_array_equal(back, flat)
    other = model.freeze()
    fnp.set_parameters(other, flat)
    np.testing.assert_array_equal(other.parameters, net.parameters)
    fnp.get_parameters(other, back)
    np.testing.assert_array_equal(back, flat)
    model.set_weights(weights)
    out = np.empty((5, 3), np.float32)
    predict(net, x, out)
    assert out.tobytes() == expected(model, x).tobytes()


@njit
def by_members(nets, x, out):
    for i in range(len(x)):
        fnp.predict(fnp.member(nets, i), x[i], out[i])


@njit
def how_many(nets):
    return fnp.count(nets)


def test_many_networks():
    models = [MODELS["perceptron"]("float32") for _ in range(5)]
    for model in models:
        model.set_weights([RNG.normal(size=w.shape) for w in model.get_weights()])
    nets = fnp.stack([model.freeze() for model in models])
    x = np.stack([rows(models[0], 7) for _ in models])
    wanted = np.stack([expected(model, given) for model, given in zip(models, x, strict=True)])
    for given in (nets, pickle.loads(pickle.dumps(nets))):
        for call in (predict, fnp.predict, by_members):
            out = np.zeros_like(wanted)
            call(given, x, out)
            assert out.tobytes() == wanted.tobytes()
        out = np.zeros_like(wanted)
        predict_with(given, x, out, fnp.workspace(given, 7))
        assert out.tobytes() == wanted.tobytes()
    assert fnp.count(nets) == how_many(nets) == 5
    small = chain(fnn.Dense(6), shape=(2,))
    several = fnp.stack([small.freeze()] * 4)
    for call in (predict, fnp.predict):
        buffer = RNG.normal(size=24).astype(np.float32)
        inputs = buffer[:8].reshape(4, 2).copy()
        call(several, buffer[:8].reshape(4, 2), buffer.reshape(4, 6))
        np.testing.assert_array_equal(
            buffer.reshape(4, 6), np.concatenate([expected(small, row[None]) for row in inputs])
        )
    out = np.zeros((7, 10), np.float32)
    predict(fnp.member(nets, 3), x[3], out)
    assert out.tobytes() == wanted[3].tobytes()
    with pytest.raises(IndexError):
        fnp.member(nets, 5)
    with pytest.raises(IndexError):
        by_members(nets, np.zeros((6, 7, 6), np.float32), np.zeros((6, 7, 10), np.float32))
    for call in (predict, fnp.predict):
        with pytest.raises(ValueError, match="networks"):
            call(nets, x[:4], wanted[:4])
    with pytest.raises(TypeError, match="stack"):
        fnp.member(models[0].freeze(), 0)
    with pytest.raises(TypeError):
        fnp.member(nets, 0.0)
    with pytest.raises(ValueError, match="architecture"):
        fnp.stack([models[0].freeze(), residual().freeze()])
    with pytest.raises(ValueError, match="at least one"):
        fnp.stack([])
    with pytest.raises(TypeError, match=r"Model\.freeze"):
        fnp.stack([models[0]])


def test_eight_threads_at_once():
    model = MODELS["wide"]("float32")
    net, x = model.freeze(), rows(model, 40)
    wanted = np.stack([expected(model, one[None])[0] for one in x])
    batch = expected(model, x)
    failures = []

    def work():
        for _ in range(50):
            out, together = np.zeros_like(wanted), np.zeros_like(wanted)
            each(net, x, out)
            predict(net, x, together)
            if out.tobytes() != wanted.tobytes() or together.tobytes() != batch.tobytes():
                failures.append(out)

    at_once(work)
    assert not failures


def _predict_there(net, x):
    out = np.empty((len(x), 10), np.float32)
    predict(net, x, out)
    return out


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_other_processes(method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system cannot {method}")
    model = MODELS["perceptron"]("float32")
    x = rows(model, 20)
    with multiprocessing.get_context(method).Pool(2) as pool:
        results = pool.starmap(_predict_there, [(model.freeze(), x)] * 4)
    for result in results:
        assert result.tobytes() == expected(model, x).tobytes()
