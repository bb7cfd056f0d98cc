"""Casts of numbers to another dtype, in which finite numbers must not become infinite.

All casts of users' numbers go through this module. It checks before it rounds, reports the number that does not fit
and its place, and rounds numbers that are too small to 0, whatever `numpy.seterr` says.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: the least magnitude that rounds to infinity: half a unit in the last place above the largest number
LIMITS = {"float32": 2.0**128 - 2.0**103, "float64": math.inf}
_CHUNK_ELEMENTS = 1 << 18


def chunks(y: NDArray[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield the first row and a view of every group of rows, of about 2^18 elements each."""
    if y.size == 0:
        return
    rows = max(1, _CHUNK_ELEMENTS // (y.size // len(y)))
    for first in range(0, len(y), rows):
        yield first, y[first : first + rows]


def refuse_what_is_no_data(value: Any, what: str) -> None:
    """Raise TypeError for sparse matrices, which NumPy would wrap as one object, and for functions."""
    if not isinstance(value, np.ndarray) and hasattr(value, "toarray"):
        raise TypeError(f"{what}: expected a dense array, got the sparse {type(value).__name__}; use .toarray()")
    if callable(value) and not hasattr(value, "__array__"):
        raise TypeError(f"{what}: expected data, got the function {getattr(value, '__name__', value)!r}: call it")


def plain(value: Any, what: str) -> NDArray[Any]:
    """Make an array, of any dtype, from a user's argument.

    Raises
    ------
    TypeError
        When it cannot be an array, such as lists of different lengths.
    ValueError
        When elements of a masked array, or of masked arrays in a list, are masked: NumPy would drop the masks.
    """
    refuse_masked(value, what)
    try:
        return np.asarray(value)
    except (ValueError, TypeError) as error:
        of_lists = "; fastnn.data.pad_sequences makes one of lists of unequal lengths"
        hint = of_lists * ("inhomogeneous" in str(error))
        raise TypeError(f"{what}: expected an array of numbers, got {type(value).__name__}: {error}{hint}") from None


def refuse_masked(value: Any, what: str) -> None:
    """Raise ValueError if elements are masked."""
    parts = value if isinstance(value, (list, tuple)) else (value,)
    # a mask means that `numpy.ma` has been imported already; importing it takes 40 ms, and a fork may come in between
    if any(hasattr(part, "mask") and np.ma.is_masked(part) for part in parts):
        raise ValueError(f"{what}: expected numbers, got a masked array with masked elements; fill or drop them")


def first_too_large(array: NDArray[Any], dtype: str) -> tuple[int, ...] | None:
    """Return the index of the first finite number that would be infinite in a dtype, or None if all fit.

    The array is checked in chunks, so that a memory-mapped one is never copied as a whole.
    """
    if array.dtype.kind != "f" or array.dtype.itemsize <= np.dtype(dtype).itemsize or array.size == 0:
        return None
    limit: Any = LIMITS[dtype] if dtype != "float64" else np.ldexp(np.longdouble(1.0), 1024) * (1 - 2.0**-54)
    with np.errstate(invalid="ignore"):
        for first, chunk in chunks(array if array.ndim else array[None]):
            if -limit < chunk.min() and chunk.max() < limit:
                continue
            bad = (np.abs(chunk) >= limit) & np.isfinite(chunk)
            if bad.any():
                index = tuple(int(i) for i in np.argwhere(bad)[0])
                return (first + index[0], *index[1:])[len(index) - array.ndim :]
    return None


def check_fits(array: NDArray[Any], dtype: str, what: str, columns: Sequence[Any] | None = None) -> None:
    """Raise if a finite number of an array would be infinite in a dtype.

    Parameters
    ----------
    what : str
        Beginning of the message.
    columns : sequence, optional
        Names of the columns of the data frame that the array comes from.

    Raises
    ------
    ValueError
        Names the first such number and its row and column.
    """
    index = first_too_large(array, dtype)
    if index is not None:
        place = f"{spell_place(index, array.shape, columns)} is " if index else "got "
        raise ValueError(f"{what}: {place}{array[index]!s}, too large for {dtype}")


def cast(array: NDArray[Any], dtype: str, what: str) -> NDArray[Any]:
    """Return an array in another dtype, without a copy if it has that dtype already.

    Raises
    ------
    ValueError
        When a finite number would become infinite.
    """
    check_fits(array, dtype, what)
    with np.errstate(all="ignore"):
        return array.astype(dtype, copy=False)


def store(into: NDArray[Any], array: NDArray[Any], what: str) -> None:
    """Round an array into another one of the same shape; raises ValueError as `cast` does, before any change."""
    check_fits(array, into.dtype.name, what)
    with np.errstate(all="ignore"):
        into[...] = array


def check_number(number: float, dtype: str, what: str) -> None:
    """Raise ValueError if a finite number would be infinite in a dtype."""
    if LIMITS[dtype] <= abs(number) < math.inf:
        raise ValueError(f"{what}: {number:g} is too large for {dtype}")


def check_hyperparameters(owner: object, dtype: str, what: str) -> None:
    """Raise ValueError if a hyperparameter of one of fastnn's objects would be infinite in a dtype.

    Parameters
    ----------
    owner : dataclass
        A layer, loss, optimizer and so on; its fields may hold others.
    what : str
        Beginning of the message.
    """
    limit = LIMITS[dtype]
    if limit < math.inf:
        found = _too_large(owner, limit)
        if found:
            path, value = found
            raise ValueError(f"{what}: {path.removeprefix(': ')}: {value:g} is too large for {dtype}")


def _too_large(value: Any, limit: float) -> tuple[str, float] | None:
    """Return the place of the first number of at least `limit` in an object, and the number."""
    if isinstance(value, float):
        return ("", value) if limit <= abs(value) < math.inf else None
    if isinstance(value, (list, tuple)):
        for index, part in enumerate(value):
            found = _too_large(part, limit)
            if found:
                return f"[{index}]{found[0]}", found[1]
    elif hasattr(value, "__dataclass_fields__") and type(value).__module__.startswith("fastnn."):
        for name, part in vars(value).items():
            # most hyperparameters are none of these
            if part is None or type(part) in (bool, int, str) or name[0] == "_":
                continue
            found = _too_large(part, limit)
            if found:
                return f": {type(value).__name__}.{name}{found[0]}", found[1]
    return None


def spell_place(index: Sequence[int], shape: Sequence[int], columns: Sequence[Any] | None = None) -> str:
    """Spell the place of an element: its row, and its place in the row."""
    within = spell_within(index, shape, columns)
    return f"row {index[0]}{' ' * bool(within)}{within}"


def spell_within(index: Sequence[int], shape: Sequence[int], columns: Sequence[Any] | None = None) -> str:
    """Spell an element's place in its row, with a data frame's name of the column; empty if a row has one element.

    Parameters
    ----------
    index : sequence of int
        Row first.
    shape : sequence of int
        The array's shape.
    """
    if len(shape) == 2 and columns is not None and len(columns) == shape[1]:
        return f"in column {index[1]} ({str(columns[index[1]])!r})"
    if all(n == 1 for n in shape[1:]):
        return ""
    return f"in column {index[1]}" if len(shape) == 2 else f"at {list(index[1:])}"
