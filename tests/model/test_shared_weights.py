"""Weights that several models have: their memory, changes in the middle of calls, and locks."""

import threading
import time

import numpy as np
import pytest

import fastnn as fnn
from fastnn.runtime.joint_lock import JointLock
from own_steps import Calling

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 6)).astype(np.float32)
Y = RNG.normal(size=(24, 1)).astype(np.float32)


def encoder():
    layers = [fnn.Input(6), fnn.Dense(5, "tanh"), fnn.BatchNorm(), fnn.Dense(3, "tanh")]
    return fnn.Sequential(layers, seed=1, name="encoder")


def autoencoder():
    a = encoder()
    b = fnn.Sequential([fnn.Input(3), fnn.Dense(5, "tanh"), fnn.Dense(6)], seed=2, name="decoder")
    x = fnn.Input(6, name="x")
    return a, b, fnn.Model(x, b(a(x)), seed=3, name="both")


def test_memory_of_weights_is_allocated_once():
    a, b, both = autoencoder()
    x = fnn.Input(6)
    model = fnn.Model(x, fnn.Dense(1, name="after")(both(fnn.Dense(6, name="before")(x))), seed=1)
    assert both._runtime.parameters.nbytes == 0
    # lines of 64 bytes, for kernels and biases of the two layers of its own
    assert model._runtime.parameters.nbytes == 192 + 64 + 64 + 64
    assert model._runtime.table.nbytes == 384 + a._runtime.parameters.nbytes + b._runtime.parameters.nbytes
    model.compile("adam", "mse")
    before = model.get_weights()
    model.fit(X, Y, epochs=1, verbose=0)
    trained = zip(before, model.get_weights(), model._runtime.table, strict=True)
    assert all((one != other).any() for one, other, entry in trained if entry.spec.trained)
    for one, other in zip(model.get_weights("both"), both.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


CHANGES = [
    lambda model: model.set_weights(model.get_weights()),
    lambda model: model.train_on_batch(X, X[:, : model._architecture.output_shapes[0][0]]),
    lambda model: model.compile("sgd", "mse"),
    lambda model: model.fit(X, X, verbose=0),
    lambda model: model.to("cpu"),
    lambda model: model.finalize_variable_values(),
]


@pytest.mark.parametrize("change", CHANGES)
def test_models_of_shared_weights_cannot_be_changed_in_the_middle_of_a_call(change):
    a, _, both = autoencoder()
    x = fnn.Input(6)
    other, apart = fnn.Model(x, fnn.Dense(6)(a(x))), encoder()
    for model in (a, both, other, apart):
        model.compile("adam", "mse")
    tried = []

    def act(model):
        with pytest.raises(RuntimeError, match="a model that shares weights with this one is in use by a call"):
            change(model)
        model.predict(X)
        tried.append(model)

    expected = both.evaluate(X, X), a.evaluate(X, X[:, :3])
    for model in (a, other):
        assert both.evaluate(Calling(lambda model=model: act(model), X), X) == expected[0]
    assert a.evaluate(Calling(lambda: act(both), X), X[:, :3]) == expected[1]
    assert tried == [a, other, both]
    both.evaluate(Calling(lambda: apart.set_weights(apart.get_weights()), X), X)
    change(both)  # nothing is in use any more


@pytest.mark.parametrize("first", [0, 1])
def test_a_joint_lock_waits_for_no_lock_while_it_holds_another(first):
    """A signal handler may want the one while the interrupted call holds the other."""
    others = [threading.RLock() for _ in range(2)]
    joint, done = JointLock([threading.RLock(), *others]), threading.Event()

    def work():
        for _ in range(100):
            with joint:
                pass
        done.set()

    thread = threading.Thread(target=work, daemon=True)
    with others[first]:
        thread.start()
        for _ in range(20):
            assert others[1 - first].acquire(timeout=20.0)
            others[1 - first].release()
            time.sleep(0.005)
        assert not done.is_set()
    thread.join(20.0)
    assert done.is_set()
    for lock in others:
        assert lock.acquire(blocking=False)
        lock.release()
