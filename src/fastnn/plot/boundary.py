"""The plane of a model's two inputs: which class, or which value, it gives where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn.checks import integer, number
from fastnn.figures import COLOURS, MARKERS, axes_for, brief
from fastnn.hints import explained
from fastnn.inspect.inner import Inside
from fastnn.model import Model
from fastnn.plot.outputs import HALF, checked_names, meaning, outputs_of, true_labels

# more classes have no legend: their regions are named
_LEGEND = 8


@explained
def decision_boundary(
    model: Model,
    x: ArrayLike | None = None,
    y: ArrayLike | None = None,
    *,
    bounds: Sequence[float] | None = None,
    names: Sequence[str] | None = None,
    labels: Sequence[str] = ("x[0]", "x[1]"),
    resolution: int = 200,
    ax: Any = None,
) -> Any:
    """Draw what a model with two inputs gives in a rectangle of the plane, and samples.

    Where it tells classes apart each region has the colour of its class, paler where the model is less sure. Of an
    output of other numbers the picture shows the values.

    Parameters
    ----------
    model : Model
        With one input of shape (2,) and one output of shape (columns,). Several columns are classes, one column is the
        probability of the class 1, if it comes from a sigmoid or the model's loss says so, or else a value.
    x : array of shape (n, 2), optional
        Samples to draw.
    y : array of shape (n,) or (n, columns), optional
        Their labels or values.
    bounds : sequence of four numbers, optional
        Left, right, lower and upper ends of the rectangle; by default a little more than x needs, or else -1 to 1.
    names : sequence of str, optional
        Names of the classes.
    labels : sequence of two str
        Of the axes.
    resolution : int
        Points of the grid along each axis.
    ax : matplotlib Axes, optional
        None makes a figure.

    Returns
    -------
    Axes

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError, ValueError
        When the model has other inputs or outputs, or samples do not fit.
    """
    what = "decision_boundary"
    shape = Inside(what, model).only_input.shape
    if shape != (2,):
        raise ValueError(f"{what}: expected a model with inputs of shape (2,), got {shape}")
    if len(labels) != 2:
        raise ValueError(f"{what}: labels: expected two, got {labels!r}")
    resolution = integer(f"{what}: resolution", resolution, at_least=2)
    samples = None if x is None else np.asarray(x, np.float64)
    if samples is not None and samples.shape[1:] != (2,):
        raise ValueError(f"{what}: x: expected shape (n, 2), got {samples.shape}")
    if y is not None and (samples is None or len(np.asarray(y)) != len(samples)):
        raise ValueError(f"{what}: y: expected one for each sample of x")
    left, right, low, high = _bounds(what, samples, bounds)
    across, up = np.linspace(left, right, resolution), np.linspace(low, high, resolution)
    points = np.stack([axis.ravel() for axis in np.meshgrid(across, up)], 1)
    found = outputs_of(what, model, points).astype(np.float64)
    if found.ndim != 2:
        raise ValueError(f"{what}: expected a model with outputs of shape (columns,), got {found.shape[1:]}")
    axes = axes_for(what, ax, (6.0, 4.8))
    grid = found.reshape(resolution, resolution, -1)
    classes = grid.shape[-1] > 1 or meaning(model) != "values"
    if classes:
        _draw_classes(what, axes, grid, (left, right, low, high), samples, y, names)
    else:
        _draw_values(axes, grid[..., 0], (left, right, low, high), samples, y, model.output_names[0])
    axes.set(xlim=(left, right), ylim=(low, high), xlabel=brief(labels[0], 40), ylabel=brief(labels[1], 40))
    note = "" if np.isfinite(grid).all() else f" ({np.isfinite(grid).all(-1).mean():.0%} finite)"
    axes.set_title(("Decision boundary of " if classes else "Output of ") + brief(model.name) + note, fontsize="medium")
    return axes


def _bounds(
    what: str, samples: NDArray[np.float64] | None, bounds: Sequence[float] | None
) -> tuple[float, float, float, float]:
    if bounds is not None:
        if len(bounds) != 4:
            raise ValueError(f"{what}: bounds: expected four numbers, got {bounds!r}")
        left, right, low, high = (number(f"{what}: bounds[{at}]", each) for at, each in enumerate(bounds))
        if left >= right or low >= high:
            raise ValueError(f"{what}: bounds: expected left < right and low < high, got {bounds!r}")
        return left, right, low, high
    finite = np.zeros((0, 2)) if samples is None else samples[np.isfinite(samples).all(1)]
    if len(finite) == 0:
        return -1.0, 1.0, -1.0, 1.0
    least, most = finite.min(0), finite.max(0)
    room = np.where(most > least, 0.08 * (most - least), 1.0)
    (left, low), (right, high) = least - room, most + room
    return float(left), float(right), float(low), float(high)


def _draw_classes(
    what: str, axes: Any, grid: NDArray[np.float64], extent: tuple[float, ...], x: Any, y: Any,
    names: Sequence[str] | None,
) -> None:  # fmt: skip
    """Draw regions, lines between them, and samples."""
    from matplotlib.colors import to_rgb

    truth = None if y is None else true_labels(what, y)
    if grid.shape[-1] == 1:
        grid = np.concatenate([1.0 - grid, grid], -1)
        region = np.where(grid[..., 1] >= HALF, 1, 0)
    else:
        region = np.where(np.isnan(grid), -np.inf, grid).argmax(-1)
    finite = np.isfinite(grid).all(-1)
    count = max(grid.shape[-1], 1 if truth is None else int(truth.max()) + 1)
    shown = checked_names(what, names, count)
    colours = np.array([to_rgb(COLOURS[number % len(COLOURS)]) for number in range(count)])
    sure = np.where(finite, grid.max(-1), 0.0)
    is_probability = bool(finite.any()) and grid[finite].min() >= 0.0 and abs(grid[finite].sum(-1) - 1.0).max() < 1e-3
    least = 1.0 / grid.shape[-1]
    strength = np.clip((sure - least) / (1.0 - least), 0.0, 1.0) if is_probability else np.ones_like(sure)
    alpha = np.where(finite, 0.12 + 0.38 * strength, 0.0)
    image = np.concatenate([colours[region], alpha[..., None]], -1)
    axes.imshow(image, origin="lower", extent=extent, aspect="auto", interpolation="nearest")
    there = [number for number in range(grid.shape[-1]) if ((region == number) & finite).any()]
    for label in there:
        inside = ((region == label) & finite).astype(np.float64)
        if inside.min() < inside.max():
            axes.contour(inside, [0.5], extent=extent, colors="0.25", linewidths=0.8)
        if count > _LEGEND:
            rows, columns = np.nonzero(inside)
            at = np.argmin(np.hypot(rows - np.median(rows), columns - np.median(columns)))
            size = np.array(region.shape[::-1]) - 1
            place = np.array([columns[at], rows[at]]) / size * [extent[1] - extent[0], extent[3] - extent[2]]
            axes.text(extent[0] + place[0], extent[2] + place[1], brief(shown[label], 12), ha="center", va="center",
                      fontsize="small", bbox={"boxstyle": "round", "fc": "white", "alpha": 0.7, "lw": 0})  # fmt: skip
    if x is None:
        handles = [
            axes.scatter([], [], marker="s", c=COLOURS[number % 8], label=brief(shown[number])) for number in there
        ]
    elif truth is None:
        handles = []
        axes.scatter(x[:, 0], x[:, 1], s=18, c="black", alpha=0.6, linewidths=0.0)
    else:
        handles = [
            axes.scatter(
                *x[truth == number].T, s=24, color=colours[number], marker=MARKERS[number % 8], edgecolors="white",
                linewidths=0.6, label=brief(shown[number]),
            )
            for number in np.unique(truth)
        ]  # fmt: skip
    if handles and count <= _LEGEND:
        axes.legend(handles=handles, fontsize="small", title="class", loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _draw_values(axes: Any, values: NDArray[np.float64], extent: tuple[float, ...], x: Any, y: Any, name: str) -> None:
    """Draw values as colours with lines of equal ones, and samples in the same colours."""
    known = np.zeros(0) if y is None else np.asarray(y, np.float64).reshape(len(x), -1)[:, 0]
    finite = np.concatenate([values[np.isfinite(values)], known[np.isfinite(known)]])
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    span = {"vmin": low, "vmax": high if high > low else low + 1.0}
    masked = np.ma.masked_invalid(values)
    image = axes.imshow(
        masked, origin="lower", extent=extent, aspect="auto", cmap="viridis", interpolation="bilinear", **span
    )
    axes.set_facecolor("0.9")
    if masked.count() and masked.min() < masked.max():
        axes.contour(masked, 10, extent=extent, colors="white", linewidths=0.6, alpha=0.7)
    if x is not None:
        options = {"c": "black"} if y is None else {"c": known, "cmap": "viridis", **span}
        axes.scatter(x[:, 0], x[:, 1], s=24, edgecolors="white", linewidths=0.6, **options)
    axes.figure.colorbar(image, ax=axes, label=brief(name, 40))
