"""Training many small networks at once."""

from __future__ import annotations

import os

import numpy as np

from contestants import LEARNING_RATE
from many_contestants import Fastnn, Task
from numpy_mlp import NumpyMLP
from titles import titled

EPOCHS = 5
NETWORKS = 16


@titled("Training 16 networks 64-32-10, five epochs")
class TrainMany:
    """Five epochs of 45 steps: `train_many` on one thread and on two, the plain NumPy networks one by one."""

    params = (["fastnn", "numpy"], [1, 2])
    param_names = ("library", "threads")
    # every sample trains the networks from the start
    number = 1
    repeat = (3, 10, 10.0)
    warmup_time = 0.0

    def setup(self, library: str, threads: int) -> None:
        """Make the networks; kernels are compiled by a first training."""
        import fastnn as fnn

        if not hasattr(fnn, "train_many"):
            raise NotImplementedError("this fastnn has no train_many")
        if library == "numpy" and threads > 1:
            raise NotImplementedError("the plain NumPy network has one thread")
        if hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) < threads:
            raise NotImplementedError(f"there are fewer than {threads} cores")
        x, y = fnn.datasets.load_digits("train")
        self.task = Task(x, y, (64, 32, 10), NETWORKS, 32, EPOCHS)
        self.nets: list[NumpyMLP] = []
        if library == "fastnn":
            self.trainer = Fastnn(self.task, threads)
            self.trainer.train()
            self.trainer.restore()
            return
        for seed in range(NETWORKS):
            self.nets.append(NumpyMLP(self.task.sizes, learning_rate=LEARNING_RATE))
            self.nets[-1].set_weights(self.task.weights(seed))
        self.rng = np.random.default_rng(0)

    def time_train(self, library: str, threads: int) -> None:
        """Shuffle, gather, forward, loss, backward, Adam."""
        if library == "fastnn":
            self.trainer.train()
        for net in self.nets:
            for _ in range(EPOCHS):
                net.train_epoch(self.task.x, self.task.y, self.rng.permutation(len(self.task.x)))
