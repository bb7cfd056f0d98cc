"""One callback for all trackers: it finds out which method of theirs takes numbers."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any

from fastnn.callbacks import Callback
from fastnn.callbacks.base import Logs
from fastnn.callbacks.logs import numbers_of
from fastnn.checks import integer, shorten
from fastnn.integrations.runs import checked_hyperparameters, hyperparameters_of

#: methods that take numbers, the first that there is counts; those that take a dict, and those that take one number
_METHODS = ("log_metrics", "add_scalar", "track", "log_metric", "log")
# methods that take hyperparameters as a dict
_SETTINGS = ("log_params", "log_parameters", "log_hyperparams")

Write = Callable[[dict[str, float], int], object]


class Log(Callback):
    """Write the quantities of each epoch to any tracker: W&B, trackio, MLflow, Aim, Comet, TensorBoard, a function.

    ::

        run = wandb.init(project="digits")
        model.fit(x, y, epochs=10, callbacks=fnn.integrations.Log(run))

    The object has one of these methods, in this order: ``log_metrics(dict, step=)``, ``add_scalar(name, value, step)``,
    ``track(value, name=, step=)``, ``log_metric(name, value, step=)``, ``log(dict, step=)``. Or it is a function of a
    dict and the step. A method that takes no step gets the epoch in the dict, as ``"epoch"``. Nothing is imported.

    Parameters
    ----------
    run : object, module or function
        Such as a run of W&B, the module ``mlflow`` or ``trackio``, or a ``SummaryWriter``.
    prefix : str
        Comes before each name.
    every : int
        Epochs between two that are written; the last one always is.
    hyperparameters : dict, optional
        Written before the first epoch, with the optimizer, its learning rate and the number of weights, where the run
        has ``config.update``, ``log_params``, ``log_parameters`` or ``log_hyperparams``.
    run_id : str, optional
        The first argument of each call, for objects that serve several runs, such as ``mlflow.MlflowClient``.

    Notes
    -----
    Steps are epochs, counted from 0. The run is not ended. Exceptions of the tracker end the training.
    """

    def __init__(
        self,
        run: Any,
        *,
        prefix: str = "",
        every: int = 1,
        hyperparameters: Mapping[str, Any] | None = None,
        run_id: str | None = None,
    ) -> None:
        if not isinstance(prefix, str):
            raise TypeError(f"Log: prefix: expected a text, got {prefix!r}")
        self.run, self.prefix = run, prefix
        self.every = integer("Log: every", every)
        self.hyperparameters = checked_hyperparameters("Log", hyperparameters)
        self._write = _writer(run, () if run_id is None else (run_id,))
        self._left: tuple[int, dict[str, float]] | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Write hyperparameters."""
        self._left = None
        settings = hyperparameters_of(self.model, self.params) | self.hyperparameters
        update = getattr(getattr(self.run, "config", None), "update", None)
        for method in (update, *(getattr(self.run, name, None) for name in _SETTINGS)):
            if callable(method):
                method(settings)
                return

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Write the quantities of an epoch."""
        values = {f"{self.prefix}{name}": value for name, value in numbers_of(logs).items()}
        self._left = None
        if epoch % self.every == 0:
            self._write(values, epoch)
        else:
            self._left = epoch, values

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Write the last epoch, if it has not been."""
        if self._left is not None:
            epoch, values = self._left
            self._left = None
            self._write(values, epoch)


def _writer(run: Any, first: tuple[Any, ...]) -> Write:
    """Return a function that writes quantities of a step.

    Raises
    ------
    TypeError
        If the object has no such method.
    """
    if isinstance(run, logging.Logger):
        raise TypeError("Log: run: a logging.Logger takes texts: give a function of a dict and the step")
    name = next((each for each in _METHODS if callable(getattr(run, each, None))), None)
    if name is None:
        if callable(run) and not isinstance(run, type):
            return lambda values, step: run(*first, values, step)
        raise TypeError(
            f"Log: run: expected an object with one of the methods {', '.join(_METHODS)}, or a function, got "
            f"{shorten(run)}"
        )
    method = getattr(run, name)
    if name in ("log_metrics", "log"):
        if _takes(method, "step"):
            return lambda values, step: method(*first, values, step=step)
        return lambda values, step: method(*first, {"epoch": step, **values})
    if name == "track":
        return _each(lambda key, value, step: method(*first, value, name=key, step=step))
    if name == "add_scalar":
        return _each(lambda key, value, step: method(*first, key, value, step))
    if _takes(method, "step"):
        return _each(lambda key, value, step: method(*first, key, value, step=step))
    following = getattr(run, "next_step", None)

    def write(values: dict[str, float], step: int) -> None:
        for key, value in values.items():
            method(*first, key, value)
        # objects that count by themselves
        if callable(following):
            following()

    return write


def _each(call: Callable[[str, float, int], object]) -> Write:
    """Return a function that calls another one for each number."""

    def write(values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            call(name, value, step)

    return write


def _takes(method: Callable[..., Any], name: str) -> bool:
    """Return whether a method has an argument of a name; so it is taken if nobody knows."""
    try:
        parameters = inspect.signature(method).parameters
    except (TypeError, ValueError):
        return True
    return name in parameters or any(each.kind is each.VAR_KEYWORD for each in parameters.values())
