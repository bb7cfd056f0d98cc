"""Networks inside compiled functions: one sample at a time, by `fastnn.nopython`; NumPy is called from Python."""

from __future__ import annotations

import importlib.util

import numpy as np

from comparing.compiled import NETWORKS, compiled_loop
from contestants import Fastnn, Numpy
from titles import titled

SAMPLES = 1000
BY_NAME = {work.name.split(",")[0]: work for work in NETWORKS}


@titled("Compiled code: 1000 samples, one after the other")
class CompiledPrediction:
    """One sample at a time: `fastnn.nopython.predict` in a loop that Numba compiles, NumPy in a loop of Python's."""

    params = (["fastnn", "numpy"], list(BY_NAME))
    param_names = ("library", "network")

    def setup(self, library: str, network: str) -> None:
        """Compile, and call once."""
        if importlib.util.find_spec("fastnn.nopython") is None:
            raise NotImplementedError("this fastnn has no fastnn.nopython")
        work = BY_NAME[network]
        kind = Fastnn if library == "fastnn" else Numpy
        self.contestant = kind(work, *work.data(), work.initial_weights(), 1)
        self.X = np.ascontiguousarray(self.contestant.X[:64])
        self.row = self.X[:1].copy()
        self.contestant.predict(self.row)
        if isinstance(self.contestant, Fastnn):
            self.net = self.contestant.model.freeze()
            self.out = np.empty((len(self.X), work.sizes[-1]), np.float32)
            compiled_loop()(self.net, self.X, self.out, 1)

    def time_1000_samples(self, library: str, network: str) -> None:
        """Compute: 1 ms is 1 us a sample."""
        if library == "fastnn":
            compiled_loop()(self.net, self.X, self.out, SAMPLES)
            return
        for _ in range(SAMPLES):
            self.contestant.predict(self.row)
