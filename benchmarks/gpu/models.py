"""The tests of whole models, which usually run in Numba's simulator, on the GPU."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys

from gpu.events import Job
from gpu.supervise import ROOT

FOLDER = "tests/simulator"
FILES = (
    "test_models.py", "test_quick_calls.py", "test_custom_functions.py", "test_own_cells.py", "test_generation.py",
)  # fmt: skip
# the first is about the simulator, and whether the third one's layers are fused depends on its sizes; the second
# interrupts a training that ends too soon on a GPU
DESELECTED = (
    "test_a_gpu_is_simulated",
    "test_ctrl_c_waits_for_the_run_and_loses_no_step",
    "test_layers_before_and_behind_a_loop_are_fused_and_its_body_is_not",
)
_COUNTS = re.compile(r"^=* ?((?:\d+ \w+,? ?)+) in [\d.]+s", re.MULTILINE)
_FAILED = re.compile(r"^(?:FAILED|ERROR) (.*)", re.MULTILINE)
LINES = 40


def run(job: Job) -> None:
    """Run the files of tests one by one, until time runs out."""
    if job.settings.simulated or importlib.util.find_spec("pytest") is None:
        job.skip("simulated" if job.settings.simulated else "pytest is not installed")
        return
    for number, name in enumerate(FILES):
        if job.out():
            job.stop(f"{number} of {len(FILES)} files were run")
            return
        job.begin(name)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore::DeprecationWarning"]
        command += [f"--deselect={FOLDER}/{name}::{test}" for test in DESELECTED]
        environment = {**os.environ, "FASTNN_TESTS_ON_GPU": "1", "PYTEST_ADDOPTS": "", "COLUMNS": "200"}
        try:
            done = subprocess.run(
                [*command, f"{FOLDER}/{name}"], capture_output=True, text=True, timeout=max(job.left(), 1.0), cwd=ROOT,
                env=environment,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            job.stop(f"{name} did not end, {number} of {len(FILES)} files did")
            return
        counts, failed = _COUNTS.findall(done.stdout), _FAILED.findall(done.stdout)
        job.item(file=name, counts=counts[-1].strip() if counts else f"exit status {done.returncode}")
        for one in failed:
            job.fail(one)
        if done.returncode not in (0, 5):
            job.note("\n".join(done.stdout.splitlines()[-LINES:]))
            if not failed:
                job.fail(f"{name}: pytest ended with {done.returncode}")
