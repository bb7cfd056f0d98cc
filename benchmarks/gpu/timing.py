"""The device's time of contestants that take turns, as medians and quartiles."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gpu.events import Job

# More repetitions than these add nothing.
MOST = 1 << 14

#: `seconds(count)` repeats the work and returns the device's time for all of it
Seconds = Callable[[int], float]


@dataclass
class Times:
    """Seconds of one unit of work, one for each run."""

    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The median in seconds."""
        return statistics.median(self.seconds)

    def micro(self) -> list[float]:
        """Return median, first and third quartile in microseconds."""
        low, high = self.median, self.median
        if len(self.seconds) > 1:
            low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return [1e6 * one for one in (self.median, low, high)]


def race(contestants: Mapping[str, Seconds], units: Mapping[str, int], job: Job) -> dict[str, Times]:
    """Time contestants in turns (A B A B ...), after a run of each that is not counted.

    Parameters
    ----------
    units : mapping of str to int
        Units of work (launches, steps) per repetition.
    """
    settings = job.settings
    counts = {name: _fitting(seconds, settings.run_seconds) for name, seconds in contestants.items()}
    times = {name: Times() for name in contestants}
    for number in range(settings.rounds):
        if number and job.out():
            break
        for name, seconds in contestants.items():
            times[name].seconds.append(seconds(counts[name]) / (counts[name] * units[name]))
    return times


def _fitting(seconds: Seconds, wanted: float) -> int:
    """Return how many repetitions fit into a run, by trying more and more; this warms up caches and clocks."""
    count, taken = 1, seconds(1)
    while taken < wanted / 2 and count < MOST:
        count *= 2
        taken = seconds(count)
    return count
