"""Networks inside compiled functions: one sample at a time, by `fastnn.nopython`; NumPy is called from Python."""

from __future__ import annotations

import importlib.util
from functools import cache
from typing import Any

import numpy as np

from comparing.compiled import NETWORKS, compiled_loop
from comparing.online import ONLINE, POLICY, STEPS, FastnnLearner, simulator, starts
from contestants import Fastnn, Numpy
from titles import titled

SAMPLES = 1000
BY_NAME = {work.name.split(",")[0]: work for work in NETWORKS}


@titled("Compiled code: 1000 samples, one after the other")
class CompiledPrediction:
    """One sample at a time: `fastnn.nopython.predict` in a loop that Numba compiles, NumPy in a Python loop."""

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
        """Compute: 1 ms is 1 us per sample."""
        if library == "fastnn":
            compiled_loop()(self.net, self.X, self.out, SAMPLES)
            return
        for _ in range(SAMPLES):
            self.contestant.predict(self.row)


@titled("Compiled code: samples in prange")
class ParallelPrediction:
    """One sample at a time in a `prange` loop on one and on two threads; 4-32-2 and 64-128-64-10."""

    params = (["1", "2"], ["4-32-2", "64-128-64-10"])
    param_names = ("threads", "network")

    def setup(self, threads: str, network: str) -> None:
        """Compile, and call once."""
        if importlib.util.find_spec("fastnn.nopython") is None:
            raise NotImplementedError("this fastnn has no fastnn.nopython")
        import numba

        if int(threads) > numba.config.NUMBA_NUM_THREADS:
            raise NotImplementedError(f"this machine has {numba.config.NUMBA_NUM_THREADS} cores")
        work = BY_NAME[network]
        model = Fastnn(work, *work.data(), work.initial_weights(), 1).model
        self.net, self.samples = model.freeze(), 200_000 if network == "4-32-2" else 20_000
        self.X = np.random.default_rng(0).normal(size=(self.samples, work.sizes[0])).astype(np.float32)
        self.out = np.empty((self.samples, work.sizes[-1]), np.float32)
        numba.set_num_threads(int(threads))
        parallel_loop()(self.net, self.X, self.out)

    def time_samples(self, threads: str, network: str) -> None:
        """Compute 200,000 samples of 4-32-2, 20,000 of 64-128-64-10."""
        parallel_loop()(self.net, self.X, self.out)


@titled("Compiled code: 1024 training steps on one sample each")
class OnlineTraining:
    """Online learning: `fastnn.nopython.train_step` in a compiled loop, NumPy in a Python loop; 4-32-2."""

    params = ("fastnn", "numpy")
    param_names = ("library",)

    def setup(self, library: str) -> None:
        """Compile, and train once."""
        need_learners(library)
        kind = FastnnLearner if library == "fastnn" else Numpy
        self.contestant = kind(ONLINE, *ONLINE.data(), ONLINE.initial_weights(), 1)
        self.contestant.train(1)

    def time_1024_steps(self, library: str) -> None:
        """Train: 1 ms is 1 us per step."""
        self.contestant.train(1024 // ONLINE.rows)


@titled("Compiled code: 2000 steps of cart-pole")
class CartPole:
    """A simulation that calls a 4-32-2 policy at every step: all of it in a `prange` loop, NumPy called from Python."""

    params = ("fastnn", "numpy")
    param_names = ("library",)

    def setup(self, library: str) -> None:
        """Compile, and simulate once."""
        if importlib.util.find_spec("fastnn.nopython") is None:
            raise NotImplementedError("this fastnn has no fastnn.nopython")
        kind = Fastnn if library == "fastnn" else Numpy
        self.run = simulator(kind(POLICY, *POLICY.data(), POLICY.initial_weights(), 1), 1)
        self.run(starts(1), 1)

    def time_2000_steps(self, library: str) -> None:
        """Simulate: 2 ms is 1 us per step."""
        self.run(starts(10), STEPS)


@cache
def parallel_loop() -> Any:
    """Compile the user's function: `loop(net, x, out)`."""
    from numba import njit, prange

    from fastnn import nopython

    @njit(parallel=True)  # type: ignore[untyped-decorator]
    def loop(net: Any, x: Any, out: Any) -> None:
        for row in prange(len(x)):
            nopython.predict(net, x[row], out[row])

    return loop


def need_learners(library: str) -> None:
    """Skip if this fastnn is older than learners."""
    import fastnn as fnn

    if library == "fastnn" and not hasattr(fnn.Model, "learner"):
        raise NotImplementedError("this fastnn has no Model.learner")
