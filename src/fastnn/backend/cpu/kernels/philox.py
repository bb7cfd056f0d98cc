"""Philox4x32-10, the counter-based random numbers of Salmon et al., SC'11: no state, so no order of use.

Four 32-bit words are a pure function of (block, node, step) and the seed: the same on any number of threads.
"""

from __future__ import annotations

import numpy as np

from fastnn.backend.cpu.options import helper

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint32(0x9E3779B9), np.uint32(0xBB67AE85)
_SHIFT = np.uint64(32)


@helper
def philox(block: int, node: int, step: int, seed: int) -> tuple[np.uint32, np.uint32, np.uint32, np.uint32]:
    """Return four random 32-bit words for the counter (block low, node, step low, step high ^ block high)."""
    c0, c1 = np.uint32(block), np.uint32(node)
    c2, c3 = np.uint32(step), np.uint32(step >> 32) ^ np.uint32(block >> 32)
    k0, k1 = np.uint32(seed), np.uint32(np.uint64(seed) >> _SHIFT)
    for _ in range(10):
        p0, p1 = _M0 * np.uint64(c0), _M1 * np.uint64(c2)
        c0, c1, c2, c3 = (
            np.uint32(p1 >> _SHIFT) ^ c1 ^ k0,
            np.uint32(p1),
            np.uint32(p0 >> _SHIFT) ^ c3 ^ k1,
            np.uint32(p0),
        )
        k0, k1 = np.uint32(k0 + _W0), np.uint32(k1 + _W1)
    return c0, c1, c2, c3


@helper
def word(words: tuple[np.uint32, np.uint32, np.uint32, np.uint32], index: int) -> np.uint32:
    """Return one of four words by selects (indexing a tuple at run time would add a bounds check that raises)."""
    low = words[0] if index & 1 == 0 else words[1]
    high = words[2] if index & 1 == 0 else words[3]
    return low if index & 2 == 0 else high
