"""Philox4x32-10, the counter-based random numbers of Salmon et al., SC'11: no state, so no order of use.

Four 32-bit words are a pure function of (block, node, step) and the seed: the same on any number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.backend.cpu.codegen.intrinsics import SOURCE_POINTERS
from fastnn.backend.cpu.codegen.kernel import Kit
from fastnn.backend.cpu.codegen.options import helper, inlined

# Random words come in groups of 64, the unit of a kernel's parts.
GROUP, BLOCKS, WORDS_BYTES = 64, 16, 256
uint32_pointer = SOURCE_POINTERS["uint32"]

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
def fill_group(group: int, node: int, step: int, seed: int, buffer: int) -> None:
    """Write the random words of the 64 elements of a group to a buffer.

    Element 16 j + b of the group takes word j of block 16 group + b: neighbouring blocks are in neighbouring
    lanes, so the loop vectorises (0.4 ns per word; with the four words of a block as neighbours it took 2.3 ns).
    """
    words = uint32_pointer(buffer)
    for b in range(BLOCKS):
        w0, w1, w2, w3 = philox(group * BLOCKS + b, node, step, seed)
        words[b], words[BLOCKS + b] = w0, w1
        words[2 * BLOCKS + b], words[3 * BLOCKS + b] = w2, w3


def box_muller(kit: Kit) -> Callable[..., Any]:
    """Make the Box-Muller transform of a group: words 0 and 1, and words 2 and 3, of every block become normal numbers.

    It takes the buffer of the words, the one that it writes the numbers to, and their mean and standard deviation.
    """
    real, reals = kit.real, kit.reals
    log, sqrt, cos2pi = kit.math.log, kit.math.sqrt, kit.math.cos2pi
    unit, half, minus_two, quarter = real(2.0**-32), real(2.0**-33), real(-2.0), real(0.25)
    turn, eight = real(2.0**-24), np.uint32(8)

    @inlined
    def normal(words_at, drawn_at, mean, stddev):
        words, drawn = uint32_pointer(words_at), reals(drawn_at)
        middle, width = real(mean), real(stddev)
        for pair in range(0, GROUP, 2 * BLOCKS):
            for b in range(pair, pair + BLOCKS):
                # a word of 2^32 - 1 may round u up to 1, whose log is 0: still a finite radius
                radius = sqrt(minus_two * log(real(words[b]) * unit + half))
                angle = real(words[b + BLOCKS] >> eight) * turn
                drawn[b] = middle + width * (radius * cos2pi(angle))
                # sin(t) = cos(t - a quarter turn)
                drawn[b + BLOCKS] = middle + width * (radius * cos2pi(angle - quarter))

    return normal
