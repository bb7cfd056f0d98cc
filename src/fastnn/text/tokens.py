"""Checks of tokens, the whole numbers that stand for letters and words, and of texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.checks import shorten

Tokens = npt.NDArray[np.integer[Any]]


def smallest(size: int) -> np.dtype[Any]:
    """Return the smallest unsigned dtype that holds the numbers from 0 to size - 1."""
    return np.min_scalar_type(max(size - 1, 0))


def as_tokens(value: Any, what: str, axes: int | None = 1) -> Tokens:
    """Return whole numbers as an array, without a copy of arrays (memory-mapped ones included).

    Raises
    ------
    TypeError
        Not integers.
    ValueError
        Another number of axes.
    """
    if isinstance(value, str | bytes):
        raise TypeError(f"{what}: expected whole numbers, got {shorten(value)}; a vocabulary's encode makes them")
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{what}: expected an array of whole numbers: {error}") from None
    if array.dtype.kind not in "iu":
        if array.size or isinstance(value, np.ndarray):
            raise TypeError(f"{what}: expected whole numbers, got {shorten(value)} of dtype {array.dtype}")
        array = array.astype(np.int64)
    if axes is not None and array.ndim != axes:
        raise ValueError(f"{what}: expected {axes} ax{'i' if axes == 1 else 'e'}s, got shape {array.shape}")
    return array


def check_range(tokens: Tokens, size: int, what: str) -> None:
    """Raise ValueError unless all tokens are from 0 to size - 1; names the first other one, and its place."""
    if tokens.size and (tokens.min() < 0 or tokens.max() >= size):
        place = tuple(int(one) for one in np.argwhere((tokens < 0) | (tokens >= size))[0])
        spelt = place[0] if len(place) == 1 else list(place)
        raise ValueError(f"{what}: expected numbers from 0 to {size - 1}, got {tokens[place]} at {spelt}")


def as_text(value: Any, what: str) -> str:
    """Return a str; raises TypeError for anything else."""
    if not isinstance(value, str):
        raise TypeError(f"{what}: expected a str, got {shorten(value)} of type {type(value).__name__}")
    return value


def texts_of(value: Any, what: str) -> Iterator[str]:
    """Yield the texts of a str, or of an iterable of str such as an open file.

    Raises
    ------
    TypeError
        Anything else.
    """
    if isinstance(value, str):
        yield value
        return
    if isinstance(value, bytes) or not isinstance(value, Iterable):
        raise TypeError(f"{what}: expected a str or an iterable of str, got {shorten(value)}")
    for index, one in enumerate(value):
        yield as_text(one, f"{what}[{index}]")
