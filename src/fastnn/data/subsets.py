"""The rows of a data set that one of many models trains on: checks and copies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastnn.data.arrays import as_array
from fastnn.data.kinds import list_of


class Selection(NamedTuple):
    """The rows that a model trains on, and its validation rows."""

    train: NDArray[np.intp]
    validation: NDArray[np.intp] | None


def selections(rows: Any, n: int, n_models: int) -> list[Selection]:
    """Check the rows of every model.

    Parameters
    ----------
    rows : iterable of rows, or of pairs (rows, validation rows), one per model
    n : int
        The number of rows.

    Raises
    ------
    TypeError, ValueError
        When their number is not that of the models, or one is not an array of row numbers or a mask; names its index.
    """
    if isinstance(rows, (str, Mapping)) or not isinstance(rows, Iterable):
        raise TypeError(f"rows: expected one array of row numbers per model, or one pair per model, got {rows!r}")
    # stops at one entry too many, since an endless iterable has no length
    each = list(islice(rows, n_models + 1))
    if len(each) != n_models:
        raise ValueError(f"rows: expected one entry for each of {n_models} models, got {len(each)}")
    found = []
    for index, entry in enumerate(each):
        if not isinstance(entry, tuple):
            found.append(Selection(_checked(entry, n, f"rows[{index}]"), None))
            continue
        if len(entry) != 2:
            raise ValueError(f"rows[{index}]: expected rows, or a pair (rows, validation rows), got {len(entry)} parts")
        train, validation = (_checked(part, n, f"rows[{index}][{place}]") for place, part in enumerate(entry))
        found.append(Selection(train, validation))
    return found


def _checked(rows: Any, n: int, what: str) -> NDArray[np.intp]:
    """Return row numbers from 0 to n - 1, from numbers or a mask."""
    try:
        array = np.asarray(rows)
    except ValueError as error:
        raise TypeError(f"{what}: expected an array of row numbers: {error}") from None
    if array.ndim != 1:
        raise ValueError(f"{what}: expected an array of row numbers of one axis, got shape {array.shape}")
    if array.dtype == np.bool_:
        if len(array) != n:
            raise ValueError(f"{what}: expected a mask of {n} rows, as many as x has, got {len(array)}")
        array = np.flatnonzero(array)
    elif len(array) and array.dtype.kind not in "iu":
        raise TypeError(f"{what}: expected integer row numbers or a mask, got dtype {array.dtype}")
    if len(array) == 0:
        raise ValueError(f"{what}: expected at least one row, got none")
    outside = np.flatnonzero((array < 0) | (array >= n))
    if len(outside):
        at = int(outside[0])
        raise ValueError(f"{what}: expected row numbers from 0 to {n - 1}, got {array[at]} at position {at}")
    return array.astype(np.intp, copy=False)


def count(x: Any, names: Sequence[str]) -> int:
    """Return the number of rows of a model's inputs.

    Raises
    ------
    ValueError
        When the first input is a single number.
    """
    array = as_array(list_of(x, names, "x")[0], "x")
    if array.ndim == 0:
        raise ValueError("x: expected an array of rows, got a single number")
    return len(array)


def take(value: Any, names: Sequence[str], rows: NDArray[np.intp], n: int, what: str) -> Any:
    """Return copies of some rows of the arrays of a model's inputs or outputs."""
    found = [None if part is None else _rows_of(part, rows, n, what) for part in list_of(value, names, what)]
    return found[0] if len(names) == 1 else found


def take_weights(value: Any, names: Sequence[str], rows: NDArray[np.intp], n: int) -> Any:
    """Return copies of some rows of sample weights: one array, or several by output."""
    what = "sample_weight"
    if value is None:
        return None
    if isinstance(value, Mapping):
        return {name: None if part is None else _rows_of(part, rows, n, what) for name, part in value.items()}
    if len(names) > 1 and isinstance(value, (list, tuple)) and len(value) == len(names):
        return [None if part is None else _rows_of(part, rows, n, what) for part in value]
    return _rows_of(value, rows, n, what)


def _rows_of(value: Any, rows: NDArray[np.intp], n: int, what: str) -> NDArray[Any]:
    array = as_array(value, what)
    if array.ndim == 0 or len(array) != n:
        raise ValueError(f"{what}: expected {n} rows, as many as x has, got shape {array.shape}")
    return array[rows]
