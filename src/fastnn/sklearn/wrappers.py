"""Estimators around any network: functions that build a fastnn model for the shape of the data."""

from __future__ import annotations

import copy
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, TransformerMixin, clone
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import check_random_state, get_tags
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import _check_n_features, _check_sample_weight, check_is_fitted, validate_data

from fastnn.locks import importing
from fastnn.sklearn.data import check_range, predicted, readable
from fastnn.sklearn.sharing import threads_of
from fastnn.threads import limited

if TYPE_CHECKING:  # programs that import estimators may never train one
    from fastnn.model import Model

__all__ = ["Classifier", "Regressor", "Transformer"]

Array = NDArray[Any]

_PREFIX = "model__"
#: what a model is compiled with
_COMPILED = ("loss", "optimizer", "metrics")
_PARAMETERS = """    Parameters
    ----------
    model : function
        Called as ``model(input_shape, n_outputs, **parameters)`` by `fit`; returns a `fastnn.Model` or `Sequential`. It
        may take fewer arguments: only those that it names are given. A module-level function, if the estimator is to be
        pickled.
    loss : str, Loss or function, optional
        For a model that is not compiled; by default one that fits the outputs.
    optimizer : str or Optimizer
    metrics : list, optional
    epochs, batch_size, validation_split, verbose, callbacks
        As for `fastnn.Model.fit`.
    random_state : int, RandomState or None
        The seed of models that have none of their own: `model` gets it as ``seed``, if it names it.
    warm_start : bool
        Whether `fit` goes on with the model of the last one. Then `model` and its parameters may not have been set to
        other values since; with another loss, optimizer or metrics it is compiled again, and the optimizer begins anew.
    n_threads : int, optional
    **parameters
        ``model__name=value``: arguments of `model`, also for searches and `set_params`.
    """


