"""The bundled digits, trained on the GPU and on the CPU from the same seed."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

import fastnn as fnn
from gpu.events import Job
from gpu.settings import Settings

SEED, BATCH = 7, 32
# After a few steps; sums in another order cause these differences, and training amplifies them.
WEIGHTS, FIRST_LOSS, ACCURACY = 1e-4, 1e-3, 0.02


def network(settings: Settings, device: str = "cpu") -> Any:
    """Return the network on a device."""
    hidden = settings.digits_hidden
    layers: list[Any] = [fnn.Input((64,)), fnn.Dense(hidden, "relu"), fnn.Dense(max(hidden // 2, 1), "relu")]
    model = fnn.Sequential([*layers, fnn.Dense(10, "softmax")], seed=SEED, device=device)
    model.compile(fnn.Adam(1e-3), "cross_entropy", metrics=["accuracy"])
    return model


def run(job: Job) -> None:
    """Train on both devices and compare: weights, losses, accuracy, time."""
    settings = job.settings
    x, y = (array[: settings.digits_rows] for array in fnn.datasets.load_digits("train"))
    test = [array[: settings.digits_rows] for array in fnn.datasets.load_digits("test")]
    found: dict[str, dict[str, Any]] = {}
    for device in ("cuda", "cpu"):
        job.begin(f"training on {device}")
        model = network(settings, device)
        for step in range(settings.digits_steps):
            rows = slice(step * BATCH % len(x), step * BATCH % len(x) + BATCH)
            model.train_on_batch(x[rows], y[rows])
        weights = np.concatenate([array.ravel() for array in model.get_weights()])
        if not settings.simulated:
            network(settings, device).fit(x, y, BATCH, epochs=1, verbose=0)
        model = network(settings, device)
        begin = time.perf_counter()
        history = model.fit(x, y, BATCH, epochs=settings.digits_epochs, verbose=0)
        seconds = (time.perf_counter() - begin) / settings.digits_epochs
        scores = model.evaluate(*test)
        found[device] = {
            "weights": weights, "losses": history.history["loss"], "accuracy": float(scores["accuracy"]),
            "milliseconds an epoch": 1e3 * seconds, "test loss": float(scores["loss"]),
        }  # fmt: skip
        job.item(device=device, **{name: value for name, value in found[device].items() if name != "weights"})
    there, here = found["cuda"], found["cpu"]
    apart = float(np.abs(there["weights"] - here["weights"]).max())
    first = abs(there["losses"][0] - here["losses"][0]) / here["losses"][0]
    last = abs(there["losses"][-1] - here["losses"][-1]) / here["losses"][-1]
    job.fact(steps=settings.digits_steps, weights=apart, first_loss=first, last_loss=last)
    if not apart <= WEIGHTS:
        job.fail(f"after {settings.digits_steps} steps a weight differs by {apart:.2g}, more than {WEIGHTS:g}")
    if not first <= FIRST_LOSS:
        job.fail(f"the losses of the first epoch differ by {first:.2g} of their size, more than {FIRST_LOSS:g}")
    if not abs(there["accuracy"] - here["accuracy"]) <= ACCURACY:
        job.fail(f"the accuracies are {there['accuracy']:.4f} and {here['accuracy']:.4f}")
