"""Philox4x32-10 on the GPU: the same random words as on the CPU, bit for bit.

Element 16 j + b of a group of 64 takes word j of block 16 group + b, so a thread makes one block, for four elements.
"""

from __future__ import annotations

import numpy as np

from fastnn.backend.cuda.codegen.kernel import ptx
from fastnn.backend.cuda.codegen.options import formula

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
