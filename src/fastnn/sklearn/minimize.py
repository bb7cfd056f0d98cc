"""Training by L-BFGS-B, which sees all rows in each step: SciPy's minimizer on compiled losses and gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.runtime import feeds
from fastnn.runtime.bindings import Bindings
from fastnn.sklearn.network import Network
from fastnn.threads import limited
from fastnn.training.state import state_of

Vector = NDArray[np.float64]
#: rows of a run; more would take more memory, not less time
_ROWS = 8192


class Loss:
    """The mean loss over all rows, and its gradient, as a function of a vector of all weights.

    Parameters
    ----------
    network : Network
        Compiled, without penalties.
    x, y : ndarray
    sample_weight : ndarray of shape (n,), optional
    alpha : float
        The factor of the penalty, alpha / 2 * sum w**2 / s, of the kernels; s is n, or the sum of the samples' weights.
    threads : int
    """

    def __init__(self, network: Network, x: Any, y: Any, sample_weight: Any, alpha: float, threads: int) -> None:
        n, total, weights = len(x), float(len(x)), None
        if sample_weight is not None:
            total = float(sample_weight.sum())
            weights = np.asarray(sample_weight * (n / total), network.design.dtype)
        self._network, self._threads, self._scale = network, threads, alpha / total
        self._runtime = state_of(network.model).require_built()
        self._table = self._runtime.table
        self._feed = feeds.feed(self._runtime, x, y, weights, None)
        self._gradients = self._table.allocate()
        entries = (*network.entries[::2], *network.entries[1::2])
        self._views = [self._table.view(self._gradients, entry) for entry in entries]
        self._kernels = sum(one.size for one in network.coefs)

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

    def parts(self, vector: Vector) -> tuple[float, float]:
        """Return the loss of the data, and the penalty."""
        return self._of_data(vector)[0], self._penalty(vector)

    def _penalty(self, vector: Vector) -> float:
        kernels = vector[: self._kernels]
        return 0.5 * self._scale * float(kernels @ kernels)

    def _of_data(self, vector: Vector) -> tuple[float, Vector]:
        runtime, feed, n = self._runtime, self._feed, self._feed.n
        gradient, loss = np.zeros(len(vector)), 0.0
        with runtime.lock, limited(self._threads), np.errstate(over="ignore"):
            self.set(vector)
            for first in range(0, n, _ROWS):
                rows = min(_ROWS, n - first)
                bound = runtime.program(feed.request("gradients", rows, training=True, trained=self._table.trained()))
                objective = runtime.compiled()[0]
                totals = objective.initial()
                work = Bindings(feed.addresses(), accumulators=totals, gradients=self._gradients)
                runtime.run(bound, work, 1, cursor=first)
                share = rows / n
                loss += share * objective.loss(totals, rows)
                gradient += share * np.concatenate([view.ravel() for view in self._views])
        return loss, gradient


def minimize(loss: Loss, *, most_calls: int, most_steps: int, tolerance: float, verbose: bool) -> Any:
    """Minimize a loss, and return SciPy's result; the network has the weights of the minimum."""
    from scipy import optimize  # only where it is asked for: it takes longer to import than fastnn

    options: dict[str, Any] = {"maxfun": most_calls, "maxiter": most_steps, "gtol": tolerance}
    found = optimize.minimize(loss, loss.start(), method="L-BFGS-B", jac=True, options=options)
    if verbose:
        print(f"L-BFGS: {found.nit} steps, {found.nfev} evaluations, loss = {found.fun:.8f}: {found.message}")
    loss.set(found.x)
    return found
