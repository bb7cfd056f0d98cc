"""Arrays of sequences of unequal lengths: padded to one length, grouped by their lengths."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from fastnn.checks import flag, integer, number, shorten

Side = Literal["pre", "post"]


class Bucket(NamedTuple):
    """Sequences of similar lengths, from `buckets`.

    Attributes
    ----------
    length : int
        The length that they are padded to.
    indices : ndarray of int64, shape (n,)
        Their places among all sequences, ascending.
    """

    length: int
    indices: npt.NDArray[np.int64]


def pad_sequences(
    sequences: Iterable[Any],
    maxlen: int | None = None,
    dtype: npt.DTypeLike = "int32",
    padding: Side = "pre",
    truncating: Side = "pre",
    value: float = 0.0,
) -> npt.NDArray[Any]:
    """Make one array of sequences of unequal lengths: short ones are filled up, long ones are cut.

    Name, arguments and defaults are those of Keras 3's ``keras.utils.pad_sequences``. Unlike there, numbers that
    `dtype` does not hold (0.5 or 2**40 in an int32) are an error instead of becoming others.

    Parameters
    ----------
    sequences : iterable of sequences
        Of numbers, or of vectors or arrays of one shape. Any of them may be empty.
    maxlen : int, optional
        The number of steps, >= 1; default: that of the longest sequence.
    dtype : dtype
        Of the result: integers, floats or bool. ``"float32"`` for features.
    padding, truncating : {"pre", "post"}
        Whether short sequences are filled up, and long ones cut, at their beginning or at their end.
    value : number
        What fills them up.

    Returns
    -------
    ndarray of dtype, shape (n, maxlen, ...)
        The axes after the first two are those of a step, none for sequences of numbers.

    Raises
    ------
    TypeError
        Sequences that are none, elements that are not numbers, a dtype that holds no numbers.
    ValueError
        Steps of different shapes, `maxlen` < 1, numbers that `dtype` does not hold, unknown names of sides; the
        message names the first such sequence.

    Examples
    --------
    >>> fnn.data.pad_sequences([[1], [2, 3], [4, 5, 6]])
    array([[0, 0, 1],
           [0, 2, 3],
           [4, 5, 6]], dtype=int32)
    """
    kind = _dtype(dtype)
    for name, side in (("padding", padding), ("truncating", truncating)):
        if side not in ("pre", "post"):
            raise ValueError(f"{name}: expected 'pre' or 'post', got {shorten(side)}")
    most = None if maxlen is None else integer("maxlen", maxlen)
    if not isinstance(value, float | np.floating) or math.isfinite(value) or kind.kind != "f":
        number("value", value)
    fill = _converted(np.asarray(value), kind, "value")
    arrays = [_sequence(one, f"sequences[{index}]") for index, one in enumerate(_listed(sequences))]
    step = next((one.shape[1:] for one in arrays if len(one)), ())
    length = max(map(len, arrays), default=0) if most is None else most
    result = np.full((len(arrays), length, *step), fill, kind)
    for index, one in enumerate(arrays):
        if not len(one):
            continue
        if one.shape[1:] != step:
            raise ValueError(f"sequences[{index}]: expected steps of shape {step}, as before, got {one.shape[1:]}")
        kept = one[max(len(one) - length, 0) :] if truncating == "pre" else one[:length]
        place = slice(length - len(kept), None) if padding == "pre" else slice(0, len(kept))
        result[index, place] = _converted(kept, kind, f"sequences[{index}]")
    return result


def buckets(sequences: Iterable[Any], lengths: int | Iterable[int] = 8, *, truncate: bool = False) -> list[Bucket]:
    """Group sequences by their lengths, so that little is padded.

    Parameters
    ----------
    sequences : iterable of sequences
        Whatever has a length.
    lengths : int or iterable of int
        The lengths of the buckets, >= 1, in any order: a sequence goes to the smallest that holds it. Or the number
        of buckets, at most; then their lengths are those that fill up the fewest steps (by dynamic programming).
    truncate : bool
        Whether sequences longer than all buckets go to the last one, where `pad_sequences` cuts them; otherwise
        they are an error.

    Returns
    -------
    list of Bucket
        By ascending length. Empty buckets are left out.

    Raises
    ------
    TypeError
        Sequences without a length, lengths that are no integers.
    ValueError
        A length < 1, no length, or a sequence that is longer than all buckets.

    Examples
    --------
    >>> for length, indices in fnn.data.buckets(tokens, [16, 64, 256]):
    ...     x = fnn.data.pad_sequences([tokens[i] for i in indices], length)
    """
    flag("truncate", truncate)
    sizes = np.array([_length(one, index) for index, one in enumerate(_listed(sequences))], np.int64)
    if isinstance(lengths, Iterable) and not isinstance(lengths, str):
        bounds = np.array(sorted({integer(f"lengths[{i}]", one) for i, one in enumerate(lengths)}), np.int64)
        if not len(bounds):
            raise ValueError("lengths: expected at least one length, got none")
    else:
        bounds = _best(np.maximum(sizes, 1), integer("lengths", lengths))
    if not len(sizes):
        return []
    if sizes.max() > bounds[-1] and not truncate:
        index = int(np.argmax(sizes > bounds[-1]))
        raise ValueError(
            f"sequences[{index}]: it has {sizes[index]} steps, more than the longest bucket, {bounds[-1]}; "
            "truncate=True puts such sequences there"
        )
    places = np.minimum(np.searchsorted(bounds, sizes), len(bounds) - 1)
    found = [(int(bound), np.flatnonzero(places == place)) for place, bound in enumerate(bounds)]
    return [Bucket(bound, indices.astype(np.int64)) for bound, indices in found if len(indices)]


def _best(sizes: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """Return at most `count` lengths that need the fewest steps in all, the longest sequence's among them."""
    distinct, numbers = np.unique(sizes, return_counts=True)
    if len(distinct) <= count:
        return distinct
    before = np.concatenate([[0], np.cumsum(numbers)])
    # steps[j]: of the sequences up to distinct length j, in the buckets so far, the last of which ends there
    steps, chosen = distinct * before[1:], []
    for _ in range(count - 1):
        after, last = steps.copy(), np.full(len(distinct), -1)
        for j in range(1, len(distinct)):
            costs = steps[:j] + distinct[j] * (before[j + 1] - before[1 : j + 1])
            best = int(np.argmin(costs))
            if costs[best] < after[j]:
                after[j], last[j] = costs[best], best
        steps = after
        chosen.append(last)
    ends, end = [], len(distinct) - 1
    for last in reversed(chosen):
        ends.append(end)
        end = int(last[end])
        if end < 0:
            break
    else:
        ends.append(end)
    return distinct[ends[::-1]]


