"""Quick predictions: the same bits and errors as the general path, whatever happens to the model in between."""

import copy
import gc
import os
import pickle
import threading

import numpy as np
import pytest

import fastnn as fnn
from fastnn.backend.cpu.frozen import bound_code
from fastnn.backend.cpu.frozen.estimate import rows_within
from small_calls import general, growth, is_quick, network

RNG = np.random.default_rng(5)


def two_ends():
    a, b = fnn.Input((3,), name="a"), fnn.Input((2, 2), name="b")
    joined = fnn.Concatenate()([fnn.Dense(5, activation="relu")(a), fnn.Flatten()(b)])
    return fnn.Model([a, b], [fnn.Dense(2)(joined), fnn.Dense(3, activation="softmax")(joined)], seed=2)


DTYPES = ["float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("given", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 7, 33, 256])
def test_same_bits_for_all_dtypes_and_sizes(dtype, given, n):
    model = network(dtype=dtype)
    for _ in range(3):
        x = (50 * RNG.normal(size=(n, 6))).astype(given)
        got = model.predict(x)
        assert got.dtype == dtype and got.tobytes() == general(model, x).tobytes()
    assert is_quick(model, x)


def test_same_bits_for_any_strides_and_alignment():
    model = network()
    wide = RNG.normal(size=(10, 30)).astype(np.float32)
    packed = np.zeros(5, np.dtype([("pad", np.int8), ("x", np.float32, 6)]))
    packed["x"] = wide[:5, :6]
    read_only = wide[:5, 6:12].copy()
    read_only.flags.writeable = False
    for x in (wide[:5, :6], wide[::2, ::5], wide[4::-1, 5::-1], np.asfortranarray(wide[:5, :6]), packed["x"], read_only,
              np.broadcast_to(wide[0, :6], (5, 6))):  # fmt: skip
        for _ in range(2):
            np.testing.assert_array_equal(model.predict(x), general(model, np.ascontiguousarray(x)))
        assert is_quick(model, x) == x.flags.aligned


def test_shapes_and_dtypes_that_take_turns():
    model = network()
    wide = RNG.normal(size=(9, 12))
    arrays = [wide[:1, :6].copy(), wide[:3, :6].copy(), wide[:3, 6:], wide[:3, :6].astype(np.float32),
              wide[:3, :6].astype(">f4"), pickle.loads(pickle.dumps(wide[:3, :6].astype(np.float32)))]  # fmt: skip
    expected = [general(model, x) for x in arrays]
    for number in RNG.integers(len(arrays), size=60):
        got = model.predict(arrays[number])
        assert got.tobytes() == expected[number].tobytes() and got.flags.owndata
    with pytest.raises(ValueError, match="shape"):
        model.predict(wide[:1, :5])
    with pytest.raises((TypeError, ValueError)):
        model.predict("latest")


def test_several_inputs_and_outputs():
    model = two_ends()
    for _ in range(3):
        x = [RNG.normal(size=(4, 3)), RNG.normal(size=(4, 2, 2)).astype(np.float32)]
        expected = general(model, x)
        for given in (x, tuple(x), dict(zip("ab", x, strict=True))):
            for got, wanted in zip(model.predict(given), expected, strict=True):
                assert got.tobytes() == wanted.tobytes()
    assert is_quick(model, x)
    with pytest.raises(ValueError, match="numbers of rows differ"):
        model.predict([x[0], x[1][:3]])
    with pytest.raises(ValueError, match="expected a list of 2 arrays"):
        model.predict(x[:1])


def test_one_column_may_be_a_vector():
    model = fnn.Sequential([fnn.Input(1), fnn.Dense(3, activation="tanh")], seed=1)
    x = RNG.normal(size=5)
    for _ in range(2):
        assert model.predict(x).tobytes() == general(model, x[:, None]).tobytes()


def test_nan_and_infinity_come_through():
    model = network()
    x = np.ones((3, 6), np.float32)
    model.predict(x)
    x[1, 2], x[2, 0] = np.nan, np.inf
    got = model.predict(x)
    assert np.isnan(got[1]).all() and not np.isnan(got[0]).any()
    np.testing.assert_array_equal(got, general(model, x))
    assert not np.isnan(model.predict(np.ones((3, 6), np.float32))).any()


class Numbers(np.ndarray):
    """An array class of another library."""


@pytest.mark.parametrize(
    "make",
    [
        lambda x: x[:, :5], lambda x: x[0], lambda x: x[:0], lambda x: x[None], lambda x: x.astype(object),
        lambda x: x.astype(str), lambda x: x.astype(complex), lambda x: np.ma.masked_less(x, 0.0), lambda x: x[0, 0],
        lambda x: [x, x], lambda x: (x, x), lambda x: {"y": x}, lambda x: None, lambda x: "x",
        lambda x: x.astype("M8[s]"), lambda x: [], lambda x: [[object()]],
    ],
)  # fmt: skip
def test_errors_are_those_of_the_general_path(make):
    model, x = network(), RNG.normal(size=(2, 6)).astype(np.float32)
    model.predict(x)
    with pytest.raises((TypeError, ValueError)) as expected:
        general(model, make(x))
    with pytest.raises(type(expected.value)) as got:
        model.predict(make(x))
    assert str(got.value) == str(expected.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda x: x.tolist(), lambda x: x.astype(np.float16), lambda x: x.astype(">f4"),
        lambda x: x.astype(np.longdouble), lambda x: x.view(Numbers), lambda x: np.ma.masked_array(x), lambda x: [x],
        lambda x: (x,), lambda x: list(x),
    ],
)  # fmt: skip
def test_other_kinds_of_data_are_predicted_as_before(make):
    model, x = network(), RNG.normal(size=(2, 6)).astype(np.float32)
    for _ in range(3):
        assert model.predict(make(x)).tobytes() == general(model, make(x)).tobytes()


