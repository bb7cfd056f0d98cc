"""A signal handler that raises where a function begins loses nothing that has to be undone: locks, marks of runs."""

import signal
import sys
import threading

import numpy as np
import pytest

import fastnn as fnn
from fastnn.locks import ForkSafeLock
from fastnn.runtime.joint_lock import JointLock

X, Y = np.ones((5, 4), np.float32), np.ones((5, 3), np.float32)


def interrupted(call, name, file):
    """Do a call, and raise KeyboardInterrupt where a function of a file begins; return whether it began."""
    begun = []

    def look(frame, event, argument):
        if not begun and event == "call" and frame.f_code.co_name == name and frame.f_code.co_filename.endswith(file):
            begun.append(frame)
            sys.setprofile(None)
            signal.raise_signal(signal.SIGINT)

    sys.setprofile(look)
    try:
        call()
    except KeyboardInterrupt:
        pass
    finally:
        sys.setprofile(None)
    return bool(begun)


def model():
    made = fnn.Sequential([fnn.Input(4), fnn.Dense(3)], seed=0)
    made.compile("sgd", "mse")
    made.train_on_batch(X, Y)
    return made


CALLS = {
    "predict": lambda one: one.predict(X, batch_size=64),
    "fit": lambda one: one.fit(X, Y, verbose=0),
    "train_on_batch": lambda one: one.train_on_batch(list(X), list(Y)),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_model_is_not_left_in_the_middle_of_a_run(call):
    one = model()
    assert interrupted(lambda: call(one), "note_written", "buffers.py")
    assert np.isfinite(one.train_on_batch(X, Y)["loss"])
    one.set_weights(one.get_weights())


@pytest.mark.parametrize("held", [False, True])
def test_a_lock_calls_no_function_of_python(held, monkeypatch):
    monkeypatch.setattr("fastnn.locks._held", [])
    lock = ForkSafeLock(held=held)

    def use():
        with lock, lock:
            assert lock.owned

    for _ in range(2):
        for name in ("__enter__", "__exit__", "acquire", "release"):
            assert not interrupted(use, name, "locks.py")
        free = []
        thread = threading.Thread(target=lambda: free.append(lock._lock.acquire(blocking=False)))  # noqa: B023
        thread.start()
        thread.join()
        assert free == [True]
        lock.renew()  # another thread holds it, as after a fork


class Alarm(Exception):
    pass


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="the system has no timers that send signals")
def test_handlers_that_raise_leave_no_lock_of_several_taken():
    locks = [threading.RLock() for _ in range(3)]
    joint, stop = JointLock(locks), threading.Event()

    def handler(number, frame):
        raise Alarm

    def compete():
        while not stop.is_set():
            for lock in locks:
                with lock:
                    pass

    def use():
        for _ in range(10_000):
            with joint, joint:
                pass

    thread = threading.Thread(target=compete)
    thread.start()
    before = signal.signal(signal.SIGALRM, handler)
    raised = 0
    try:
        for number in range(200):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0005 + 0.00001 * number)
                use()
            except Alarm:
                raised += 1
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            assert not any(lock._is_owned() for lock in locks)
    finally:
        signal.signal(signal.SIGALRM, before)
        stop.set()
        thread.join()
    assert raised > 100


def test_a_lock_of_several_is_released_by_any_exception():
    locks = [threading.RLock() for _ in range(2)]
    joint = JointLock(locks)
    with pytest.raises(Alarm), joint:
        assert all(lock._is_owned() for lock in locks)
        raise Alarm
    assert not any(lock._is_owned() for lock in locks)
    assert joint.acquire() is True
    joint.release()
    assert not any(lock._is_owned() for lock in locks)
    with pytest.raises(RuntimeError):
        joint.release()
