"""Checks of target arrays against an output's shape, shared by losses and metrics.

Two kinds of targets exist: "classes" are integer labels, one for every row of scores; "dense" targets have an
element for every output element. "any" are those of a function of symbols, which takes both, and others. Arrays are
checked chunk by chunk, so that memory-mapped targets are never copied whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastnn.casts import chunks, spell_within

Kind = Literal["classes", "dense", "any"]
Shape = tuple[int, ...]
# arrays with more distinct labels are not classes
_MOST_CLASSES = 10_000
#: Allowed distance of a sum of probabilities from 1: enough for float16 ones of a thousand classes.
SUM_TOLERANCE = 1e-3


class ElementError(ValueError):
    """A target that a loss or metric does not accept.

    Parameters
    ----------
    where, expected : str
    value : int or float
    index, shape : tuple of int
        Of the element and of the array.
    hint : str
        End of the message.

    Attributes
    ----------
    columns : sequence or None
        Names of the columns of the data frame that the targets come from.
    """

    columns: Any = None

    def __init__(
        self, where: str, expected: str, value: Any, index: tuple[int, ...], shape: tuple[int, ...], hint: str = ""
    ) -> None:
        super().__init__(where, expected, value, index, shape, hint)

    def __str__(self) -> str:
        """Return the message, with the place in the words of `casts.spell_within`."""
        where, expected, value, index, shape, hint = self.args
        within = spell_within(index, shape, self.columns)
        return f"{where}: expected {expected}; row {index[0]} has {value}{' ' * bool(within)}{within}{hint}"


def check_array(y: object, where: str) -> NDArray[Any]:
    """Return `y` if it is an array of real numbers with a row axis."""
    if not isinstance(y, np.ndarray):
        raise TypeError(f"{where}: expected targets as a numpy array, got {type(y).__name__}")
    if y.dtype.kind not in "biuf":
        hint = "; np.unique(y, return_inverse=True) turns names into labels" if y.dtype.kind in "OSUT" else ""
        raise TypeError(f"{where}: expected targets of a real number type, got dtype {y.dtype}{hint}")
    if y.ndim == 0:
        raise ValueError(f"{where}: expected one target per row, got a single number")
    return y


def has_dense_shape(y: NDArray[Any], output_shape: Shape) -> bool:
    """Return whether `y` fits the output element by element; the axis of a single column may be missing."""
    return y.shape[1:] == output_shape or (output_shape[-1] == 1 and y.shape[1:] == output_shape[:-1])


def has_classes_shape(y: NDArray[Any], output_shape: Shape) -> bool:
    """Return whether `y` has an element for every row of two or more scores."""
    return output_shape[-1] > 1 and y.shape[1:] in (output_shape[:-1], (*output_shape[:-1], 1))


def check_dense_shape(y: NDArray[Any], output_shape: Shape, where: str) -> None:
    """Raise unless `y` has an element for every output element."""
    if not has_dense_shape(y, output_shape):
        raise ValueError(f"{where}: expected targets of shape {dense_shapes(output_shape)}, got {y.shape}")


def check_labels(y: NDArray[Any], output_shape: Shape, where: str) -> None:
    """Raise unless `y`, which has the shape of labels, holds integers from 0 to output_shape[-1] - 1."""
    n_classes = output_shape[-1]
    if y.dtype.kind == "f":
        raise TypeError(
            f"{where}: expected integer class labels, or targets of shape {spell_shape(output_shape)}; got "
            f"{y.dtype} of shape {y.shape}; y.astype(np.int64) makes labels of whole numbers"
        )
    expected = f"class labels from 0 to {n_classes - 1}, for {n_classes} output columns"
    check_elements(y, lambda t: (t >= 0) & (t < n_classes), expected, where, lambda: _hint_of_labels(y, n_classes))


def check_scored_targets(y: NDArray[Any], output_shape: Shape, where: str) -> Kind:
    """Check labels, or finite dense targets; returns which they are."""
    if has_classes_shape(y, output_shape):
        check_labels(y, output_shape, where)
        return "classes"
    if not has_dense_shape(y, output_shape):
        expected = f"targets of shape {dense_shapes(output_shape)}"
        if output_shape[-1] > 1:
            expected = f"integer labels of shape {spell_shape(output_shape[:-1])} or {expected}"
        raise ValueError(f"{where}: expected {expected}, got {y.dtype} of shape {y.shape}")
    check_range(y, where)
    return "dense"


def check_one_class(
    y: NDArray[Any],
    output_shape: Shape,
    where: str,
    several: str = "use BinaryAccuracy, AUC, Precision, Recall or F1Score",
) -> Kind:
    """Check labels, or dense targets that single out a class in every row; returns which they are.

    `several` is the advice of the error for several labels per row.
    """
    kind = check_scored_targets(y, output_shape, where)
    row = row_without_class(y) if kind == "dense" and output_shape[-1] > 1 else None
    if row is not None:
        raise ValueError(
            f"{where}: expected targets with one class per row; row {row} has no single maximum; for several labels "
            f"per row {several}"
        )
    return kind


def check_several_labels(y: NDArray[Any], output_shape: Shape, where: str) -> Kind:
    """Check integer labels, or dense targets of which each says whether a row has a label; returns which they are."""
    kind = check_scored_targets(y, output_shape, where)
    if kind == "dense":
        expected = "targets 0 (or -1) and 1, or between"
        check_elements(y, lambda t: (t >= -1.0) & (t <= 1.0), expected, where, lambda: hint_of_two(y))
    return kind


def row_without_class(y: NDArray[Any]) -> int | None:
    """Return the first row of dense targets that singles out no class; None where all do."""
    for first, chunk in chunks(y):
        tied = (chunk == chunk.max(axis=-1, keepdims=True)).sum(axis=-1) > 1
        if tied.any():
            # A soft target may be split evenly; several ones, or none, are the labels of another task.
            split = np.abs(chunk.sum(axis=-1, dtype=np.float64) - 1.0) <= SUM_TOLERANCE
            bad = tied & ~(split & (chunk.min(axis=-1) >= 0))
            if bad.any():
                return first + int(np.argwhere(bad)[0][0])
    return None


def check_range(y: NDArray[Any], where: str, minimum: float = -math.inf, maximum: float = math.inf) -> None:
    """Raise unless every target is finite and within the bounds."""
    bounds = [f">= {minimum:g}"] * (minimum > -math.inf) + [f"<= {maximum:g}"] * (maximum < math.inf)
    expected = " ".join(["finite targets", " and ".join(bounds)]).strip()
    hint = (lambda: hint_of_two(y)) if (minimum, maximum) == (0.0, 1.0) else None
    check_elements(y, lambda t: np.isfinite(t) & (t >= minimum) & (t <= maximum), expected, where, hint)


def check_distributions(y: NDArray[Any], where: str) -> None:
    """Raise unless the last axis of `y` holds probabilities (as one-hot targets do) that sum to 1."""
    check_range(y, where, 0.0, 1.0)
    for first, chunk in chunks(y):
        sums = chunk.sum(axis=-1, dtype=np.float64)
        bad = np.abs(sums - 1.0) > SUM_TOLERANCE
        if bad.any():
            index = tuple(int(i) for i in np.argwhere(bad)[0])
            raise ValueError(
                f"{where}: expected one-hot targets or probabilities that sum to 1; row {first + index[0]} "
                f"sums to {float(sums[index]):g}; for several labels per row use binary_cross_entropy"
            )


def check_elements(
    y: NDArray[Any],
    passes: Callable[[NDArray[Any]], NDArray[np.bool_]],
    expected: str,
    where: str,
    hint: Callable[[], str] | None = None,
) -> None:
    """Raise ElementError unless every element passes; it names the first row with one that does not."""
    for first, chunk in chunks(y):
        bad = ~passes(chunk)
        if bad.any():
            index = tuple(int(i) for i in np.argwhere(bad)[0])
            place = (first + index[0], *index[1:])
            value = chunk[index].item()
            # a value that is not finite is no label of another numbering
            end = hint() if hint is not None and math.isfinite(value) else ""
            raise ElementError(where, expected, value, place, y.shape, end)


def hint_of_two(y: NDArray[Any], *, signed: bool = False) -> str:
    """Explain how to number two classes 0 and 1, or -1 and 1, if y does it otherwise."""
    found = _distinct(y)
    if not found:
        return ""
    if set(found) <= {1, 2}:
        return f"; for labels 1 and 2 pass {'2.0 * y - 3' if signed else 'y - 1'}"
    if set(found) <= {0, 1}:
        return "; for labels 0 and 1 pass 2.0 * y - 1"
    if set(found) <= {-1, 1}:
        return "; for labels -1 and 1 pass (y + 1) / 2"
    if len(found) == 2:
        numbered = f"2.0 * (y == {found[1]}) - 1" if signed else f"y == {found[1]}"
        return f"; for labels {found[0]} and {found[1]} pass {numbered}"
    return "" if signed else f"; for {len(found)} classes use cross_entropy and {len(found)} outputs with softmax"


def _hint_of_labels(y: NDArray[Any], n_classes: int) -> str:
    """Explain how to number classes from 0 on, if y does it otherwise."""
    found = _distinct(y)
    if not found:
        return ""
    if len(found) > n_classes:
        return f"; y has {len(found)} different labels"
    if set(found) <= {-1, 1}:
        return "; for labels -1 and 1 pass (y + 1) // 2"
    if found[0] > 0 and found[-1] == n_classes:
        return f"; for labels from 1 to {n_classes} pass y - 1"
    return "; `classes, y = numpy.unique(y, return_inverse=True)` numbers the labels that occur"


def _distinct(y: NDArray[Any]) -> list[int]:
    """Return the distinct values in order if they are few and whole; else an empty list."""
    found: set[float] = set()
    for _, chunk in chunks(y):
        found.update(np.unique(chunk).tolist())
        if len(found) > _MOST_CLASSES or not all(float(value).is_integer() for value in found):
            return []
    return sorted(int(value) for value in found)


def dense_shapes(output_shape: Shape) -> str:
    """Spell the shapes that dense targets may have."""
    full = spell_shape(output_shape)
    return f"{full} or {spell_shape(output_shape[:-1])}" if output_shape[-1] == 1 else full


def spell_shape(shape: Shape) -> str:
    """Spell a shape with a first axis of n rows."""
    return f"(n, {', '.join(map(str, shape))})" if shape else "(n,)"
