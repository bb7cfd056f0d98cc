"""NVIDIA's compute-sanitizer over a run of every kernel: accesses out of bounds, and races in shared memory."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

from gpu.events import Job
from gpu.supervise import ROOT

TOOLS = ("memcheck", "racecheck")
_SUMMARY = re.compile(r"=+ *((?:ERROR|RACECHECK) SUMMARY:.*)")
_COUNT = re.compile(r"SUMMARY: (\d+)")
_RAN = re.compile(r"ran (\d+ of \d+ kernels)")
LINES = 12


def run(job: Job) -> None:
    """Run both tools, each for at most half of the time."""
    program = shutil.which("compute-sanitizer")
    if job.settings.simulated or program is None:
        job.skip("simulated" if job.settings.simulated else "compute-sanitizer is not on the PATH")
        return
    for number, tool in enumerate(TOOLS):
        job.begin(tool)
        seconds = max(job.left() / (len(TOOLS) - number), 1.0)
        _one(job, program, tool, seconds)


def _one(job: Job, program: str, tool: str, seconds: float) -> None:
    # the program ends by itself when its time runs out, so that the tool can print its summary
    command = [
        program, "--tool", tool, sys.executable, "-m", "gpu.sanitized", "--seconds", f"{max(seconds - 8.0, 1.0):.0f}",
        "--salt", str(job.salt),
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", timeout=seconds,
            cwd=ROOT / "benchmarks",
        )  # fmt: skip
        output, code = done.stdout, done.returncode
    except subprocess.TimeoutExpired as late:
        raw = late.stdout or b""
        output, code = raw.decode(errors="replace") if isinstance(raw, bytes) else raw, None
    read(job, tool, output, code)


def read(job: Job, tool: str, output: str, code: int | None) -> None:
    """Report a tool's output; without its summary, which it prints last, nothing is known."""
    summary, ran = _SUMMARY.findall(output), _RAN.findall(output)
    said = summary[-1] if summary else "no summary"
    job.item(tool=tool, ran=ran[-1] if ran else "nothing", summary=said, code=code)
    count = _COUNT.search(said)
    lines = [line for line in output.splitlines() if line.startswith("=")][:LINES]
    if count is not None and int(count.group(1)) > 0:
        job.fail(f"{tool}: {said}")
        job.note("\n".join(lines))
    elif code is None:
        job.note(f"{tool} did not end in its time")
    elif count is None or not ran:
        # the tool does not support some virtual machines
        last = "\n".join(output.splitlines()[-LINES:])
        job.note(f"{tool} has said nothing of kernels (exit status {code}):\n{last}")
