"""Whole training steps, against PyTorch's on the same GPU and the same data."""

from __future__ import annotations

import gc
import importlib
import importlib.util
from collections.abc import Iterator
from typing import Any

from gpu.events import Job
from gpu.settings import Settings
from gpu.timing import race
from gpu.trainers import Fastnn, PyTorch, PyTorchCompiled, PyTorchGraph
from workloads import Workload

# Relative difference of an epoch's mean losses from the same weights; PyTorch's Adam adds epsilon elsewhere.
TOLERANCE = {"float32": 2e-3, "tf32": 1e-2}
# Approximate time of torch.compile for a network: none is started if less is left.
COMPILING = 25.0


def library(settings: Settings) -> tuple[Any, str]:
    """Return PyTorch, or None and the reason why it is skipped."""
    if not settings.torch:
        return None, "skipped: simulated"
    if importlib.util.find_spec("torch") is None:
        return None, "skipped: PyTorch is not installed"
    torch = importlib.import_module("torch")
    if settings.torch == "cuda" and not torch.cuda.is_available():
        return None, f"skipped: PyTorch {torch.__version__} finds no GPU"
    return torch, f"PyTorch {torch.__version__}"


def kinds(settings: Settings, compiled: bool) -> list[type[PyTorch]]:
    """Return the contestants besides fastnn: those that need no compilation, or the one that compiles."""
    if compiled:
        return [PyTorchCompiled]
    return [PyTorch, PyTorchGraph] if settings.torch == "cuda" else [PyTorch]


def rounds(settings: Settings) -> Iterator[tuple[Workload, str, bool]]:
    """Yield network, precision, and whether the compiling contestant takes part: it comes last."""
    for compiled in (False, True):
        for precision in settings.trained:
            for work in settings.networks:
                yield work, precision, compiled


def run(job: Job) -> None:
    """Time the networks."""
    settings = job.settings
    torch, peer = library(settings)
    job.fact(peer=peer)
    todo = [one for one in rounds(settings) if torch is not None or not one[2]]
    for number, (work, precision, compiled) in enumerate(todo):
        if number and job.out(COMPILING if compiled else 2.0):
            job.stop(f"{number} of {len(todo)} comparisons were made")
            return
        job.begin(f"{work.name} in {precision}{', compiled' if compiled else ''}")
        on_the_cpu = precision == "float32" and not compiled and work in settings.networks[: settings.on_the_cpu]
        compare(job, work, precision, torch, kinds(settings, compiled) if torch is not None else [], on_the_cpu)
        gc.collect()


def compare(
    job: Job, work: Workload, precision: str, torch: Any, others: list[type[PyTorch]], on_the_cpu: bool = False
) -> None:
    """Check that all contestants compute the same, and time them."""
    data, weights = work.data(), work.initial_weights()
    ours = Fastnn(work, data, "cuda", precision)
    loss = ours.first_loss(weights)
    contestants, losses, skipped = {ours.name: ours.seconds}, {ours.name: loss}, {}
    for kind in others:
        try:
            one = kind(torch, job.settings.torch, work, data, precision)
            losses[one.name] = one.first_loss(weights)
        except Exception as error:
            # a peer may find no compiler, or have changed
            skipped[kind.name] = f"{type(error).__name__}: {str(error).strip().splitlines()[:1]}"
            continue
        apart = abs(losses[one.name] - loss) / abs(loss)
        if apart <= TOLERANCE[precision]:
            contestants[one.name] = one.seconds
        else:
            job.fail(f"{work.name} in {precision}: the loss is {loss:.6g}, that of {one.name} {losses[one.name]:.6g}")
    if on_the_cpu:
        here = Fastnn(work, data, "cpu")
        losses["fastnn on the CPU"] = here.first_loss(weights)
        contestants["fastnn on the CPU"] = here.seconds
    steps = work.steps_per_epoch * work.epochs
    times = race(contestants, dict.fromkeys(contestants, steps), job)
    job.item(
        network=work.name, precision=precision, steps=steps, losses=losses, skipped=skipped,
        us={who: one.micro() for who, one in times.items()},
    )  # fmt: skip
