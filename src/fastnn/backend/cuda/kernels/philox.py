"""Philox4x32-10 on the GPU: the random words of the CPU, bit for bit.

Element 16 j + b of a group of 64 takes word j of block 16 group + b, so a thread makes one block, for four elements.
"""

from __future__ import annotations

import numpy as np

from fastnn.backend.cuda.options import formula

GROUP, BLOCKS = 64, 16

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_SHIFT, _LOW = np.uint64(32), np.uint64(0xFFFFFFFF)


@formula
def philox(block, node, step, seed):
    """Return four random 32-bit words, as uint64, for the counter (block, node, step) and the seed."""
    c0, c1 = np.uint64(block) & _LOW, np.uint64(node) & _LOW
    c2 = np.uint64(step) & _LOW
    c3 = (np.uint64(step) >> _SHIFT) ^ (np.uint64(block) >> _SHIFT)
    k0, k1 = np.uint64(seed) & _LOW, np.uint64(seed) >> _SHIFT
    for _ in range(10):
        p0, p1 = _M0 * c0, _M1 * c2
        c0, c1, c2, c3 = (p1 >> _SHIFT) ^ c1 ^ k0, p1 & _LOW, (p0 >> _SHIFT) ^ c3 ^ k1, p0 & _LOW
        k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
    return c0, c1, c2, c3
