"""Philox4x32-10 on the GPU: the same random words as on the CPU, bit for bit.

Element 16 j + b of a group of 64 takes word j of block 16 group + b, so a thread makes one block, for four elements.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.backend.cuda.codegen.kernel import Dims, Kit, ceil_div, ptx
from fastnn.backend.cuda.codegen.options import formula
from fastnn.backend.cuda.codegen.sizes import SIZES

GROUP, BLOCKS = 64, 16

u32, u64 = np.uint32, np.uint64
high_product = ptx.high_product
_M0, _M1 = u32(0xD2511F53), u32(0xCD9E8D57)
_W0, _W1 = u32(0x9E3779B9), u32(0xBB67AE85)
_SHIFT = u64(32)


@formula
def philox(block, node, step, seed):
    """Return four random words of 32 bits for the counter (block, node, step) and the seed.

    The halves of products are computed separately: for whole ones LLVM uses a chain of 64-bit operations, which GPUs
    do not have.
    """
    c0, c1, c2 = u32(block), u32(node), u32(step)
    c3 = u32(u32(u64(step) >> _SHIFT) ^ u32(u64(block) >> _SHIFT))
    k0, k1 = u32(seed), u32(u64(seed) >> _SHIFT)
    for _ in range(10):
        c0, c1, c2, c3 = (
            u32(u32(high_product(_M1, c2) ^ c1) ^ k0),
            u32(_M1 * c2),
            u32(u32(high_product(_M0, c0) ^ c3) ^ k1),
            u32(_M0 * c0),
        )
        k0, k1 = u32(k0 + _W0), u32(k1 + _W1)
    return c0, c1, c2, c3


def one_per_block(dims: Dims) -> tuple[int, int]:
    """Return the grid of a kernel of random numbers: one thread per Philox block of four elements."""
    return ceil_div(ceil_div(dims["n"], GROUP) * BLOCKS, SIZES.threads), 1


def box_muller(kit: Kit) -> Any:
    """Make the Box-Muller transform: words 0 and 1, and words 2 and 3, of a block become four normal numbers."""
    real, log, sqrt, cos2pi = kit.real, kit.math.log, kit.math.sqrt, kit.math.cos2pi
    unit, half, minus_two, quarter = real(2.0**-32), real(2.0**-33), real(-2.0), real(0.25)
    turn, eight = real(2.0**-24), np.uint64(8)

    @formula
    def pair(first, second):
        # a word of 2^32 - 1 may round u up to 1, whose log is 0: still a finite radius
        radius = sqrt(minus_two * log(real(first) * unit + half))
        angle = real(second >> eight) * turn
        # sin(t) = cos(t - a quarter turn)
        return radius * cos2pi(angle), radius * cos2pi(angle - quarter)

    @formula
    def normals(words):
        n0, n1 = pair(words[0], words[1])
        n2, n3 = pair(words[2], words[3])
        return n0, n1, n2, n3

    return normals