class _Wrapper(BaseEstimator, ABC):  # type: ignore[misc]
    """What `Classifier` and `Regressor` share."""

    def __init__(
        self, model: Callable[..., Model], *, loss: Any = None, optimizer: Any = "adam", metrics: Any = None,
        epochs: int = 20, batch_size: int = 32, validation_split: float = 0.0, verbose: int = 0,
        callbacks: Any = None, random_state: Any = None, warm_start: bool = False, n_threads: int | None = None,
        **parameters: Any,
    ) -> None:  # fmt: skip
        self.model = model
        self.loss = loss
        self.optimizer = optimizer
        self.metrics = metrics
        self.epochs = epochs
        self.batch_size = batch_size
        self.validation_split = validation_split
        self.verbose = verbose
        self.callbacks = callbacks
        self.random_state = random_state
        self.warm_start = warm_start
        self.n_threads = n_threads
        for name, value in parameters.items():
            if not name.startswith(_PREFIX):
                raise TypeError(f"{type(self).__name__}: no argument {name!r}; those of the model begin with model__")
            setattr(self, name, value)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return all parameters, those of the model's function included."""
        own = {name: value for name, value in vars(self).items() if name.startswith(_PREFIX)}
        return super().get_params(deep=False) | own  # type: ignore[no-any-return]

    def set_params(self, **params: Any) -> Any:
        """Set parameters; ``model__name`` may be new."""
        for name in [name for name in params if name.startswith(_PREFIX)]:
            setattr(self, name, params.pop(name))
        return super().set_params(**params)

    # --- fit ----------------------------------------------------------------------------------------------

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, X_val: Any = None, y_val: Any = None
    ) -> Any:  # fmt: skip
        """Build a model and train it.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows of numbers, images, or a frame of numbers.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), optional
        X_val, y_val : array-like, optional
            Validated after each epoch.

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight, X_val, y_val, self.epochs, self.warm_start)

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train for one epoch, and go on with the model that there is."""
        return self._fit(X, y, sample_weight, None, None, 1, True)

    def _fit(
        self, X: Any, y: Any, sample_weight: Any, X_val: Any, y_val: Any, epochs: int, goes_on: bool,
        classes: Any = None,
    ) -> Any:  # fmt: skip
        goes_on = goes_on and hasattr(self, "model_")
        if (X_val is None) != (y_val is None):
            raise ValueError("X_val and y_val: expected both or none")
        X, y = validate_data(
            self, X, y, reset=not goes_on, ensure_2d=False, allow_nd=True, multi_output=True,
            y_numeric=isinstance(self, RegressorMixin),
        )  # fmt: skip
        if X.ndim < 2:
            raise ValueError(f"X: expected rows of shape (n_samples, ...), got {X.shape}. Reshape your data")
        self._check_features(X, reset=not goes_on)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X)
        if goes_on:
            self._check_model_is_the_same()
        target = self._encoded(y, goes_on, classes)
        if not goes_on:
            try:
                self.model_ = self._build(X.shape[1:])
            except Exception:
                self.__dict__.pop("model_", None)  # an earlier one may have other classes
                raise
            self.history_: dict[str, list[float]] = {}
        elif self._compiles and self._set_since(_COMPILED):
            self._compile(self.model_)
        check_range(X, self.model_.dtype)
        held = (
            None
            if X_val is None
            else (self._checked(X_val), self._encoded(y_val if hasattr(y_val, "toarray") else np.asarray(y_val), True))
        )
        with limited(threads_of(self.n_threads)):
            history = self.model_.fit(
                X, target, batch_size=self.batch_size, epochs=epochs, verbose=self.verbose,
                callbacks=copy.deepcopy(self.callbacks), validation_split=self.validation_split, validation_data=held,
                sample_weight=sample_weight,
            )  # fmt: skip
        for name, values in history.history.items():
            self.history_.setdefault(name, []).extend(values)
        return self

    def _checked(self, X: Any) -> Array:
        found: Array = validate_data(self, X, reset=False, ensure_2d=False, allow_nd=True)
        self._check_features(found, reset=False)
        check_range(found, self.model_.dtype)
        return found

    def _check_features(self, X: Array, *, reset: bool) -> None:
        """Check or keep the number of features, which images have not."""
        if X.ndim == 2:
            _check_n_features(self, X, reset=reset)
        elif reset:
            self.__dict__.pop("n_features_in_", None)

    def _build(self, shape: tuple[int, ...]) -> Model:
        """Build the model, and compile it if the function has not done so."""
        with importing:
            from fastnn.model import Model, Sequential
            from fastnn.training.state import state_of

        seed = int(check_random_state(self.random_state).randint(2**31))
        given = {name.removeprefix(_PREFIX): value for name, value in vars(self).items() if name.startswith(_PREFIX)}
        offered = {"input_shape": shape, "n_outputs": self.n_outputs_, "seed": seed} | given
        if isinstance(self.model, Model) or not callable(self.model):
            kind = type(self.model).__name__
            raise TypeError(f"model: expected a function that returns a fastnn.Model, got an object of type {kind}")
        named = inspect.signature(self.model).parameters
        if not any(one.kind is inspect.Parameter.VAR_KEYWORD for one in named.values()):
            unknown = sorted(set(given) - set(named))
            if unknown:
                raise ValueError(f"model: {self.model.__name__}() has no parameters {unknown}; it has {list(named)}")
            offered = {name: value for name, value in offered.items() if name in named}
        made = self.model(**offered)
        if not isinstance(made, Model):
            raise TypeError(f"model: expected a function that returns a fastnn.Model, got {type(made).__name__}")
        self._made_with = {"model": self.model} | {
            name: vars(self)[name] for name in vars(self) if name.startswith(_PREFIX)
        }
        self._compiles = state_of(made).compiled is None
        if self._compiles:
            if isinstance(made, Sequential) and not made.built:
                made.build(shape)
            self._compile(made)
        return made

    def _compile(self, model: Model) -> None:
        model.compile(copy.deepcopy(self.optimizer), self.loss or self._default_loss(model), metrics=self.metrics)
        self._made_with |= {name: getattr(self, name) for name in _COMPILED}

    def _set_since(self, names: Iterable[str]) -> list[str]:
        """Return which parameters have other values than those that the model was made with."""
        before, now = self.__dict__.get("_made_with", {}), vars(self)
        return [name for name in names if not _equal(before.get(name), now.get(name))]

    def _check_model_is_the_same(self) -> None:
        """Raise ValueError if parameters of the model that the training goes on with have been set since."""
        before, now = self.__dict__.get("_made_with", {}), vars(self)
        if not before:  # a model that the caller has put there
            return
        given = {name for name in now if name.startswith(_PREFIX)}
        for name in self._set_since(sorted({*before, *given} - {*_COMPILED})):
            had, got = (repr(one[name]) if name in one else "no value" for one in (before, now))
            raise ValueError(
                f"{name}: the training goes on with a model that was built with {had}, got {got}; `fit` with "
                "warm_start=False builds a new one"
            )

    @abstractmethod
    def _encoded(self, y: Array, goes_on: bool, classes: Any = None) -> Array:
        """Return targets as the model takes them; sets `n_outputs_` and `classes_`, unless the training goes on."""

    @abstractmethod
    def _default_loss(self, model: Model) -> str:
        """Return the loss of a model."""

    def _loss(self) -> Any:
        """Return the loss of the fitted model."""
        from fastnn.training.state import state_of

        return state_of(self.model_).require_compiled().losses[0]

    def _outputs(self, X: Any) -> Array:
        check_is_fitted(self, "model_")
        with limited(threads_of(self.n_threads)):
            found: Array = self.model_.predict(self._checked(X))
        return found


