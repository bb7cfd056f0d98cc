"""Events of a running section, as lines of JSON, which can be read even if it was killed."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gpu.settings import Settings

#: the exit status of a process after an error that makes the driver unusable; the section continues in another one
RESTART = 3


class Job:
    """A running section: its work, its time limit, and the file of its events.

    Parameters
    ----------
    path : Path
        Lines are appended here.
    seconds : float
        The section's share of the time, starting now.
    salt : int
        Makes random numbers different in every run.
    resume : int
        Number of pieces of work that an earlier process has begun.
    sections : tuple of str
        All sections that will run.
    """

    def __init__(
        self, path: Path, settings: Settings, seconds: float, salt: int, resume: int, sections: tuple[str, ...]
    ) -> None:
        self.settings, self.salt, self.resume, self.sections = settings, salt, resume, sections
        self.end = time.monotonic() + seconds
        self._path = path

    def left(self) -> float:
        """Return the seconds that are left."""
        return self.end - time.monotonic()

    def out(self, needed: float = 0.0) -> bool:
        """Return whether fewer seconds are left than needed."""
        return self.left() <= needed

    def begin(self, what: str) -> None:
        """Report the work that starts now, which is blamed if it never ends."""
        self._write("begin", what)

    def item(self, **values: Any) -> None:
        """Report one row of a table."""
        self._write("item", values)

    def fact(self, **values: Any) -> None:
        """Report a fact about the whole section."""
        self._write("fact", values)

    def note(self, text: str) -> None:
        """Report a sentence."""
        self._write("note", text)

    def fail(self, text: str) -> None:
        """Report an error, with which the command fails."""
        self._write("failure", text)

    def skip(self, reason: str) -> None:
        """Report that the section cannot run here."""
        self._write("ended", f"skipped: {reason}")

    def stop(self, what: str) -> None:
        """Report that time has run out."""
        self._write("ended", f"out of time: {what}")

    def trace(self, text: str) -> None:
        """Report an exception."""
        self._write("traceback", text)

    def _write(self, kind: str, value: Any) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({kind: _plain(value)}) + "\n")


def _plain(value: Any) -> Any:
    """Return a value for JSON, which has no infinities and no NumPy types."""
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


@dataclass
class Found:
    """The results of a section.

    Attributes
    ----------
    ended : str
        "done", or why not: "out of time: ...", "skipped: ...", "raised", "killed ...".
    seconds, share : float
        The time it took, and its time limit.
    items, facts, notes, failures : list, dict, list, list
        Its reports.
    begun : int
        Number of pieces of work that were begun; `current` is the last of them.
    """

    name: str
    ended: str = ""
    seconds: float = 0.0
    share: float = 0.0
    items: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    traceback: str = ""
    begun: int = 0
    current: str = ""

    @property
    def bad(self) -> bool:
        """Whether the command has to fail because of this section."""
        return bool(self.failures or self.traceback) or self.ended.startswith(("raised", "killed"))

    def read(self, lines: list[str]) -> None:
        """Read a section's events."""
        for line in lines:
            ((kind, value),) = json.loads(line).items()
            if kind == "begin":
                self.begun, self.current = self.begun + 1, value
            elif kind == "fact":
                self.facts.update(value)
            elif kind == "item":
                self.items.append(value)
            elif kind == "note":
                self.notes.append(value)
            elif kind == "failure":
                self.failures.append(value)
            elif kind == "traceback":
                self.traceback += value
            else:
                self.ended = value

    def as_json(self) -> dict[str, Any]:
        """Return all of it in plain types."""
        return asdict(self)
