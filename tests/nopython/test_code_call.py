"""Calls of codes on Python's arrays: what is taken, and results, which are those of the paths in Python."""

import gc
import sys
import threading

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nopython as fnp
from fastnn.backend.cpu.calls.code_call import NOT_TAKEN, TAKE_ARRAYS, TAKE_ROWS, Signature, code_call
from fastnn.backend.cpu.layouts.call import Held, Outcome, Part
from fastnn.backend.cpu.layouts.code import DTYPES

RNG = np.random.default_rng(8)


def network():
    return fnn.Sequential([fnn.Input((3, 4)), fnn.Flatten(), fnn.Dense(9, "tanh"), fnn.Dense(5, "softmax")], seed=1)


def two_ends():
    a, b = fnn.Input((3,), name="a"), fnn.Input((2, 2), name="b")
    joined = fnn.Concatenate()([fnn.Dense(5, activation="relu")(a), fnn.Flatten()(b)])
    return fnn.Model([a, b], [fnn.Dense(2)(joined), fnn.Dense(3, activation="softmax")(joined)], seed=2)


def prediction(model, *, work=True, most_rows=1000, holding=16, lock=None):
    """Make the call of a frozen network."""
    net = model.freeze()
    held = {Held.PARAMETERS: net.parameters.ctypes.data, Held.PARAMETERS_COUNT: net.parameters.size}
    architecture = model._architecture
    inputs, outputs = len(architecture.inputs), len(architecture.outputs)
    made = code_call(
        net.code, held, Signature(inputs, inputs, most_rows, holding), take=TAKE_ROWS, kept=net, lock=lock,
        work=fnp.workspace(net, 300) if work else None, results=range(inputs, inputs + outputs),
    )  # fmt: skip
    assert made is not None
    return made


@pytest.mark.parametrize("work", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_of_any_dtype_and_strides(dtype, work):
    model = network()
    call = prediction(model, work=work, lock=threading.RLock())
    for n in (1, 2, 16, 17, 300):
        wide = (50 * RNG.normal(size=(2 * n, 9, 5))).astype(dtype)
        broadcast = np.broadcast_to(wide[0, 0, :4], (n, 3, 4))
        for x in (wide[:n, :3, :4].copy(), wide[::-2, ::3, 4:0:-1], wide[:n, :3, :4].copy(order="F"), broadcast):
            got = call(x)
            assert got.tobytes() == model.predict(x, batch_size=256).tobytes()
            assert got.flags.owndata and got.flags.carray and got.dtype == np.float32


def test_dtypes_are_compared_by_what_they_are():
    model = network()
    call, x = prediction(model), RNG.normal(size=(2, 3, 4))
    for dtype in ("q", np.dtype("f4", metadata={"unit": "m"}), np.dtype("f8").newbyteorder("=")):
        assert call(x.astype(dtype)).tobytes() == model.predict(x.astype(dtype), batch_size=256).tobytes()


class Numbers(np.ndarray):
    """An array class of another library."""


UNALIGNED = np.zeros(2, np.dtype([("pad", np.int8), ("x", np.float32, (3, 4))]))["x"]
X = RNG.normal(size=(2, 3, 4)).astype(np.float32)


@pytest.mark.parametrize(
    "arguments",
    [
        (), (None,), (X, X), (X[:0],), (X[0],), (X[:, :2],), (X[None],), (X[:, :, :, None],), (X.astype(">f4"),),
        (X.astype(np.float16),), (X.astype(np.longdouble),), (X.astype(complex),), (X.astype(object),), ("x",), (3,),
        (X.astype("M8[s]"),), (X.astype(str),), (X.view(Numbers),), (np.ma.masked_array(X),), (UNALIGNED,),
        (np.zeros((2, 3, 4), [("a", "f4")]),), (np.array(1.0),), (np.zeros((1,) * 32),), (np.zeros((1001, 3, 4)),),
        (X.tolist(),), (np.float32(1),),
    ],
)  # fmt: skip
def test_what_is_not_taken(arguments):
    assert prediction(network())(*arguments) is False


def test_several_inputs_and_outputs():
    model = two_ends()
    call = prediction(model)
    x = [RNG.normal(size=(4, 3)), np.ones((4, 4, 2), np.int8)[:, ::2]]
    got = call(*x)
    assert type(got) is list
    for one, wanted in zip(got, model.predict(x, batch_size=256), strict=True):
        assert one.tobytes() == wanted.tobytes()
    for wrong in (x[:1], [*x, x[0]], [x[0], x[1][:3]], x[::-1], [x[0], None]):
        assert call(*wrong) is False


def test_nothing_is_lost_and_everything_is_kept():
    model, other, lock = network(), two_ends(), threading.RLock()
    calls = [prediction(model, lock=lock, holding=1), prediction(other)]
    x = [RNG.normal(size=(2, 3)), RNG.normal(size=(2, 2, 2))]
    del model, other
    gc.collect()
    one, several, fresh = calls[0](X), calls[1](*x), np.zeros(3)
    assert sys.getrefcount(one) == sys.getrefcount(fresh) and sys.getrefcount(several) == sys.getrefcount([])
    assert [sys.getrefcount(each) for each in several] == [sys.getrefcount(each) for each in [fresh.copy(), fresh + 1]]
    held = [sys.getrefcount(one) for one in (X, None, False, np.ndarray, *x)]
    for _ in range(1000):
        calls[0](X)
        calls[0](None)
        calls[1](*x)
    assert all(
        abs(sys.getrefcount(one) - was) < 50 for one, was in zip((X, None, False, np.ndarray, *x), held, strict=True)
    )
    assert lock.acquire(blocking=False)


def test_training_steps():
    """The call of a learner's code: results are none, weights of samples may be absent."""
    model = network()
    model.compile("adam", "cross_entropy")
    learner, other = model.learner(), model.learner()
    loss, size = np.zeros(1), learner.parameters.nbytes
    held = {
        Held.PARAMETERS: learner.parameters.ctypes.data,
        Held.PARAMETERS_COUNT: learner.parameters.size,
        Held.GRADIENTS: learner.state.ctypes.data,
        Held.OPTIMIZER: learner.state.ctypes.data + size,
        Held.STATE_COUNT: learner.state.size,
        Held.PROGRESS: learner.progress.ctypes.data,
        Held.PROGRESS_COUNT: learner.progress.size,
        Held.LOSS: loss.ctypes.data,
    }
    both = Part.GRADIENTS | Part.UPDATE
    signature = Signature(count=3, required=2, most_rows=100, holding=2)
    step = code_call(learner.training, held, signature, take=TAKE_ARRAYS, kept=(learner, loss), parts=both)
    assert step is not None
    for n in (1, 2, 7, 2):
        x, y, weights = RNG.normal(size=(n, 3, 4)), RNG.integers(0, 5, n), RNG.uniform(size=n)
        for each in (None, weights):
            expected = fnp.train_step(other, x, y, sample_weight=each)
            assert step(x, y, each) == Outcome.DONE and loss[0] == expected
            assert learner.parameters.tobytes() == other.parameters.tobytes()
    before = learner.parameters.copy()
    assert step(x, y) == step(x, None, None) == step(x, y, "weights") == step(x[:0], y, None) == NOT_TAKEN
    assert step(x, y[:1], None) == Outcome.SHAPE and step(x, y + 5, None) == Outcome.RANGE
    np.testing.assert_array_equal(before, learner.parameters)
