"""Time of training and of prediction, with the plain NumPy network as the control."""

import numpy as np

from contestants import Contestant, Fastnn, Numpy
from titles import titled
from workloads import WORKLOADS

LIBRARIES: dict[str, type[Contestant]] = {"fastnn": Fastnn, "numpy": Numpy}
BY_NAME = {work.name: work for work in WORKLOADS}
NETWORKS = [work.name for work in WORKLOADS if not work.large]
PREDICTING = [work.name for work in WORKLOADS if work.batch_size == 128]


class FastnnCuda(Fastnn):
    """fastnn on a GPU."""

    device = "cuda"


class _Training:
    """One epoch of a workload."""

    param_names = ("library", "network")

    def setup(self, library: str, network: str) -> None:
        """Compile by a first epoch, and restore the initial weights, so that the work of every sample is the same."""
        self.contestant = self.made(library, network)
        self.contestant.train(1)
        self.contestant.set_weights(self.contestant.workload.initial_weights())

    def made(self, library: str, network: str) -> Contestant:
        """Return the network."""
        work = BY_NAME[network]
        return LIBRARIES[library](work, *work.data(), work.initial_weights(), 1)

    def time_epoch(self, library: str, network: str) -> None:
        """Gather, forward, loss, backward, Adam; for all batches of one epoch."""
        self.contestant.train(1)


@titled("Training, one epoch")
class Training(_Training):
    """One epoch of Adam: 128 steps of the first network, 64, 32 and 32 of the others."""

    params = (list(LIBRARIES), NETWORKS)


@titled("Training, two steps, 25 million parameters")
class TrainingLarge(_Training):
    """Two steps of Adam on 25 million parameters."""

    params = (list(LIBRARIES), [work.name for work in WORKLOADS if work.large])
    timeout = 300
    number = 1
    repeat = (2, 4, 20.0)
    warmup_time = 0.0


@titled("Training with dead weights, one epoch")
class TrainingDeadWeights(_Training):
    """One epoch after long training on zeros: half of the moments have faded to subnormal numbers, or to zeros."""

    params = (list(LIBRARIES), ["64-128-64-10, batch 32"])

    def setup(self, library: str, network: str) -> None:
        """Train on the data, and then on zeros until 0.9^steps is below the smallest float32."""
        self.contestant = self.made(library, network)
        self.contestant.train(1)
        self.contestant.X = np.zeros_like(self.contestant.X)
        self.contestant.train(20)


@titled("Training on a GPU, one epoch")
class TrainingCuda(_Training):
    """One epoch of Adam on a GPU; skipped if fastnn refuses the device."""

    params = (["fastnn"], list(BY_NAME))

    def made(self, library: str, network: str) -> Contestant:
        """Return the network, whose constructor says what is missing if there is no GPU."""
        work = BY_NAME[network]
        try:
            return FastnnCuda(work, *work.data(), work.initial_weights(), 1)
        except (ValueError, RuntimeError) as error:
            raise NotImplementedError(str(error)) from error


class _Prediction:
    """A call of `predict` of a network with random weights."""

    rows: int
    params = (list(LIBRARIES), PREDICTING)
    param_names = ("library", "network")

    def setup(self, library: str, network: str) -> None:
        """Compile, and call once."""
        work = BY_NAME[network]
        self.contestant = LIBRARIES[library](work, *work.data(), work.initial_weights(), 1)
        self.X = np.ascontiguousarray(self.contestant.X[: self.rows])
        self.contestant.predict(self.X)

    def time_predict(self, library: str, network: str) -> None:
        """Compute the outputs, from NumPy array to NumPy array."""
        self.contestant.predict(self.X)


@titled("Prediction, 1 row")
class PredictionLatency(_Prediction):
    """One row: what a call from Python costs."""

    rows = 1


@titled("Prediction, 1024 rows")
class PredictionThroughput(_Prediction):
    """1024 rows in one call."""

    rows = 1024
