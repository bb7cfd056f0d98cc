"""Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC'11) on arrays of counters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_WORD = 1 << 32


def philox4x32(counters: NDArray[np.uint64], key: tuple[int, int], rounds: int = 10) -> NDArray[np.uint64]:
    """Return four random words for every counter.

    Parameters
    ----------
    counters : ndarray of uint64, shape (n, 4)
        Four 32-bit words each.
    key : two ints
        32-bit words.

    Returns
    -------
    ndarray of uint64, shape (n, 4)
        32-bit words.
    """
    c0, c1, c2, c3 = np.moveaxis(counters.astype(np.uint64), -1, 0)
    for turn in range(rounds):
        k0, k1 = (np.uint64((word + turn * weyl) % _WORD) for word, weyl in zip(key, _WEYL, strict=True))
        # the product of two 32-bit words fits into 64 bits
        high0, low0 = np.divmod(c0 * np.uint64(_MULTIPLIERS[0]), np.uint64(_WORD))
        high1, low1 = np.divmod(c2 * np.uint64(_MULTIPLIERS[1]), np.uint64(_WORD))
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
    return np.stack([c0, c1, c2, c3], axis=-1)


def random_words(n: int, node: int, step: int, seed: int) -> NDArray[np.uint64]:
    """Return the random words of n elements: four elements share the counter of their block.

    Parameters
    ----------
    n : int
        Number of elements.
    node : int
        Separates the streams of one program.
    step : int
        The training step.
    seed : int
        The key: its low and high 32 bits (of the two's complement).

    Returns
    -------
    ndarray of uint64, shape (n,)
        32-bit words. The counter is (block, node, step, high word of step xor that of block).
    """
    blocks = np.arange(-(-n // 64) * 16, dtype=np.uint64)
    low, high = blocks % np.uint64(_WORD), blocks // np.uint64(_WORD)
    counters = np.empty((len(blocks), 4), np.uint64)
    counters[:, 0] = low
    counters[:, 1] = node % _WORD
    counters[:, 2] = step % _WORD
    counters[:, 3] = high ^ np.uint64((step >> 32) % _WORD)
    words = philox4x32(counters, (seed % _WORD, (seed >> 32) % _WORD))
    # element 64 g + 16 j + b takes word j of block 16 g + b
    return words.reshape(-1, 16, 4).transpose(0, 2, 1).reshape(-1)[:n]


def normals(n: int, node: int, step: int, seed: int) -> NDArray[np.float64]:
    """Return the normal numbers of n elements, made of their random words.

    Words 0 and 1, and 2 and 3, of a block make a pair of numbers by the transform of Box and Muller (1958): the first
    word the radius, the upper 24 bits of the second the angle.

    Parameters
    ----------
    n, node, step, seed : int
        As for `random_words`.

    Returns
    -------
    ndarray of float64, shape (n,)
    """
    words = random_words(-(-n // 64) * 64, node, step, seed).reshape(-1, 4, 16)
    radius = np.sqrt(-2.0 * np.log((words[:, 0::2] + 0.5) / 2.0**32))
    angle = 2.0 * np.pi * (words[:, 1::2] // np.uint64(256)) / 2.0**24
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=2).reshape(-1)[:n]
