"""Checks of hyperparameters: numbers with open or closed bounds, whole numbers, flags."""

import math
from typing import Any

from fastnn.registry import check_real, shorten


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

    Raises
    ------
    TypeError
        Not a real number (a bool does not count as one).
    ValueError
        NaN, infinite or out of bounds.
    """
    result = check_real(name, value, at_least, at_most)
    if not above < result < below:
        bounds = [f">= {at_least:g}"] * (at_least > -math.inf) + [f"> {above:g}"] * (above > -math.inf)
        bounds += [f"< {below:g}"] * (below < math.inf)
        raise ValueError(f"{name}: expected a number {' and '.join(bounds)}, got {value!r}")
    return result


def whole(name: str, value: Any, *, at_least: int) -> int:
    """Return `value` as an int of at least `at_least`; whole floats such as 1e4 are accepted.

    Raises
    ------
    TypeError
        Not a real number (a bool does not count as one).
    ValueError
        Not a whole number, too small, or at least 2**53, where floats are no longer exact.
    """
    result = check_real(name, value)
    if not result.is_integer() or not at_least <= result < 2.0**53:
        raise ValueError(f"{name}: expected a whole number >= {at_least} and < 2**53, got {shorten(value)}")
    return int(result)


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
