"""One sample at a time in a user's loop: fastnn inside a function that Numba compiles, the others from Python.

Prediction is here, learning and simulation are in `online.py`. The others cannot be called from compiled code,
so these are the options of a simulation that calls a network at every step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import Any

import numpy as np

from comparing import online
from comparing.prediction import TOLERANCE, calls
from comparing.race import Comparison, Entry, enter, race
from comparing.settings import Settings, required
from compiled_contestants import Jax, OnnxRuntime, PyTorch
from contestants import Array, Contestant, Fastnn, Numpy
from reference import predict
from workloads import WORKLOADS, Workload

SECTION = "compiled"
EXPLANATION = (
    "Microseconds in float32 for a prediction, a training step on one sample, a step of a simulation that calls a "
    "policy: fastnn by `fastnn.nopython` in functions that Numba compiles, the others called from Python (JAX's "
    "training steps are one scan). Off by: the largest difference from a float64 computation: of an output at most "
    f"{TOLERANCE:g}, of the simulated states {online.TOLERANCE:g}; for training see there."
)
KINDS: tuple[type[Contestant], ...] = (Fastnn, Numpy, PyTorch, Jax, OnnxRuntime)
NETWORKS = (
    Workload("4-16-2, batch 32", (4, 16, 2), "tanh", "mse", 32, 64, 1),
    Workload("4-32-2, batch 32", (4, 32, 2), "relu", "mse", 32, 64, 1),
    *(work for work in WORKLOADS if work.loss == "cross_entropy" and work.batch_size == 128),
)
ROWS = 64


def compare(settings: Settings, kinds: Sequence[type[Contestant]] = KINDS) -> Iterator[Comparison]:
    """Yield the comparison of each network, as soon as it has been measured."""
    for work in NETWORKS:
        name = f"{work.name.split(',')[0]}, one sample"
        if settings.wants(name):
            yield compare_one(work, name, settings, settings.chosen(kinds))
    for name, compare in (
        ("4-32-2, one training step", online.compare_learning),
        ("4-32-2, one step of cart-pole", online.compare_simulation),
    ):
        if kinds is KINDS and settings.wants(name):
            yield compare(SECTION, settings)


def compare_one(work: Workload, name: str, settings: Settings, kinds: Sequence[type[Contestant]]) -> Comparison:
    """Check and time the contestants on one network."""
    makers = [(kind.name, required(kind.name), partial(sample_first, kind, work, settings)) for kind in kinds]
    entries, skipped = enter(makers)
    race(entries, settings.rounds, settings.seconds, settings.threads)
    return Comparison(SECTION, name, "call", entries, skipped, group="one sample")


def sample_first(kind: type[Contestant], work: Workload, settings: Settings) -> Entry:
    """Return the entry of a contestant, after one call that checks its results."""
    X, y = work.data()
    rng = np.random.default_rng(2)
    weights = [w if w.ndim == 2 else rng.uniform(-0.5, 0.5, w.shape).astype(w.dtype) for w in work.initial_weights()]
    one = kind(work, X, y, weights, settings.threads)
    batch = X[:ROWS].copy()
    wanted = predict(work, batch, weights)
    if isinstance(one, Fastnn):
        out = np.full_like(wanted, np.nan, dtype=np.float32)
        run: Callable[[int], object] = partial(compiled_loop(), one.model.freeze(), batch, out)
        run(ROWS)
        off = float(np.abs(out - wanted).max())
    else:
        off = float(np.abs(one.predict(batch[:1]) - wanted[:1]).max())
        run = partial(calls, one.predict, batch[:1].copy())
    return Entry(one.name, one.version(), run, deviation=f"{off:.0e}", agrees=off <= TOLERANCE)


@cache
def compiled_loop() -> Any:
    """Compile the user's function: `loop(net, x, out, count)` computes `count` samples, cycling through x."""
    from numba import njit

    from fastnn import nopython

    @njit  # type: ignore[untyped-decorator]
    def loop(net: Any, x: Array, out: Array, count: int) -> None:
        row = 0
        for _ in range(count):
            nopython.predict(net, x[row], out[row])
            row = row + 1 if row + 1 < len(x) else 0

    return loop
