"""What scikit-learn's two multi-layer perceptrons share: training and stopping."""

from __future__ import annotations

import copy
import operator
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
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
from fastnn.sklearn.data import check_range, dense
from fastnn.sklearn.forward import NetworkEstimator
from fastnn.sklearn.parameters import CONSTRAINTS
from fastnn.sklearn.passes import EpochOrders
from fastnn.sklearn.sharing import threads_of

if TYPE_CHECKING:  # programs that import estimators may never train one
    from fastnn.optimizers import Optimizer
    from fastnn.sklearn.network import Network

Array = NDArray[Any]

#: an adaptive learning rate is divided by this until it is as small as that
_RATE_DIVISOR, _SMALLEST_RATE = 5.0, 1e-6


class BaseMLP(NetworkEstimator, ABC):
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
        check_range(X, network.dtype)
        if self._stochastic:
            self._fit_stochastic(network, X, y, sample_weight, incremental, validation)
        else:
            self._fit_lbfgs(network, X, y, sample_weight)
        # fastnn's optimizers keep weights finite where scikit-learn's would overflow: then the loss is not
        diverged = not self.early_stopping and not np.isfinite(self.loss_)
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
        if self._stochastic:
            self.loss_curve_: list[float] = []
            self._begin_to_compare()

    def _begin_to_compare(self) -> None:
        """Forget the best score and the best loss."""
        self.validation_loss_curve_: list[float] | None = None
        self._no_improvement_count = 0
        if self.early_stopping:
            self.validation_scores_: list[float] | None = []
            self.best_validation_score_: float | None = -np.inf
            self.best_loss_: float | None = None
        else:
            self.best_loss_ = np.inf
            self.validation_scores_ = self.best_validation_score_ = None

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

    @property
    def _stochastic(self) -> bool:
        return self.optimizer is not None or self.solver != "lbfgs"

    @property
    def _schedule(self) -> str:
        """How the learning rate changes: SGD's only."""
        return str(self.learning_rate) if self.optimizer is None and self.solver == "sgd" else "constant"

    def _fit_lbfgs(self, network: Network, X: Any, y: Array, sample_weight: Any) -> None:
        if network.design.batch_norm or any(network.design.dropout):
            raise ValueError("solver='lbfgs': expected no dropout and no batch_norm, since each step uses all rows")
        with importing:
            from fastnn.sklearn import minimize

        trained = minimize.without_penalty(network)
        loss = minimize.Loss(trained, dense(X), y, sample_weight, float(self.alpha), threads_of(self.n_threads))
        found = minimize.minimize(
            loss, most_calls=self.max_fun, most_steps=self.max_iter, tolerance=self.tol, verbose=bool(self.verbose)
        )
        network.take(trained.coefs, trained.intercepts)
        self._use(network)
        self.n_iter_ = _check_optimize_result("lbfgs", found, self.max_iter)
        self.loss_ = self._loss_of(*loss.parts(found.x), y, None)

    def _fit_stochastic(
        self, network: Network, X: Any, y: Array, sample_weight: Any, incremental: bool, validation: Any
    ) -> None:
        if not incremental or not network.compiled:
            network.compile(self._new_optimizer())
        self.loss_curve_ = self.__dict__.get("loss_curve_", [])  # lbfgs has none
        if "best_loss_" not in self.__dict__ or (self.best_loss_ is None) != bool(self.early_stopping):
            self._begin_to_compare()
        held_weight = None
        if self.early_stopping and validation is None:
            X, y, sample_weight, validation, held_weight = self._split(X, y, sample_weight)
        elif validation is not None:
            self.validation_scores_ = [] if self.validation_scores_ is None else self.validation_scores_
            self.validation_loss_curve_ = self.validation_loss_curve_ or []
        rows = X.shape[0]
        batch = self._batch_of(rows)
        random = self._random_state if self.shuffle else None
        logged = () if validation is None else ("val_score",)
        dtype, scales = network.design.dtype, not network.on_device
        watched = validation is not None or self.callbacks or self._schedule != "constant" or self.verbose == "bar"
        orders = EpochOrders(
            rows, batch, network.design.alpha, random, sample_weight, dtype, scales=scales, logged=logged,
            certain=None if watched else self._certain_epochs,
        )  # fmt: skip

        def loss() -> float:
            return self._loss_of(*network.losses(rows), y, orders.weights)

        def score() -> float:
            x, target = dense(validation[0]), validation[1]
            if self.validation_loss_curve_ is not None:
                self.validation_loss_curve_.append(self._loss_of(network.loss_on(x, target), 0.0, target, None))
            return self._score(x, target, held_weight)

        end = EpochEnd(self, network, rows, loss, None if validation is None else score)
        self.n_iter_ = 0
        try:
            network.train(
                dense(X), y, orders, epochs=1 if incremental else int(self.max_iter), batch=batch,
                epoch_end=end, callbacks=self.callbacks, bar=self.verbose == "bar", threads=threads_of(self.n_threads),
            )  # fmt: skip
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=5)
        if not incremental and not end.converged and self.n_iter_ == self.max_iter:
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the optimization hasn't "
                "converged yet.",
                ConvergenceWarning,
                stacklevel=5,
            )
        if self.early_stopping and end.best is not None:
            network.model.set_weights(end.best)
        self._use(network)

    def _certain_epochs(self) -> float:
        """Return the number of epochs after which losses can end the training: each adds at most one to the count."""
        return float(self.n_iter_no_change - self._no_improvement_count + 1)

    def _say(self, text: str) -> None:
        if self.verbose and self.verbose != "bar":
            print(text)

    def _improves(self, score: float | None) -> bool:
        """Count the epochs without an improvement; returns whether a score that decides is the best."""
        best = False
        if self.early_stopping and score is not None:
            assert self.best_validation_score_ is not None
            better = not score < self.best_validation_score_ + self.tol
            best = score > self.best_validation_score_
            if best:
                self.best_validation_score_ = score
        else:
            assert self.best_loss_ is not None
            better = not self.loss_ > self.best_loss_ - self.tol
            self.best_loss_ = min(self.best_loss_, self.loss_)
        self._no_improvement_count = 0 if better else self._no_improvement_count + 1
        return best

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


