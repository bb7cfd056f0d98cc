"""Sample weights and class weights, brought to one weight a sample for each output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.registry import check_real
from fastnn.training.data import Rows, Shape, Targets, as_array

# Targets are looked through in parts of this size, so that a memory-mapped array is never copied whole.
_CHUNK_BYTES = 1 << 24


def weights_by_output(
    sample_weight: Any,
    class_weight: Any,
    target_list: Sequence[Targets | None],
    names: Sequence[str],
    n: int,
    shape: Shape,
) -> list[Rows | None]:
    """Make one weight a sample for each output, None where all are 1.

    Parameters
    ----------
    sample_weight : array of shape (n,), or a list or dict of such by output
    class_weight : dict of label to float
        For models with one output of classes.
    shape : tuple of int
        Of the first output's samples.

    Raises
    ------
    TypeError, ValueError
        When weights are not finite numbers of shape (n,), or a class is not among the labels.
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
    found = [None if part is None else _check_weights(part, n) for part in parts]
    if class_weight is not None:
        if len(names) != 1 or target_list[0] is None:
            raise ValueError("class_weight: takes a model with one output; pass sample_weight instead")
        factors = _class_weights(class_weight, target_list[0], shape[-1])
        found = [factors if found[0] is None else found[0] * factors]
    return [None if part is None else Rows.of(part) for part in found]


def _check_weights(value: Any, n: int) -> NDArray[Any]:
    array = as_array(value, "sample_weight")
    if array.shape not in ((n,), (n, 1)):
        raise ValueError(f"sample_weight: expected shape ({n},), got {array.shape}")
    array = array.reshape(n)
    bad = np.flatnonzero(~np.isfinite(array))
    if len(bad):
        raise ValueError(f"sample_weight: row {bad[0]} is {array[bad[0]]}")
    return array


def _class_weights(class_weight: Any, target: Targets, n_classes: int) -> NDArray[np.float64]:
    """Look the weight of each sample's class up, chunk by chunk."""
    if not isinstance(class_weight, Mapping):
        raise TypeError(f"class_weight: expected a dict of label to weight, got {type(class_weight).__name__}")
    array = target.rows.array
    if target.labels and array.ndim != 1:
        raise ValueError(f"class_weight: expected one label a sample, got labels of shape {array.shape}")
    table = np.ones(max(n_classes, 2))
    for label, weight in class_weight.items():
        if isinstance(label, bool) or not isinstance(label, (int, np.integer)) or label < 0:
            raise ValueError(f"class_weight: labels are integers from 0 on, got {label!r}")
        if label >= len(table):
            raise ValueError(f"class_weight: expected labels from 0 to {len(table) - 1}, got {label!r}")
        table[label] = check_real(f"class_weight: the weight of class {label}", weight)
    result = np.ones(len(array))
    step = max(1, _CHUNK_BYTES // max(1, array[:1].nbytes))
    for start in range(0, len(array), step):
        part = array[start : start + step]
        if not target.labels:
            part = part.reshape(len(part), -1)
            part = part.argmax(axis=1) if part.shape[1] > 1 else (part[:, 0] > 0.5).astype(np.int64)
        known = part < len(table)
        result[start : start + step][known] = table[part[known]]
    return result
