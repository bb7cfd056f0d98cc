"""Monitoring one quantity of the logs: its direction, its best value, and the error when it is missing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from fastnn import metrics
from fastnn.checks import number, shorten

MODES = ("auto", "min", "max")
SMALLER_IS_BETTER = frozenset(
    {
        *(
            "loss",
            "error",
            "entropy",
            "crossentropy",
            "perplexity",
            "divergence",
            "deviance",
            "hinge",
            "huber",
        ),
        *("cosh", "poisson", "brier", "mse", "mae", "rmse", "msle", "mape"),
    }
)
LARGER_IS_BETTER = frozenset(
    {
        *("accuracy", "acc", "auc", "precision", "recall", "sensitivity", "specificity", "f1", "fbeta", "r2"),
        *("correlation", "similarity", "iou", "dice", "mcc", "kappa"),
    }
)


class Monitor:
    """One quantity of the logs, and the direction in which it improves.

    Parameters
    ----------
    owner : str
        Class name of the callback, for messages.
    name : str
        Key in the logs, such as ``"val_loss"``.
    mode : {"auto", "min", "max"}
        Whether smaller or larger values are better; ``"auto"`` decides by the name.
    min_delta : float
        Changes up to this size do not count as improvements.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid, or the name does not determine the direction.
    """

    def __init__(self, owner: str, name: str, mode: str = "auto", min_delta: float = 0.0) -> None:
        if not isinstance(name, str):
            raise TypeError(f"{owner}: monitor is the name of a quantity in the logs, got {name!r}")
        if mode not in MODES:
            raise ValueError(f"{owner}: mode is one of {', '.join(MODES)}, got {mode!r}")
        self.owner = owner
        self.name = name
        self.larger = (_direction(owner, name) if mode == "auto" else mode) == "max"
        # Keras also uses the absolute value of min_delta.
        self.min_delta = abs(number(f"{owner} min_delta", min_delta))

    def rests(self, epoch: int, logs: Mapping[str, Any] | None, params: Mapping[str, Any]) -> bool:
        """Return whether the quantity is missing because the epoch is not validated (`validation_freq`)."""
        validates = params.get("validates")
        validated = validates is None or validates(epoch)
        return not validated and self.name.startswith("val_") and self.name not in (logs or {})

    def value(self, logs: Mapping[str, Any] | None) -> float:
        """Return the quantity, or raise a ValueError that names the available ones."""
        logs = logs or {}
        self.check(logs)
        value = logs[self.name]
        try:
            return float(value)
        except Exception as error:
            raise TypeError(
                f"{self.owner} monitors {self.name!r}, which a callback has set to {shorten(value)}, not a number"
            ) from error

    def check(self, logs: Collection[str]) -> None:
        """Raise a ValueError unless a quantity of this name exists."""
        if self.name not in logs:
            hint = ""
            if self.name.startswith("val_") and not any(name.startswith("val_") for name in logs):
                hint = "; pass validation_data or validation_split to fit, or monitor a training quantity"
            available = ", ".join(map(repr, logs)) or "none"
            raise ValueError(f"{self.owner} monitors {self.name!r}, but the quantities are: {available}{hint}")

    def improves(self, value: float, best: float | None) -> bool:
        """Return whether a value is better than the best so far by more than min_delta; NaN never is."""
        if best is None:
            return value == value
        return value - self.min_delta > best if self.larger else value + self.min_delta < best


def _better(name: str) -> str:
    """Return which values of one of the library's metrics are better, or "" for other names."""
    try:
        # a user-defined metric may lack it
        return str(getattr(metrics.get(name), "better", ""))
    except ValueError:
        return ""


def _direction(owner: str, name: str) -> str:
    words = name.lower().split("_")
    # the last words decide, with the words of a metric as one: a second metric of a name has a number after it
    words = words[:-1] if len(words) > 1 and words[-1].isdecimal() else words
    for first in range(len(words)):
        found = _better("_".join(words[first:]))
        if found:
            return found
    # "auc_loss" is a loss
    for word in reversed(words):
        if word in SMALLER_IS_BETTER:
            return "min"
        if word in LARGER_IS_BETTER:
            return "max"
    raise ValueError(
        f"{owner}: the name {name!r} does not say whether less or more is better; pass mode='min' or 'max'"
    )