class EpochEnd:
    """What an estimator does at the end of an epoch; called with its logs, it returns whether the training ends.

    Parameters
    ----------
    estimator : BaseMLP
        Its attributes are set.
    network : Network
    rows : int
        Of an epoch.
    loss, score : function
        Return the loss of the epoch, and the score of the validation set, if there is one.

    Attributes
    ----------
    best : list of ndarray or None
        The weights of the best score, where it decides.
    converged : bool
        Whether the training was ended.
    """

    def __init__(
        self, estimator: BaseMLP, network: Network, rows: int, loss: Callable[[], float],
        score: Callable[[], float] | None,
    ) -> None:  # fmt: skip
        self._estimator, self._network, self._rows, self._loss, self._score = estimator, network, rows, loss, score
        self.best: list[Array] | None = None
        self.converged = False

    def __call__(self, logs: dict[str, float] | None) -> bool:
        """Record an epoch, and return True after too many without an improvement."""
        one, optimizer = self._estimator, self._network.optimizer
        one.n_iter_ += 1
        one.loss_ = self._loss()
        one.t_ += self._rows
        one.loss_curve_.append(one.loss_)
        one._say(f"Iteration {one.n_iter_}, loss = {one.loss_:.8f}")
        score = None
        if self._score is not None and one.validation_scores_ is not None:
            score = self._score()
            one.validation_scores_.append(score)
            one._say(f"Validation score: {score:f}")
            if logs is not None:
                logs["val_score"] = score
        if one._improves(score):
            self.best = self._network.all_weights()
        if one._schedule == "invscaling":
            optimizer.learning_rate = one.learning_rate_init / (one.t_ + 1) ** one.power_t
        if one._no_improvement_count > one.n_iter_no_change:
            self.converged = self._stops(one, optimizer)
        return self.converged

    def _stops(self, one: BaseMLP, optimizer: Optimizer) -> bool:
        """Return True to end the training, or False to go on with a smaller learning rate."""
        what = "Validation score" if one.early_stopping else "Training loss"
        text = f"{what} did not improve more than tol={one.tol:f} for {one.n_iter_no_change} consecutive epochs."
        rate = optimizer.learning_rate
        if one._schedule == "adaptive" and isinstance(rate, float) and rate > _SMALLEST_RATE:
            optimizer.learning_rate = rate / _RATE_DIVISOR
            one._no_improvement_count = 0
            one._say(f"{text} Setting learning rate to {optimizer.learning_rate:f}")
            return False
        one._say(f"{text}{' Learning rate too small.' if one._schedule == 'adaptive' else ''} Stopping.")
        return True


def is_stochastic(estimator: BaseMLP) -> bool:
    """Return True for an estimator that trains in steps; raises AttributeError for others."""
    if not estimator._stochastic:
        raise AttributeError(
            f"partial_fit is only available for stochastic optimizers. {estimator.solver} is not stochastic."
        )
    return True
