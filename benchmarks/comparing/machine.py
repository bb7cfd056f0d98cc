"""The machine of the measurements: its name, and the cores that the process may use."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any

BUSY = 0.5


def limit_threads(threads: int) -> None:
    """Bind the process to as many cores as threads, and limit the thread pools, which read this at their import.

    Settings of OpenBLAS in the environment are dropped: one for another CPU (CORETYPE)
    would slow down only NumPy and scikit-learn, in a measurement by half.
    """
    if "numpy" in sys.modules:
        raise RuntimeError("the number of threads has to be set before NumPy is imported")
    for name in [name for name in os.environ if name.startswith("OPENBLAS_")]:
        del os.environ[name]
    for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "VECLIB_MAXIMUM", "NUMBA", "FASTNN"):
        os.environ[f"{name}_NUM_THREADS"] = str(threads)
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["FASTNN_BACKGROUND"] = "0"  # nothing is compiled while something is measured
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        if threads > len(cores):
            raise ValueError(f"expected at most {len(cores)} threads, one per available core, got {threads}")
        os.sched_setaffinity(0, cores[-threads:])


def environment(threads: int) -> dict[str, Any]:
    """Return what the times depend on besides the libraries: CPU, system, Python, threads, load before the start."""
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "threads": threads,
        "load": load,
    }


def cpu_name() -> str:
    """Return the processor's name, and its widest vectors if the system says them."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return platform.processor() or platform.machine()
    pairs = (line.partition(":") for line in path.read_text(encoding="utf-8").splitlines())
    facts = {key.strip(): value.strip() for key, _, value in pairs}
    flags = facts.get("flags", "").split()
    vectors = next((name for flag, name in (("avx512f", "AVX-512"), ("avx2", "AVX2")) if flag in flags), "")
    return " with ".join(part for part in (facts.get("model name", platform.machine()), vectors) if part)


def describe(facts: dict[str, Any]) -> str:
    """Return one line of text about the environment, and a second one if the machine was busy."""
    threads = facts["threads"]
    line = (
        f"{facts['cpu']} ({facts['cores']} cores), {facts['system']}, Python {facts['python']}; "
        f"{threads} thread{'s' * (threads > 1)} for each library"
    )
    if facts["load"] is not None and facts["load"] > BUSY:
        line += f"\nThe load was {facts['load']:.1f} before the start: other processes may disturb the times."
    return line
