"""Figures of matplotlib, which is imported when the first one is drawn, and what they have in common."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: eight colours that people with any kind of colour vision tell apart (Okabe and Ito 2008), black last
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
#: shapes of points, so that colour alone tells nothing apart
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def new_axes(what: str, size: tuple[float, float], rows: int = 1, columns: int = 1, **options: Any) -> NDArray[Any]:
    """Make a figure of pyplot, so that ``pyplot.show()`` and notebooks show it, and return its Axes.

    Parameters
    ----------
    what : str
        The function that draws, for errors.
    size : tuple of float
        Width and height of the figure in inches.
    rows, columns : int
    **options
        As for ``Figure.subplots``.

    Returns
    -------
    array of Axes, shape (rows, columns)

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(f'{what} needs matplotlib: python -m pip install "fastnn-numba[plot]"') from error
    figure = pyplot.figure(figsize=size, layout="constrained", FigureClass=_figure_class())
    found: NDArray[Any] = figure.subplots(rows, columns, squeeze=False, **options)
    return found


def axes_for(what: str, ax: Any, size: tuple[float, float]) -> Any:
    """Return `ax`, or the only Axes of a new figure if it is None; raises as `new_axes`."""
    return new_axes(what, size)[0, 0] if ax is None else ax


@functools.cache
def _figure_class() -> Any:
    """Return the class of figures that a notebook shows once, also where they are a cell's result."""
    from matplotlib.figure import Figure

    return type("Picture", (Figure,), {"_ipython_display_": _display})


def _display(figure: Any) -> None:
    """Take a figure that is shown as a result from those that the notebook shows at the end of its cell.

    Raises
    ------
    NotImplementedError
        Always: then IPython shows it as any other figure.
    """
    pyplot: Any = sys.modules["matplotlib.pyplot"]
    if "inline" in str(pyplot.get_backend()):
        pyplot.close(figure)
    raise NotImplementedError


def whole_numbers(axis: Any) -> None:
    """Give an axis whole numbers alone."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def brief(text: object, most: int = 24) -> str:
    """Return a text for a label, its middle left out if it is long; what looks like a formula stays a text."""
    found = " ".join(str(text).split())
    if len(found) > most:
        found = found[: most - most // 2 - 1] + "…" + found[len(found) - most // 2 :]
    return found.replace("$", r"\$")


def colours(count: int) -> list[str]:
    """Return as many colours, which repeat after eight."""
    return [COLOURS[number % len(COLOURS)] for number in range(count)]


def spans_decades(values: Sequence[float] | NDArray[Any]) -> bool:
    """Return whether positive numbers span more than a factor of thirty, so that a logarithmic axis shows more."""
    array = np.asarray(values, np.float64)
    array = array[np.isfinite(array) & (array > 0.0)]
    return bool(array.size and array.max() > 30.0 * array.min())
