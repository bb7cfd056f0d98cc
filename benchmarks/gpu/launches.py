"""A training step launch by launch: the time of each kernel alone, and of the step's graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn.backend.cuda.driver import available
from fastnn.program.layout import Counter
from gpu.events import Job
from gpu.timing import race
from gpu.trainers import Fastnn
from workloads import Workload

# a graph of a single launch would measure the start of graphs
REPEATS = 64


def run(job: Job) -> None:
    """Time the launches of some networks' steps."""
    device = available.open_device(0)
    todo = [job.settings.networks[number] for number in job.settings.taken_apart]
    for number, work in enumerate(todo):
        if number and job.out(job.settings.piece_seconds):
            job.stop(f"{number} of {len(todo)} networks were taken apart")
            return
        job.begin(work.name)
        _take_apart(job, device, work)


def _take_apart(job: Job, device: Any, work: Workload) -> None:
    steps = min(work.steps_per_epoch, REPEATS)
    kept, launches, context = _step(device, work)
    for at, launch in enumerate(launches):
        graph = device.capture([launch] * REPEATS, context)
        times = race({"launch": _seconds(device, graph, context, 1)}, {"launch": REPEATS}, job)
        job.item(
            network=work.name, number=at, kernel=str(launch.key), stage=launch.stage, grid=list(launch.grid),
            threads=launch.threads, us=times["launch"].micro(),
        )  # fmt: skip
    graph = device.capture(launches, context)
    times = race({"step": _seconds(device, graph, context, steps)}, {"step": steps}, job)
    job.item(network=work.name, number=-1, kernel="the step", us=times["step"].micro())
    kept.clear()


def _step(device: Any, work: Workload) -> tuple[list[Any], Sequence[Any], int]:
    """Train an epoch, and return objects that keep its memory alive, the launches of a whole step, and the context."""
    heard: list[tuple[Sequence[Any], int]] = []
    kept: list[Any] = []
    usual, allocate = device.capture, device.allocate

    def capture(launches: Sequence[Any], context: int, *copies: Any) -> Any:
        heard.append((launches, context))
        return usual(launches, context, *copies)

    def keep(nbytes: int) -> Any:
        kept.append(allocate(nbytes))
        return kept[-1]

    device.capture, device.allocate = capture, keep
    try:
        trained = Fastnn(work, work.data(), "cuda")
        trained.seconds(1)
        kept.append(trained)
    finally:
        del device.capture, device.allocate
    return (kept, *max(heard, key=lambda one: len(one[0])))


def _seconds(device: Any, graph: Any, context: int, launched: int) -> Any:
    """Make the function that replays a graph; it resets counters each time, so that no kernel reads past the data."""
    zero, counters = np.zeros(1, np.int64), (Counter.CURSOR, Counter.CHUNK_STEP)

    def seconds(count: int) -> float:
        total = 0.0
        for _ in range(count):
            for counter in counters:
                device.write(context + 8 * int(counter), zero)
            total += float(device.seconds(lambda: graph.launch(launched)))
        return total

    return seconds
