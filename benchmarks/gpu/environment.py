"""The environment of the figures: GPU, driver, versions, clock rates; nothing is changed, only read."""

from __future__ import annotations

import platform
import shutil
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import fastnn as fnn
from fastnn.backend.cuda.driver import available
from gpu.events import Job
from gpu.supervise import ROOT

PACKAGES = (
    "numba", "numba-cuda", "cuda-bindings", "cuda-core", "nvidia-nvvm", "nvidia-nvjitlink", "numpy", "torch", "triton",
    "cupy", "cupy-cuda12x", "cupy-cuda13x",
)  # fmt: skip
# queries of nvidia-smi, and their names in the report
QUERIES = {
    "clocks.sm": "clock of multiprocessors", "clocks.max.sm": "largest clock of multiprocessors",
    "clocks.mem": "clock of memory", "clocks.max.mem": "largest clock of memory", "power.limit": "power limit",
    "temperature.gpu": "temperature", "utilization.gpu": "busy",
}  # fmt: skip


def run(job: Job) -> None:
    """Report all of it."""
    device = available.open_device(0)
    free, total = device.memory()
    job.fact(
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        gpu=device.name,
        capability="{}.{}".format(*device.capability),
        architecture=device.architecture,
        multiprocessors=device.multiprocessors,
        memory=f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free",
        python=platform.python_version(),
        system=platform.platform(),
        fastnn=f"{fnn.__version__}{_commit()}",
    )
    if not job.settings.simulated:
        job.fact(**_driver())
    job.fact(versions={name: found for name in PACKAGES if (found := _version(name))})
    job.fact(clocks=clocks())


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _commit() -> str:
    """Return the commit of a checkout, and whether files have changed."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        return ""
    commit = _output(["git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"])
    changed = _output(["git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no"])
    return f" at {commit}{' with changes' if changed else ''}" if commit else ""


def _driver() -> dict[str, str]:
    """Return the CUDA version of the driver, and with nvidia-smi the driver's version."""
    number = available._driver().call("cuDriverGetVersion")
    found = {"cuda": f"{number // 1000}.{number % 1000 // 10}"}
    driver = _query(["driver_version"])
    return {**found, "driver": driver[0]} if driver else found


def clocks() -> dict[str, str]:
    """Return clock rates and the like, nothing without nvidia-smi."""
    return dict(zip(QUERIES.values(), _query(list(QUERIES)), strict=False))


def _query(names: list[str]) -> list[str]:
    if shutil.which("nvidia-smi") is None:
        return []
    answer = _output(["nvidia-smi", "--id=0", f"--query-gpu={','.join(names)}", "--format=csv,noheader"])
    return [part.strip() for part in answer.splitlines()[0].split(",")] if answer else []


def _output(command: list[str]) -> str:
    """Return a command's output, nothing if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20.0, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
