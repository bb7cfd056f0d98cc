"""The compared libraries: each trains the same network on the same batches with Adam, and predicts.

The work is the same for all, unless `Contestant.differs` says otherwise: gather the rows of a batch by their
numbers, forward, loss, backward, Adam with all state in float32, and the mean loss of the epoch.
"""

import importlib
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from workloads import Workload

Array = NDArray[Any]
LEARNING_RATE = 1e-3
EPSILON = 1e-7


class Contestant:
    """One library on one workload.

    Parameters
    ----------
    workload : Workload
        The network and the batch size.
    X, y : array
        Data of the workload; batches are their consecutive rows.
    weights : list of array
        Initial weights in Keras order.
    threads : int
        Number of threads that the library may use.

    Raises
    ------
    ImportError
        If the library is not installed.
    """

    name: ClassVar[str]
    module: ClassVar[str]
    differs: ClassVar[str] = ""
    epsilon_last: ClassVar[bool] = False
    first_loss: float = float("nan")

    def __init__(self, workload: Workload, X: Array, y: Array, weights: list[Array], threads: int) -> None:
        self.workload, self.X, self.y, self.threads = workload, X, y, threads
        self.order = np.arange(workload.rows).reshape(-1, workload.batch_size)
        self.library: Any = importlib.import_module(self.module)
        self.prepare()
        self.set_weights(weights)

    @classmethod
    def version(cls) -> str:
        """Version of the library."""
        return str(getattr(importlib.import_module(cls.module.split(".")[0]), "__version__", "unknown"))

    def prepare(self) -> None:
        """Build the network."""
        raise NotImplementedError

    def train(self, epochs: int) -> float:
        """Train and return the mean loss of the last epoch; all work is done on return."""
        raise NotImplementedError

    def set_weights(self, weights: list[Array]) -> None:
        """Copy the weights into the network; the optimizer keeps its state."""
        raise NotImplementedError

    def get_weights(self) -> list[Array]:
        """Return the weights in Keras order."""
        raise NotImplementedError

    def predict(self, X: Array) -> Array:
        """Return the outputs for rows of X."""
        raise NotImplementedError


class Fastnn(Contestant):
    """The public interface of fastnn: `Sequential.fit`."""

    name, module = "fastnn", "fastnn"
    device: ClassVar[str] = "cpu"

    def prepare(self) -> None:
        """Build and compile the model."""
        fnn, work = self.library, self.workload
        fnn.set_num_threads(self.threads)
        layers = [fnn.Input((work.sizes[0],))]
        layers += [fnn.Dense(units, activation=work.activation) for units in work.sizes[1:-1]]
        entropy = work.loss == "cross_entropy"
        layers.append(fnn.Dense(work.sizes[-1], activation="softmax" if entropy else None))
        self.model = fnn.Sequential(layers, seed=0, device=self.device)
        loss = "cross_entropy" if entropy else "mean_squared_error"
        self.model.compile(optimizer=fnn.Adam(LEARNING_RATE, epsilon=EPSILON), loss=loss)

    def train(self, epochs: int) -> float:
        """Run one `fit` of all epochs."""
        batch = self.workload.batch_size
        history = self.model.fit(self.X, self.y, batch_size=batch, epochs=epochs, shuffle=False, verbose=0)
        return float(history.history["loss"][-1])

    def set_weights(self, weights: list[Array]) -> None:
        """Copy the weights into the model."""
        self.model.set_weights(weights)

    def get_weights(self) -> list[Array]:
        """Return the model's weights."""
        return list(self.model.get_weights())

    def predict(self, X: Array) -> Array:
        """Return the model's outputs."""
        probabilities: Array = self.model.predict(X)
        return probabilities


class Numpy(Contestant):
    """The vectorised NumPy baseline of `numpy_mlp`."""

    name, module = "NumPy", "numpy_mlp"

    @classmethod
    def version(cls) -> str:
        """Version of NumPy and, if threadpoolctl knows them, the kernels of its BLAS."""
        try:
            pools = importlib.import_module("threadpoolctl").threadpool_info()
        except ImportError:
            return np.__version__
        blas = [pool for pool in pools if pool["user_api"] == "blas" and "numpy" in pool["filepath"]]
        kernels = "".join(f", {pool['internal_api']} {pool.get('architecture', '')}" for pool in blas[:1])
        return np.__version__ + kernels

    def prepare(self) -> None:
        """Allocate the network and its buffers."""
        work = self.workload
        arguments = (work.sizes, work.activation, work.loss, work.batch_size)
        self.net = self.library.NumpyMLP(*arguments, learning_rate=LEARNING_RATE, epsilon=EPSILON)

    def train(self, epochs: int) -> float:
        """Run the epochs one by one."""
        order = self.order.reshape(-1)
        return float([self.net.train_epoch(self.X, self.y, order) for _ in range(epochs)][-1])

    def set_weights(self, weights: list[Array]) -> None:
        """Copy the weights into the network."""
        self.net.set_weights(weights)

    def get_weights(self) -> list[Array]:
        """Return copies of the weights."""
        return list(self.net.get_weights())

    def predict(self, X: Array) -> Array:
        """Return the network's outputs."""
        return np.asarray(self.net.predict(X))


class ScikitLearn(Contestant):
    """`MLPClassifier` or `MLPRegressor`, one `partial_fit` per epoch."""

    name, module = "scikit-learn", "sklearn.neural_network"
    differs = "takes batches as slices instead of gathering rows; halves the squared error"

    def prepare(self) -> None:
        """Make the estimator and let it allocate its weights by a fit of one batch."""
        work, nn = self.workload, self.library
        self.entropy = work.loss == "cross_entropy"
        self.net = (nn.MLPClassifier if self.entropy else nn.MLPRegressor)(
            hidden_layer_sizes=work.sizes[1:-1],
            activation=work.activation,
            alpha=0.0,
            batch_size=work.batch_size,
            learning_rate_init=LEARNING_RATE,
            shuffle=False,
            epsilon=EPSILON,
        )
        classes = {"classes": np.arange(work.sizes[-1])} if self.entropy else {}
        self.targets = self.y if self.entropy or work.sizes[-1] > 1 else self.y[:, 0]
        self.net.partial_fit(self.X[: work.batch_size], self.targets[: work.batch_size], **classes)
        optimizer = self.net._optimizer
        optimizer.t = 0
        for state in (*optimizer.ms, *optimizer.vs):
            state[...] = 0.0

    def train(self, epochs: int) -> float:
        """Call `partial_fit` once per epoch."""
        for _ in range(epochs):
            self.net.partial_fit(self.X, self.targets)
        return float(self.net.loss_) * (1.0 if self.entropy else 2.0)

    def set_weights(self, weights: list[Array]) -> None:
        """Copy the weights in place, because the optimizer refers to the arrays."""
        for own, weight in zip(self._arrays(), weights, strict=True):
            own[...] = weight

    def get_weights(self) -> list[Array]:
        """Return copies of the weights."""
        return [own.copy() for own in self._arrays()]

    def predict(self, X: Array) -> Array:
        """Return probabilities or values."""
        return np.asarray(self.net.predict_proba(X) if self.entropy else self.net.predict(X).reshape(len(X), -1))

    def _arrays(self) -> list[Array]:
        return [part for pair in zip(self.net.coefs_, self.net.intercepts_, strict=True) for part in pair]
