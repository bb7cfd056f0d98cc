"""Prediction: one row (latency) and many (throughput), from NumPy array to NumPy array, called from Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import repeat

import numpy as np

from comparing.race import Comparison, Entry, enter, race
from comparing.settings import Settings, required
from compiled_contestants import Jax, OnnxRuntime, PyTorch, PyTorchCompiled
from contestants import Array, Contestant, Fastnn, Numpy, ScikitLearn
from reference import predict
from workloads import WORKLOADS, Workload

SECTION = "prediction"
ROWS = (1, 1024)
TOLERANCE = 1e-5
EXPLANATION = (
    "Microseconds per call in float32, from NumPy array to NumPy array, with softmax. Off by: the largest difference "
    f"of a probability from a float64 computation (at most {TOLERANCE:g})."
)
KINDS: tuple[type[Contestant], ...] = (Fastnn, Numpy, ScikitLearn, PyTorch, PyTorchCompiled, Jax, OnnxRuntime)
NETWORKS = tuple(work for work in WORKLOADS if work.loss == "cross_entropy" and work.batch_size == 128)


def compare(settings: Settings, kinds: Sequence[type[Contestant]] = KINDS) -> Iterator[Comparison]:
    """Yield the comparison of each network and number of rows, as soon as it has been measured."""
    for work in NETWORKS:
        for rows in ROWS:
            name = f"{work.name.split(',')[0]}, {rows} row{'s' * (rows > 1)}"
            if settings.wants(name):
                yield compare_one(work, rows, name, settings, settings.chosen(kinds))


def compare_one(
    work: Workload, rows: int, name: str, settings: Settings, kinds: Sequence[type[Contestant]]
) -> Comparison:
    """Check and time the contestants on one network and number of rows."""
    makers = [(kind.name, required(kind.name), partial(predict_first, kind, work, rows, settings)) for kind in kinds]
    entries, skipped = enter(makers)
    race(entries, settings.rounds, settings.seconds, settings.threads)
    return Comparison(SECTION, name, "call", entries, skipped, group="one row" if rows == 1 else "many rows")


def predict_first(kind: type[Contestant], work: Workload, rows: int, settings: Settings) -> Entry:
    """Return the entry of a contestant, after one call that checks its results."""
    X, y = work.data()
    rng = np.random.default_rng(2)
    weights = [w if w.ndim == 2 else rng.uniform(-0.5, 0.5, w.shape).astype(w.dtype) for w in work.initial_weights()]
    one = kind(work, X, y, weights, settings.threads)
    batch = X[:rows].copy()
    off = float(np.abs(one.predict(batch) - predict(work, batch, weights)).max())
    run = partial(calls, one.predict, batch)
    return Entry(one.name, one.version(), run, deviation=f"{off:.0e}", agrees=off <= TOLERANCE)


def calls(predict: Callable[[Array], Array], batch: Array, count: int) -> None:
    """Call a function `count` times."""
    for _ in repeat(None, count):
        predict(batch)
