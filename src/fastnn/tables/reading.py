"""Data frames of pandas and polars, dicts of columns and structured arrays as columns of values.

Neither library is imported: what a column can do says what it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from fastnn import casts
from fastnn.checks import shorten
from fastnn.tables.values import Values, of_codes, of_dates, of_numbers, of_objects

_EXPECTED = "a data frame of pandas or polars, a dict of columns by name, or a structured array"


def is_table(given: Any) -> bool:
    """Return whether an argument is a data frame or a structured array."""
    if isinstance(given, np.ndarray):
        return given.dtype.names is not None
    return hasattr(given, "columns") and hasattr(given, "to_numpy")


def columns_of(frame: Any, what: str, kinds: Mapping[str, str | None], *, others: bool) -> dict[str, Values | None]:
    """Return the columns of a table by name.

    Parameters
    ----------
    kinds : dict of str to str or None
        Kinds of columns, if they are known: text of categories is not read as numbers.
    others : bool
        Whether other columns are read; if not, they are None.

    Returns
    -------
    dict of str to Values
        Names that are no text are spelled; names that occur again have a number: "a", "a (2)".

    Raises
    ------
    TypeError
        When it is no table, or a column is none.
    ValueError
        When columns have different lengths, or there are no rows.
    """
    found: dict[str, Values | None] = {}
    rows: int | None = None
    for given, column in _listed(frame, what):
        name, count = str(given), 1
        while name in found:
            count += 1
            name = f"{given} ({count})"
        length = len(column)
        if rows is not None and length != rows:
            raise ValueError(f"{what}: column {name!r} has {length} rows, the columns before it have {rows}")
        rows = length
        wanted = others or name in kinds
        found[name] = _read(column, f"{what}: column {name!r}", kinds.get(name)) if wanted else None
    if not rows:
        raise ValueError(f"{what}: expected at least one row and one column, got an empty table")
    return found


def _listed(frame: Any, what: str) -> Iterator[tuple[Any, Any]]:
    """Yield the names and columns of a table."""
    if isinstance(frame, np.ndarray) and frame.dtype.names is not None:
        yield from ((name, frame[name]) for name in frame.dtype.names)
    elif isinstance(frame, Mapping):
        for name, column in frame.items():
            if isinstance(column, (str, bytes)) or not hasattr(column, "__len__") or getattr(column, "ndim", 1) == 0:
                raise TypeError(f"{what}: column {str(name)!r}: expected a list or an array, got {shorten(column)}")
            yield name, column
    elif hasattr(frame, "collect") and hasattr(frame, "lazy"):
        raise TypeError(f"{what}: expected {_EXPECTED}, got a lazy frame: use .collect()")
    elif is_table(frame):
        for index, name in enumerate(frame.columns):
            yield name, frame.iloc[:, index] if hasattr(frame, "iloc") else frame.to_series(index)
    else:
        raise TypeError(f"{what}: expected {_EXPECTED}, got {type(frame).__name__}")


def _read(column: Any, where: str, kind: str | None) -> Values:
    """Return a column's values; `where` begins messages, `kind` is what they should be."""
    if hasattr(column, "to_physical"):
        return _of_polars(column, where, kind)
    if hasattr(getattr(column, "cat", None), "codes"):
        return of_codes(column.cat.codes.to_numpy(), column.cat.categories.to_numpy().tolist())
    dtype = getattr(column, "dtype", None)
    if hasattr(column, "to_numpy") and not isinstance(dtype, np.dtype):
        return _of_extension(column, dtype, where, kind)
    return _of_array(column, where, kind)


def _of_extension(column: Any, dtype: Any, where: str, wanted: str | None) -> Values:
    """Return the values of a pandas column whose dtype is not NumPy's: nullable, Arrow's, with time zones, sparse."""
    kind = getattr(dtype, "kind", "O")
    zone = getattr(dtype, "tz", None) or getattr(getattr(dtype, "pyarrow_dtype", None), "tz", None)
    if zone is not None:
        return of_dates(column.dt.tz_localize(None).to_numpy(dtype="datetime64[us]"), str(zone))
    if kind in "biuf" and getattr(dtype, "na_value", None) is not None and not hasattr(column, "sparse"):
        return of_numbers(column.to_numpy(dtype="float64", na_value=np.nan), "bool" if kind == "b" else "number")
    if kind == "M" and not str(dtype).startswith("date"):  # Arrow's dates without a time are objects
        return of_dates(column.to_numpy(dtype="datetime64[us]", na_value=np.datetime64("NaT")))
    if kind == "m":
        return _of_array(column.to_numpy(dtype="timedelta64[us]", na_value=np.timedelta64("NaT")), where, wanted)
    if hasattr(column, "dt") and hasattr(column.dt, "to_timestamp"):
        return of_dates(column.dt.to_timestamp().to_numpy())
    return _of_array(column.to_numpy(), where, wanted)


def _of_polars(column: Any, where: str, kind: str | None) -> Values:
    dtype = column.dtype
    zone = getattr(dtype, "time_zone", None)
    if zone is not None:
        return of_dates(column.dt.replace_time_zone(None).to_numpy(), str(zone))
    name = str(dtype)
    if name == "Boolean":
        return of_numbers(column.cast(int).cast(float).to_numpy(), "bool")
    if dtype.is_numeric():
        return of_numbers(column.cast(float).to_numpy())
    if name.startswith(("Date", "Duration")):
        return _of_array(column.to_numpy(), where, kind)
    return of_objects(column.to_list(), kind)


def _of_array(column: Any, where: str, kind: str | None) -> Values:
    """Return the values of what NumPy makes an array of."""
    mask = np.ma.getmaskarray(column) if isinstance(column, np.ma.MaskedArray) else None
    given = column.data if mask is not None else column
    if isinstance(given, (list, tuple)):
        return of_objects(given, kind)
    array = casts.plain(given, where)
    if array.ndim != 1:
        raise TypeError(f"{where}: expected a value for each row, got an array of shape {array.shape}")
    if array.dtype.kind == "c":
        raise TypeError(f"{where}: expected real numbers, got {array.dtype}")
    if array.dtype.kind == "b" and mask is None:
        return Values("bool", array.astype(np.float64))
    if array.dtype.kind in "biuf":
        numbers = array.astype(np.float64)
        return of_numbers(numbers if mask is None else np.where(mask, np.nan, numbers),
                          "bool" if array.dtype.kind == "b" else "number")  # fmt: skip
    if array.dtype.kind in "Mm":
        days = array if mask is None else np.where(mask, np.array("NaT", array.dtype), array)
        if array.dtype.kind == "M":
            return of_dates(days)
        return of_numbers(np.where(np.isnat(days), np.nan, days / np.timedelta64(1, "D")))
    objects = array.tolist()
    if mask is not None:
        objects = [None if gone else each for each, gone in zip(objects, mask, strict=True)]
    return of_objects(objects, kind)