def test_results_are_the_caller_s():
    model = network()
    x = RNG.normal(size=(2, 6))
    model.predict(x)
    first = model.predict(x)
    kept = first.copy()
    second = model.predict(x + 1)
    np.testing.assert_array_equal(first, kept)
    assert first.flags.owndata and first.flags.writeable and not np.shares_memory(first, second)
    first[...] = 0
    np.testing.assert_array_equal(model.predict(x), kept)


def test_every_change_of_the_model_is_seen(tmp_path):
    model, x, y = network(), RNG.normal(size=(8, 6)).astype(np.float32), RNG.integers(0, 4, 8)
    seen = set()

    def check(changed=True):
        got = model.predict(x)
        assert got.tobytes() == general(model, x).tobytes()
        assert (got.tobytes() not in seen) == changed
        seen.add(got.tobytes())

    check()
    model.set_weights([weight + 0.1 for weight in model.get_weights()])
    check()
    model.compile("adam", "cross_entropy")
    check(changed=False)
    model.fit(x, y, epochs=2, batch_size=4, verbose=0)
    check()
    model.train_on_batch(x, y)
    check()
    model.layers[1].trainable = False
    check(changed=False)
    model.fit(x, y, verbose=0)
    check()
    moving = model.get_weights(model.layers[1])
    model.set_weights([weight + 1 for weight in moving], model.layers[1])
    check()
    model.compile("sgd", "mse")
    model.evaluate(x, np.zeros((8, 4)))
    model.predict(np.zeros((2000, 6)))  # a larger arena
    model.fit(np.zeros((300, 6)), np.zeros((300, 4)), batch_size=300, verbose=0)
    check()
    fnn.set_num_threads(3)
    try:
        check(changed=False)
    finally:
        fnn.set_num_threads(1)
    check(changed=False)
    model.save(tmp_path / "model.safetensors")
    for other in (fnn.load(tmp_path / "model.safetensors"), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other.predict(x).tobytes() == other.predict(x).tobytes() == model.predict(x).tobytes()
        other.set_weights([0 * weight for weight in other.get_weights()])
        np.testing.assert_array_equal(other.predict(x), 0.25)
        check(changed=False)


def test_a_model_that_grows():
    model = fnn.Sequential([fnn.Input(6), fnn.Dense(5)], seed=1)
    x = RNG.normal(size=(2, 6))
    assert model.predict(x).shape == model.predict(x).shape == (2, 5)
    model.add(fnn.Dense(3))
    assert model.predict(x).shape == model.predict(x).shape == (2, 3)


def test_a_model_that_is_not_built():
    model = fnn.Sequential([fnn.Dense(5)])
    for _ in range(2):
        with pytest.raises(TypeError, match="expected numbers"):
            model.predict(np.full((2, 6), "a"))
    assert not model.built
    for _ in range(3):
        assert model.predict(np.zeros((2, 6))).shape == (2, 5)


def test_how_many_rows_suit_a_call_is_estimated_once(monkeypatch):
    """Larger predictions of images ask for it again and again; it takes longer than small ones."""
    estimated = []

    def estimate_rows(*given):
        estimated.append(given)
        return rows_within(*given)

    monkeypatch.setattr(bound_code, "rows_within", estimate_rows)
    layers = [fnn.Input((64, 64, 3)), fnn.Conv2D(37, 3, padding="same"), fnn.GlobalAveragePooling2D()]
    model = fnn.Sequential(layers, seed=0)
    x = RNG.normal(size=(9, 64, 64, 3)).astype(np.float32)
    expected = [model.predict(x) for _ in range(6)]
    assert len(estimated) <= 1 and all(each.tobytes() == expected[0].tobytes() for each in expected)
    np.testing.assert_allclose(model.predict(x[:1])[0], expected[0][0], rtol=1e-6)


def test_threads_predict_while_another_trains():
    model, still = network(), network(seed=3)
    x, y = RNG.normal(size=(64, 6)).astype(np.float32), RNG.integers(0, 4, 64)
    model.compile("sgd", "cross_entropy")
    expected = {n: general(still, x[:n]).tobytes() for n in (1, 2, 3)}
    stop, errors = threading.Event(), []

    def predict(n):
        try:
            while not stop.is_set():
                assert still.predict(x[:n]).tobytes() == expected[n]
                # each row is a distribution, whatever step the training is at
                np.testing.assert_allclose(model.predict(x[n : 2 * n]).sum(axis=1), 1.0, rtol=1e-5)
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=predict, args=(1 + number % 3,)) for number in range(6)]
    for worker in workers:
        worker.start()
    model.fit(x, y, epochs=200, verbose=0)
    stop.set()
    for worker in workers:
        worker.join()
    assert not errors


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_predicts():
    model, x = network(), RNG.normal(size=(2, 6))
    expected = [model.predict(x) for _ in range(2)][1].tobytes()
    held, done = threading.Event(), threading.Event()

    def hold():
        with model._runtime.lock:
            held.set()
            done.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(60)
    child = os.fork()
    if child == 0:
        os._exit(0 if model.predict(x).tobytes() == model.predict(x).tobytes() == expected else 1)
    done.set()
    holder.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert model.predict(x).tobytes() == expected


def test_no_memory_is_lost():
    model, x = network(), RNG.normal(size=(1, 6))
    other = two_ends()
    several = [RNG.normal(size=(1, 3)), RNG.normal(size=(1, 2, 2))]

    assert growth(lambda: (model.predict(x), other.predict(several))) < 20_000


def test_a_model_is_freed():
    import weakref

    model = network()
    for _ in range(3):
        model.predict(np.zeros((1, 6)))
    kept = model._runtime.prediction
    seen = [weakref.ref(one) for one in (model._runtime, kept.code, model._runtime.parameters.base)]
    call = kept.call
    del model, kept
    gc.collect()
    assert seen[0]() is None and seen[2]() is not None
    # what a call that runs needs, it keeps
    assert call(np.zeros((1, 6))).shape == (1, 4)
    del call
    gc.collect()
    assert [one() for one in seen] == [None] * 3
