"""Pictures of how well classes are told apart: confusion matrix, and calibration of probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn.checks import integer
from fastnn.figures import COLOURS, axes_for, brief
from fastnn.hints import explained
from fastnn.plot.outputs import checked_names, one_column, predicted_labels, predictions, same_length, true_labels

# more classes have counts without shares, and even more colours alone
_SHARES, _COUNTS = 12, 30
# more bins have no numbers of rows
_COUNTED = 12


@explained
def confusion_matrix(
    y_true: ArrayLike, y_pred: Any, *, x: Any = None, names: Sequence[str] | None = None, ax: Any = None
) -> Any:
    """Draw how many rows of each class are predicted to be of which.

    ::

        fnn.plot.confusion_matrix(y, model.predict(x), names=["cat", "dog", "owl"])
        fnn.plot.confusion_matrix(y, model, x=x)

    Each cell has the count, and its share of the true class: colours are shares of rows.

    Parameters
    ----------
    y_true : array of int, shape (n,)
        Labels from 0 on; or one-hot rows (n, classes).
    y_pred : array of shape (n,) or (n, classes), or Model
        Labels, probabilities of the class 1, or scores of the classes, of which the largest counts; or a model.
    x : array, optional
        The inputs, if `y_pred` is a model.
    names : sequence of str, optional
        Names of the classes, in the order of the labels.
    ax : matplotlib Axes, optional
        None makes a figure, whose size depends on the number of classes.

    Returns
    -------
    Axes

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError, ValueError
        When these are no labels or predictions, or not equally many.
    """
    what = "confusion_matrix"
    truth, found = true_labels(what, y_true), predictions(what, y_pred, x)
    columns = found.shape[1] if found.ndim == 2 else 0
    guess = predicted_labels(what, found)
    same_length(what, truth, guess)
    classes = max(2 if columns == 1 else columns, int(truth.max()) + 1, int(guess.max()) + 1)
    labels = checked_names(what, names, classes)
    classes = len(labels)
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (truth, guess), 1)
    rows = counts.sum(1, keepdims=True)
    shares = np.where(rows > 0, counts / np.maximum(rows, 1), np.nan)
    side = min(3.5 + 0.42 * classes, 16.0)
    axes = axes_for(what, ax, (side + 1.2, side))
    from matplotlib.ticker import PercentFormatter

    image = axes.imshow(np.ma.masked_invalid(shares), cmap="Blues", vmin=0.0, vmax=1.0)
    axes.set_facecolor("0.9")
    if classes <= _COUNTS:
        _write_counts(axes, counts, shares)
    shown = [brief(label, 20) for label in labels]
    flat = max(map(len, shown)) <= 3
    slanted = {} if flat else {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(classes), shown, **slanted)
    axes.set_yticks(range(classes), shown)
    right = int(np.trace(counts))
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.set_title(f"Confusion matrix: {right:,} of {len(truth):,} right ({right / len(truth):.1%})", fontsize="medium")
    axes.figure.colorbar(image, ax=axes, label="share of the true class", format=PercentFormatter(1.0, 0), shrink=0.8)
    return axes


def _write_counts(axes: Any, counts: NDArray[np.int64], shares: NDArray[np.float64]) -> None:
    with_shares = len(counts) <= _SHARES
    size = "small" if with_shares else "x-small" if len(counts) <= 20 else "xx-small"
    for (row, column), count in np.ndenumerate(counts):
        share = shares[row, column]
        # most cells of many classes are empty
        if count == 0 and not with_shares:
            continue
        text = f"{count}\n{share:.0%}" if with_shares and count else str(count)
        colour = "white" if share > 0.5 else "black"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=size)


class Calibration(NamedTuple):
    """Bins of predicted probabilities, and how often they were right.

    Attributes
    ----------
    edges : array of float64, shape (bins + 1,)
    counts : array of int64, shape (bins,)
        Rows per bin.
    predicted, observed : array of float64, shape (bins,)
        Mean probability, and share of rows for which what was predicted holds; NaN for empty bins.
    error : float
        The expected calibration error: the mean over rows of the distance between `predicted` and `observed`.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    predicted: NDArray[np.float64]
    observed: NDArray[np.float64]
    error: float