def _equal(one: Any, other: Any) -> bool:
    """Return whether two values of a parameter are the same, or equal."""
    return one is other or (type(one) is type(other) and bool(np.all(one == other)))


class Classifier(ClassifierMixin, _Wrapper):  # type: ignore[misc]
    """A classifier around a function that builds a network.

    ::

        def build(input_shape, n_outputs, units=32):
            return fnn.Sequential([fnn.Input(input_shape), fnn.Dense(units, "relu"), fnn.Dense(n_outputs, "softmax")])

        GridSearchCV(Classifier(build, epochs=10), {"model__units": [16, 64]}).fit(X, y)

    """

    __doc__ += f"\n{_PARAMETERS}"

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Any:
        """Train for one epoch, and go on with the model that there is.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
        sample_weight : array-like of shape (n_samples,), optional
        classes : array-like of shape (n_classes,), optional
            All classes of all calls, for the first one: by default those of `y`.

        Returns
        -------
        self
        """
        if classes is not None and hasattr(self, "model_") and not np.array_equal(self.classes_, np.unique(classes)):
            raise ValueError(f"classes: expected those of the first call, {self.classes_}, got {classes}")
        return self._fit(X, y, sample_weight, None, None, 1, True, classes)

    def _encoded(self, y: Array, goes_on: bool, classes: Any = None) -> Array:
        check_classification_targets(y)
        kind = type_of_target(y)
        if kind == "multiclass-multioutput":
            raise ValueError(
                f"y: expected classes, or labels of zeros and ones; got several columns of classes, {kind}"
            )
        if not goes_on:
            self._several = kind.startswith("multilabel")
            self._encoder = LabelEncoder()
            known = np.ravel(y) if classes is None else np.asarray(classes)
            self.classes_ = np.arange(y.shape[1]) if self._several else self._encoder.fit(known).classes_
            self.n_outputs_ = len(self.classes_)
        if self._several:
            return np.asarray(y.toarray() if hasattr(y, "toarray") else y, np.float32)
        found: Array = self._encoder.transform(np.ravel(y))
        return found

    def _default_loss(self, model: Model) -> str:
        return "binary_cross_entropy" if self._several or model.outputs[0].shape[-1] == 1 else "cross_entropy"

    def predict_proba(self, X: Any) -> Array:
        """Predict the probabilities of classes, in the order of `classes_`: shape (n_samples, n_classes).

        A model that gives logits, whose loss has ``from_logits=True``, is taken to the probabilities.
        """
        from fastnn.activations import Sigmoid, Softmax

        found = self._outputs(X)
        if getattr(self._loss(), "from_logits", False):
            found = (Softmax() if found.shape[1] > 1 and not self._several else Sigmoid())(found)
        if len(self.classes_) == 1:
            return np.ones((len(found), 1), found.dtype)
        return found if found.shape[1] > 1 else np.hstack([1.0 - found, found])

    def predict(self, X: Any) -> Array:
        """Predict classes: shape (n_samples,), or (n_samples, n_labels)."""
        found = self.predict_proba(X)
        if self._several:
            return (found > 0.5).astype(int)
        classes: Array = self.classes_[found.argmax(axis=1)]
        return classes

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class Regressor(RegressorMixin, _Wrapper):  # type: ignore[misc]
    """A regressor around a function that builds a network.

    ::

        def build(input_shape, n_outputs, units=32):
            return fnn.Sequential([fnn.Input(input_shape), fnn.Dense(units, "relu"), fnn.Dense(n_outputs)])

        cross_validate(Regressor(build, epochs=50, model__units=64), X, y)

    """

    __doc__ += f"\n{_PARAMETERS}"

    def _encoded(self, y: Array, goes_on: bool, classes: Any = None) -> Array:
        found = y[:, None] if y.ndim == 1 else y
        if not goes_on:
            self._flat, self.n_outputs_ = y.ndim == 1, found.shape[1]
        return found

    def _default_loss(self, model: Model) -> str:
        return "mean_squared_error"

    def predict(self, X: Any) -> Array:
        """Predict numbers: shape (n_samples,), or (n_samples, n_outputs).

        A model that gives logarithms of rates, whose loss is ``Poisson(from_logits=True)``, is taken to the rates.
        """
        from fastnn.losses import Poisson

        found, loss = self._outputs(X), self._loss()
        if isinstance(loss, Poisson) and loss.from_logits:
            found = np.exp(found)
        return found[:, 0] if self._flat else found


