"""Multi-layer perceptrons with the parameters, attributes and behaviour of scikit-learn's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.base import ClassifierMixin, RegressorMixin, _fit_context
from sklearn.metrics import r2_score
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target, unique_labels
from sklearn.utils.validation import validate_data

from fastnn.sklearn import loss as meaning
from fastnn.sklearn.documented import CLASSIFIER, REGRESSOR
from fastnn.sklearn.parameters import CONSTRAINTS
from fastnn.sklearn.perceptron import BaseMLP, is_stochastic

if TYPE_CHECKING:
    from fastnn.losses import Loss

__all__ = ["MLPClassifier", "MLPRegressor"]

Array = NDArray[Any]


class MLPClassifier(ClassifierMixin, BaseMLP):  # type: ignore[misc]
    """A multi-layer perceptron for classes, in the place of `sklearn.neural_network.MLPClassifier`."""

    __doc__ += f"\n{CLASSIFIER}"

    def __init__(
        self, hidden_layer_sizes: Any = (100,), activation: Any = "relu", *, solver: str = "adam",
        alpha: float = 0.0001, batch_size: Any = "auto", learning_rate: str = "constant",
        learning_rate_init: float = 0.001, power_t: float = 0.5, max_iter: int = 200, shuffle: bool = True,
        random_state: Any = None, tol: float = 1e-4, verbose: Any = False, warm_start: bool = False,
        momentum: float = 0.9, nesterovs_momentum: bool = True, early_stopping: bool = False,
        validation_fraction: float = 0.1, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-8,
        n_iter_no_change: Any = 10, max_fun: int = 15000, loss: Any = "log_loss", class_weight: Any = None,
        optimizer: Any = None, dropout: Any = 0.0, batch_norm: bool = False, callbacks: Any = None,
        dtype: str = "auto", device: str = "cpu", n_threads: int | None = None,
    ) -> None:  # fmt: skip
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.loss = loss
        self.class_weight = class_weight
        self.optimizer = optimizer
        self.dropout = dropout
        self.batch_norm = batch_norm
        self.callbacks = callbacks
        self.dtype = dtype
        self.device = device
        self.n_threads = n_threads

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **CONSTRAINTS,
        "class_weight": [dict, list, StrOptions({"balanced"}), None],
    }

    def _validate_input(
        self, X: Any, y: Any, incremental: bool, reset: bool, held: bool = False
    ) -> tuple[Any, Array]:  # fmt: skip
        X, y = validate_data(
            self, X, y, accept_sparse=["csr", "csc"], multi_output=True, dtype=(np.float64, np.float32), reset=reset
        )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if not hasattr(self, "classes_") or (not self.warm_start and not incremental):
            self._label_binarizer = LabelBinarizer().fit(y)
            self.classes_ = self._label_binarizer.classes_
        else:
            self._check_classes(unique_labels(y), all_of_them=self.warm_start and not held)
        return X, self._encoded(y)

    def _check_classes(self, classes: Array, *, all_of_them: bool) -> None:
        if all_of_them:
            if set(classes) != set(self.classes_):
                raise ValueError(
                    "warm_start can only be used where `y` has the same classes as in the previous call to fit. "
                    f"Previously got {self.classes_}, `y` has {classes}"
                )
        elif len(np.setdiff1d(classes, self.classes_, assume_unique=True)):
            raise ValueError(
                f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. 'y' has {classes}."
            )

    def _encoded(self, y: Array) -> Array:
        """Return numbers of classes, or columns of zeros and ones if the loss takes no numbers."""
        if self._label_binarizer.y_type_ == "multiclass" and self._loss_takes_classes():
            return np.searchsorted(self.classes_, y)
        return np.asarray(self._label_binarizer.transform(y), np.float32)

    def _loss_takes_classes(self) -> bool:
        """Return whether the loss takes numbers of classes for an output with a column for each."""
        loss: str | Loss = self._loss_meant()
        if isinstance(loss, str):
            return loss == "log_loss"
        try:
            return loss.check_targets(np.zeros(1, np.int64), (len(self.classes_),), "y") == "classes"
        except ValueError:
            return False

    def _loss_meant(self) -> Any:
        kind = self._label_binarizer.y_type_
        columns = len(self.classes_) if kind == "multiclass" or kind.startswith("multilabel") else 1
        return meaning.of_classes(self.loss, columns=columns, several=kind.startswith("multilabel"))

    def _decoded(self, values: Array) -> Array:
        """Return classes, or indicators of several labels, for outputs of the network or encoded targets."""
        kind, classes = self._label_binarizer.y_type_, self.classes_
        if values.ndim == 1:
            found: Array = classes[values]
        elif kind == "multiclass":
            found = classes[values.argmax(axis=1)]
        elif kind.startswith("multilabel"):
            found = (values > 0.5).astype(int)
        elif len(classes) == 1:
            found = np.repeat(classes, len(values))
        else:
            found = classes[(values[:, 0] > 0.5).view(np.int8)]
        return found

    def _outputs_of(self, y: Array) -> tuple[int, str]:
        if self._label_binarizer.y_type_ == "multiclass":
            return len(self.classes_), "softmax"
        return y.shape[1], "logistic"

    def _weighted(self, sample_weight: Any, y: Array) -> Any:
        if self.class_weight is None:
            return sample_weight
        by_class = compute_sample_weight(self.class_weight, self._decoded(y))
        return by_class if sample_weight is None else by_class * sample_weight

    def _loss_of(self, data: float, penalty: float, y: Array, weights: Any) -> float:
        return data + penalty

    def _score(self, X: Any, y: Array, sample_weight: Any) -> float:
        right = self._decoded(self._outputs(X)) == self._decoded(y)
        return float(np.average(right if right.ndim == 1 else right.all(axis=1), weights=sample_weight))

    @available_if(is_stochastic)  # type: ignore[untyped-decorator]
    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> MLPClassifier:
        """Train for one epoch, and keep the optimizer's state.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
        sample_weight : array-like of shape (n_samples,), optional
        classes : array-like of shape (n_classes,), optional
            All classes of all calls; the first call needs them.

        Returns
        -------
        self
        """
        if self.class_weight == "balanced":
            raise ValueError("class_weight='balanced' is not supported for partial_fit: give a dict of weights")
        if _check_partial_fit_first_call(self, classes):
            several = type_of_target(y).startswith("multilabel")
            self._label_binarizer = LabelBinarizer().fit(y if several else classes)
        return self._fit(X, y, sample_weight, True)  # type: ignore[no-any-return]

    def predict(self, X: Any) -> Any:
        """Predict classes.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,), or (n_samples, n_labels); a sparse matrix if the labels of `fit` were one
        """
        found = self._decoded(self._forward(X))
        return csr_matrix(found) if self._label_binarizer.sparse_input_ else found

    def predict_proba(self, X: Any) -> Array:
        """Predict the probabilities of classes, in the order of `classes_`.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        outputs = self._forward(X)
        return outputs if outputs.shape[1] > 1 else np.hstack([1.0 - outputs, outputs])

    def predict_log_proba(self, X: Any) -> Array:
        """Return the logarithms of `predict_proba`."""
        with np.errstate(divide="ignore"):
            found: Array = np.log(self.predict_proba(X))
        return found

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class MLPRegressor(RegressorMixin, BaseMLP):  # type: ignore[misc]
    """A multi-layer perceptron for numbers, in the place of `sklearn.neural_network.MLPRegressor`."""

    __doc__ += f"\n{REGRESSOR}"

    def __init__(
        self, loss: Any = "squared_error", hidden_layer_sizes: Any = (100,), activation: Any = "relu", *,
        solver: str = "adam", alpha: float = 0.0001, batch_size: Any = "auto", learning_rate: str = "constant",
        learning_rate_init: float = 0.001, power_t: float = 0.5, max_iter: int = 200, shuffle: bool = True,
        random_state: Any = None, tol: float = 1e-4, verbose: Any = False, warm_start: bool = False,
        momentum: float = 0.9, nesterovs_momentum: bool = True, early_stopping: bool = False,
        validation_fraction: float = 0.1, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-8,
        n_iter_no_change: Any = 10, max_fun: int = 15000, optimizer: Any = None, dropout: Any = 0.0,
        batch_norm: bool = False, callbacks: Any = None, dtype: str = "auto", device: str = "cpu",
        n_threads: int | None = None,
    ) -> None:  # fmt: skip
        self.loss = loss
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.optimizer = optimizer
        self.dropout = dropout
        self.batch_norm = batch_norm
        self.callbacks = callbacks
        self.dtype = dtype
        self.device = device
        self.n_threads = n_threads

    def _validate_input(
        self, X: Any, y: Any, incremental: bool, reset: bool, held: bool = False
    ) -> tuple[Any, Array]:  # fmt: skip
        X, y = validate_data(
            self, X, y, accept_sparse=["csr", "csc"], multi_output=True, y_numeric=True,
            dtype=(np.float64, np.float32), reset=reset,
        )  # fmt: skip
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return X, y if y.ndim == 2 else y[:, None]

    def _outputs_of(self, y: Array) -> tuple[int, str]:
        return y.shape[1], meaning.of_numbers(self.loss, columns=y.shape[1])[1]

    def _loss_meant(self) -> Any:
        return meaning.of_numbers(self.loss, columns=self.n_outputs_)[0]

    def _loss_of(self, data: float, penalty: float, y: Array, weights: Any) -> float:
        if self.loss == "squared_error":
            return data / int(y.shape[1]) + penalty
        if self.loss == "poisson":
            # the deviance is 0 for a prediction that is right
            with np.errstate(divide="ignore", invalid="ignore"):
                least = np.where(y > 0, y * np.log(y), 0.0) - y
            constant: float = np.average(least.sum(axis=1), weights=weights)
            return data + constant + penalty
        return data + penalty

    def _score(self, X: Any, y: Array, sample_weight: Any) -> float:
        found = self._outputs(X)
        if not np.isfinite(found).all():
            return float("nan")
        score: float = r2_score(y, found, sample_weight=sample_weight)
        return score

    @available_if(is_stochastic)  # type: ignore[untyped-decorator]
    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPRegressor:
        """Train for one epoch, and keep the optimizer's state.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), optional

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight, True)  # type: ignore[no-any-return]

    def predict(self, X: Any) -> Array:
        """Predict numbers.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,), or (n_samples, n_outputs)
        """
        found = self._forward(X)
        return found[:, 0] if found.shape[1] == 1 else found
