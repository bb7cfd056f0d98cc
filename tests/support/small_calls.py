"""Helpers for tests of small calls: a network, the general path, which calls were quick, what they leave in memory."""

import gc
import tracemalloc

import numpy as np
import pytest

import fastnn as fnn
from fastnn.runtime.calls import prediction
from fastnn.runtime.calls.live_step import LiveStep

#: The steps that codes have taken since `counted` began, by the id of a training's state.
COUNTS: dict[int, int] = {}


def general(model, x):
    """Predict by the general path, which is selected by an explicit batch size, here the default one."""
    return model.predict(x, batch_size=256)


def is_quick(model, x):
    """Return whether a prepared call predicts these rows."""
    kept = model._runtime.prediction
    if kept.call is None:
        return False
    return any(result is not False for result in (kept.call(x), prediction.otherwise(kept, x)))


def general_step(model, x, y, **options):
    """Take a step by the general path, which a list of one array takes, and a dict."""
    names = model._architecture.input_names
    return model.train_on_batch([x] if isinstance(x, np.ndarray) else dict(zip(names, x, strict=True)), y, **options)


@pytest.fixture(autouse=True)
def counted(monkeypatch):
    """Run on one thread, in each test of a module that imports this, and count the steps that codes take."""
    threads, take = fnn.get_num_threads(), LiveStep.take
    COUNTS.clear()

    def counting(self, state, *arguments):
        logs = take(self, state, *arguments)
        COUNTS[id(state)] = COUNTS.get(id(state), 0) + (logs is not None)
        return logs

    monkeypatch.setattr(LiveStep, "take", counting)
    fnn.set_num_threads(1)
    yield
    fnn.set_num_threads(threads)


def taken(model):
    """Return the number of steps that a code has taken."""
    return COUNTS.get(id(model._state), 0)


def bits(model):
    """Return all numbers that training changes."""
    state = model._runtime.optimizer_state.tobytes()
    return [weight.tobytes() for weight in model.get_weights()], state, model.step


def network(seed=1, **options):
    return fnn.Sequential(
        [fnn.Input(6), fnn.Dense(9, activation="tanh"), fnn.BatchNorm(), fnn.Dense(4, activation="softmax")],
        seed=seed,
        **options,
    )


def growth(call, count=20_000):
    """Return the bytes that Python holds more of after many calls."""

    def calls(number):
        for _ in range(number):
            call()
        gc.collect()

    calls(100)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        calls(count)
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
