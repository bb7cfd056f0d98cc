"""The machine code of all kernels that the other sections launch, compiled on all cores before they begin."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from fastnn.backend.cuda.codegen import library
from fastnn.backend.cuda.codegen.kernel import Key
from fastnn.backend.cuda.codegen.sizes import WARPGROUPS
from fastnn.backend.cuda.kernels import stages
from fastnn.backend.cuda.launch.engine import CudaProgram
from fastnn.demo.warm_cuda import Listed
from fastnn.model.inspection import program
from gpu import bandwidth, cells, checks, convolutions, digits, matmul, oracle, recurrent, trainers, warpgroups
from gpu.events import Job
from gpu.settings import Settings, choose
from gpu.supervise import ROOT


def needed(settings: Settings, sections: Sequence[str], architecture: str) -> list[Key]:
    """Return the kernels that sections launch, in order."""

    def walk() -> Iterator[Key]:
        if "checks" in sections or "sanitizer" in sections:
            for case, dtype, precision in checks.work(settings):
                yield from oracle.keys(case, dtype, precision)
        if "matmul" in sections:
            yield from matmul.keys(settings)
        if "convolutions" in sections:
            yield from convolutions.keys(settings)
        if "recurrent" in sections:
            yield from recurrent.keys(settings)
        if "cells" in sections:
            for shape, name in product(settings.scans, cells.NAMES):
                yield from _trained(cells.network(shape, name), shape[0], "float32")
        if "warpgroups" in sections and architecture == WARPGROUPS:
            yield from warpgroups.keys(settings)
        if "bandwidth" in sections:
            yield from bandwidth.keys(settings)
        if "digits" in sections:
            yield from _trained(digits.network(settings), digits.BATCH, "float32")
        if "training" in sections:
            for precision in settings.trained:
                for work in settings.networks:
                    yield from _trained(trainers.network(work), work.batch_size, precision)

    return list(dict.fromkeys(walk()))


def _trained(model: Any, batch: int, precision: str) -> list[Key]:
    """Return the kernels that training a model launches."""
    listed = Listed()
    CudaProgram(program(model._runtime, batch), listed, precision)
    return [key for key, _ in listed.parts]


def run(job: Job) -> None:
    """Start a process on every core, and wait for them until time has run out."""
    if job.settings.simulated:
        job.skip("simulated")
        return
    from fastnn.backend.cuda.driver.available import open_device

    architecture = open_device(0).architecture
    wanted = needed(job.settings, job.sections, architecture)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    job.fact(kernels=len(wanted), processes=cores)
    flags = ["--quick"] if job.settings.quick else []
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "gpu.kernels", "--arch", architecture, "--part", f"{part}/{cores}",
             "--seconds", f"{job.left():.0f}", "--sections", *job.sections, *flags],
            stdout=subprocess.PIPE, text=True, cwd=ROOT / "benchmarks",
        )
        for part in range(cores)
    ]  # fmt: skip
    done = 0
    for worker in workers:
        try:
            output, _ = worker.communicate(timeout=max(job.left(), 0.1))
        except subprocess.TimeoutExpired:
            worker.kill()
            output, _ = worker.communicate()
        else:
            if worker.returncode != 0:
                job.fail(f"a process that compiles kernels ended with {worker.returncode}")
        for line in output.splitlines():
            kind, _, text = line.partition(" ")
            if kind == "failed":
                job.fail(text)
            done += kind == "done"
    job.fact(compiled=done)
    if done < len(wanted):
        job.stop(f"{done} of {len(wanted)} kernels were compiled; the others are when they are first launched")


def compile_part(wanted: Sequence[Key], architecture: str, seconds: float) -> None:
    """Compile kernels that are not on disk, and print a line for each."""
    end = time.monotonic() + seconds
    for key in wanted:
        if time.monotonic() > end:
            return
        try:
            for number, stage in enumerate(stages(key)):
                library.machine_code(key, number, stage, architecture)
        except Exception as error:
            reason = str(error).strip().splitlines() or [""]
            print(f"failed {key}: {type(error).__name__}: {reason[-1]}", flush=True)
        else:
            print(f"done {key}", flush=True)


def main() -> int:
    """Run one of the processes."""
    parser = argparse.ArgumentParser(description=Path(__file__).name)
    parser.add_argument("--arch", required=True)
    parser.add_argument("--part", required=True)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument(
        "--sections",
        nargs="*",
        default=["checks", "matmul", "convolutions", "recurrent", "cells", "bandwidth", "digits", "training"],
    )
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    part, of = map(int, options.part.split("/"))
    wanted = needed(choose(simulated=False, quick=options.quick), options.sections, options.arch)
    compile_part(wanted[part::of], options.arch, options.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
