"""One code for predictions of few rows: any number of rows, dtypes and strides, shared by a team where that pays."""

import gc
import threading
import tracemalloc

import numpy as np
import pytest

import fastnn as fnn
from fastnn.backend.cpu.layouts import array_object
from fastnn.backend.cpu.threads import thread_pool
from fastnn.runtime.calls import prediction
from small_calls import general, network

RNG = np.random.default_rng(6)


def is_quick(model, x):
    kept = model._runtime.prediction
    if kept.call is None:
        return False
    return any(result is not False for result in (kept.call(x), prediction.otherwise(kept, x)))


def test_many_rows_have_the_same_bits():
    model, large = network(), fnn.Sequential([fnn.Input(6), *(fnn.Dense(900, "relu") for _ in range(3))], seed=1)
    for one, most in ((model, 4096), (large, 4096)):
        for n in (257, 1024, 3 * 256 + 1, most + 1):
            x = RNG.normal(size=(n, 6))
            results = [one.predict(x) for _ in range(3)]
            assert all(got.tobytes() == general(one, x).tobytes() for got in results)
            assert not is_quick(one, x) or n <= most
    assert is_quick(model, x[:4096])
    # a call of many rows would keep Ctrl-C waiting
    assert not is_quick(large, x[:4096]) and large.predict(x[:2]).shape == (2, 900) and is_quick(large, x[:2])


def test_one_code_serves_all_rows_dtypes_and_strides():
    """After the second prediction nothing is made for another number of rows, dtype or layout."""
    model = network()
    wide = RNG.normal(size=(400, 12))
    for _ in range(2):
        model.predict(wide[:200, :6])
    call, code = model._runtime.prediction.call, model._runtime.prediction.code
    programs = len(model._runtime._programs)
    expected = {}
    for n in (1, 2, 3, 100, 17, 1, 200):
        for dtype in ("f4", "f8", "i2", "?"):
            for x in (wide[:n, :6], wide[: 2 * n : 2, ::-2], wide.T[:6, :n].T):
                x = np.asarray(x, dtype)
                expected[x.tobytes(), x.dtype] = x, model.predict(x)
    assert model._runtime.prediction.call is call and model._runtime.prediction.code is code
    assert len(model._runtime._programs) == programs
    for x, got in expected.values():
        assert got.tobytes() == general(model, x).tobytes()


def test_memory_does_not_grow_with_shapes():
    model = network()
    rows = np.zeros((300, 12), np.float32)
    for _ in range(2):
        model.predict(rows[:256, :6])
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for n in range(1, 257):
            model.predict(rows[:n, :6])
            model.predict(rows[:n, ::2].astype(np.int8))
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < 5_000
    finally:
        tracemalloc.stop()


def test_the_second_prediction_makes_the_call_and_the_first_does_not():
    model, x = network(), RNG.normal(size=(2, 6))
    for expected in (False, True):
        model.predict(x)
        assert is_quick(model, x) == expected
    other = network(seed=2)
    for _ in range(2):
        other.predict(x)
    # models of equal layers have one code
    assert other._runtime.prediction.code is model._runtime.prediction.code
    assert other.predict(x).tobytes() != model.predict(x).tobytes()


def test_subnormal_numbers_are_zeros_as_on_the_general_path():
    model = fnn.Sequential([fnn.Input(2), fnn.Dense(2, use_bias=False)], seed=1)
    model.set_weights([np.eye(2, dtype=np.float32) / 1024])
    tiny = np.array([[2e-36, 1.0]], np.float32)
    for n in (1, 2):
        x = np.repeat(tiny, n, axis=0)
        for _ in range(3):
            assert model.predict(x).tobytes() == general(model, x).tobytes()
        assert is_quick(model, x) and (model.predict(x)[:, 0] == 0).all()


def test_arrays_of_an_unknown_layout_take_the_general_path(monkeypatch):
    x = RNG.normal(size=(2, 6))
    for name, answer in (("layout", (0, 0)), ("new_array", 0)):
        model = network()
        with monkeypatch.context() as patched:
            patched.setattr(array_object, name, lambda answer=answer: answer)
            for _ in range(4):
                assert model.predict(x).tobytes() == general(model, x).tobytes()
        assert model._runtime.prediction.call is None


def test_a_team_shares_calls():
    model = fnn.Sequential([fnn.Input(400), fnn.Dense(1000, "relu"), fnn.BatchNorm(), fnn.Dense(10, "softmax")], seed=1)
    x = RNG.normal(size=(300, 400)).astype(np.float32)
    x[0, :9] = 1e-41  # subnormal
    expected = {n: general(model, x[:n]).tobytes() for n in (1, 2, 31, 200, 300)}
    fnn.set_num_threads(2)
    try:
        for n in expected:
            for _ in range(3):
                assert model.predict(x[:n]).tobytes() == model.predict([x[:n]]).tobytes() == expected[n]
        together = model._runtime.prediction.together
        assert together is not None and together(x[:1, :3]) is together(x[0]) is together() is together("x") is False
        before = thread_pool.statistics()["phases"]
        assert together(x[:31].astype(np.float64)).tobytes() == expected[31]
        assert thread_pool.statistics()["phases"] > before
        errors = []

        def predict(n):
            try:
                assert all(model.predict(x[:n]).tobytes() == expected[n] for _ in range(200))
            except BaseException as error:
                errors.append(error)

        workers = [threading.Thread(target=predict, args=(n,)) for n in (1, 2, 31, 200)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert not errors
    finally:
        fnn.set_num_threads(1)
    assert model._runtime.prediction.together is None
    assert model.predict(x[:200]).tobytes() == model.predict(x[:200]).tobytes() == expected[200]


def test_integers_are_checked_in_every_call():
    model = fnn.Sequential([fnn.Input((3,), dtype="int64"), fnn.OneHot(5), fnn.Flatten(), fnn.Dense(2)], seed=1)
    x = RNG.integers(0, 5, (6, 3))
    for given in (x, x.astype(np.int8), x.astype(np.uint16)[::-1], x.astype(bool), x[:1]):
        for _ in range(3):
            assert model.predict(given).tobytes() == general(model, given).tobytes()
        assert is_quick(model, given)
    for bad in (x + 1, x - 1, x.astype(np.uint8) - 1, x.astype(float), x[:0], x[:, :2]):
        assert not is_quick(model, bad)
        with pytest.raises((TypeError, ValueError)) as expected:
            general(model, bad)
        with pytest.raises(type(expected.value)) as got:
            model.predict(bad)
        assert str(got.value) == str(expected.value)
