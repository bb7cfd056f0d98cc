"""Whether threads share the records of a short program: measured in its runs, because it depends on the machine.

To move 80 KB from one core's cache to another's took 7 µs on a virtual machine, whose cores are far apart. Steps of
64-100-10 with batches of 200 took 64 µs there on one thread and 87 µs on two, though those of 784-256-128-10 two thirds
as long on two. Results do not depend on it.
"""

from __future__ import annotations

import math
import time

#: a program whose steps take longer on one core gains on any machine
MOST_NANOSECONDS = 1e6
# A way is known after this many runs, and this much time: the shortest of a few runs was not disturbed.
_RUNS, _SECONDS = 6, 0.002
# Both ways are measured again after a second, and later after twice the time each: other programs come and go.
_FIRST, _LAST = 1.0, 32.0
# Workers that do not wake are waited for so long; until then a run that should be shared is none.
_PATIENCE = 0.05


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
        # by whether a run was shared: the shortest time of a step, the number of runs, the time of all
        self._best, self._runs, self._spent = [math.inf, math.inf], [0, 0], [0.0, 0.0]
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

    def note(self, seconds: float, steps: int, *, shared: bool) -> None:
        """Note the time of a run; `shared` says whether all workers were awake for it."""
        if self.decided:
            return
        way = int(shared)
        self._best[way] = min(self._best[way], seconds / steps)
        self._runs[way] += 1
        self._spent[way] += seconds
        known = [runs >= _RUNS and spent >= _SECONDS for runs, spent in zip(self._runs, self._spent, strict=True)]
        self._alone = self._alone or known[1]
        if self._alone and known[0]:
            self._alone = self._best[0] <= self._best[1]
            self._until = time.perf_counter() + self._interval
