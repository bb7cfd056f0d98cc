"""Training by L-BFGS-B, which sees all rows in each step: SciPy's minimizer on compiled losses and gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.callbacks import CallbackList, LearningRateScheduler, ReduceLROnPlateau
from fastnn.model import Sequential
from fastnn.optimizers import SGD
from fastnn.runtime import feeds
from fastnn.runtime.bindings import Bindings
from fastnn.sklearn.data import SparseRows
from fastnn.sklearn.network import Network
from fastnn.threads import limited
from fastnn.training.progress import Progress
from fastnn.training.state import state_of

Vector = NDArray[np.float64]
#: rows of a run, and bytes of their features; more would take more memory, not less time
_ROWS, _BYTES = 8192, 2**27


class Loss:
    """The mean loss over all rows, and its gradient, as a function of a vector of all weights.

    Parameters
    ----------
    network : Network
        Compiled, without penalties.
    x : ndarray or SparseRows
    y : ndarray
    sample_weight : ndarray of shape (n,), optional
    alpha : float
        The factor of the penalty, alpha / 2 * sum w**2 / s, of the kernels; s is n, or the sum of the samples' weights.
    threads : int

    Attributes
    ----------
    now : tuple of float
        The loss of the data and the penalty where the last step has ended.
    """

    now = (float("nan"), float("nan"))

    def __init__(self, network: Network, x: Any, y: Any, sample_weight: Any, alpha: float, threads: int) -> None:
        n, total, weights = len(x), float(len(x)), None
        if sample_weight is not None:
            total = float(sample_weight.sum())
            weights = np.asarray(sample_weight * (n / total), network.design.dtype)
        self._network, self._threads, self._scale = network, threads, alpha / total
        self._runtime = state_of(network.model).require_built()
        self._table = self._runtime.table
        self._data = x, y, weights
        # of sparse data, which are made dense, those of dense ones, so that sums are the same
        self._rows = max(1, min(_ROWS, _BYTES // (8 * x.shape[1])))
        self._whole = None if isinstance(x, SparseRows) else feeds.feed(self._runtime, x, y, weights, None)
        self._gradients = self._table.allocate()
        entries = (*network.entries[::2], *network.entries[1::2])
        self._views = [self._table.view(self._gradients, entry) for entry in entries]
        self._kernels = sum(one.size for one in network.coefs)

    @property
    def model(self) -> Sequential:
        """The model that is trained."""
        return self._network.model

    def start(self) -> Vector:
        """Return the current weights."""
        places = (*self._network.coefs, *self._network.intercepts)
        return np.concatenate([place.ravel() for place in places]).astype(np.float64)

    def set(self, vector: Vector) -> None:
        """Write weights into the network."""
        first = 0
        for place in (*self._network.coefs, *self._network.intercepts):
            place[...] = vector[first : first + place.size].reshape(place.shape)
            first += place.size

    def __call__(self, vector: Vector) -> tuple[float, Vector]:
        """Return the loss and its gradient."""
        loss, gradient = self._of_data(vector)
        kernels = vector[: self._kernels]
        gradient[: self._kernels] += self._scale * kernels
        return loss + self._penalty(vector), gradient

    def reach(self, vector: Vector, value: float) -> float:
        """Take the end of a step, where the loss has been evaluated; the network has its weights."""
        self.set(vector)
        penalty = self._penalty(vector)
        self.now = value - penalty, penalty
        return value

    def parts(self) -> tuple[float, float]:
        """Return the loss of the data, and the penalty, for the weights of the network."""
        vector = self.start()
        return self._of_data(vector)[0], self._penalty(vector)

    def _penalty(self, vector: Vector) -> float:
        kernels = vector[: self._kernels]
        return 0.5 * self._scale * float(kernels @ kernels)

    def _of_data(self, vector: Vector) -> tuple[float, Vector]:
        runtime, n = self._runtime, len(self._data[0])
        gradient, loss = np.zeros(len(vector)), 0.0
        with runtime.lock, limited(self._threads), np.errstate(over="ignore"):
            self.set(vector)
            for first in range(0, n, self._rows):
                rows = min(self._rows, n - first)
                feed, cursor = self._fed(first, rows)
                bound = runtime.program(feed.request("gradients", rows, training=True, trained=self._table.trained()))
                objective = runtime.compiled()[0]
                totals = objective.initial()
                work = Bindings(feed.addresses(), accumulators=totals, gradients=self._gradients)
                runtime.run(bound, work, 1, cursor=cursor)
                share = rows / n
                loss += share * objective.loss(totals, rows)
                gradient += share * np.concatenate([view.ravel() for view in self._views])
        return loss, gradient

    def _fed(self, first: int, rows: int) -> tuple[Any, int]:
        """Return data that contain some rows, and the number of the first of these there."""
        if self._whole is not None:
            return self._whole, first
        x, y, weights = self._data
        chosen = slice(first, first + rows)
        return feeds.feed(
            self._runtime, x.take(chosen), y[chosen], None if weights is None else weights[chosen], None
        ), 0


def without_penalty(network: Network) -> Network:
    """Return a network with the same weights and without penalties, compiled: its optimizer makes no steps.

    It is on the CPU, where the minimizer reads gradients and sets weights in every step.
    """
    made = Network(replace(network.design, alpha=0.0, device="cpu"))
    made.take(network.coefs, network.intercepts)
    made.compile(SGD(0.0))
    return made


class Steps:
    """What is called around the steps of a minimizer: each is an epoch of one batch, whatever evaluations it takes.

    Parameters
    ----------
    loss : Loss
    callbacks : Callback or list of Callback, optional
    end : function
        Called with the logs of a step, before the callbacks; returns whether the training ends there.
    most : int
        Of the steps.
    logged : tuple of str
        Names that `end` adds to the logs.
    bar : bool

    Raises
    ------
    TypeError, ValueError
        When something is no callback, monitors what is not logged, or sets a learning rate.
    """

    def __init__(
        self, loss: Loss, callbacks: Any, end: Callable[[dict[str, float]], bool], *, most: int,
        logged: tuple[str, ...], bar: bool,
    ) -> None:  # fmt: skip
        self._loss, self._end, self._model = loss, end, loss.model
        params = {"epochs": most, "steps": 1, "verbose": int(bar), "optimizer": "L-BFGS-B"}
        self._hooks = CallbackList(callbacks, self._model, params)
        for one in self._hooks.callbacks:
            if isinstance(one, (LearningRateScheduler, ReduceLROnPlateau)):
                raise ValueError(f"callbacks: solver='lbfgs' has no learning rate, which {type(one).__name__} sets")
        self._hooks.check_monitors(["loss", *logged])
        self._progress = Progress(int(bar))
        self._progress.begin(most, 1)
        self._done, self._begun = 0, False
        self._logs: dict[str, float] = {}

    def begin(self) -> None:
        """Call what begins a training."""
        state_of(self._model).stop_training = False
        self._hooks.on_train_begin()

    def evaluate(self, vector: Vector) -> tuple[float, Vector]:
        """Return the loss and its gradient; the first evaluation of a step begins it."""
        if not self._begun:
            self._begun = True
            self._hooks.on_epoch_begin(self._done)
            self._progress.epoch_begin(self._done)
            self._hooks.on_train_batch_begin(0)
        return self._loss(vector)

    def after(self, intermediate_result: Any) -> None:
        """Take the end of a step from SciPy; raises StopIteration, which ends its minimizer."""
        self._begun = True  # a step that begins where the last one has evaluated
        value = self._loss.reach(intermediate_result.x, float(intermediate_result.fun))
        self._logs = logs = {"loss": value}
        self._hooks.on_train_batch_end(0, logs)
        ends = self._end(logs)
        self._hooks.on_epoch_end(self._done, logs)
        self._progress.epoch_end(self._done, logs)
        self._done, self._begun = self._done + 1, False
        if ends or self._model.stop_training:
            raise StopIteration

    def finish(self) -> None:
        """Call what ends a training that was not interrupted; callbacks may set other weights."""
        self._hooks.on_train_end(self._logs)

    def close(self) -> None:
        """End the display, and close the callbacks."""
        self._progress.close()
        self._hooks.close()


def minimize(loss: Loss, steps: Steps, *, most_calls: int, most_steps: int, tolerance: float) -> Any:
    """Minimize a loss, and return SciPy's result, whose status is 99 after a step that has ended the training.

    The network has the weights of the minimum, unless a callback has set others.
    """
    from scipy import optimize  # only where it is asked for: it takes longer to import than fastnn

    options: dict[str, Any] = {"maxfun": most_calls, "maxiter": most_steps, "gtol": tolerance}
    try:
        steps.begin()
        found = optimize.minimize(
            steps.evaluate, loss.start(), method="L-BFGS-B", jac=True, options=options, callback=steps.after
        )
        loss.set(found.x)
        steps.finish()
    finally:
        steps.close()
    return found
