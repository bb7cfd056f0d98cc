"""Networks as C functions: the bits of `Model.predict`, their lifetime, and SciPy as a caller."""

import ctypes
import gc
import pickle

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nopython as fnp
from frozen import MODELS, RNG, at_once, chain, expected, rows

SURROGATE = "double (int, double *)"


def pointer(array):
    kind = ctypes.c_float if array.dtype == np.float32 else ctypes.c_double
    return array.ctypes.data_as(ctypes.POINTER(kind))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["perceptron", "residual", "sequence", "reshaped alone", "pictures"])
def test_the_bits_of_the_models_predictions(name, dtype):
    model = MODELS[name](dtype)
    plain, with_data = model.c_function(), model.c_function("int (const T *, T *, void *)")
    kind = {"float32": "float", "float64": "double"}[dtype]
    assert plain.signature == f"int (const {kind} *, {kind} *)"
    for x in rows(model, 3, dtype):
        wanted = expected(model, x[None])[0]
        for call in (plain.ctypes, lambda *given: with_data.ctypes(*given, None)):
            memory = np.full(wanted.size + 20, 7.5, dtype)
            assert call(pointer(x), pointer(memory[10:])) == 0
            assert memory[10:-10].tobytes() == wanted.tobytes()
            assert (memory[:10] == 7.5).all() and (memory[-10:] == 7.5).all()


def surrogate():
    return chain(fnn.Dense(8, "tanh"), fnn.Dense(1), shape=(2,), dtype="float64")


def test_spellings_of_signatures():
    for signature in ("int (const T *, T *)", "int(const T*, T*)", "int (const double *, double *)"):
        call = surrogate().c_function(signature)
        assert surrogate().c_function(call.signature).signature == call.signature


def test_conventions_of_scipy():
    model = surrogate()
    x = np.array([0.3, -0.7])
    wanted = float(model.predict(x[None])[0, 0])
    assert model.c_function(SURROGATE).ctypes(2, pointer(x)) == wanted
    assert model.c_function("double (int, double *, void *)").ctypes(2, pointer(x), None) == wanted
    out = np.zeros(1)
    assert model.c_function("int (double *, intptr_t, double *, void *)").ctypes(pointer(x), 2, pointer(out), None) == 1
    assert out[0] == wanted


def test_integrals_and_filters_by_scipy():
    scipy = pytest.importorskip("scipy", reason="SciPy, which calls C functions, is not installed")
    integrate, ndimage = pytest.importorskip("scipy.integrate"), pytest.importorskip("scipy.ndimage")
    model = surrogate()
    call = scipy.LowLevelCallable(model.c_function(SURROGATE).ctypes)
    gc.collect()
    value, _ = integrate.nquad(call, [[0.0, 1.0], [0.0, 1.0]])
    nodes, weights = np.polynomial.legendre.leggauss(20)
    grid = np.stack(np.meshgrid((nodes + 1) / 2, (nodes + 1) / 2, indexing="ij"), axis=-1).reshape(-1, 2)
    assert value == pytest.approx(float(model.predict(grid)[:, 0] @ np.outer(weights, weights).ravel()) / 4, rel=1e-9)

    image = RNG.normal(size=(12, 9))
    edge = chain(fnn.Dense(5, "relu"), fnn.Dense(1), shape=(9,), dtype="float64")
    call = scipy.LowLevelCallable(edge.c_function("int (double *, intptr_t, double *, void *)").ctypes)
    filtered = ndimage.generic_filter(image, call, size=3)
    padded = np.pad(image, 1, mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).reshape(-1, 9)
    np.testing.assert_allclose(filtered.ravel(), edge.predict(windows)[:, 0], rtol=1e-12, atol=1e-14)


def test_the_function_keeps_the_network():
    model = surrogate()
    x = np.array([0.3, -0.7])
    wanted = float(model.predict(x[None])[0, 0])
    call = model.c_function(SURROGATE).ctypes
    del model
    gc.collect()
    rubbish = [np.full(1000, 3.0) for _ in range(100)]
    assert call(2, pointer(x)) == wanted and len(rubbish) == 100


def test_the_function_follows_the_frozen_network():
    net = surrogate().freeze()
    call = fnp.c_function(net, SURROGATE).ctypes
    x = np.array([0.3, -0.7])
    fnp.set_parameters(net, np.zeros(fnp.parameter_count(net)))
    assert call(2, pointer(x)) == 0.0


def test_many_threads_and_many_functions():
    models = [surrogate() for _ in range(20)]
    for model in models:
        model.set_weights([RNG.normal(size=w.shape) for w in model.get_weights()])
    calls = [model.c_function(SURROGATE) for model in models]
    assert len({call.address for call in calls}) == 20
    x = RNG.normal(size=(50, 2))
    wanted = np.array([[model.predict(row[None])[0, 0] for row in x] for model in models])
    wrong = []

    def work():
        for call, values in zip(calls, wanted, strict=True):
            wrong.extend(row for row, value in zip(x, values, strict=True) if call.ctypes(2, pointer(row)) != value)

    at_once(work)
    assert not wrong


def test_misuse():
    with pytest.raises(ValueError, match="signature: expected one of"):
        surrogate().c_function("void (void)")
    with pytest.raises(ValueError, match="one output"):
        chain(fnn.Dense(2), dtype="float64").c_function(SURROGATE)
    with pytest.raises(ValueError, match="float64"):
        chain(fnn.Dense(1)).c_function(SURROGATE)
    with pytest.raises(TypeError, match="one network"):
        fnp.c_function(fnp.stack([surrogate().freeze()]))
    with pytest.raises(TypeError, match=r"Model\.freeze"):
        fnp.c_function(surrogate())
    with pytest.raises((ValueError, TypeError, AttributeError)):
        pickle.dumps(surrogate().c_function())
    assert "double (int, double *)" in repr(surrogate().c_function(SURROGATE))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_c_functions_take_int64(dtype):
    words = fnn.Input(3, dtype="int64")
    model = fnn.Model(words, fnn.Dense(2)(fnn.Flatten()(fnn.OneHot(5)(words))), seed=1, dtype=dtype)
    call, real = model.c_function(), {"float32": "float", "float64": "double"}[dtype]
    assert call.signature == f"int (const int64_t *, {real} *)"
    assert model.c_function(call.signature).signature == call.signature
    x = np.array([0, 4, 2])
    out = np.zeros(2, dtype)
    given = (x.ctypes.data_as(ctypes.POINTER(ctypes.c_int64)), np.ctypeslib.as_ctypes(out))
    assert call.ctypes(*given) == 0
    np.testing.assert_array_equal(out, model.predict(x[None])[0])
    out[:], x[1] = 7, 5
    assert call.ctypes(*given) != 0
    assert (out == 7).all()
    with pytest.raises(ValueError, match="signature: expected one of"):
        model.c_function(f"int (const {real} *, {real} *)")


def test_c_functions_of_scipy_take_numbers():
    x = fnn.Input((), dtype="int64")
    model = fnn.Model(x, fnn.Dense(1)(fnn.OneHot(3)(x)), dtype="float64")
    with pytest.raises(ValueError, match="is for networks of float64, of this one its input is of int64"):
        model.c_function("double (int, double *)")
