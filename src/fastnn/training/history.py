"""The history of a training: the quantities of every epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fastnn import markup
from fastnn.callbacks.logs import numbers_of
from fastnn.checks import flag, shorten
from fastnn.training.curves import best_epoch, draw

__all__ = ["History"]


class History:
    """The logs of a training, epoch by epoch (the ``History`` of Keras' ``fit``).

    Attributes
    ----------
    history : dict of str to list of float
        Every quantity's values, one per entry of `epoch`: NaN if an epoch had none. Entries that callbacks put into the
        logs and that are not numbers (a text, None, an array of several) are left out.
    epoch : list of int
        The finished epochs, counted from 0.
    partial : dict or None
        The logs of an epoch that was interrupted; they are not part of `history`.
    """

    def __init__(self) -> None:
        self.history: dict[str, list[float]] = {}
        self.epoch: list[int] = []
        self.partial: dict[str, float] | None = None

    def record(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Add a finished epoch; it replaces a partial one.

        Parameters
        ----------
        epoch : int
            Its number, counted from 0.
        logs : mapping of str to float
            Its quantities.
        """
        numbers = numbers_of(logs)
        for name in numbers:
            if name not in self.history:
                self.history[name] = [math.nan] * len(self.epoch)
        for name, values in self.history.items():
            values.append(numbers.get(name, math.nan))
        self.epoch.append(int(epoch))
        self.partial = None

    def amend(self, logs: Mapping[str, float]) -> None:
        """Add entries that callbacks put into the logs of the last recorded epoch."""
        for name, value in numbers_of(logs).items():
            if name not in self.history:
                self.history[name] = [math.nan] * len(self.epoch)
            self.history[name][-1] = value

    def __repr__(self) -> str:
        """Return the number of epochs, and each quantity's first and last value."""
        n_epochs = len(self.epoch)
        parts = [f"{n_epochs} epoch{'' if n_epochs == 1 else 's'}"]
        for name, values in self.history.items():
            arrow = f"{values[0]:.4g} -> " if n_epochs > 1 else ""
            parts.append(f"{name} {arrow}{values[-1]:.4g}")
        if self.partial is not None:
            parts.append("one interrupted")
        return f"<History: {', '.join(parts)}>"

    def _repr_html_(self) -> str:
        """Return first, best and last values as a table, for notebooks."""
        count = len(self.epoch)
        rows = [("", "first", "best", "last")]
        for name, values in self.history.items():
            best = best_epoch(name, values)
            shown = "" if best is None else f"{values[best]:.4g} (epoch {self.epoch[best] + 1})"
            rows.append((name, f"{values[0]:.4g}", shown, f"{values[-1]:.4g}"))
        title = f"History of {count} epoch{'' if count == 1 else 's'}"
        title += "" if self.partial is None else ", one more interrupted"
        return markup.block(markup.line(title, strong=True), markup.table(rows, (1, 2, 3)) if self.history else "")

    def plot(self, ax: Any = None, *, names: Sequence[str] | None = None, log: bool = False) -> Any:
        """Draw quantities over the epochs, training and validation together, and mark the best epoch of each.

        The best epoch is that of the validation, if there is one, for quantities whose names say what is better. Epochs
        are counted from 1.

        Parameters
        ----------
        ax : matplotlib Axes or None
            Where to draw all of them; None makes a figure with one Axes for each quantity.
        names : sequence of str, optional
            The quantities, without ``val_``; by default all.
        log : bool
            Whether the vertical axes are logarithmic. That of the learning rate is by itself, if it changes much.

        Returns
        -------
        Axes or list of Axes
            `ax`, or the Axes of the new figure.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If no epoch has been finished, or there is no quantity of a name.
        """
        if not self.epoch:
            raise ValueError("there is nothing to plot: no epoch has been finished")
        twins = {f"val_{name}" for name in self.history}
        known = [name for name in self.history if name not in twins]
        chosen = known if names is None else [names] if isinstance(names, str) else list(names)
        unknown = [name for name in chosen if name not in known]
        if unknown or not chosen:
            raise ValueError(f"names: expected some of {known}, got {shorten(names)}")
        return draw(self.epoch, self.history, chosen, ax, flag("log", log))

    def to_dict(self) -> dict[str, Any]:
        """Return everything as dicts, lists and numbers, for saving."""
        # `record` appends the epoch last: a signal handler in the middle of it sees the epochs before
        epoch = list(self.epoch)
        return {
            "history": {name: values[: len(epoch)] for name, values in self.history.items()},
            "epoch": epoch,
            "partial": None if self.partial is None else dict(self.partial),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> History:
        """Make a history from the result of `to_dict`.

        Raises
        ------
        ValueError
            If `data` is not such a dict.
        """
        result = cls()
        try:
            result.epoch = [int(_number(epoch)) for epoch in data["epoch"]]
            series = data["history"].items()
            result.history = {str(name): [_number(value) for value in values] for name, values in series}
            partial = data["partial"]
            result.partial = None if partial is None else {str(name): _number(partial[name]) for name in partial}
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ValueError(f"expected the dict of History.to_dict, got {shorten(data)}") from error
        for name, values in result.history.items():
            if len(values) != len(result.epoch):
                raise ValueError(f"history[{name!r}] has {len(values)} values for {len(result.epoch)} epochs")
        return result


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"expected a number, got {shorten(value)}")
    return float(value)
