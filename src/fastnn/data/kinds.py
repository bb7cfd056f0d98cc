"""The kind of data that a user passes: one table of samples, several, or an iterable of batches."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastnn.layers.open_shapes import fits

Shape = tuple[int, ...]
_TABLES = (np.ndarray, list, tuple, Mapping, str, bytes, bytearray, memoryview, range)


def only(value: Any) -> Any:
    """Unwrap a list of one array; nested lists of numbers are returned unchanged."""
    if isinstance(value, (list, tuple)) and len(value) == 1 and getattr(value[0], "ndim", 0) > 1:
        return value[0]
    return value


def list_of(value: Any, names: Sequence[str], what: str) -> list[Any]:
    """Spread a value, a list or a dict over several inputs or outputs."""
    if len(names) == 1 and not isinstance(value, Mapping):
        return [only(value)]
    if isinstance(value, Mapping):
        if set(value) != set(names):
            raise ValueError(f"{what}: expected a dict with the keys {list(names)}, got {list(value)}")
        return [value[name] for name in names]
    if not isinstance(value, (list, tuple)) or len(value) != len(names):
        got = f"{len(value)}" if isinstance(value, (list, tuple)) else type(value).__name__
        raise ValueError(f"{what}: expected a list of {len(names)} arrays ({', '.join(names)}), got {got}")
    return list(value)


def is_batches(x: Any, shape: Shape | None = None, *, listed: bool = False) -> bool:
    """Return whether x is an iterable of batches instead of one table of samples.

    Anything that `numpy.asarray` turns into numbers is a table, such as `collections.deque`, `array.array`, `range`.

    Parameters
    ----------
    shape : tuple of int, optional
        Shape of a sample, if known: it distinguishes a sequence of samples from one of batches.
    listed : bool
        Whether a list or tuple may hold batches (x, y), because y is not passed separately.
    """
    if isinstance(x, _TABLES):
        return listed and isinstance(x, (list, tuple)) and len(x) > 0 and _is_batch(x[0])
    if any(hasattr(x, name) for name in ("to_numpy", "toarray", "__array__", "__array_interface__")):
        return False
    if hasattr(x, "__next__"):
        return True
    try:
        memoryview(x)
    except TypeError:
        pass
    else:
        return False
    if hasattr(x, "__len__") and hasattr(x, "__getitem__"):
        return not _is_table(x, shape)
    return hasattr(x, "__iter__")


def _is_table(x: Any, shape: Shape | None) -> bool:
    """Return whether a sequence other than a list holds samples, by its first element."""
    try:
        first = x[0]
    except Exception:
        # empty, or a loader whose first batch cannot be read
        return isinstance(x, Sequence)
    if isinstance(first, (numbers.Number, np.generic)):
        return True
    if isinstance(first, (list, tuple)):
        if _is_batch(first):
            return False
        try:
            return np.asarray(first).dtype.kind in "biuf"
        except (ValueError, TypeError):
            return False
    found = getattr(first, "shape", None)
    if found is None:
        return False
    return fits(found, shape) if shape is not None else len(found) < 2


def _is_batch(value: Any) -> bool:
    """Return whether a value looks like (x, y) or (x, y, sample_weight): a list or tuple that holds arrays."""
    if not isinstance(value, (list, tuple)) or len(value) not in (2, 3):
        return False
    return any(len(getattr(part, "shape", ())) > 0 or isinstance(part, Mapping) for part in value)
