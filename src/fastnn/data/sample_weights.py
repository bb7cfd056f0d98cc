"""Sample weights and class weights, combined to one weight per sample for each output."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import casts
from fastnn.data.arrays import Rows, Targets, as_array
from fastnn.registry import check_real, shorten

BALANCED = "balanced"


def weights_by_output(
    sample_weight: Any,
    class_weight: Any,
    target_list: Sequence[Targets | None],
    names: Sequence[str],
    n: int,
    n_classes: int,
    dtype: str,
) -> list[Rows | None]:
    """Make one weight per sample for each output, or None if all are 1.

    Parameters
    ----------
    sample_weight : array of shape (n,), or a list or dict of such by output
    class_weight : dict of label to float, or "balanced"
        For models with one output of classes.
    n_classes : int
        Columns of the first output.
    dtype : {"float32", "float64"}
        The model's dtype, in which weights have to be finite.

    Raises
    ------
    TypeError, ValueError
        When weights are not finite numbers of shape (n,), a class is not among the labels, or targets are not classes.
    """
    several = isinstance(sample_weight, Mapping) or (
        len(names) > 1 and isinstance(sample_weight, (list, tuple)) and len(sample_weight) == len(names)
    )
    if isinstance(sample_weight, Mapping):
        unknown = [name for name in sample_weight if name not in names]
        if unknown:
            raise ValueError(f"sample_weight: there is no output {unknown[0]!r}; the outputs are {list(names)}")
        parts = [sample_weight.get(name) for name in names]
    else:
        parts = list(sample_weight) if several else [sample_weight] * len(names)
    found = [None if part is None else _check_weights(part, n, dtype) for part in parts]
    if class_weight is not None:
        target = _only_output(target_list)
        if isinstance(class_weight, str):
            class_weight = balanced(class_weight, target_list, n)
        factors = _class_weights(class_weight, target, n_classes, dtype)
        if found[0] is not None:
            with np.errstate(over="ignore", under="ignore"):
                factors *= found[0]
            if not np.isfinite(factors).all():
                raise ValueError("class_weight: times sample_weight it is too large for float64")
            casts.check_fits(factors, dtype, "class_weight times sample_weight")
        found = [factors]
    return [None if part is None else Rows.of(part) for part in found]


def balanced(value: str, target_list: Sequence[Targets | None], n: int) -> dict[int, float]:
    """Return class weights that give all classes equal influence, from the first n rows.

    They are n / (n_classes * rows of the class), over the classes that occur: scikit-learn's formula.
    """
    if value != BALANCED:
        raise ValueError(f"class_weight: expected a dict of label to weight, or 'balanced', got {shorten(value)}")
    target = _only_output(target_list)
    counts: dict[int, int] = {}
    for first, labels in _labels(target):
        for label, count in zip(*np.unique(labels[: max(n - first, 0)], return_counts=True), strict=True):
            counts[int(label)] = counts.get(int(label), 0) + int(count)
    return {label: n / (len(counts) * count) for label, count in counts.items()}


def _only_output(target_list: Sequence[Targets | None]) -> Targets:
    if len(target_list) != 1 or target_list[0] is None:
        raise ValueError("class_weight: takes a model with one output; pass sample_weight instead")
    return target_list[0]


def _check_weights(value: Any, n: int, dtype: str) -> NDArray[Any]:
    array = as_array(value, "sample_weight")
    if array.shape not in ((n,), (n, 1)):
        raise ValueError(f"sample_weight: expected shape ({n},), got {array.shape}")
    array = array.reshape(n)
    if array.dtype.kind == "f":
        for first, chunk in casts.chunks(array):
            bad = np.flatnonzero(~np.isfinite(chunk))
            if len(bad):
                raise ValueError(f"sample_weight: row {first + bad[0]} is {chunk[bad[0]]}")
    casts.check_fits(array, dtype, "sample_weight")
    return array


def _class_weights(class_weight: Any, target: Targets, n_classes: int, dtype: str) -> NDArray[np.float64]:
    """Look up the weight of each sample's class, chunk by chunk."""
    if not isinstance(class_weight, Mapping):
        raise TypeError(
            f"class_weight: expected a dict of label to weight, or 'balanced', got {type(class_weight).__name__}"
        )
    table = np.ones(max(n_classes, 2))
    for label, weight in class_weight.items():
        if not isinstance(label, (int, np.integer, np.bool_)) or label < 0:
            raise ValueError(f"class_weight: labels are integers from 0 on, got {label!r}")
        if label >= len(table):
            raise ValueError(f"class_weight: expected labels from 0 to {len(table) - 1}, got {label!r}")
        what = f"class_weight: the weight of class {int(label)}"
        table[int(label)] = check_real(what, weight)
        casts.check_number(table[int(label)], dtype, what)
    result = np.ones(len(target.rows.array))
    for first, labels in _labels(target):
        known = labels < len(table)
        result[first : first + len(labels)][known] = table[labels[known]]
    return result


def _labels(target: Targets) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield the first row and the labels of every chunk of targets.

    Raises
    ------
    ValueError
        When a row has no class, or several: numbers, probabilities, several labels.
    """
    array = target.rows.array
    if target.labels:
        if array.ndim != 1:
            raise ValueError(f"class_weight: expected one label per sample, got labels of shape {array.shape}")
        yield from casts.chunks(array)
        return
    if math.prod(array.shape[1:-1]) != 1:
        raise ValueError(f"class_weight: expected one class per sample, got targets of shape {array.shape}")
    for first, chunk in casts.chunks(array):
        part = chunk.reshape(len(chunk), -1)
        columns = part.shape[1]
        # hinge losses call the first of two classes -1
        bad = ~((part == 0) | (part == 1) | (part == -1) if columns == 1 else (part == 0) | (part == 1)).all(axis=1)
        if columns > 1:
            bad |= (part == 1).sum(axis=1) != 1
        if bad.any():
            row = int(np.argmax(bad))
            expected = "0 and 1" if columns == 1 else "labels or one-hot rows"
            raise ValueError(
                f"class_weight: needs targets that are classes ({expected}); row {first + row} is "
                f"{shorten(part[row].tolist())}. For other targets pass sample_weight"
            )
        yield first, part.argmax(axis=1) if columns > 1 else (part[:, 0] > 0).astype(np.intp)
