"""Sections as processes: a kernel that hangs, or an error that makes the driver unusable, costs only one of them.

A section has a share of the time, and stops when it is used up; a process that does not stop is killed. A section that
may continue is started again after the piece of work that it could not finish.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import fastnn
from gpu.events import RESTART, Found

ROOT = Path(__file__).parents[2]
# Time for a process to stop by itself before it is killed.
GRACE = 6.0
# Maximum time of a piece of work in a section that may continue.
STALL = 60.0
RESTARTS = 12
RESUMABLE = frozenset({"checks"})
POLL = 0.1
CHILD = (sys.executable, "-m", "gpu.child")
TAIL = 30


@dataclass(frozen=True)
class Plan:
    """The settings of all sections."""

    salt: int
    sections: tuple[str, ...]
    flags: tuple[str, ...]


def environment() -> dict[str, str]:
    """Return the environment of sections, with the paths of the benchmarks, the tests' tables, and fastnn."""
    paths = [str(ROOT / "benchmarks"), str(ROOT / "tests" / "support"), str(Path(fastnn.__file__).parents[1])]
    before = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*paths, *([before] if before else [])])}


def run(name: str, seconds: float, plan: Plan, changed: Callable[[Found], None]) -> Found:
    """Run a section for at most `seconds`, and return its results; `changed` is called as results arrive."""
    found = Found(name, share=seconds)
    begin = time.monotonic()
    end = begin + seconds
    with tempfile.TemporaryDirectory(prefix="fastnn-gpu-report-") as folder:
        for attempt in range(RESTARTS + 1):
            code = _attempt(found, Path(folder), attempt, end, plan, changed)
            if code == 0 or not _goes_on(found, code, end):
                break
        else:
            found.ended = f"killed: {RESTARTS} restarts were not enough"
    found.seconds = time.monotonic() - begin
    found.ended = found.ended or ("raised" if found.traceback else "done")
    return found


def _goes_on(found: Found, code: int, end: float) -> bool:
    """Report the running work as failed; returns whether the rest may run in another process."""
    if found.name not in RESUMABLE or found.traceback or not found.current or found.ended.startswith("killed"):
        return False
    if code != RESTART:
        found.failures.append(f"{found.current}: {_spell(code)}")
    found.notes.append(f"continued in a new process after {found.current}")
    if time.monotonic() < end:
        found.ended = ""
        return True
    return False


def _spell(code: int) -> str:
    return {-signal.SIGKILL: f"did not end within {STALL:.0f} s"}.get(code, f"its process ended with {code}")


def _attempt(found: Found, folder: Path, attempt: int, end: float, plan: Plan, changed: Callable[[Found], None]) -> int:
    """Run one process and return its exit status."""
    events, output = folder / f"events-{attempt}", folder / f"output-{attempt}"
    events.touch()
    command = [
        *CHILD, found.name, "--events", str(events), "--salt", str(plan.salt),
        "--seconds", f"{max(end - time.monotonic(), 0.1):.1f}", "--resume", str(found.begun), *plan.flags,
        "--sections", *plan.sections,
    ]  # fmt: skip
    with output.open("w") as sink, events.open(encoding="utf-8") as source:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT, env=environment(),
            cwd=ROOT / "benchmarks", start_new_session=True,
        )  # fmt: skip
        try:
            code = _watch(process, found, source, end, changed)
        finally:
            kill(process)
        found.read(_lines(source))
    if code not in (0, RESTART) and not found.traceback:
        tail = "\n".join(output.read_text(errors="replace").splitlines()[-TAIL:])
        found.notes.append(f"the process ended with {code}; its last output:\n{tail}" if tail else f"exit code {code}")
        if found.name not in RESUMABLE and not found.ended.startswith("killed"):
            found.ended = f"killed: its process ended with {code} (in {found.current or 'its beginning'})"
    return code


def _watch(
    process: subprocess.Popen[bytes], found: Found, source: IO[str], end: float, changed: Callable[[Found], None]
) -> int:
    """Wait for a process, reading its events, and kill it if it is late."""
    heard = told = time.monotonic()
    while True:
        code = process.poll()
        now = time.monotonic()
        lines = _lines(source)
        if lines:
            found.read(lines)
            heard = now
        if code is not None:
            return code
        late = now > end + GRACE
        if late or (found.name in RESUMABLE and now > heard + STALL):
            kill(process)
            if late:
                found.ended = f"killed {GRACE:.0f} s after its time (in {found.current or 'its beginning'})"
            return -signal.SIGKILL
        if now > told + 5.0:
            changed(found)
            told = now
        time.sleep(POLL)


def _lines(source: IO[str]) -> list[str]:
    """Return whole lines written since the last call."""
    lines: list[str] = []
    while True:
        at = source.tell()
        line = source.readline()
        if not line.endswith("\n"):
            source.seek(at)
            return lines
        lines.append(line)


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a process and its children."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        # a process that waits for an unresponsive driver cannot be killed, and is not waited for
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5.0)