class Transformer(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """The activations of a hidden layer, as features for other estimators.

    Parameters
    ----------
    estimator : MLPClassifier, MLPRegressor, Classifier or Regressor
        `fit` trains a copy of it.
    layer : str, optional
        The name of a layer, as in ``model.summary()``; by default the one before the output layer.

    Attributes
    ----------
    estimator_ : estimator
        The trained copy.
    """

    def __init__(self, estimator: Any, layer: str | None = None) -> None:
        self.estimator = estimator
        self.layer = layer

    def fit(self, X: Any, y: Any = None, **fit_params: Any) -> Transformer:
        """Train a copy of the estimator."""
        self.estimator_ = clone(self.estimator).fit(X, y, **fit_params)
        if hasattr(self.estimator_, "n_features_in_"):
            self.n_features_in_ = self.estimator_.n_features_in_
        if hasattr(self.estimator_, "feature_names_in_"):
            self.feature_names_in_ = self.estimator_.feature_names_in_
        given = self.estimator_
        if not hasattr(given, "model_") and not hasattr(given, "to_model"):
            raise TypeError(f"estimator: expected one of fastnn.sklearn, got {type(given).__name__}")
        model = given.model_ if hasattr(given, "model_") else given.to_model()
        with importing:
            from fastnn.inspect.inner import Inside
            from fastnn.model import Model

        inside = Inside("Transformer", model)
        symbol = inside.outputs[0].inputs[0] if self.layer is None else inside.result(self.layer)
        self.model_ = Model(inside.inputs, symbol, dtype=model.dtype, device=model.device)
        self._n_features_out = int(np.prod(self.model_.outputs[0].shape))
        return self

    def transform(self, X: Any) -> Array:
        """Return the activations, flat: shape (n_samples, n_features)."""
        check_is_fitted(self)
        sparse = ["csr", "csc"] if self.__sklearn_tags__().input_tags.sparse else False
        X = validate_data(
            self, X, accept_sparse=sparse, reset=False, ensure_2d=False, allow_nd=True, dtype=(np.float64, np.float32)
        )
        check_range(X, self.model_.dtype)
        with limited(threads_of(self.estimator_.n_threads)):
            found = predicted(self.model_, readable(X))
        return found.reshape(len(found), -1)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = get_tags(self.estimator).input_tags.sparse
        return tags

    def get_feature_names_out(self, input_features: Any = None) -> Array:
        """Return the names of the features: ``hidden0``, ``hidden1``, ..."""
        check_is_fitted(self)
        return np.array([f"hidden{number}" for number in range(self._n_features_out)], dtype=object)
