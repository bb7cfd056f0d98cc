"""The race: contestants that do the same work take turns, so that a change of the clock rate affects all."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

# Threads of OpenBLAS, OpenMP and others spin for some milliseconds after their work, on cores that others need.
SETTLE_SECONDS = 0.05


def nothing() -> None:
    """Do nothing: most contestants need no preparation of a run."""


@dataclass
class Entry:
    """One contestant in one comparison.

    Attributes
    ----------
    name, version : str
        Name and version of the library.
    run : callable
        ``run(count)`` does the work `count` times; all of it is done on return.
    units : int
        Steps or calls in one repetition of the work.
    count : int
        Repetitions of the work in a timed run; 0: as many as fill the time of a run.
    restore : callable
        Called before every run, and not timed.
    deviation : str
        The difference of its results from a float64 computation.
    agrees : bool
        Whether that is small enough for its times to be valid.
    note : str
        What it does differently from the others.
    seconds : list of float
        The times of the runs.
    """

    name: str
    version: str
    run: Callable[[int], object]
    deviation: str
    agrees: bool
    units: int = 1
    count: int = 0
    restore: Callable[[], object] = nothing
    note: str = ""
    seconds: list[float] = field(default_factory=list)

    @property
    def micro(self) -> list[float]:
        """Microseconds per unit in each run."""
        return [1e6 * seconds / (self.count * self.units) for seconds in self.seconds]

    @property
    def median(self) -> float:
        """Median microseconds per unit."""
        return statistics.median(self.micro)

    def quartiles(self) -> tuple[float, float]:
        """Return the first and the third quartile of the microseconds per unit."""
        low, _, high = statistics.quantiles(self.micro, n=4, method="inclusive")
        return low, high


@dataclass
class Comparison:
    """Contestants that do the same work; the first is fastnn, and others are expressed relative to it.

    Attributes
    ----------
    section, group, name : str
        Section of the report, the group that is averaged, and the work.
    unit : str
        The unit of a time: a step, a call.
    flops : int
        Floating-point operations per unit if they are counted, or 0.
    skipped : list of str
        Contestants that could not take part, and why.
    """

    section: str
    name: str
    unit: str
    entries: list[Entry]
    skipped: list[str] = field(default_factory=list)
    group: str = ""
    flops: int = 0

    @property
    def agreed(self) -> bool:
        """Whether all contestants computed the same."""
        return all(one.agrees for one in self.entries)

    def ratio(self, entry: Entry) -> float:
        """Return an entry's time divided by the first contestant's."""
        return entry.median / self.entries[0].median

    def as_json(self) -> dict[str, Any]:
        """Return all measurements, in plain types."""
        return {
            "section": self.section,
            "group": self.group,
            "name": self.name,
            "unit": self.unit,
            "flops": self.flops,
            "skipped": self.skipped,
            "entries": [
                {
                    "name": one.name,
                    "version": one.version,
                    "units a run": one.count * one.units,
                    "seconds": one.seconds,
                    "microseconds (median)": one.median,
                    "times as long": self.ratio(one),
                    "deviation": one.deviation,
                    "agrees": one.agrees,
                    "note": one.note,
                }
                for one in self.entries
            ],
        }


def enter(
    makers: Iterable[tuple[str, bool, Callable[[], Entry]]],
) -> tuple[list[Entry], list[str]]:
    """Make the possible entries, and the reasons why the others are skipped.

    Parameters
    ----------
    makers : iterable of (name, required, callable)
        A peer that is not required may be missing, find no C++ compiler, or have changed; our own code and
        NumPy have to work.
    """
    entries, skipped = [], []
    for name, required, make in makers:
        try:
            entries.append(make())
        except Exception as error:
            if required:
                raise
            reason = str(error).strip().splitlines() or [type(error).__name__]
            skipped.append(f"- {name} skipped: {reason[0]}")
    return entries, skipped


def race(entries: Sequence[Entry], rounds: int, seconds: float, threads: int) -> None:
    """Time runs of all entries in turns: one that is not counted, then `rounds` counted ones.

    Parameters
    ----------
    seconds : float
        Approximate time of a run, for entries without a count.
    """
    gc.collect()
    # Existing objects are excluded from collections: with PyTorch and JAX imported, each would take 0.1 s.
    gc.freeze()
    for one in entries:
        if not one.count:
            one.count = fitting(one, seconds)
    for number in range(rounds + 1):
        for one in entries:
            one.restore()
            if threads > 1:
                time.sleep(SETTLE_SECONDS)
            taken = timed(one.run, one.count)
            if number:
                one.seconds.append(taken)
    gc.unfreeze()


def timed(run: Callable[[int], object], count: int) -> float:
    """Return the seconds of one run, during which Python collects no garbage."""
    gc.collect()
    gc.disable()
    try:
        begin = time.perf_counter()
        run(count)
        return time.perf_counter() - begin
    finally:
        gc.enable()


def fitting(one: Entry, seconds: float) -> int:
    """Return how many repetitions fit into the time of a run, by trying more and more."""
    for _ in range(3):
        one.run(1)  # the first ones may prepare something: fastnn's second prediction does
    count, taken = 1, 0.0
    while taken < seconds / 4 and count < 2**30:
        taken = timed(one.run, count)
        if taken < seconds / 4:
            count *= 2 if taken > seconds / 16 else 4
    return max(1, round(count * seconds / taken))
