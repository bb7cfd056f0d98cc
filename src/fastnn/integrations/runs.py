"""What all trackers of trainings have in common: hyperparameters, names of weights, and imports."""

from __future__ import annotations

import importlib
import numbers
from collections.abc import Mapping
from typing import Any

from fastnn.checks import shorten
from fastnn.training.state import state_of


def needed(what: str, module: str, extra: str) -> Any:
    """Import an optional library.

    Raises
    ------
    ImportError
        If it is not installed; the message says what to install.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f'{what} needs {module}: python -m pip install "fastnn-numba[{extra}]"') from error


def checked_hyperparameters(owner: str, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return hyperparameters as a dict of numbers, bools and texts; other values become texts.

    Raises
    ------
    TypeError
        If it is no mapping, or a name is no text.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise TypeError(f"{owner}: hyperparameters: expected a dict by name, got {shorten(given)}")
    return {name: _plain(value) for name, value in given.items()}


def hyperparameters_of(model: Any, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known about a training that begins: the optimizer, its rate, the number of weights, epochs.

    `params` are those of callbacks; "optimizer" is there if it is not the model's own.
    """
    state = state_of(model)
    optimizer, epochs = state.runtime.compiled()[1], params.get("epochs")
    found = {"optimizer": type(optimizer).__name__, "learning_rate": _plain(optimizer.learning_rate)}
    if "optimizer" in params:
        found = {"optimizer": params["optimizer"]}
    found |= {"dtype": state.dtype, "parameters": model.count_params(), "seed": state.seed}
    return found | ({} if epochs is None else {"epochs": int(epochs)})


def weights_of(model: Any) -> list[tuple[str, Any]]:
    """Return the names of a model's weights and copies of these."""
    names = [entry.name for entry in state_of(model).runtime.table]
    return list(zip(names, model.get_weights(), strict=True))


def _plain(value: Any) -> Any:
    """Return a number, a bool or a text; NumPy's numbers become Python's."""
    if isinstance(value, (bool, str)):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else str(value)
