"""Training of a GRU that is written as a cell for `RNN`: against the CPU, and beside the layer `GRU`."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastnn as fnn
from fastnn.backend.cuda.driver import available
from fastnn.backend.cuda.launch.engine import CudaProgram
from fastnn.model.inspection import program
from fastnn.program.layout import MAX_BUFFERS
from gpu.events import Job
from gpu.settings import Scan
from gpu.timing import race

FEATURES, STEPS, SEED = 64, 4, 3
# Relative difference of the losses of a few steps: sums are made in another order.
TOLERANCE = 1e-3
own: Any = importlib.import_module("own_cells")
NAMES = ("cell", "layer")


def network(shape: Scan, name: str = "cell") -> Any:
    """Return a network of the cell or of the layer, with the same initial weights."""
    _, steps, units = shape
    layer = fnn.RNN(own.Gated(units)) if name == "cell" else fnn.GRU(units)
    model = fnn.Sequential([fnn.Input((steps, FEATURES)), layer, fnn.Dense(1)], seed=SEED)
    if name != "cell":
        model.set_weights(network(shape).get_weights())
    model.compile(fnn.Adam(1e-3), "mse")
    return model


def data(shape: Scan) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the batches of an epoch."""
    batch, steps, _ = shape
    rng = np.random.default_rng(SEED)
    x = rng.standard_normal((STEPS * batch, steps, FEATURES), np.float32)
    return x, np.tanh(x.mean(axis=(1, 2)))[:, None]


def losses(model: Any, x: NDArray[Any], y: NDArray[Any], batch: int) -> list[float]:
    """Return the losses of two epochs, in the order of the data."""
    found: list[float] = model.fit(x, y, batch, epochs=2, shuffle=False, verbose=0).history["loss"]
    return found


def launches(model: Any, batch: int, device: Any) -> int:
    """Return how many launches a training step is."""
    places = {buffer: (buffer + 1) << 40 for buffer in range(MAX_BUFFERS)}
    return len(CudaProgram(program(model._runtime, batch), device).launches(places, 1 << 39))


class Trained:
    """A network on the GPU, with its data there."""

    def __init__(self, shape: Scan, name: str, device: Any) -> None:
        self.model, self._device, self._batch = network(shape, name).to("cuda"), device, shape[0]
        x, self._y = data(shape)
        self._x = self.model._runtime.placement.upload(x)

    def seconds(self, count: int) -> float:
        """Train epochs, and return the device's time."""
        return float(self._device.seconds(lambda: self._fit(count)))

    def _fit(self, count: int) -> None:
        self.model.fit(self._x, self._y, self._batch, epochs=count, shuffle=False, verbose=0)


def run(job: Job) -> None:
    """Compare and time every shape."""
    device = available.open_device(0)
    for number, shape in enumerate(job.settings.scans):
        if number and job.out(job.settings.piece_seconds):
            job.stop(f"{number} of {len(job.settings.scans)} networks were trained")
            return
        batch, steps, units = shape
        name = f"{units} units, {steps} steps, batch {batch}"
        job.begin(name)
        trained, (x, y) = {each: Trained(shape, each, device) for each in NAMES}, data(shape)
        found = {each: losses(one.model, x, y, batch) for each, one in trained.items()}
        found["cell on the CPU"] = losses(network(shape), x, y, batch)
        wanted = np.array(found["cell on the CPU"])
        off = {each: float(np.max(np.abs(np.array(found[each]) / wanted - 1.0))) for each in NAMES}
        times = race({each: one.seconds for each, one in trained.items()}, dict.fromkeys(NAMES, STEPS), job)
        count = launches(trained["cell"].model, batch, device)
        job.item(
            shape=list(shape), name=name, losses=found, off=off, launches=count,
            us={each: times[each].micro() for each in NAMES},
        )  # fmt: skip
        for each in NAMES:
            if not off[each] <= TOLERANCE:
                job.fail(f"{name}: losses of the {each} are off by {off[each]:.2g} of the cell's on the CPU")
