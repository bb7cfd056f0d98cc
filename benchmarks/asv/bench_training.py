"""Time of training and of prediction, with the plain NumPy network beside it."""

from contestants import Contestant, Fastnn, Numpy
from workloads import WORKLOADS

LIBRARIES: dict[str, type[Contestant]] = {"fastnn": Fastnn, "numpy": Numpy}
NAMES = [work.name for work in WORKLOADS]


def trained(library: str, name: str) -> Contestant:
    """Return a network of the workload, trained for one epoch so that nothing is left to compile."""
    work = WORKLOADS[NAMES.index(name)]
    contestant = LIBRARIES[library](work, *work.data(), work.initial_weights(), 1)
    contestant.train(1)
    return contestant


class Training:
    """One epoch of Adam on the data of a workload: 32 to 128 steps."""

    params = (list(LIBRARIES), NAMES)
    param_names = ("library", "network")

    def setup(self, library: str, network: str) -> None:
        """Compile, and restore the initial weights, so that the work of every sample is the same."""
        self.contestant = trained(library, network)
        self.contestant.set_weights(self.contestant.workload.initial_weights())

    def time_epoch(self, library: str, network: str) -> None:
        """Gather, forward, loss, backward, Adam; for all batches of one epoch."""
        self.contestant.train(1)


class Prediction:
    """Latency of `predict` on one row and on a batch."""

    params = (list(LIBRARIES), NAMES[:1] + NAMES[2:], [1, 128])
    param_names = ("library", "network", "rows")

    def setup(self, library: str, network: str, rows: int) -> None:
        """Compile, and call once."""
        self.contestant = trained(library, network)
        self.X = self.contestant.X[:rows].copy()
        self.contestant.predict(self.X)

    def time_predict(self, library: str, network: str, rows: int) -> None:
        """Compute the outputs, from NumPy array to NumPy array."""
        self.contestant.predict(self.X)
