"""Windows that slide over maps: sizes along depth, height and width, three of them in one word of a record."""

from __future__ import annotations

from collections.abc import Sequence

#: Bits of each of the three numbers of a word.
BITS = 20
#: The largest number that fits.
MOST = (1 << BITS) - 1
#: The most positions that a window may have: kernels list them on their stack.
MOST_TAPS = 4096


def packed(sizes: Sequence[int]) -> int:
    """Return the word of three numbers: along depth, height and width."""
    depth, height, width = sizes
    return depth << 2 * BITS | height << BITS | width


def unpacked(word: int) -> tuple[int, int, int]:
    """Return the three numbers of a word."""
    return word >> 2 * BITS, word >> BITS & MOST, word & MOST
