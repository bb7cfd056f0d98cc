"""Gradients for a network's inputs in compiled code: by finite differences, in any memory, with errors."""

import pickle

import numpy as np
import pytest
from numba import njit
from numba.core.errors import TypingError

import fastnn as fnn
from fastnn import nopython as fnp
from frozen import MODELS, RNG, chain, expected, rows, same_numbers  # noqa: F401


@njit(nogil=True)
def gradient(net, x, seed, dx):
    fnp.input_gradient(net, x, seed, dx)


@njit(nogil=True)
def gradient_with(net, x, seed, dx, work):
    fnp.input_gradient(net, x, seed, dx, work)


@njit(nogil=True)
def jacobian(net, x, matrix):
    fnp.jacobian(net, x, matrix)


@njit(nogil=True)
def jacobian_with(net, x, matrix, work):
    fnp.jacobian(net, x, matrix, work)


@pytest.mark.parametrize("name", MODELS)
def test_finite_differences(name):
    model = MODELS[name]("float64")
    net = model.freeze(gradients=True)
    work = fnp.workspace(net, 300)
    for n in (1, 2, 3, 16, 33, 300) if name != "sequence" else (1, 3):
        x = rows(model, n, "float64")
        seed = RNG.normal(size=expected(model, x).shape)
        way, h = RNG.normal(size=x.shape), 1e-6
        slope = ((expected(model, x + h * way) - expected(model, x - h * way)) * seed).sum() / (2 * h)
        dx = np.full_like(x, np.nan)
        gradient(net, x, seed, dx)
        assert (dx * way).sum() == pytest.approx(slope, rel=1e-5, abs=1e-6)
        for call in (fnp.input_gradient, lambda *given: gradient_with(*given, work)):
            again = np.full_like(x, np.nan)
            call(net, x, seed, again)
            assert again.tobytes() == dx.tobytes()
        single = np.full_like(x[0], np.nan)
        gradient(net, x[0], seed[0], single)
        np.testing.assert_allclose(single, dx[0], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ["perceptron", "residual", "normalised"])
