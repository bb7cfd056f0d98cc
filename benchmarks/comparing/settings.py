"""The settings from the command line, shared by all sections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """What to compare, and for how long.

    Attributes
    ----------
    threads, rounds : int
        Threads of each library; timed runs of each.
    seconds : float
        Approximate time of a run of calls; training runs have a fixed number of steps.
    quick : bool
        Whether to leave out large work, and shorten the rest.
    workloads, libraries : tuple of str
        Parts of the names of workloads and libraries that take part, in lower case.
    """

    threads: int = 1
    rounds: int = 15
    seconds: float = 0.05
    quick: bool = False
    workloads: tuple[str, ...] = ("",)
    libraries: tuple[str, ...] = ("",)

    def wants(self, workload: str, large: bool = False) -> bool:
        """Whether to run a workload: a quick comparison leaves a large one out, unless it is selected by name."""
        if large and self.quick and self.workloads == ("",):
            return False
        return any(part in workload.lower() for part in self.workloads)

    def chosen(self, kinds: Sequence[type]) -> list[type]:
        """Return the classes of contestants whose library takes part; fastnn and NumPy always do."""
        return [kind for kind in kinds if required(kind.name) or self.admits(kind.name)]  # type: ignore[attr-defined]

    def admits(self, library: str) -> bool:
        """Whether a library takes part."""
        return any(part in library.lower() for part in self.libraries)


def required(library: str) -> bool:
    """Whether the comparison needs this library: it always takes part, and its errors are errors."""
    return library.startswith(("fastnn", "NumPy"))
