"""The networks and data on which fastnn and its peers are compared."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Workload:
    """A network, its data and the length of a timed run.

    Attributes
    ----------
    name : str
        Widths, batch size.
    sizes : tuple of int
        Width of the input, of each hidden layer and of the output.
    activation : {"relu", "tanh"}
        Activation of the hidden layers.
    loss : {"cross_entropy", "mse"}
        Softmax output with integer labels, or linear output with float targets (rows, sizes[-1]).
    batch_size : int
        Rows of a batch; divides `rows`, because a scan in JAX needs batches of one shape.
    rows : int
        Rows of the data set.
    epochs : int
        Passes over the data in one timed run.
    large : bool
        Whether a step takes seconds rather than less than a hundredth of one: a quick comparison leaves it out.
    """

    name: str
    sizes: tuple[int, ...]
    activation: str
    loss: str
    batch_size: int
    rows: int
    epochs: int
    large: bool = False

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one pass over the data."""
        return self.rows // self.batch_size

    def data(self, seed: int = 0) -> tuple[Array, Array]:
        """Return inputs (rows, sizes[0]) and a random teacher's labels (int64) or targets, float32.

        Noise in a tenth of the labels, or of 0.1 on the targets, keeps gradients away from zero, where
        subnormal numbers would slow some contestants down.
        """
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((self.rows, self.sizes[0]), dtype=np.float32)
        hidden = np.tanh(X @ rng.standard_normal((self.sizes[0], 16)) / np.sqrt(self.sizes[0]))
        outputs = hidden @ rng.standard_normal((16, self.sizes[-1]))
        if self.loss == "mse":
            return X, (outputs + 0.1 * rng.standard_normal(outputs.shape)).astype(np.float32)
        labels = outputs.argmax(axis=1)
        noisy = rng.random(self.rows) < 0.1
        labels[noisy] = rng.integers(0, self.sizes[-1], int(noisy.sum()))
        return X, labels.astype(np.int64)

    def initial_weights(self, seed: int = 1) -> list[Array]:
        """Return Glorot uniform kernels (n_in, n_out) and zero biases (n_out,) in float32, layer by layer."""
        rng = np.random.default_rng(seed)
        weights: list[Array] = []
        for n_in, n_out in zip(self.sizes[:-1], self.sizes[1:], strict=True):
            limit = np.sqrt(6.0 / (n_in + n_out))
            weights.append(rng.uniform(-limit, limit, (n_in, n_out)).astype(np.float32))
            weights.append(np.zeros(n_out, np.float32))
        return weights


WORKLOADS = (
    Workload("2-16-16-1, batch 32", (2, 16, 16, 1), "tanh", "mse", 32, 4096, 32),
    Workload("64-128-64-10, batch 32", (64, 128, 64, 10), "relu", "cross_entropy", 32, 2048, 16),
    Workload("64-128-64-10, batch 128", (64, 128, 64, 10), "relu", "cross_entropy", 128, 4096, 16),
    Workload("784-256-128-10, batch 128", (784, 256, 128, 10), "relu", "cross_entropy", 128, 4096, 4),
    Workload(
        "1024-4096-4096-1024, batch 512", (1024, 4096, 4096, 1024), "relu", "cross_entropy", 512, 1024, 1, large=True
    ),
)
