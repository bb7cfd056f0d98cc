"""What scikit-learn's two multi-layer perceptrons share: training and stopping."""

from __future__ import annotations

import copy
import operator
import warnings
from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import _fit_context, is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.optimize import _check_optimize_result
from sklearn.utils.validation import _check_sample_weight

from fastnn.locks import importing
from fastnn.sklearn.data import check_range, readable
from fastnn.sklearn.parameters import CONSTRAINTS
from fastnn.sklearn.passes import EpochOrders
from fastnn.sklearn.recording import RecordingEstimator, Training, trains_in_steps
from fastnn.sklearn.sharing import threads_of

if TYPE_CHECKING:  # programs that import estimators may never train one
    from fastnn.optimizers import Optimizer
    from fastnn.sklearn.network import Network

Array = NDArray[Any]

#: SciPy's status of a minimization that its callback has ended
_STOPPED = 99


class BaseMLP(RecordingEstimator):
    """Base class of `MLPClassifier` and `MLPRegressor`."""

    _parameter_constraints: ClassVar[dict[str, Any]] = CONSTRAINTS

    # --- what the two differ in ---------------------------------------------------------------------------

    @abstractmethod
    def _validate_input(
        self, X: Any, y: Any, incremental: bool, reset: bool, held: bool = False
    ) -> tuple[Any, Array]:  # fmt: skip
        """Check data and targets, `held` for validation; returns the targets as fastnn takes them."""

    @abstractmethod
    def _outputs_of(self, y: Array) -> tuple[int, str]:
        """Return the number of outputs and their activation."""

    @abstractmethod
    def _score(self, X: Any, y: Array, sample_weight: Any) -> float:
        """Return the score of a validation set, whose targets are as `_validate_input` returns them."""

    # --- fit ----------------------------------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, X_val: Any = None, y_val: Any = None) -> Any:
        """Train the network.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Classes of any type, indicators of several labels, or numbers.
        sample_weight : array-like of shape (n_samples,), optional
            Each batch's loss is the weighted mean over its samples.
        X_val, y_val : array-like, optional
            Other data, whose loss and score after each epoch are in `validation_loss_curve_` and `validation_scores_`.
            With `early_stopping` the score decides, in the place of that of a share of X.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            When data or parameters are invalid, or weights are not finite at the end.
        """
        return self._fit(X, y, sample_weight, False, X_val, y_val)

    def _fit(
        self, X: Any, y: Any, sample_weight: Any, incremental: bool, X_val: Any = None, y_val: Any = None
    ) -> Any:  # fmt: skip
        hidden = self._hidden_units()
        first = not hasattr(self, "coefs_") or (not self.warm_start and not incremental)
        X, y = self._validate_input(X, y, incremental, first)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X)
        sample_weight = self._weighted(sample_weight, y)
        if sample_weight is not None and not np.any(sample_weight):
            raise ValueError("Sample weights must contain at least one non-zero number.")
        validation = self._validation(X_val, y_val, y)
        # lbfgs sees all rows: it holds none out
        self._by_score = bool(self.early_stopping) and (self._stochastic or validation is not None)
        if self.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        self.n_outputs_, activation = self._outputs_of(y)
        self._random_state = check_random_state(self.random_state)
        units = (X.shape[1], *hidden, self.n_outputs_)
        self.out_activation_ = activation
        if first:
            self._initialize(units, str(X.dtype) if self.dtype == "auto" else str(self.dtype))
            self.n_layers_ = len(units)
        network = self._network_of_weights()
        if not first:
            network = self._going_on(network, tuple(hidden))
        for x in (X,) if validation is None else (X, validation[0]):
            check_range(x, network.dtype)
        if self._stochastic:
            self._fit_stochastic(network, X, y, sample_weight, incremental, validation)
        else:
            self._fit_lbfgs(network, X, y, sample_weight, validation)
        # fastnn's optimizers keep weights finite where scikit-learn's would overflow: then the loss is not
        diverged = not self._by_score and not np.isfinite(self.loss_)
        if diverged or not all(np.isfinite(one).all() for one in network.all_weights()):
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain large values and need to be "
                "preprocessed."
            )
        return self

    def _hidden_units(self) -> list[int]:
        sizes = self.hidden_layer_sizes
        found = [operator.index(one) for one in (sizes if hasattr(sizes, "__iter__") else [sizes])]
        if any(one <= 0 for one in found):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {found}.")
        return found

    def _weighted(self, sample_weight: Any, y: Array) -> Any:
        """Return the weights of samples, those of their classes included."""
        return sample_weight

    def _validation(self, X_val: Any, y_val: Any, y: Array) -> Any:
        """Check validation data, whose targets have to be like those of the training."""
        if X_val is None and y_val is None:
            return None
        if X_val is None or y_val is None:
            raise ValueError("X_val and y_val: expected both or none")
        found = self._validate_input(X_val, y_val, True, False, held=True)
        if found[1].shape[1:] != y.shape[1:]:
            raise ValueError(f"y_val: expected rows of shape {y.shape[1:]}, as y has, got {found[1].shape[1:]}")
        return found

    def _initialize(self, units: tuple[int, ...], dtype: str) -> None:
        """Make the network and its initial weights, by scikit-learn's distribution and random numbers.

        They are those of Glorot and Bengio (2010), also for biases, with a third of the variance for the logistic
        activation.
        """
        self.n_iter_ = self.t_ = 0
        network = self._design(units, dtype).network()
        factor = 2.0 if self.activation == "logistic" else 6.0
        for kernel, bias in zip(network.coefs, network.intercepts, strict=True):
            bound = np.sqrt(factor / sum(kernel.shape))
            kernel[...] = self._random_state.uniform(-bound, bound, kernel.shape)
            bias[...] = self._random_state.uniform(-bound, bound, bias.shape)
        self._use(network)
        self.loss_curve_ = []
        self._begin_to_compare()

    def _going_on(self, network: Network, hidden: tuple[int, ...]) -> Network:
        """Return the network of a training that goes on: with other parameters, if they have been set since."""
        before = network.design
        if hidden != before.units[1:-1]:
            raise ValueError(
                f"hidden_layer_sizes: expected {before.units[1:-1]}, those of the weights that the training goes on "
                f"with, got {hidden}; `fit` with warm_start=False begins anew"
            )
        design = self._design(before.units, before.dtype if self.dtype == "auto" else str(self.dtype), before)
        if design == before:
            return network
        if design.batch_norm != before.batch_norm:
            raise ValueError(
                f"batch_norm: expected {before.batch_norm}, as the training that goes on began, got "
                f"{design.batch_norm}; `fit` with warm_start=False begins anew"
            )
        made = network.remade(design)
        self._use(made)
        return made

    def _fit_lbfgs(self, network: Network, X: Any, y: Array, sample_weight: Any, validation: Any) -> None:
        if network.design.batch_norm or any(network.design.dropout):
            raise ValueError("solver='lbfgs': expected no dropout and no batch_norm, since each step uses all rows")
        with importing:
            from fastnn.sklearn import minimize

        trained = minimize.without_penalty(network)
        loss = minimize.Loss(trained, readable(X), y, sample_weight, float(self.alpha), threads_of(self.n_threads))
        self._begin_to_record(validation)
        score = self._scoring(trained, validation, None)
        training = Training(trained, 0, lambda: self._loss_of(*loss.now, y, None), score)
        steps = minimize.Steps(
            loss, self.callbacks, partial(self._end_epoch, training), most=self.max_iter, logged=_logged(validation),
            bar=self.verbose == "bar",
        )  # fmt: skip
        if validation is not None:
            self._use(trained)  # the score is that of its weights
        found = minimize.minimize(
            loss, steps, most_calls=self.max_fun, most_steps=self.max_iter, tolerance=self.tol
        )  # fmt: skip
        self._say(f"L-BFGS: {found.nit} steps, {found.nfev} evaluations, loss = {found.fun:.8f}: {found.message}")
        if self._by_score and training.best is not None:
            trained.model.set_weights(training.best)
        network.take(trained.coefs, trained.intercepts)
        self._use(network)
        # not where a callback or the score has ended it
        self.n_iter_ = found.nit if found.status == _STOPPED else _check_optimize_result("lbfgs", found, self.max_iter)
        self.loss_ = self._loss_of(*loss.parts(), y, None)

    def _fit_stochastic(
        self, network: Network, X: Any, y: Array, sample_weight: Any, incremental: bool, validation: Any
    ) -> None:
        if not incremental or not network.compiled:
            network.compile(self._new_optimizer())
        held_weight = None
        if self._by_score and validation is None:
            X, y, sample_weight, validation, held_weight = self._split(X, y, sample_weight)
            self._begin_to_record(None)
        else:
            self._begin_to_record(validation)
        rows = X.shape[0]
        batch = self._batch_of(rows)
        random = self._random_state if self.shuffle else None
        dtype, scales = network.design.dtype, not network.on_device
        watched = validation is not None or self.callbacks or self._schedule != "constant" or self.verbose == "bar"
        orders = EpochOrders(
            rows, batch, network.design.alpha, random, sample_weight, dtype, scales=scales, logged=_logged(validation),
            certain=None if watched else self._certain_epochs,
        )  # fmt: skip

        def loss() -> float:
            return self._loss_of(*network.losses(rows), y, orders.weights)

        training = Training(network, rows, loss, self._scoring(network, validation, held_weight))
        try:
            network.train(
                readable(X), y, orders, epochs=1 if incremental else int(self.max_iter), batch=batch,
                epoch_end=partial(self._end_epoch, training), callbacks=self.callbacks, bar=self.verbose == "bar",
                threads=threads_of(self.n_threads),
            )  # fmt: skip
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=5)
        if not incremental and not training.converged and self.n_iter_ == self.max_iter:
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the optimization hasn't "
                "converged yet.",
                ConvergenceWarning,
                stacklevel=5,
            )
        if self._by_score and training.best is not None:
            network.model.set_weights(training.best)
        self._use(network)

    def _scoring(self, network: Network, validation: Any, weights: Any) -> Callable[[], float] | None:
        """Return the function that scores validation data, and records their loss if it is asked for."""
        if validation is None:
            return None

        x, target = readable(validation[0]), validation[1]

        def score() -> float:
            if self.validation_loss_curve_ is not None:
                self.validation_loss_curve_.append(self._loss_of(network.loss_on(x, target), 0.0, target, None))
            return self._score(x, target, weights)

        return score

    @abstractmethod
    def _loss_of(self, data: float, penalty: float, y: Array, weights: Any) -> float:
        """Return the loss as scikit-learn reports it, of the mean loss of the data and the mean penalty."""

    def _new_optimizer(self) -> Optimizer:
        """Make the optimizer of the parameters."""
        from fastnn import optimizers  # which the network has imported

        if self.optimizer is not None:
            return copy.deepcopy(optimizers.get(self.optimizer))
        if self.solver == "sgd":
            return optimizers.SGD(float(self.learning_rate_init), self.momentum, nesterov=bool(self.nesterovs_momentum))
        return optimizers.Adam(float(self.learning_rate_init), self.beta_1, self.beta_2, self.epsilon)

    @property
    def _optimizer(self) -> Optimizer:
        """The optimizer, whose `learning_rate` is the current one."""
        network = self.__dict__.get("_network")
        if network is None or not network.compiled:
            raise AttributeError("there is no optimizer before fit")
        found: Optimizer = network.optimizer
        return found

    def _batch_of(self, rows: int) -> int:
        if self.batch_size == "auto":
            return min(200, rows)
        if self.batch_size > rows:
            warnings.warn(
                "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped", stacklevel=6
            )
        return int(min(self.batch_size, rows))

    def _split(self, X: Any, y: Array, sample_weight: Any) -> tuple[Any, Array, Any, tuple[Any, Array], Any]:
        """Hold a share of the rows out, drawn as scikit-learn draws it: by classes only if there are two."""
        stratify = y > 0.5 if is_classifier(self) and self.n_outputs_ == 1 else None
        given = [X, y] if sample_weight is None else [X, y, sample_weight]
        parts = train_test_split(
            *given, random_state=self._random_state, test_size=self.validation_fraction, stratify=stratify
        )
        if parts[1].shape[0] < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
            )
        weights = (None, None) if sample_weight is None else parts[4:]
        return parts[0], parts[2], weights[0], (parts[1], parts[3]), weights[1]


def _logged(validation: Any) -> tuple[str, ...]:
    """Return the names that an estimator adds to the logs of callbacks."""
    return () if validation is None else ("val_score",)


def is_stochastic(estimator: BaseMLP) -> bool:
    """Return True for an estimator that trains in steps; raises AttributeError for others."""
    if not trains_in_steps(estimator):
        raise AttributeError(
            f"partial_fit is only available for stochastic optimizers. {estimator.solver} is not stochastic."
        )
    return True
