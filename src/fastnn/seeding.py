"""Seeds and the independent random streams that are derived from one seed.

Nothing here reads or changes NumPy's global random state.
"""

import hashlib
import numbers
import secrets
from typing import Any

import numpy as np

_LIMIT = 2**64


def as_seed(seed: int | np.integer[Any] | np.random.Generator | None) -> int:
    """Return the 64-bit integer for a seed argument.

    Parameters
    ----------
    seed : int, numpy.random.Generator or None
        An integer in [0, 2**64) is returned unchanged. A generator is used to draw one. None takes one from the
        operating system's entropy, different every time.

    Returns
    -------
    int
        In [0, 2**64).

    Raises
    ------
    TypeError
        If the seed is of another type (including bool).
    ValueError
        If the integer is out of range.
    """
    if seed is None:
        return secrets.randbits(64)
    if isinstance(seed, np.random.Generator):
        return int(seed.integers(_LIMIT, dtype=np.uint64))
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral):
        raise TypeError(f"seed: expected an int, a numpy.random.Generator or None; got {type(seed).__name__} {seed!r}")
    if not 0 <= seed < _LIMIT:
        raise ValueError(f"seed: expected an int in [0, 2**64), got {_shown(int(seed))}")
    return int(seed)


def derive(seed: int | np.integer[Any], *stream: int | np.integer[Any] | str) -> np.random.Generator:
    """Return the generator of one of the independent streams of a seed.

    The same seed and stream give the same bits on every platform and in every NumPy version (PCG64, seeded
    with the SHA-256 of seed and stream), whatever other streams are used.

    Parameters
    ----------
    seed : int
        In [0, 2**64), e.g. from `as_seed`.
    *stream : int or str
        The purpose of the stream: ``derive(seed, "initializer", 3)``. The number 3 and the text "3" give
        different streams.

    Raises
    ------
    TypeError
        If the seed is not an int, or a part of the stream is neither int nor str.
    ValueError
        If the seed is out of range.
    """
    return np.random.Generator(np.random.PCG64(int.from_bytes(key(seed, *stream), "little")))


def key(seed: int | np.integer[Any], *stream: int | np.integer[Any] | str) -> bytes:
    """Return the 256 bits that determine a stream of `derive`; raises the same errors."""
    if seed is None or isinstance(seed, np.random.Generator):
        raise TypeError(f"derive: expected the seed as an int, got {type(seed).__name__}; use as_seed first")
    text = f"i{as_seed(seed)}"
    for part in stream:
        if isinstance(part, bool) or not isinstance(part, str | numbers.Integral):
            raise TypeError(f"derive: expected int or str as the stream, got {part!r} of type {type(part).__name__}")
        # With its length as a prefix, no text can be confused with several parts.
        text += f"s{len(part)}:{part}" if isinstance(part, str) else f"i{int(part)}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _shown(seed: int) -> str:
    return str(seed) if abs(seed) < 2**128 else f"one of {seed.bit_length()} bits"
