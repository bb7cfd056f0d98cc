"""Data frames and columns of other libraries: their values as arrays of numbers, by column position."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
from numpy.typing import NDArray

# pandas' marker of a missing value, None, and polars' null, which is None too
_MISSING = ("NAType", "NoneType")


def values(frame: Any, what: str) -> Any:
    """Return the values of a data frame or a column (anything with `to_numpy`); missing ones are NaN.

    Columns are identified by position: names may occur twice.

    Raises
    ------
    TypeError
        When columns hold no numbers; names them.
    """
    found = frame.to_numpy()
    if not isinstance(found, np.ndarray) or found.dtype != object:
        return found
    names = columns(frame)
    if names is None:
        return _column(frame)
    parts = [_column(_series(frame, index)) for index in range(len(names))]
    bad = [index for index, part in enumerate(parts) if part.dtype.kind not in "biuf"]
    if bad:
        spelled = [str(names[index]) for index in bad]
        hint = recipe(_series(frame, bad[0]), parts[bad[0]]) if len(parts) == 1 else ""
        raise TypeError(f"{what}: expected numbers, but the columns {spelled} hold something else{hint}")
    return np.column_stack(parts)


def columns(frame: Any) -> Any:
    """Return the names of a data frame's columns, or None for anything else."""
    if isinstance(frame, (np.ndarray, list, tuple)) or not hasattr(frame, "to_numpy"):
        return None
    return getattr(frame, "columns", None)


def recipe(given: Any, array: NDArray[Any]) -> str:
    """Explain how to convert text, categories or objects to numbers; empty if unknown."""
    kind = array.dtype.kind
    if kind not in "OSUT":
        return ""
    if hasattr(getattr(given, "cat", None), "codes"):
        return "; number categories by .cat.codes"
    if hasattr(given, "codes") and hasattr(given, "categories"):
        return "; number categories by .codes"
    dtype = str(getattr(given, "dtype", ""))
    if dtype.startswith("Enum"):
        return "; number categories by .to_physical()"
    # the numbers of a polars Categorical are shared by all of a process: they need not begin at 0
    if (
        kind != "O"
        or dtype.startswith("Categorical")
        or any(isinstance(value, (str, bytes)) for value in array.ravel()[:1000])
    ):
        return "; number classes by `classes, y = numpy.unique(y, return_inverse=True)`"
    return "; if its elements are numbers, use .astype(float)"


def _series(frame: Any, index: int) -> Any:
    """Return one column of a frame by position."""
    if hasattr(frame, "iloc"):
        return frame.iloc[:, index]
    return frame.to_series(index) if hasattr(frame, "to_series") else frame[frame.columns[index]]


def _column(series: Any) -> NDArray[Any]:
    """Return the values of a column, unchanged if an element is neither a number nor missing."""
    dtype = getattr(series, "dtype", None)
    if getattr(dtype, "na_value", None) is not None and getattr(dtype, "kind", "O") in "biuf":
        # pandas' nullable dtypes
        found: NDArray[Any] = series.to_numpy(dtype="float64", na_value=np.nan)
        return found
    found = series.to_numpy()
    if found.dtype != object:
        return found
    missing = [type(value).__name__ in _MISSING for value in found]
    known = (
        isinstance(value, (numbers.Real, np.bool_)) for value, gone in zip(found, missing, strict=True) if not gone
    )
    if all(missing) or not all(known):
        return found
    return np.array([np.nan if gone else float(value) for value, gone in zip(found, missing, strict=True)])
