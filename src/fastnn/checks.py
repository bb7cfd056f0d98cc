"""Checks of single arguments: numbers with bounds, integers, flags. Errors state name, expectation and value."""

from __future__ import annotations

import fnmatch
import math
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np

#: Sizes are larger than any memory, and sizes in bytes fit into 64 bits.
LARGEST = 2**48


def number(
    name: str,
    value: Any,
    *,
    above: float = -math.inf,
    at_least: float = -math.inf,
    below: float = math.inf,
    at_most: float = math.inf,
) -> float:
    """Return `value` as a finite float within the bounds; `above` and `below` are exclusive.

    Parameters
    ----------
    value : real number
        Python's or NumPy's, or an array of no dimensions; not a bool.

    Raises
    ------
    TypeError
        Not a real number.
    ValueError
        NaN, infinite or out of bounds.
    """
    given = value[()] if isinstance(value, np.ndarray) and value.ndim == 0 else value
    if isinstance(given, bool | np.bool_) or not isinstance(given, numbers.Real):
        raise TypeError(f"{name}: expected a number, got {shorten(value)} of type {type(value).__name__}")
    try:
        result = float(given)
    except OverflowError:
        result = math.inf
    if not math.isfinite(result):
        raise ValueError(f"{name}: expected a finite number, got {shorten(value)}")
    if not (at_least <= result <= at_most and above < result < below):
        bounds = [f">= {at_least:g}"] * (at_least > -math.inf) + [f"> {above:g}"] * (above > -math.inf)
        bounds += [f"<= {at_most:g}"] * (at_most < math.inf) + [f"< {below:g}"] * (below < math.inf)
        raise ValueError(f"{name}: expected a number {' and '.join(bounds)}, got {shorten(value)}")
    return result


def whole(name: str, value: Any, *, at_least: int) -> int:
    """Return a hyperparameter as an int of at least `at_least`; whole floats such as 1e4 are accepted.

    Raises
    ------
    TypeError
        Not a real number (a bool does not count as one).
    ValueError
        Not a whole number, too small, or at least 2**53, where floats are no longer exact.
    """
    result = number(name, value)
    if not result.is_integer() or not at_least <= result < 2.0**53:
        raise ValueError(f"{name}: expected a whole number >= {at_least} and < 2**53, got {shorten(value)}")
    return int(result)


def integer(name: str, value: Any, *, at_least: int = 1, at_most: int = 2**63 - 1) -> int:
    """Return a count as an int within the bounds.

    Raises
    ------
    TypeError
        Not an integer (a bool does not count as one, nor does a whole float).
    ValueError
        Out of bounds.
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name}: expected an integer, got {shorten(value)} of type {type(value).__name__}")
    result = int(value)
    if result < at_least:
        raise ValueError(f"{name}: expected an integer >= {at_least}, got {shorten(value)}")
    if result > at_most:
        raise ValueError(f"{name}: expected an integer <= {at_most}, got {shorten(value)}")
    return result


def size(name: str, value: Any) -> int:
    """Return the length of an axis as an int from 1 to `LARGEST`; see `integer`."""
    return integer(name, value, at_most=LARGEST)


def shape(name: str, value: Any, most_axes: float = math.inf) -> tuple[int, ...]:
    """Return a shape of positive integers.

    Raises
    ------
    TypeError
        Not integers.
    ValueError
        Too many axes or elements, or an axis of no length.
    """
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise TypeError(f"{name}: expected a tuple of integers, got {shorten(value)}")
    if len(value) > most_axes:
        raise ValueError(f"{name}: expected at most {most_axes} axes, got {len(value)}")
    result = tuple([size(f"{name}[{axis}]", extent) for axis, extent in enumerate(value)])
    if math.prod(result) > LARGEST:
        raise ValueError(f"{name}: expected at most {LARGEST} elements, got {result}")
    return result


def flag(name: str, value: Any) -> bool:
    """Return `value`, which has to be True or False.

    Raises
    ------
    TypeError
        Not a bool.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name}: expected True or False, got {shorten(value)} of type {type(value).__name__}")
    return value


def shorten(value: object) -> str:
    """Return a representation of at most 80 characters, for messages."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an int of thousands of digits refuses its decimal form
        return f"a huge {type(value).__name__}"
    return text if len(text) <= 80 else text[:77] + "..."


def covers(pattern: str, name: str) -> bool:
    """Return whether a pattern is a name, or the part of it before a slash; it may have the wildcards of `fnmatch`."""
    if name == pattern or name.startswith(f"{pattern}/"):
        return True
    return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name, f"{pattern}/*")
