"""Methods to train many small networks at once: `fastnn.train_many`, scikit-learn in processes, stacked in PyTorch.

All train networks of one hidden layer with relu, softmax cross-entropy and Adam, in float32, for the same number of
steps on batches of shuffled rows. Making the networks is not counted: `restore` does it.
"""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from contestants import EPSILON, LEARNING_RATE

Array = NDArray[Any]


@dataclass(frozen=True)
class Task:
    """A number of networks of some widths, and their training data.

    Attributes
    ----------
    x, y : array
        Rows (n, sizes[0]) in float32, and labels (n,).
    """

    x: Array
    y: Array
    sizes: tuple[int, int, int]
    networks: int
    batch_size: int
    epochs: int

    @property
    def steps(self) -> int:
        """Steps of all networks together."""
        return self.networks * self.epochs * -(-len(self.x) // self.batch_size)

    def weights(self, seed: int) -> list[Array]:
        """Return Glorot uniform kernels and zero biases of one network."""
        rng = np.random.default_rng(seed)
        found: list[Array] = []
        for n_in, n_out in zip(self.sizes[:-1], self.sizes[1:], strict=True):
            limit = np.sqrt(6.0 / (n_in + n_out))
            found += [rng.uniform(-limit, limit, (n_in, n_out)).astype(np.float32), np.zeros(n_out, np.float32)]
        return found


class Trainer:
    """One method to train the networks of a task; raises ImportError if the library is not installed."""

    name: ClassVar[str]
    module: ClassVar[str]
    differs: ClassVar[str] = ""

    def __init__(self, task: Task, threads: int) -> None:
        self.task, self.threads = task, threads
        self.library: Any = importlib.import_module(self.module)
        self.prepare()
        self.restore()

    @classmethod
    def version(cls) -> str:
        """Version of the library."""
        return str(importlib.import_module(cls.module.split(".")[0]).__version__)

    def prepare(self) -> None:
        """Prepare once."""

    def restore(self) -> None:
        """Make untrained networks."""
        raise NotImplementedError

    def train(self) -> float:
        """Train all networks; returns the mean of their losses over the last epoch."""
        raise NotImplementedError

    def accuracy(self) -> float:
        """Return the mean share of training rows that the networks classify correctly."""
        raise NotImplementedError


class Fastnn(Trainer):
    """`fastnn.train_many`."""

    name, module = "fastnn", "fastnn"

    def restore(self) -> None:
        """Build and compile the models."""
        fnn, task = self.library, self.task
        self.models = []
        for seed in range(task.networks):
            layers = [fnn.Dense(task.sizes[1], activation="relu"), fnn.Dense(task.sizes[2], activation="softmax")]
            model = fnn.Sequential([fnn.Input((task.sizes[0],)), *layers], seed=seed)
            model.compile(fnn.Adam(LEARNING_RATE, epsilon=EPSILON), "cross_entropy")
            model.set_weights(task.weights(seed))
            self.models.append(model)

    def train(self) -> float:
        """Make one call."""
        task = self.task
        histories = self.library.train_many(
            self.models, task.x, task.y, batch_size=task.batch_size, epochs=task.epochs, n_threads=self.threads,
            verbose=0,
        )  # fmt: skip
        return float(np.mean([history.history["loss"][-1] for history in histories]))

    def accuracy(self) -> float:
        """Evaluate each model."""
        found = [model.predict(self.task.x).argmax(axis=1) == self.task.y for model in self.models]
        return float(np.mean(found))


def fit_estimator(estimator: Any, x: Array, y: Array) -> Any:
    """Fit in a joblib process, without the warning that training ended before it converged."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return estimator.fit(x, y)


class ScikitLearn(Trainer):
    """`MLPClassifier`s in joblib's processes, which stay alive between runs."""

    name, module = "scikit-learn + joblib", "sklearn.neural_network"
    differs = "biases start at random too"

    def prepare(self) -> None:
        """Start the processes."""
        self.joblib = importlib.import_module("joblib")
        small = self.estimator(0).set_params(max_iter=1)
        rows = slice(0, self.task.batch_size)
        self.run([small] * 2 * self.threads, self.task.x[rows], self.task.y[rows])

    def estimator(self, seed: int) -> Any:
        """Return an estimator that trains for all epochs, even without improvement."""
        task = self.task
        return self.library.MLPClassifier(
            task.sizes[1:-1], activation="relu", alpha=0.0, batch_size=task.batch_size,
            learning_rate_init=LEARNING_RATE, epsilon=EPSILON, max_iter=task.epochs, tol=0.0,
            n_iter_no_change=task.epochs + 1, random_state=seed,
        )  # fmt: skip

    def run(self, estimators: list[Any], x: Array, y: Array) -> list[Any]:
        """Fit estimators, one per process, on one thread each."""
        with self.joblib.parallel_config(backend="loky", inner_max_num_threads=1):
            call = self.joblib.delayed(fit_estimator)
            return list(self.joblib.Parallel(n_jobs=self.threads)(call(one, x, y) for one in estimators))

    def restore(self) -> None:
        """Make the estimators; `fit` makes their weights."""
        self.estimators = [self.estimator(seed) for seed in range(self.task.networks)]

    def train(self) -> float:
        """Fit all estimators, which are returned from the processes."""
        self.estimators = self.run(self.estimators, self.task.x, self.task.y)
        return float(np.mean([one.loss_curve_[-1] for one in self.estimators]))

    def accuracy(self) -> float:
        """Evaluate each estimator."""
        return float(np.mean([one.score(self.task.x, self.task.y) for one in self.estimators]))


class TorchFunc(Trainer):
    """PyTorch: the parameters of all networks stacked, and `vmap` over the gradient of one."""

    name, module = "PyTorch vmap", "torch"
    differs = "all networks take the same rows in a step"

    def prepare(self) -> None:
        """Make the network that is called with each one's parameters."""
        torch, (n_in, hidden, n_out) = self.library, self.task.sizes
        torch.set_num_threads(self.threads)
        self.x, self.y = torch.from_numpy(self.task.x), torch.from_numpy(self.task.y)
        self.net = torch.nn.Sequential(torch.nn.Linear(n_in, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, n_out))
        self.names = [name for name, _ in self.net.named_parameters()]

        def loss(parameters: dict[str, Any], x: Any, y: Any) -> Any:
            outputs = torch.func.functional_call(self.net, parameters, (x,))
            return torch.nn.functional.cross_entropy(outputs, y)

        self.gradient = torch.func.vmap(torch.func.grad_and_value(loss), in_dims=(0, None, None))

    def restore(self) -> None:
        """Stack initial parameters: (networks, ...); PyTorch keeps kernels transposed."""
        torch, each = self.library, [self.task.weights(seed) for seed in range(self.task.networks)]
        stacked = [np.stack([weights[place].T for weights in each]) for place in range(4)]
        self.parameters = [torch.from_numpy(np.ascontiguousarray(part)).requires_grad_() for part in stacked]
        self.optimizer = torch.optim.Adam(self.parameters, LEARNING_RATE, eps=EPSILON, fused=True)

    def batch_losses(self, x: Any, y: Any) -> Any:
        """Leave gradients in the parameters and return the sum of the networks' losses."""
        detached = {name: part.detach() for name, part in zip(self.names, self.parameters, strict=True)}
        gradients, losses = self.gradient(detached, x, y)
        for name, part in zip(self.names, self.parameters, strict=True):
            part.grad = gradients[name]
        return losses.sum()

    def train(self) -> float:
        """Take the steps of all networks together."""
        torch, size = self.library, self.task.batch_size
        for _ in range(self.task.epochs):
            total = torch.zeros(())
            for rows in torch.randperm(len(self.x)).split(size):
                x, y = self.x.index_select(0, rows), self.y.index_select(0, rows)
                total += self.batch_losses(x, y) * len(rows)
                self.optimizer.step()
        return float(total) / len(self.x) / self.task.networks

    def accuracy(self) -> float:
        """Compute the outputs of all networks."""
        with self.library.no_grad():
            right = self.outputs(self.x).argmax(dim=2) == self.y
        return float(right.float().mean())

    def outputs(self, x: Any) -> Any:
        """Return the outputs of all networks, (networks, rows, classes)."""
        torch = self.library
        kernel, bias, last, last_bias = self.parameters
        # all take the same rows, so that the first layers are one matrix product
        hidden = torch.addmm(bias.reshape(-1), x, kernel.reshape(-1, x.shape[1]).T)
        hidden = torch.relu(hidden).view(len(x), len(kernel), -1).transpose(0, 1)
        return torch.baddbmm(last_bias[:, None], hidden, last.transpose(1, 2))


class TorchBatched(TorchFunc):
    """PyTorch: the networks' products written as batched ones by hand, and autograd."""

    name = "PyTorch bmm"

    def batch_losses(self, x: Any, y: Any) -> Any:
        """Go forward and back through all networks."""
        outputs = self.outputs(x)
        labels = y.expand(len(outputs), -1).reshape(-1)
        loss = self.library.nn.functional.cross_entropy(outputs.reshape(len(labels), -1), labels, reduction="sum")
        loss = loss / len(x)
        self.optimizer.zero_grad()
        loss.backward()
        return loss.detach()
