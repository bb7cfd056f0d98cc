"""Checks of target arrays against an output's shape, which losses and metrics share.

Two kinds of targets exist: "classes" are integer labels, one for every row of scores; "dense" targets have an
element for every output element. Arrays are looked at chunk by chunk, so that memory-mapped targets are never
copied whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["classes", "dense"]
Shape = tuple[int, ...]

_CHUNK_ELEMENTS = 1 << 18
#: How far from 1 a sum of probabilities may be: float16 ones of a thousand classes are within.
SUM_TOLERANCE = 1e-3


def check_array(y: object, where: str) -> NDArray[Any]:
    """Return `y` if it is an array of real numbers with a row axis."""
    if not isinstance(y, np.ndarray):
        raise TypeError(f"{where}: expected targets as a numpy array, got {type(y).__name__}")
    if y.dtype.kind not in "biuf":
        hint = "; np.unique(y, return_inverse=True) turns names into labels" if y.dtype.kind in "OSUT" else ""
        raise TypeError(f"{where}: expected targets of a real number type, got dtype {y.dtype}{hint}")
    if y.ndim == 0:
        raise ValueError(f"{where}: expected one target a row, got a single number")
    return y


def has_dense_shape(y: NDArray[Any], output_shape: Shape) -> bool:
    """Tell whether `y` fits the output element by element; the axis of a single column may be missing."""
    return y.shape[1:] == output_shape or (output_shape[-1] == 1 and y.shape[1:] == output_shape[:-1])


def has_classes_shape(y: NDArray[Any], output_shape: Shape) -> bool:
    """Tell whether `y` has an element for every row of two or more scores."""
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
    check_elements(y, lambda t: (t >= 0) & (t < n_classes), expected, where)


def check_scored_targets(y: NDArray[Any], output_shape: Shape, where: str) -> Kind:
    """Check labels, or finite dense targets, and tell which they are."""
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


def check_one_class(y: NDArray[Any], output_shape: Shape, where: str) -> Kind:
    """Check labels, or dense targets that single out a class in every row, and tell which they are."""
    kind = check_scored_targets(y, output_shape, where)
    if kind == "dense" and output_shape[-1] > 1:
        for first, chunk in chunks(y):
            tied = (chunk == chunk.max(axis=-1, keepdims=True)).sum(axis=-1) > 1
            # A soft target may be split evenly; several ones, or none, are the labels of another task.
            bad = tied & (np.abs(chunk.sum(axis=-1, dtype=np.float64) - 1.0) > SUM_TOLERANCE)
            if bad.any():
                row = first + int(np.argwhere(bad)[0][0])
                raise ValueError(
                    f"{where}: expected targets with one class a row; row {row} has no single maximum; "
                    "for several labels a row use BinaryAccuracy or AUC"
                )
    return kind


def check_range(y: NDArray[Any], where: str, minimum: float = -math.inf, maximum: float = math.inf) -> None:
    """Raise unless every target is finite and within the bounds."""
    bounds = [f">= {minimum:g}"] * (minimum > -math.inf) + [f"<= {maximum:g}"] * (maximum < math.inf)
    expected = " ".join(["finite targets", " and ".join(bounds)]).strip()
    check_elements(y, lambda t: np.isfinite(t) & (t >= minimum) & (t <= maximum), expected, where)


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
                f"sums to {float(sums[index]):g}; for several labels a row use binary_cross_entropy"
            )


def check_elements(
    y: NDArray[Any], passes: Callable[[NDArray[Any]], NDArray[np.bool_]], expected: str, where: str
) -> None:
    """Raise unless every element passes; the message names the first row that has one that does not."""
    for first, chunk in chunks(y):
        bad = ~passes(chunk)
        if bad.any():
            index = tuple(int(i) for i in np.argwhere(bad)[0])
            within = f" at {list(index[1:])}" if any(n > 1 for n in y.shape[1:]) else ""
            row = f"row {first + index[0]} has {chunk[index].item()}{within}"
            raise ValueError(f"{where}: expected {expected}; {row}")


def chunks(y: NDArray[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
    """Give the first row and a view of every group of rows, of about 2^18 elements each."""
    if y.size == 0:
        return
    rows = max(1, _CHUNK_ELEMENTS // (y.size // len(y)))
    for first in range(0, len(y), rows):
        yield first, y[first : first + rows]


def dense_shapes(output_shape: Shape) -> str:
    """Spell the shapes that dense targets may have."""
    full = spell_shape(output_shape)
    return f"{full} or {spell_shape(output_shape[:-1])}" if output_shape[-1] == 1 else full


def spell_shape(shape: Shape) -> str:
    """Spell a shape with n rows in front."""
    return f"(n, {', '.join(map(str, shape))})" if shape else "(n,)"
