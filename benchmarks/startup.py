"""The start of a fresh process: import, and the first training step of a new model, cold and warm.

Run: python benchmarks/startup.py [--runs 5]

Every figure is the median of fresh processes. "cold" starts with an empty kernel cache, "warm" with the kernels of
an earlier process; "new architecture" trains a network of other layers and sizes, whose kernels exist already.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from typing import Any

_IMPORT = (
    "import json, time; begin = time.perf_counter(); import {module}; print(json.dumps(time.perf_counter() - begin))"
)

FIRST_STEP = """
import json, os, resource, sys, time
begin = time.perf_counter()
import numpy as np
import fastnn as fnn
imported = time.perf_counter()
before = len(fnn.cache.entries())
sizes = {sizes}
model = fnn.Sequential(
    [fnn.Input((sizes[0],))]
    + [fnn.Dense(size, activation="relu") for size in sizes[1:-1]]
    + [fnn.Dense(sizes[-1], activation="softmax")],
    seed=0,
)
model.compile("adam", "cross_entropy")
random = np.random.default_rng(0)
x, y = random.standard_normal((32, sizes[0]), np.float32), random.integers(0, sizes[-1], 32)
made = time.perf_counter()
model.train_on_batch(x, y)
stepped = time.perf_counter()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
if os.path.exists("/proc/self/status"):
    # On Linux, getrusage starts from the memory of the process that started this one.
    peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
compiled, again = len(fnn.cache.entries()) - before, time.perf_counter()
model.train_on_batch(x, y)
seconds = time.perf_counter() - again
print(json.dumps({{
    "import": imported - begin,
    "first step": stepped - made,
    "second step": seconds,
    "total": stepped - begin,
    "compiled": compiled,
    "numba imported": "numba" in sys.modules,
    "peak MB": peak / 1024,
}}))
"""


def run_fresh(code: str, folder: str, **environment: str) -> Any:
    """Run code in a fresh process with a separate kernel cache and return its output."""
    environment = {**os.environ, "FASTNN_CACHE_DIR": folder, **environment}
    output = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return json.loads(output.stdout)


def _median(runs: list[dict[str, float]], name: str) -> float:
    return statistics.median(run[name] for run in runs)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="fresh processes per figure (5)")
    count = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as warm:
        print("| import of | seconds (median) |\n|---|---:|")
        for module in ("numpy", "numba", "fastnn", "numba, fastnn"):
            seconds = [run_fresh(_IMPORT.format(module=module), warm) for _ in range(count)]
            print(f"| {module} | {statistics.median(seconds):.3f} |")
        network, other = FIRST_STEP.format(sizes=[64, 128, 64, 10]), FIRST_STEP.format(sizes=[20, 300, 70, 33, 5])
        rows: dict[str, list[dict[str, float]]] = {"64-128-64-10, cold": [], "the same, one process compiles": []}
        for _ in range(min(count, 3)):
            for label, more in zip(rows, ({}, {"FASTNN_NUM_THREADS": "1"}), strict=True):
                with tempfile.TemporaryDirectory() as folder:
                    rows[label].append(run_fresh(network, folder, **more))
        run_fresh(network, warm)
        for label, code in (("64-128-64-10, warm", network), ("new architecture 20-300-70-33-5, warm", other)):
            rows[label] = [run_fresh(code, warm) for _ in range(count)]
        print(
            "\n| first step of | import to first step, s | the step, s | the second step, s | kernels compiled | "
            "Numba imported | peak MB |"
        )
        print("|---|---:|---:|---:|---:|---|---:|")
        for label, runs in rows.items():
            print(
                f"| {label} | {_median(runs, 'total'):.3f} | {_median(runs, 'first step'):.4f} | "
                f"{_median(runs, 'second step'):.4f} | "
                f"{runs[0]['compiled']:.0f} | {'yes' if runs[0]['numba imported'] else 'no'} | "
                f"{_median(runs, 'peak MB'):.0f} |"
            )


if __name__ == "__main__":
    main()
