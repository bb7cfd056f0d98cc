"""Rows of tokens for `fit`: all windows of a long text, and short texts one after the other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.checks import integer, shorten
from fastnn.text.tokens import Tokens, as_tokens, smallest


def windows(tokens: npt.ArrayLike, length: int, step: int | None = None) -> tuple[Tokens, Tokens]:
    """Return all windows of a long array of tokens, and for each token the next one, as views.

    Nothing is copied: ``model.fit(x, y)`` gathers its batches from `tokens` in place, also from a memory-mapped file.

    Parameters
    ----------
    tokens : array of integers, shape (n,)
        More than `length`; an array of any integer dtype, such as ``np.memmap(path, np.uint16, "r")``.
    length : int
        Tokens in a window, >= 1.
    step : int, optional
        From the beginning of one window to that of the next, >= 1. Default: 1, so that a window begins at each
        token. With ``step=length`` windows do not overlap, and an epoch reads each token once.

    Returns
    -------
    x, y : read-only views, shape (count, length)
        ``x[i]`` is ``tokens[i * step :][:length]``, and ``y[i]`` is ``tokens[i * step + 1 :][:length]``; count is
        ``(n - length - 1) // step + 1``.

    Raises
    ------
    TypeError
        Tokens that are no integers.
    ValueError
        Several axes, a length or step < 1, or too few tokens for one window.

    Examples
    --------
    >>> x, y = fnn.text.windows(np.arange(10, 16), 3, 2)
    >>> x, y
    (array([[10, 11, 12],
           [12, 13, 14]]), array([[11, 12, 13],
           [13, 14, 15]]))
    """
    array = as_tokens(tokens, "tokens")
    wide = integer("length", length)
    every = 1 if step is None else integer("step", step)
    if len(array) <= wide:
        raise ValueError(f"tokens: a window of {wide} and the next token take {wide + 1} tokens, got {len(array)}")
    view = np.lib.stride_tricks.sliding_window_view(array, wide + 1)[::every]
    return view[:, :-1], view[:, 1:]


def pack(
    sequences: Iterable[npt.ArrayLike],
    length: int,
    separator: int,
    *,
    padding: int | None = 0,
    dtype: npt.DTypeLike | None = None,
) -> Tokens:
    """Return many short sequences of tokens one after the other, in rows of one length.

    After each sequence comes the separator. A sequence goes on in the next row where a row ends, so only the end of
    the last row is padded. To train on the next token, pack rows of one token more:
    ``x, y = rows[:, :-1], rows[:, 1:]``.

    Parameters
    ----------
    sequences : iterable of arrays of integers >= 0, shape (steps,)
        Any of them may be empty.
    length : int
        Tokens in a row, >= 1.
    separator : int
        The number that ends a sequence, >= 0.
    padding : int or None
        The number that fills up the last row, >= 0. None: a last row that is not full is left out.
    dtype : dtype, optional
        Of the result, integers. Default: the smallest unsigned one that holds all numbers.

    Returns
    -------
    ndarray of dtype, shape (rows, length)

    Raises
    ------
    TypeError
        Tokens or a dtype that are no integers.
    ValueError
        Negative numbers, sequences of several axes, a length < 1, or numbers that `dtype` does not hold.

    Examples
    --------
    >>> fnn.text.pack([[5, 6, 7], [8], [5, 8]], 4, separator=1)
    array([[5, 6, 7, 1],
           [8, 1, 5, 8],
           [1, 0, 0, 0]], dtype=uint8)
    """
    wide, end = integer("length", length), integer("separator", separator, at_least=0)
    fill = None if padding is None else integer("padding", padding, at_least=0)
    if isinstance(sequences, str | bytes) or not isinstance(sequences, Iterable):
        raise TypeError(f"sequences: expected an iterable of arrays of whole numbers, got {shorten(sequences)}")
    parts = [as_tokens(one, f"sequences[{index}]") for index, one in enumerate(sequences)]
    largest = max(end, fill or 0)
    for index, one in enumerate(parts):
        if len(one):
            if one.min() < 0:
                raise ValueError(f"sequences[{index}]: expected numbers >= 0, got {one.min()}")
            largest = max(largest, int(one.max()))
    kind = smallest(largest + 1) if dtype is None else _integers(dtype, largest)
    total = sum(map(len, parts)) + len(parts)
    rows = total // wide if fill is None else -(-total // wide)
    flat = np.full(max(rows * wide, total), fill or 0, kind)
    place = 0
    for one in parts:
        flat[place : place + len(one)] = one
        flat[place + len(one)] = end
        place += len(one) + 1
    return flat[: rows * wide].reshape(rows, wide)


def _integers(dtype: npt.DTypeLike, largest: int) -> np.dtype[Any]:
    try:
        kind = np.dtype(dtype)
    except TypeError:
        kind = np.dtype(object)
    if kind.kind not in "iu":
        raise TypeError(f"dtype: expected a dtype of integers, got {shorten(dtype)}")
    if largest > np.iinfo(kind).max:
        raise ValueError(f"dtype: {kind} does not hold {largest}")
    return kind