@explained
def calibration(y_true: ArrayLike, y_pred: Any, *, x: Any = None, bins: int = 10) -> Calibration:
    """Compare predicted probabilities with shares, in bins of equal width (Guo et al. 2017, arXiv:1706.04599).

    Of two classes the probability is that of the class 1; of several that of the predicted class, which is right or
    not.

    Parameters
    ----------
    y_true : array of int, shape (n,)
        Labels; or one-hot rows (n, classes).
    y_pred : array of shape (n,) or (n, classes), or Model
        Probabilities.
    x : array, optional
        The inputs, if `y_pred` is a model.
    bins : int

    Returns
    -------
    Calibration

    Raises
    ------
    TypeError, ValueError
        When these are no labels or probabilities, or not equally many.
    """
    return _calibration("calibration", y_true, y_pred, x, bins)[0]


def _calibration(what: str, y_true: ArrayLike, y_pred: Any, x: Any, bins: int) -> tuple[Calibration, bool]:
    """Return bins, and whether there are several classes."""
    bins = integer(f"{what}: bins", bins)
    truth, found = true_labels(what, y_true), predictions(what, y_pred, x)
    same_length(what, truth, found)
    several = found.ndim == 2 and found.shape[1] > 1
    if several:
        sums = found.sum(1, dtype=np.float64)
        if found.min() < 0.0 or abs(sums - 1.0).max() > 1e-3:
            raise ValueError(f"{what}: y_pred: expected rows of probabilities, whose sum is 1, got {sums.min():.4g}")
        if truth.max() >= found.shape[1]:
            raise ValueError(f"{what}: y_true: expected labels below {found.shape[1]}, got {truth.max()}")
        sure = np.minimum(found.max(1), 1.0).astype(np.float64)
        holds = found.argmax(1) == truth
    else:
        sure, holds = one_column(what, found).astype(np.float64), truth == 1
        if truth.max() > 1:
            raise ValueError(f"{what}: y_true: expected labels 0 and 1, got {truth.max()}")
    edges = np.linspace(0.0, 1.0, bins + 1)
    place = np.minimum((sure * bins).astype(np.int64), bins - 1)
    counts = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        predicted = np.bincount(place, sure, bins) / counts
        observed = np.bincount(place, holds, bins) / counts
    error = float(np.nansum(counts * abs(predicted - observed)) / len(truth))
    return Calibration(edges, counts, predicted, observed, error), several


@explained
def reliability(y_true: ArrayLike, y_pred: Any, *, x: Any = None, bins: int = 10, ax: Any = None) -> Any:
    """Draw how often predictions are right against how sure they are: on the diagonal probabilities are true.

    Bars below are the numbers of rows in the bins, and the title has the expected calibration error; see `calibration`.

    Parameters
    ----------
    y_true, y_pred, x, bins
        As for `calibration`.
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
        As for `calibration`.
    """
    found, several = _calibration("reliability", y_true, y_pred, x, bins)
    axes = axes_for("reliability", ax, (5.0, 5.4))
    there = found.counts > 0
    axes.plot([0.0, 1.0], [0.0, 1.0], "--", color="0.5", label="calibrated")
    axes.plot(found.predicted[there], found.observed[there], "o-", color=COLOURS[0], label="predictions")
    axes.vlines(found.predicted[there], found.observed[there], found.predicted[there], COLOURS[1], alpha=0.6)
    # the numbers of rows are a band of their own below the curve
    heights = 0.16 * found.counts / found.counts.max()
    axes.bar(found.edges[:-1], heights, np.diff(found.edges), -0.3, align="edge", color="0.8", edgecolor="white")
    if bins <= _COUNTED:
        for left, width, count in zip(found.edges, np.diff(found.edges), found.counts, strict=False):
            axes.text(left + width / 2.0, -0.095, f"{count:,}", ha="center", va="top", fontsize="x-small", color="0.3")
    axes.axhline(-0.08, color="black", linewidth=0.8)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.32, 1.04), yticks=np.arange(0.0, 1.1, 0.2))
    axes.set_xlabel(("probability of the predicted class" if several else "probability of class 1") + "; rows per bin")
    axes.set_ylabel("share that is right" if several else "share of class 1", y=0.66)
    axes.set_title(f"Reliability: expected calibration error {found.error:.1%}", fontsize="medium")
    axes.legend(fontsize="small", loc="upper left")
    axes.grid(alpha=0.3)
    return axes
