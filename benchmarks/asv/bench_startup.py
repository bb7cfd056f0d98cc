"""The time that a new process needs to start, and its memory."""

import statistics
import tempfile
from dataclasses import replace

from contestants import Fastnn, Numpy
from startup import FIRST_STEP, run_fresh
from titles import titled
from workloads import WORKLOADS

NETWORKS = {work.name: work for work in WORKLOADS}
PROCESSES = 5


class Import:
    """Time until a package can be used, in a fresh process."""

    # A second import in the same process is free.
    number = 1

    def timeraw_fastnn(self) -> str:
        """`import fastnn`, which compiles nothing and imports nothing optional; NumPy included."""
        return "import fastnn"

    def timeraw_numpy(self) -> str:
        """`import numpy`, for comparison."""
        return "import numpy"

    timeraw_fastnn.pretty_name = "import fastnn"  # type: ignore[attr-defined]
    timeraw_numpy.pretty_name = "import numpy"  # type: ignore[attr-defined]


class FirstStep:
    """Fresh processes that import fastnn, make a model of 64-128-64-10, and train it on one batch."""

    timeout = 300
    sizes = (64, 128, 64, 10)

    def setup_cache(self) -> dict[str, float]:
        """Measure the seconds from import to first step, and the megabytes: 1 cold process, the median of 5 warm."""
        with tempfile.TemporaryDirectory() as folder:
            runs = [run_fresh(FIRST_STEP.format(sizes=list(self.sizes)), folder) for _ in range(1 + PROCESSES)]
        warm = {name: statistics.median(run[name] for run in runs[1:]) for name in ("total", "peak MB")}
        return {"cold": runs[0]["total"], "warm": warm["total"], "memory": warm["peak MB"]}

    setup_cache.timeout = 300  # type: ignore[attr-defined]

    def track_cold(self, found: dict[str, float]) -> float:
        """Seconds from import to first step with an empty cache, so that all kernels are compiled."""
        return found["cold"]

    def track_warm(self, found: dict[str, float]) -> float:
        """Seconds from import to first step with the kernels of an earlier process on disk."""
        return found["warm"]

    def track_memory(self, found: dict[str, float]) -> float:
        """Largest resident memory of a process that finds its kernels on disk, Python and NumPy included."""
        return found["memory"]

    track_cold.pretty_name = "First step of a fresh process, kernels to be compiled"  # type: ignore[attr-defined]
    track_warm.pretty_name = "First step of a fresh process, kernels on disk"  # type: ignore[attr-defined]
    track_memory.pretty_name = "Peak memory of a fresh process after its first step"  # type: ignore[attr-defined]
    track_cold.unit = track_warm.unit = "seconds"  # type: ignore[attr-defined]
    track_memory.unit = "MB"  # type: ignore[attr-defined]


@titled("Peak memory of training")
class Memory:
    """Largest resident memory of a process that trains a network for one epoch, data and libraries included."""

    params = (["fastnn", "numpy"], [name for name, work in NETWORKS.items() if work.name.startswith(("64", "1024"))])
    param_names = ("library", "network")
    timeout = 120

    def setup_cache(self) -> None:
        """Compile the kernels in another process, because the compiler takes more memory than a small network."""
        for work in NETWORKS.values():
            narrow = replace(work, sizes=(8, 8, 8, 8))
            Fastnn(narrow, *narrow.data(), narrow.initial_weights(), 1).train(1)

    def peakmem_training(self, library: str, network: str) -> None:
        """Make the data and the network, and train."""
        work = NETWORKS[network]
        (Fastnn if library == "fastnn" else Numpy)(work, *work.data(), work.initial_weights(), 1).train(1)
