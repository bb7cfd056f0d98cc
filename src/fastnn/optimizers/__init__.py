"""Optimizers: hyperparameters, and per step the scalars that the update formulas need."""

from __future__ import annotations

from collections.abc import Callable

from fastnn.hints import install
from fastnn.optimizers.adam import Adam as Adam
from fastnn.optimizers.adam import AdamW as AdamW
from fastnn.optimizers.adam import Nadam as Nadam
from fastnn.optimizers.adaptive import Adadelta as Adadelta
from fastnn.optimizers.adaptive import AdaGrad as AdaGrad
from fastnn.optimizers.adaptive import RMSprop as RMSprop
from fastnn.optimizers.base import Optimizer as Optimizer
from fastnn.optimizers.custom import Custom as Custom
from fastnn.optimizers.sgd import SGD as SGD
from fastnn.optimizers.sgd import Lion as Lion
from fastnn.registry import resolve

Adagrad = AdaGrad

_ALIASES: dict[str, str | Callable[[], Optimizer]] = {
    "adagrad": "AdaGrad",
    "adamw": "AdamW",
    "amsgrad": lambda: Adam(amsgrad=True),
    "momentum": lambda: SGD(momentum=0.9),
    "nesterov": lambda: SGD(momentum=0.9, nesterov=True),
    "rmsprop": "RMSprop",
}


def get(value: str | Optimizer) -> Optimizer:
    """Return the optimizer that a name or an object means.

    Parameters
    ----------
    value : str or Optimizer
        "sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adadelta", "adam", "amsgrad", "adamw", "nadam"
        or "lion", with Keras 3's defaults (a momentum of 0.9 where the name says so).

    Raises
    ------
    ValueError
        The name is unknown.
    TypeError
        Neither a name nor an optimizer.
    """
    return resolve("optimizer", value, _ALIASES, Optimizer)  # type: ignore[type-abstract]


__all__ = [
    "SGD",
    "AdaGrad",
    "Adadelta",
    "Adam",
    "AdamW",
    "Custom",
    "Lion",
    "Nadam",
    "Optimizer",
    "RMSprop",
    "get",
]

install(__name__)
