"""The race of fastnn and plain NumPy on the digits: one setup, the same weights and batches, alternating.

It runs in a separate process, because the environment variables that limit NumPy's BLAS to one thread
are read when NumPy is imported: ``python -m fastnn.demo.race '{...}'`` takes a `Setup` as JSON and prints
the result as JSON.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastnn as fnn
from fastnn.console import tell
from fastnn.seeding import derive

# With an odd number the median is a measured value; the first run of each is not counted.
ROUNDS = 9
# More epochs per run do not improve the median.
MOST_EPOCHS = 30
_SHARE = 5


@dataclass(frozen=True)
class Setup:
    """A network and its training.

    Attributes
    ----------
    sizes : tuple of int
        Width of the input, of each hidden layer and of the output.
    """

    epochs: int = 60
    batch_size: int = 16
    seed: int = 0
    dtype: str = "float32"
    sizes: tuple[int, ...] = (64, 256, 128, 10)


def held_out_split(rows: int, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Draw the training rows, and the fifth of all rows that is held out."""
    order = derive(seed, "held-out").permutation(rows)
    held_out = rows // _SHARE
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def make_model(setup: Setup, metrics: list[str] | None = None) -> fnn.Sequential:
    """Make the network of a setup, compiled with Adam and cross-entropy."""
    layers: list[Any] = [fnn.Input((setup.sizes[0],))]
    layers += [fnn.Dense(units, activation="relu") for units in setup.sizes[1:-1]]
    layers.append(fnn.Dense(setup.sizes[-1], activation="softmax"))
    model = fnn.Sequential(layers, seed=setup.seed, dtype=setup.dtype)
    model.compile(optimizer="adam", loss="cross_entropy", metrics=metrics)
    return model


def race(setup: Setup, rounds: int = ROUNDS) -> dict[str, Any]:
    """Train with both, alternating.

    Parameters
    ----------
    setup : Setup
    rounds : int
        Timed runs of each.

    Returns
    -------
    dict
        "fastnn" and "numpy", each with "seconds" per epoch (median of the runs) and held-out "accuracy" after
        the first run, of all epochs; "rounds" and "epochs" of the timed runs.
    """
    X, y = fnn.datasets.load_digits()
    X = X.astype(setup.dtype, copy=False)
    train, test = held_out_split(len(X), setup.seed)
    X_train, y_train, X_test, y_test = X[train], y[train], X[test], y[test]
    model = make_model(setup)
    initial = model.get_weights()
    net = numpy_mlp().NumpyMLP(setup.sizes, batch_size=setup.batch_size, dtype=setup.dtype)
    net.set_weights(initial)
    trained = 0

    def train_fastnn(epochs: int) -> None:
        model.fit(X_train, y_train, batch_size=setup.batch_size, epochs=epochs, verbose=0)

    def train_numpy(epochs: int) -> None:
        # the order in which `fit` takes the rows of the same epoch
        for epoch in range(trained, trained + epochs):
            order = derive(model.seed, "shuffle", epoch).permutation(len(X_train))
            net.train_epoch(X_train, y_train, order)

    train_fastnn(setup.epochs)
    train_numpy(setup.epochs)
    predictions = (model.predict(X_test), net.predict(X_test))
    accuracies = [float(np.mean(p.argmax(axis=1) == y_test)) for p in predictions]
    trained += setup.epochs
    epochs = min(setup.epochs, MOST_EPOCHS)
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        # from the initial weights: otherwise gradients fade to subnormal numbers, which are slow
        model.set_weights(initial)
        net.set_weights(initial)
        times[0].append(_timed(train_fastnn, epochs))
        times[1].append(_timed(train_numpy, epochs))
        trained += epochs
    fastnn, numpy = (
        {"seconds": statistics.median(seconds) / epochs, "accuracy": accuracy}
        for seconds, accuracy in zip(times, accuracies, strict=True)
    )
    return {"fastnn": fastnn, "numpy": numpy, "rounds": rounds, "epochs": epochs}


def _timed(train: Callable[[int], None], epochs: int) -> float:
    gc.collect()
    begin = time.perf_counter()
    train(epochs)
    return time.perf_counter() - begin


def numpy_mlp() -> ModuleType:
    """Import the NumPy network: next to this file in an installation, in benchmarks/ in the source.

    Raises
    ------
    ModuleNotFoundError
        If it is in neither folder.
    """
    name = "fastnn.demo.numpy_mlp"
    source = Path(__file__).parents[3] / "benchmarks" / "numpy_mlp.py"
    if importlib.util.find_spec(name) is None and source.exists():
        spec = importlib.util.spec_from_file_location(name, source)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module
    return importlib.import_module(name)


if __name__ == "__main__":
    chosen = json.loads(sys.argv[1])
    tell(json.dumps(race(Setup(**chosen | {"sizes": tuple(chosen["sizes"])}))))
