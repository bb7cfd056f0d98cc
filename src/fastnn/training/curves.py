"""The picture of a history: a curve over the epochs for each quantity, training and validation together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn.callbacks.monitor import Monitor
from fastnn.figures import COLOURS, brief, colours, new_axes, spans_decades, whole_numbers

# fewer epochs have a point each
_POINTS = 30
_COLUMNS = 3


def draw(
    epochs: Sequence[int], history: Mapping[str, Sequence[float]], names: Sequence[str], ax: Any, log: bool
) -> Any:
    """Draw quantities over epochs; see `History.plot`."""
    series = {name: np.asarray(values, np.float64) for name, values in history.items()}
    numbers = np.asarray(epochs) + 1
    if ax is not None:
        for name, colour in zip(names, colours(len(names)), strict=True):
            _draw(ax, numbers, series, name, (colour, colour), log, labelled=False)
        ax.legend(fontsize="small")
        return ax
    columns = min(len(names), _COLUMNS)
    rows = ceil(len(names) / columns)
    grid = new_axes("History.plot", (4.5 * columns, 3.5 * rows), rows, columns)
    for axes, name in zip(grid.flat, names, strict=False):
        _draw(
            axes, numbers, series, name, COLOURS[:2], log or (name == "learning_rate" and spans_decades(series[name]))
        )
        axes.set_ylabel(brief(name.replace("_", " "), 30))
        axes.legend(fontsize="small")
    for axes in grid.flat[len(names) :]:
        axes.set_axis_off()
    return list(grid.flat[: len(names)])


def _draw(
    axes: Any, epochs: NDArray[Any], series: Mapping[str, NDArray[Any]], name: str, pair: Sequence[str], log: bool,
    *, labelled: bool = True,
) -> None:  # fmt: skip
    """Draw a quantity of the training and of the validation, and mark the best epoch, in the legend if `labelled`."""
    marker = "." if len(epochs) < _POINTS else None
    curves = [curve for curve in (name, f"val_{name}") if curve in series]
    for curve, colour, line in zip(curves, pair, ("-", "--"), strict=False):
        values = series[curve]
        # epochs without a value, such as those without a validation, do not interrupt the line
        there = np.isfinite(values)
        label = brief(curve, 32)
        axes.plot(epochs[there], values[there], line, color=colour, marker=marker, label=label)
    best = None if name == "learning_rate" else best_epoch(curves[-1], series[curves[-1]])
    if best is not None:
        colour, value = pair[len(curves) - 1], series[curves[-1]][best]
        mark = f"best: {value:.4g}, epoch {epochs[best]}" if labelled else None
        axes.scatter(epochs[best], value, s=70, facecolors="none", edgecolors=colour, zorder=3, label=mark)
    ended = _ended(series[name])
    if ended is not None:
        # a line of the legend
        axes.scatter([], [], alpha=0.0, label=f"{brief(name)}: not finite from epoch {epochs[ended]} on")
    if log:
        axes.set_yscale("log")
    whole_numbers(axes.xaxis)
    axes.set_xlabel("epoch")
    axes.grid(alpha=0.3)


def best_epoch(name: str, values: ArrayLike) -> int | None:
    """Return the place of the best value; None if the name does not say what is better, or there is no choice."""
    series = np.asarray(values, np.float64)
    there = np.flatnonzero(np.isfinite(series))
    if len(there) < 2:
        return None
    try:
        larger = Monitor("History.plot", name).larger
    except ValueError:
        return None
    chosen = series[there]
    return int(there[chosen.argmax() if larger else chosen.argmin()])


def _ended(values: NDArray[Any]) -> int | None:
    """Return the first of the last epochs that all have no finite value; None if the last one has."""
    there = np.flatnonzero(np.isfinite(values))
    ended = int(there[-1]) + 1 if len(there) else 0
    return ended if ended < len(values) else None
