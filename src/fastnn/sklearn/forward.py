"""What an estimator knows of its network: how it is made of the parameters, its weights, and its outputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from fastnn.locks import importing
from fastnn.sklearn.data import SparseRows, check_range, predicted, readable

if TYPE_CHECKING:  # programs that import estimators may never train one
    from fastnn.model import Sequential
    from fastnn.sklearn.network import Design, Network

Array = NDArray[Any]

_INFINITY = np.inf
#: a product of more numbers wakes OpenBLAS's threads, which then spin on other processors for 20 ms
_FEW = 10_000


def _surely_finite(X: Array) -> bool:
    """Return True only if all numbers are finite: sums of huge ones are not, either.

    The sum of a row's squares takes a third of the time of `isfinite`.
    """
    if X.size <= _FEW:
        return bool(np.vdot(X, X) < _INFINITY)
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(np.add.reduce(X, axis=None)))


class NetworkEstimator(BaseEstimator, ABC):  # type: ignore[misc]
    """An estimator whose `coefs_` and `intercepts_` are the weights of a network."""

    # set by `fit`
    coefs_: list[Array]
    intercepts_: list[Array]

    def _design(self, units: tuple[int, ...], dtype: str, before: Design | None = None) -> Design:
        """Describe the network, whose dropout goes on with the seed of the one before."""
        with importing:
            from fastnn.sklearn.network import Design

        rates = self.dropout
        each = rates if hasattr(rates, "__iter__") else [rates] * (len(units) - 2)
        dropout = tuple(float(one) for one in each)
        if len(dropout) != len(units) - 2:
            raise ValueError(
                f"dropout: expected a rate, or one for each of {len(units) - 2} hidden layers, got {rates}"
            )
        seed = 0 if before is None else before.seed
        if any(dropout) and not (before is not None and any(before.dropout)):
            seed = int(self._random_state.randint(2**31))
        return Design(
            units, self.activation, self.out_activation_, self._loss_meant(), float(self.alpha), dropout,
            bool(self.batch_norm), dtype, self.device, seed,
        )  # fmt: skip

    @abstractmethod
    def _loss_meant(self) -> Any:
        """Return the loss of the network's outputs; raises ValueError if it is not one of such outputs."""

    def _use(self, network: Network) -> None:
        self._network = network
        self.coefs_, self.intercepts_ = list(network.coefs), list(network.intercepts)

    def _network_of_weights(self) -> Network:
        """Return the network, which has the weights of `coefs_` and `intercepts_` whoever has set them."""
        network: Network | None = self.__dict__.get("_network")
        if network is not None and network.holds(self.coefs_, self.intercepts_):
            return network
        if network is None:
            units = (len(self.coefs_[0]), *(one.shape[1] for one in self.coefs_))
            self._random_state = check_random_state(self.random_state)
            single = self.coefs_[0].dtype == np.float32
            network = self._design(units, "float32" if single else "float64").network()
        network.take(self.coefs_, self.intercepts_)
        self._use(network)
        return network

    def _forward(self, X: Any) -> Array:
        """Return the outputs of the network for data from a user.

        An array of the network's dtype goes straight to it: scikit-learn's checks take longer than a row's prediction.
        """
        network = self.__dict__.get("_network")
        if (
            type(X) is np.ndarray
            and network is not None
            and X.ndim == 2
            and X.dtype == network.dtype
            and X.shape[1] == self.n_features_in_
            and len(X)
            and "feature_names_in_" not in self.__dict__
            and network.holds(self.coefs_, self.intercepts_)
            and _surely_finite(X)
        ):
            quick: Array = network.model.predict(X)
            return quick
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)
        return self._outputs(X)

    def _outputs(self, X: Any) -> Array:
        """Return the outputs of the network for checked data, dense or sparse; those of a training have read them."""
        network = self._network_of_weights()
        if isinstance(X, SparseRows):
            return predicted(network.model, X)
        check_range(X, network.dtype)
        X = readable(X)
        if isinstance(X, SparseRows) and X.is_sparse:
            return network.outputs_of_sparse(X)
        return predicted(network.model, X)

    def to_model(self) -> Sequential:
        """Return a copy of the network as a `fastnn.Sequential`: to freeze for compiled code, to save, to go on with.

        Returns
        -------
        Sequential
            With the estimator's weights, not compiled, without penalties.
        """
        check_is_fitted(self)
        return self._network_of_weights().plain_model()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
