"""A network for tests of small calls from Python, the general path, and what many calls leave in memory."""

import gc
import tracemalloc

import fastnn as fnn


def general(model, x):
    """Predict by the general path, which is selected by an explicit batch size, here the default one."""
    return model.predict(x, batch_size=256)


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