def test_float32_follows_float64(name):
    double = MODELS[name]("float64")
    single = MODELS[name]("float32")
    single.set_weights(double.get_weights())
    x = rows(single, 20)
    seed = RNG.normal(size=expected(single, x).shape).astype(np.float32)
    results = []
    for model in (single, double):
        given = [array.astype(model.dtype) for array in (x, seed, x)]
        gradient(pickle.loads(pickle.dumps(model.freeze(gradients=True))), *given)
        results.append(given[2])
    np.testing.assert_allclose(results[0], results[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_jacobian(dtype):
    model = chain(fnn.Dense(5, "tanh"), fnn.Dense(3), dtype=dtype)
    (w, b), (v, _) = model.get_weights()[:2], model.get_weights()[2:]
    x = RNG.normal(size=6).astype(dtype)
    net = model.freeze(gradients=True)
    slopes = 1 - np.tanh(x @ w + b) ** 2
    for call in (jacobian, fnp.jacobian, lambda *given: jacobian_with(*given, fnp.workspace(net, 1))):
        found = np.full((3, 6), np.nan, dtype)
        call(net, x, found)
        np.testing.assert_allclose(found, (w * slopes @ v).T, rtol=1e-12 if dtype == "float64" else 1e-5)


@pytest.mark.parametrize("name", ["images", "one output", "wide"])
def test_jacobians_of_other_shapes(name):
    model = MODELS[name]("float32")
    net, x = model.freeze(gradients=True), rows(model, 1)[0]
    outputs = expected(model, x[None])[0].shape
    wanted = np.empty((*outputs, *x.shape), np.float32)
    for index in np.ndindex(outputs):
        seed = np.zeros(outputs, np.float32)
        seed[index] = 1
        gradient(net, x, seed, wanted[index])
    work = fnp.workspace(net, 4)
    for call in (jacobian, fnp.jacobian, lambda *given: jacobian_with(*given, work)):
        found = np.full_like(wanted, np.nan)
        call(net, x, found)
        assert found.tobytes() == wanted.tobytes()


def test_jacobians_misused():
    model = chain(fnn.Dense(5, "tanh"), fnn.Dense(3))
    net, x, matrix = model.freeze(gradients=True), rows(model, 1)[0], np.zeros((3, 6), np.float32)
    work = fnp.workspace(net, 1)
    for call in (jacobian, fnp.jacobian, lambda *given: jacobian_with(*given, work)):
        for given in ((x, matrix[:2].copy()), (x, np.zeros((6, 3), np.float32)), (x[:5], matrix), (matrix[0], matrix)):
            with pytest.raises(ValueError):
                call(net, *given)
        with pytest.raises((TypingError, ValueError), match="matrix"):
            call(net, x, matrix[0])
        with pytest.raises((TypingError, TypeError), match="matrix"):
            call(net, x, matrix.astype(np.float64))
        with pytest.raises(ValueError, match="gradients=True"):
            call(model.freeze(), x, matrix)
    wide = MODELS["wide"]("float64").freeze(gradients=True)
    x, matrix = np.zeros(6), np.zeros((70, 6))
    small = fnp.workspace(wide, 1)
    for length in range(0, len(small), 7):
        with pytest.raises(ValueError, match="workspace"):
            jacobian_with(wide, x, matrix, small[:length])


def test_the_gradient_may_take_the_place_of_what_it_is_made_from():
    model = chain(fnn.Dense(9, "gelu"), fnn.Dense(6))
    net = model.freeze(gradients=True)
    x, seed = rows(model, 5), rows(model, 5)
    wanted = np.empty_like(x)
    gradient(net, x, seed, wanted)
    for call in (gradient, fnp.input_gradient, lambda *given: gradient_with(*given, fnp.workspace(net, 5))):
        for place in range(2):
            given = [x.copy(), seed.copy()]
            call(net, *given, given[place])
            assert given[place].tobytes() == wanted.tobytes()
        both = x.copy()
        call(net, both, both, both)
        once = np.empty_like(x)
        call(net, x, x, once)
        assert both.tobytes() == once.tobytes()


def test_nothing_else_is_written():
    model = MODELS["wide"]("float32")
    net = model.freeze(gradients=True)
    for n in (1, 2, 17):
        x, seed = rows(model, n), RNG.normal(size=(n, 70)).astype(np.float32)
        needed = len(fnp.workspace(net, n))
        memory, place = np.full(needed + 40, 7, np.int64), np.full(x.size + 40, 7.5, np.float32)
        gradient_with(net, x, seed, place[20:-20].reshape(x.shape), memory[20 : 20 + needed])
        assert (memory[:20] == 7).all() and (memory[20 + needed :] == 7).all()
        assert (place[:20] == 7.5).all() and (place[-20:] == 7.5).all() and np.isfinite(place).all()


def test_misuse():
    model = MODELS["perceptron"]("float32")
    x, seed = np.zeros((4, 6), np.float32), np.zeros((4, 10), np.float32)
    for call in (gradient, fnp.input_gradient):
        with pytest.raises(ValueError, match="gradients=True"):
            call(model.freeze(), x, seed, x)
        net = model.freeze(gradients=True)
        for given, match in (
            ((x[:, :5].copy(), seed, x), "x"),
            ((x, seed[:3], x), "seed"),
            ((x, seed[0], x), "seed"),
            ((x, seed, x[:3]), "dx"),
            ((x, seed, x[0]), "dx"),
        ):
            with pytest.raises(ValueError, match=match):
                call(net, *given)
        for given in ((x, seed.astype(float), x), (x, seed, x.astype(float)), (x, seed, x[:, ::-1])):
            with pytest.raises((TypingError, TypeError), match="expected"):
                call(net, *given)
        stale = net._replace(gradient=net.gradient.copy())
        stale.gradient[1] = 5
        with pytest.raises(RuntimeError, match="another process"):
            call(stale, x, seed, x)
    small = fnp.workspace(net, 1)
    for call in (gradient_with, fnp.input_gradient):
        with pytest.raises(ValueError, match="workspace"):
            call(net, x, seed, x, small)


def test_models_without_a_gradient():
    model = chain(fnn.Dense(3, "step"), fnn.Dense(2))
    model.freeze()
    with pytest.raises(ValueError, match="no gradient"):
        model.freeze(gradients=True)