def _listed(sequences: Any) -> Sequence[Any]:
    if isinstance(sequences, str | bytes | Mapping) or not isinstance(sequences, Iterable):
        raise TypeError(f"sequences: expected an iterable of sequences, got {shorten(sequences)}")
    return list(sequences)


def _length(one: Any, index: int) -> int:
    try:
        return len(one)
    except TypeError:
        raise TypeError(f"sequences[{index}]: expected a sequence, got {shorten(one)}") from None


def _sequence(one: Any, what: str) -> npt.NDArray[Any]:
    if isinstance(one, str | bytes | Mapping):
        raise TypeError(f"{what}: expected a sequence of numbers, got {shorten(one)}")
    try:
        array = np.asarray(one)
    except ValueError as error:
        raise ValueError(f"{what}: expected steps of one shape: {error}") from None
    if array.ndim == 0:
        raise TypeError(f"{what}: expected a sequence, got {shorten(one)}")
    if array.size and array.dtype.kind not in "biuf":
        raise TypeError(f"{what}: expected numbers, got {shorten(one)} of dtype {array.dtype}")
    return array


def _dtype(dtype: npt.DTypeLike) -> np.dtype[Any]:
    try:
        kind = np.dtype(dtype)
    except TypeError:
        raise TypeError(f"dtype: expected a dtype of numbers, got {shorten(dtype)}") from None
    if kind.kind not in "biuf":
        raise TypeError(f"dtype: expected a dtype of numbers, got {kind}")
    return kind


def _converted(array: npt.NDArray[Any], kind: np.dtype[Any], what: str) -> npt.NDArray[Any]:
    """Return an array in another dtype; raises ValueError if numbers would become others than rounding makes."""
    if array.dtype == kind or not array.size:
        return array.astype(kind, copy=False)
    with np.errstate(all="ignore"):
        result = array.astype(kind)
        if kind.kind == "f":
            bad = np.isfinite(array) & ~np.isfinite(result)
        elif kind.kind == "b":
            bad = (array != 0) & (array != 1)
        else:
            low, high = np.iinfo(kind).min, np.iinfo(kind).max
            # the bounds as floats are powers of two, except for the highest, which is one less
            inside = (array >= low) & (array < float(high) + 1.0 if array.dtype.kind == "f" else array <= high)
            bad = ~(inside & (array == np.floor(array) if array.dtype.kind == "f" else True))
    if bad.any():
        wrong = array[tuple(np.argwhere(bad)[0])]
        hint = "; dtype='float32' keeps fractions" if kind.kind in "iu" and array.dtype.kind == "f" else ""
        raise ValueError(f"{what}: {wrong} does not fit into dtype {kind}{hint}")
    return result
