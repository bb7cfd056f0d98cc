"""Sample weights and class weights, combined to one weight per sample, or per row of a sample, for each output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import casts
from fastnn.checks import number, shorten
from fastnn.data.arrays import Rows, Shape, Targets, as_array

BALANCED = "balanced"


def weights_by_output(
    sample_weight: Any,
    class_weight: Any,
    target_list: Sequence[Targets | None],
    names: Sequence[str],
    shapes: Sequence[Shape],
    n: int,
    dtype: str,
    steps: NDArray[np.int64] | None = None,
) -> list[Rows | None]:
    """Make the weights of each output, or None if all are 1.

    Parameters
    ----------
    sample_weight : array, or a list or dict of such by output
        Of shape (n,), or with further axes: the first axes of the output's rows. For an output of shape (n, T, columns)
        that is (n,) or (n, T).
    class_weight : dict of label to float, or "balanced"
        For models with one output of classes.
    shapes : sequence of tuple of int
        Shapes of the outputs' samples.
    dtype : {"float32", "float64"}
        The model's dtype, in which weights have to be finite.
    steps : ndarray of int64, shape (n,), optional
        The steps of each row that count, if the output has an axis of them: "balanced" counts the labels of no others.

    Returns
    -------
    list of Rows or None
        Of shape (n, ...): every weight belongs to one or several rows of the output.

    Raises
    ------
    TypeError, ValueError
        When weights are not finite numbers of such a shape, a class is not among the labels, or targets are not
        classes.
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
    # one array for several outputs need not fit those without targets, for which it is not used
    wanted = [
        part is not None and (several or target is not None) for part, target in zip(parts, target_list, strict=True)
    ]
    found: list[NDArray[Any] | None] = [
        _check_weights(part, (n, *shape[:-1]), dtype, name if len(names) > 1 else None) if used else None
        for part, shape, name, used in zip(parts, shapes, names, wanted, strict=True)
    ]
    if class_weight is not None:
        target = _only_output(target_list)
        if isinstance(class_weight, str):
            class_weight = balanced(class_weight, target_list, n, steps)
        columns = (shapes[0] or (1,))[-1]
        if target.numbered and isinstance(class_weight, Mapping):
            # the columns of the output are no classes
            columns = max(
                [columns, *(int(label) + 1 for label in class_weight if isinstance(label, (int, np.integer)))]
            )
        factors = _class_weights(class_weight, target, columns, dtype)
        if found[0] is not None:
            with np.errstate(over="ignore", under="ignore"):
                factors *= found[0].reshape(found[0].shape + (1,) * (factors.ndim - found[0].ndim))
            if not np.isfinite(factors).all():
                raise ValueError("class_weight: times sample_weight it is too large for float64")
            casts.check_fits(factors, dtype, "class_weight times sample_weight")
        found = [factors]
    return [None if part is None else Rows.of(part) for part in found]


def balanced(
    value: str, target_list: Sequence[Targets | None], n: int, steps: NDArray[np.int64] | None = None
) -> dict[int, float]:
    """Return class weights that give all classes equal influence, from the first n rows, or their first `steps`.

    They are labels / (n_classes * labels of the class), over the classes that occur: scikit-learn's formula.
    """
    if value != BALANCED:
        raise ValueError(f"class_weight: expected a dict of label to weight, or 'balanced', got {shorten(value)}")
    target = _only_output(target_list)
    counts: dict[int, int] = {}
    for first, labels in _labels(target):
        chosen = labels[: max(n - first, 0)]
        if steps is not None and chosen.ndim > 1:
            chosen = chosen[np.arange(chosen.shape[1]) < steps[first : first + len(chosen), None]]
        for label, count in zip(*np.unique(chosen, return_counts=True), strict=True):
            counts[int(label)] = counts.get(int(label), 0) + int(count)
    total = sum(counts.values())
    return {label: total / (len(counts) * count) for label, count in counts.items()}


def _only_output(target_list: Sequence[Targets | None]) -> Targets:
    if len(target_list) != 1 or target_list[0] is None:
        raise ValueError("class_weight: takes a model with one output; pass sample_weight instead")
    return target_list[0]


def _check_weights(value: Any, rows: Shape, dtype: str, output: str | None) -> NDArray[Any]:
    """Return weights without a last axis of length 1; `rows` is the shape of the output's rows, beginning with n."""
    array = as_array(value, "sample_weight")
    shape = array.shape[:-1] if array.ndim > 1 and array.shape[-1] == 1 and array.shape != rows else array.shape
    if not shape or shape != rows[: len(shape)]:
        allowed = [str(rows[:axes]) for axes in range(1, len(rows) + 1)]
        whose = "" if output is None else f" for the output {output!r}"
        raise ValueError(f"sample_weight: expected shape {' or '.join(allowed)}{whose}, got {array.shape}")
    array = array.reshape(shape)
    if array.dtype.kind == "f":
        for first, chunk in casts.chunks(array):
            bad = np.argwhere(~np.isfinite(chunk))
            if len(bad):
                index = tuple(int(i) for i in bad[0])
                within = f"{list(index[1:])}" if len(index) > 1 else ""
                raise ValueError(f"sample_weight: row {first + index[0]}{within} is {chunk[index]}")
    casts.check_fits(array, dtype, "sample_weight")
    return array


def _class_weights(class_weight: Any, target: Targets, n_classes: int, dtype: str) -> NDArray[np.float64]:
    """Look up the weight of each label, chunk by chunk."""
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
        table[int(label)] = number(what, weight, at_least=0.0)
        casts.check_number(table[int(label)], dtype, what)
    array = target.rows.array
    result = np.ones(array.shape if target.labels or target.numbered else array.shape[:-1])
    for first, labels in _labels(target):
        known = (labels >= 0) & (labels < len(table))
        result[first : first + len(labels)][known] = table[labels[known]]
    return result


def _labels(target: Targets) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield the first sample and the labels, of shape (samples, ...), of every chunk of targets.

    Raises
    ------
    ValueError
        When a row has no class, or several: numbers, probabilities, several labels.
    """
    array = target.rows.array
    if target.labels or target.numbered:
        yield from casts.chunks(array)
        return
    if array.ndim == 1:
        raise ValueError("class_weight: needs targets that are classes: integers. For other targets pass sample_weight")
    columns = array.shape[-1]
    for first, chunk in casts.chunks(array):
        part = chunk.reshape(-1, columns)
        # hinge losses call the first of two classes -1
        bad = ~((part == 0) | (part == 1) | (part == -1) if columns == 1 else (part == 0) | (part == 1)).all(axis=1)
        if columns > 1:
            bad |= (part == 1).sum(axis=1) != 1
        if bad.any():
            row = int(np.argmax(bad))
            sample = first + row * len(chunk) // len(part)
            expected = "0 and 1" if columns == 1 else "labels or one-hot rows"
            raise ValueError(
                f"class_weight: needs targets that are classes ({expected}); row {sample} is "
                f"{shorten(part[row].tolist())}. For other targets pass sample_weight"
            )
        labels = part.argmax(axis=1) if columns > 1 else (part[:, 0] > 0).astype(np.intp)
        yield first, labels.reshape(chunk.shape[:-1])
