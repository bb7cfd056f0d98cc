"""All time steps of recurrent layers and of their gradients, without the products of their inputs: time and errors."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from fastnn.backend.cuda.codegen.kernel import Key
from fastnn.backend.cuda.driver import available
from gpu import oracle
from gpu.buffers import Rotation
from gpu.events import Job
from gpu.settings import Scan, Settings
from gpu.timing import race

OPS = ("lstm", "lstm_grad", "gru", "gru_grad")
# Relative to the largest element of a result.
TOLERANCE = 1e-4
scans: Any = importlib.import_module("recurrent_cases")


def case_of(op: str, shape: Scan) -> Any:
    """Return the case of a layer in training: it gives its states of all steps."""
    batch, steps, units = shape
    layer, uniform = op.removesuffix("_grad"), oracle.making.uniform
    dims = {"batch": batch, "steps": steps, "units": units, "wide": scans.GATES[layer] * units}
    dims |= {"starts": 1, "states": 0, "reverse": 0, **({"after": 1, "slots": 2} if layer == "gru" else {})}
    given = {"dy"}
    if op == layer:
        given = {"y", "kept", "gates", *({"bias"} if layer == "gru" else ())}
        dims |= {"biases": 2} if layer == "gru" else {}
    else:
        dims["ends"] = scans.STATES[layer]
    size = units**-0.5
    return oracle.making.Case(
        op, dims, {"a": 0.0, "ra": 0.0}, variant="tanh,sigmoid", optional=frozenset(given),
        special={"w": uniform(-size, size), "kept": uniform(0.1, 0.9), "gates": uniform(0.1, 0.9)},
    )  # fmt: skip


def work(settings: Settings) -> Iterator[tuple[Scan, str]]:
    """Yield (shape, op) in the order in which they are timed."""
    yield from product(settings.scans, OPS)


def keys(settings: Settings) -> Iterator[Key]:
    """Return the kernels of all cases."""
    for shape, op in work(settings):
        yield from oracle.keys(case_of(op, shape), "float32", "float32")


def run(job: Job) -> None:
    """Time every case."""
    settings, device = job.settings, available.open_device(0)
    todo = list(work(settings))
    for number, (shape, op) in enumerate(todo):
        if number and job.out(settings.piece_seconds):
            job.stop(f"{number} of {len(todo)} layers were timed")
            return
        batch, steps, units = shape
        name, case = f"{units} units, {steps} steps, batch {batch}", case_of(op, shape)
        job.begin(f"{op} of {name}")
        rotation = Rotation(device, case, "float32", settings, job.salt)
        times = race({"fastnn": rotation.seconds}, {"fastnn": rotation.launches}, job)
        off, median = _off(rotation), times["fastnn"].median
        flops = 2.0 * batch * steps * units * case.dims["wide"]
        job.item(
            op=op, shape=list(shape), name=name, sets=rotation.sets, off=off, flops=flops,
            us_per_step=1e6 * median / steps,
            kernels=[str(key) for key in oracle.keys(case, "float32", "float32")],
            us={"fastnn": times["fastnn"].micro()}, tflops={"fastnn": flops / median / 1e12},
        )  # fmt: skip
        untouched = rotation.untouched()
        if not off <= TOLERANCE or untouched:
            left = f", and NaN is left in {', '.join(untouched)}" if untouched else ""
            job.fail(f"{op} of {name}: off by {off:.2g} of the largest element{left}")


def _off(rotation: Rotation) -> float:
    """Return the largest error of any result, relative to its largest element; NaN if there is one."""
    expected = oracle.running.run_reference(rotation.case, "float32", rotation.host).outputs
    worst = [
        np.abs(rotation.operand(name, rotation.sets - 1).copy_to_host() - array).max() / max(np.abs(array).max(), 1e-30)
        for name, array in expected.items()
    ]
    return float(np.max(worst))
