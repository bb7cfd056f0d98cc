"""Measure every kernel against the machine: microseconds, GB/s, the share of the copy bandwidth; NumPy and PyTorch.

    python benchmarks/kernels.py [--quick] [--only PART ...] [--threads N] [--rounds N] [--json PATH]

The contestants take turns (A B C A B C ...); the figures are medians. fastnn's kernel runs as a record of a program,
many times in one call if it is short; NumPy and PyTorch are called from Python, and their calls are included.
Results are compared before anything is timed. "copy" is np.copyto of an array larger than the caches, measured between
the rounds; the bytes of a kernel are those that it has to read and write (np.copyto of n bytes counts 2 n).
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

COPY_BYTES = 64 * 1024 * 1024


def main(arguments: list[str] | None = None) -> int:
    """Measure, print a Markdown table, and return 0 if all results agreed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, below 90 s")
    parser.add_argument("--only", nargs="+", default=[""], metavar="PART", help="parts of cases' names")
    parser.add_argument("--threads", type=int, default=1, help="threads of each contestant (default 1)")
    parser.add_argument("--rounds", type=int, help="timed rounds (default 15, quick 5)")
    parser.add_argument("--json", type=Path, help="write all times to this file")
    options = parser.parse_args(arguments)
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(options.threads)
    if options.threads == 1 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

    import fastnn as fnn
    import kernel_cases

    fnn.set_num_threads(options.threads)
    if importlib.util.find_spec("torch") is not None:
        importlib.import_module("kernel_peers").set_num_threads(options.threads)
    rounds = options.rounds or (5 if options.quick else 15)
    print(f"{platform.processor() or platform.machine()}, {options.threads} thread(s), medians of {rounds} rounds\n")
    print("| kernel | us | GB/s | of copy | NumPy us | PyTorch us | PyTorch / fastnn | differs by |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    results = {}
    agreed = True
    for case in kernel_cases.CASES:
        if any(part in case.name for part in options.only):
            found = measure(case, rounds, short=0.002 if options.quick else 0.01)
            results[case.name] = found
            agreed &= found["deviation"] < 1e-3
            print(line(case, found), flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    return 0 if agreed else 1


def line(case: Any, found: dict[str, Any]) -> str:
    """Write a row of the table."""
    us = 1e6 * found["fastnn"]
    rate = found["nbytes"] / found["fastnn"] / 1e9
    share = f"{found['copy'] / found['fastnn']:.2f}" if case.large else ""
    peers = [f"{1e6 * found[who]:.4g}" if who in found else "" for who in ("numpy", "torch")]
    ratio = f"{found['torch'] / found['fastnn']:.2f}" if "torch" in found else ""
    return (
        f"| {case.name} | {us:.4g} | {rate:.1f} | {share} | {' | '.join(peers)} | {ratio} | {found['deviation']:.1g} |"
    )


def measure(case: Any, rounds: int, short: float) -> dict[str, Any]:
    """Compare the results of a case's contestants, and time them in turns."""
    import numpy as np

    work = case.make()
    work.fastnn()
    deviation = 0.0
    for who, call in (("numpy", work.numpy), ("torch", work.torch)):
        if call is not None:
            made = call()
            deviation = max(deviation, *(compare(work, who, name, made) for name in work.outputs))
    source = np.ones(COPY_BYTES // 8)
    target = np.zeros_like(source)
    contestants: dict[str, Callable[[int], Any]] = {"fastnn": work.fastnn}
    for who, call in (("numpy", work.numpy), ("torch", work.torch)):
        if call is not None:
            contestants[who] = partial(repeatedly, call)
    counts = {who: calibrate(call, short) for who, call in contestants.items()}
    times: dict[str, list[float]] = {who: [] for who in (*contestants, "copy")}
    for _ in range(rounds):
        for who, call in contestants.items():
            times[who].append(seconds(call, counts[who]))
        if case.large:
            begin = time.perf_counter()
            np.copyto(target, source)
            times["copy"].append((time.perf_counter() - begin) * work.fastnn.nbytes / (2 * COPY_BYTES))
    found = {who: statistics.median(values) for who, values in times.items() if values}
    return {**found, "nbytes": work.fastnn.nbytes, "deviation": deviation}


def compare(work: Any, who: str, name: str, made: Any) -> float:
    """Return the largest difference of one output, relative to the largest magnitude in it."""
    import numpy as np

    got = work.arrays["fastnn"][name]
    other = np.asarray(made[name]) if isinstance(made, dict) and name in made else work.arrays[who][name]
    if np.isnan(other).all() or name == "total" or name.startswith("s"):
        return 0.0  # the peer does not have this output, or has it in another form
    if work.fastnn.op == "dropout":
        return 0.0  # random
    return float(np.abs(got - other.reshape(got.shape)).max() / max(np.abs(got).max(), 1e-30))


def repeatedly(call: Callable[[], Any], times: int) -> None:
    """Call a peer `times` times."""
    for _ in range(times):
        call()


def seconds(call: Callable[[int], Any], times: int) -> float:
    """Return the time of one repetition."""
    begin = time.perf_counter()
    call(times)
    return (time.perf_counter() - begin) / times


def calibrate(call: Callable[[int], Any], short: float) -> int:
    """Return how many repetitions take at least `short` seconds, at most as many as there are hyper rows."""
    times = 1
    while times < 4096 and seconds(call, times) * times < short:
        times *= 2
    return times


if __name__ == "__main__":
    raise SystemExit(main())
