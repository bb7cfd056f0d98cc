"""Functions of symbols: training steps of one's own, and calls that compute symbols."""

from typing import Any

import numpy as np

import fastnn as fnn
from titles import titled

ROWS = 64


@titled("Steps and calls of functions of symbols, 64 rows of 16-64-1")
class Functions:
    """Steps of a mean squared error, with a penalty on the gradient, of all pairs of rows; a call; the model's step."""

    params = (["model", "train_function", "penalty", "pairs", "call"],)
    param_names = ("step",)

    def setup(self, step: str) -> None:
        """Make the networks and take the first steps, which compile."""
        if not hasattr(fnn, "train_function"):
            raise NotImplementedError
        from fastnn import ops

        rng = np.random.default_rng(0)
        self.x = rng.normal(size=(ROWS, 16)).astype(np.float32)
        self.y = rng.normal(size=(ROWS, 1)).astype(np.float32)
        model = fnn.Sequential([fnn.Input(16), fnn.Dense(64, activation="tanh"), fnn.Dense(1)], seed=0)
        model.compile("adam", "mse")
        x, y = fnn.Input(16), fnn.Input(1)
        found = model(x)
        error = ops.mean(ops.square(found - y))
        slope = ops.norm(ops.gradients(found, x), axis=-1)
        pairs = ops.mean(ops.square((found - found.T) - (y - y.T)))
        losses = {"train_function": error, "penalty": error + ops.mean(ops.square(slope - 1.0)), "pairs": pairs}
        self.call: Any
        if step == "model":
            self.call = model.train_on_batch
        elif step == "call":
            self.call = fnn.function([x, y], [found, error])
        else:
            self.call = fnn.train_function([x, y], losses[step], update=[model], optimizer="adam")
        for _ in range(4):
            self.call(self.x, self.y)

    def time_step(self, step: str) -> None:
        """One call on 64 rows."""
        self.call(self.x, self.y)
