"""Histograms of what is in a network for one batch: outputs of layers, and gradients of weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.checks import integer
from fastnn.figures import COLOURS, brief, new_axes
from fastnn.hints import explained
from fastnn.inspect import activations as values_of_layers
from fastnn.inspect import dead_units, weight_gradients
from fastnn.layers.base import Layer
from fastnn.model import Model

_COLUMNS = 4


@explained
def activations(model: Model, x: Any, layers: Sequence[str | Layer] | None = None, *, bins: int = 50) -> Any:
    """Draw how the outputs of layers are distributed for a batch, with the share of dead units.

    A unit is dead if it is zero for the whole batch. Titles also say how many values are zero, if any, and how many are
    not finite. Axes are each layer's own.

    Parameters
    ----------
    model, x, layers
        As for `fastnn.inspect.activations`.
    bins : int

    Returns
    -------
    matplotlib Figure

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError, ValueError
        As for `fastnn.inspect.activations`.
    """
    bins = integer("activations: bins", bins)
    found = values_of_layers(model, x, layers)
    panels = _panels("activations", len(found))
    for axes, (name, values) in zip(panels, found.items(), strict=False):
        notes = []
        dead = dead_units(values) if values.ndim > 1 else 0.0
        if dead:
            notes.append(f"dead units {dead:.0%}")
        if (zeros := float((values == 0.0).mean())) > 0.0:
            notes.append(f"zeros {zeros:.0%}")
        finite = _finite(values, notes)
        if finite.size:
            shares = np.full(finite.size, 1.0 / finite.size)
            axes.hist(finite, bins, range=_range(finite), color=COLOURS[0], weights=shares)
        _finish(axes, name, notes)
        axes.set_xlabel("output", fontsize="small")
        axes.set_ylabel("share of values", fontsize="small")
    return panels[0].figure


@explained
def gradients(model: Model, x: Any, y: Any = None, sample_weight: Any = None, *, bins: int = 50) -> Any:
    """Draw how large the gradients of the weights are for a batch: all on one logarithmic axis.

    Where the histograms of the first layers are far to the left of the last ones', gradients vanish. Titles have the
    median, and say how many gradients are zero, which is on no logarithmic axis, and how many are not finite.

    Parameters
    ----------
    model : Model
        Compiled.
    x, y, sample_weight
        One batch, as for `Model.gradients`.
    bins : int

    Returns
    -------
    matplotlib Figure

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError, ValueError
        When data do not fit the model, or nothing is trained.
    RuntimeError
        When the model is not compiled.
    """
    bins = integer("gradients: bins", bins)
    found = weight_gradients(model, x, y, sample_weight)
    if not found:
        raise ValueError(f"gradients: no weight of {model.name!r} is trained")
    edges = _decades(found, bins)
    panels = _panels("gradients", len(found))
    for axes, (name, values) in zip(panels, found.items(), strict=False):
        notes: list[str] = []
        sizes = abs(_finite(values, notes).astype(np.float64))
        positive = sizes[sizes > 0.0]
        if positive.size:
            notes.insert(0, f"median {np.median(positive):.1e}")
            axes.hist(positive, edges, color=COLOURS[0], weights=np.full(positive.size, 1.0 / values.size))
            axes.axvline(np.median(positive), color=COLOURS[1], linewidth=1.0)
        if sizes.size > positive.size:
            notes.append(f"zeros {(sizes.size - positive.size) / sizes.size:.0%}")
        _finish(axes, name, notes)
        axes.set_xscale("log")
        axes.set_xlim(edges[0], edges[-1])
        axes.set_xlabel("absolute gradient", fontsize="small")
        axes.set_ylabel("share of weights", fontsize="small")
    return panels[0].figure


def _panels(what: str, count: int) -> list[Any]:
    """Return Axes for some panels; the places after them stay empty."""
    columns = min(count, _COLUMNS)
    rows = ceil(count / columns)
    grid = new_axes(what, (max(3.1 * columns, 4.0), 2.4 * rows), rows, columns)
    for axes in grid.flat[count:]:
        axes.set_axis_off()
    return list(grid.flat[:count])


def _finish(axes: Any, name: str, notes: Sequence[str]) -> None:
    axes.set_title("\n".join([brief(name, 32), "; ".join(notes)]).rstrip(), fontsize="small")
    axes.tick_params(labelsize="small")
    axes.locator_params(axis="y", nbins=4)
    axes.grid(alpha=0.3)
    if not axes.patches:
        axes.set_yticks([])


def _finite(values: NDArray[Any], notes: list[str]) -> NDArray[Any]:
    """Return the finite numbers; others are noted."""
    flat = values.reshape(-1)
    finite: NDArray[Any] = flat[np.isfinite(flat)]
    if finite.size < flat.size:
        notes.append(f"not finite {(flat.size - finite.size) / flat.size:.0%}")
    return finite


def _range(values: NDArray[Any]) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    # numbers that are all the same, or as close as their dtype has them
    room = max(0.5 * (high == low), 1e-5 * max(abs(low), abs(high)))
    return low - room, high + room


def _decades(found: Mapping[str, NDArray[Any]], bins: int) -> NDArray[np.float64]:
    """Return edges of bins from the smallest to the largest gradient, of whole powers of ten."""
    sizes = np.concatenate([abs(values.reshape(-1).astype(np.float64)) for values in found.values()])
    sizes = sizes[np.isfinite(sizes) & (sizes > 0.0)]
    if not sizes.size:
        return np.geomspace(1e-3, 1.0, bins + 1)
    # the very smallest are few, and would take most of the axis
    low, high = np.quantile(sizes, 0.001), sizes.max()
    return np.geomspace(10.0 ** np.floor(np.log10(low)), 10.0 ** np.ceil(np.log10(high) + 1e-9), bins + 1)
