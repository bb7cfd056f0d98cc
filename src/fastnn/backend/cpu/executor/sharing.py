"""Whether threads share the records of a short program: measured in its runs, because it depends on the machine.

To move 80 KB from one core's cache to another's took 7 µs on a virtual machine, whose cores are far apart. Steps of
64-100-10 with batches of 200 took 64 µs there on one thread and 87 µs on two, though those of 784-256-128-10 two thirds
as long on two. Results do not depend on it.
"""

from __future__ import annotations

import statistics
import time

from fastnn.backend.cpu.threads import thread_pool

#: a program whose steps take longer on one core gains on any machine
MOST_NANOSECONDS = 3e5
# A way is known after this many runs, and this much time, by their median: the shortest run of a team is too good,
# since data move at different speeds.
_RUNS, _SECONDS = 7, 0.002
# Another core is worth this gain.
_GAIN = 1.05
# Both ways are measured again after a second, and later after twice the time each: other programs come and go.
_FIRST, _LAST = 1.0, 32.0
# Workers that do not wake are waited for so long; until then a run that should be shared is none.
_PATIENCE = 0.05


def of_work(nanoseconds: float) -> Sharing | None:
    """Return what measures runs of so much work; None where it is so much that sharing pays anyway."""
    return Sharing() if nanoseconds < MOST_NANOSECONDS else None


class Sharing:
    """Measures runs on one thread and on a team, and says which is next.

    Attributes
    ----------
    threads : int
        Of the team that is measured.
    """

    def __init__(self) -> None:
        self._interval = _FIRST
        self._begin(0)

    def _begin(self, threads: int) -> None:
        self.threads, self._alone, self._until = threads, False, 0.0
        # by whether a run was shared: times of a step, and of all runs
        self._steps: tuple[list[float], list[float]] = [], []
        self._spent = [0.0, 0.0]
        self._began = time.perf_counter() if threads else 0.0

    def alone(self, threads: int) -> bool:
        """Return whether the next run is on the calling thread alone, where a team has this many threads."""
        if threads != self.threads:
            self._interval = _FIRST
            self._begin(threads)
        elif self.decided:
            if time.perf_counter() > self._until:
                self._interval = min(2.0 * self._interval, _LAST)
                self._begin(threads)
        elif not self._alone:
            self._alone = time.perf_counter() > self._began + _PATIENCE
        return self._alone

    @property
    def decided(self) -> bool:
        """Whether both ways are known."""
        return self._until > 0.0

    def start(self) -> tuple[int, float]:
        """Return what `finish` needs to know of the moment before a run."""
        return thread_pool.claimed(), time.perf_counter()

    def finish(self, started: tuple[int, float], steps: int, *, shared: bool) -> None:
        """Note the time of a run, but not of one that was to be shared and for which workers had to wake."""
        took = time.perf_counter() - started[1]
        if not shared or thread_pool.claimed() - started[0] >= steps:
            self.note(took, steps, shared=shared)

    def note(self, seconds: float, steps: int, *, shared: bool) -> None:
        """Note the time of a run; `shared` says whether workers took part."""
        if self.decided:
            return
        way = int(shared)
        self._steps[way].append(seconds / steps)
        self._spent[way] += seconds
        known = [len(runs) >= _RUNS and spent >= _SECONDS for runs, spent in zip(self._steps, self._spent, strict=True)]
        self._alone = self._alone or known[1]
        if self._alone and known[0]:
            self._alone = not known[1] or statistics.median(self._steps[0]) < _GAIN * statistics.median(self._steps[1])
            self._until = time.perf_counter() + self._interval
