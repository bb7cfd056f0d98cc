"""Heights of the tiles of convolutions: which one comes next where a line has so many pixels left."""

from __future__ import annotations

from functools import cache

from fastnn.backend.cpu.processor.target import vector_registers

# A multiply-add takes four cycles until its sum can be added to, and two begin in a cycle: a tile of fewer than eight
# vectors waits for itself.
_LATENCY, _BEGIN = 4, 2
# what a step costs besides
_LOOP = 0.5


#: The bits that say the height of a tile; see `tile_heights`.
HEIGHT_BITS = 5
#: How many rows have a height of their own.
HEIGHT_ROWS = 64
_WORD_ROWS = 64 // HEIGHT_BITS


def _heights(lanes_bytes: int, vectors: int, products: int) -> tuple[int, ...]:
    if vector_registers() < 32:
        if products > 1:
            return 10, 8, 7, 4, 2, 1
        return (6, 5, 4, 3, 2, 1) if vectors == 2 else (12, 8, 7, 6, 5, 4, 3, 2, 1)
    if products > 1:
        return 16, 14, 8, 7, 4, 2, 1
    high = 14 if lanes_bytes == 64 else 12
    return (high, 8, 7, 6, 5, 4, 3, 2, 1) if vectors == 2 else (2 * high, 16, high, 8, 7, 6, 5, 4, 3, 2, 1)


@cache
def tile_heights(lanes_bytes: int, vectors: int, products: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the heights of tiles, falling, and the best next one for 0 to 59 rows: twelve of them in each number.

    Maps are often 7, 14, 28 or 8, 16, 32 pixels wide, so there are tiles for these; with registers of 64 bytes one of
    14 x 2 vectors leaves three registers for what is multiplied.

    Parameters
    ----------
    lanes_bytes : int
        Bytes of a vector.
    vectors : int
        Vectors of a row.
    products : int
        How many multiply-adds each sum has in a step, one after the other.
    """
    heights = _heights(lanes_bytes, vectors, products)

    def cycles(height: int) -> float:
        loads = (height + products - 1 + products * vectors) / _BEGIN
        return max(height * vectors * products / _BEGIN, loads, _LATENCY * products) + _LOOP

    best, chosen = [0.0], [1]
    for left in range(1, 5 * _WORD_ROWS):
        times = {height: cycles(height) + best[left - height] for height in heights if height <= left}
        height = min(times, key=lambda each: (times[each], -each))
        best.append(times[height])
        chosen.append(height)
    return heights, tuple(
        sum(height << HEIGHT_BITS * place for place, height in enumerate(chosen[first : first + _WORD_ROWS]))
        for first in range(0, len(chosen), _WORD_ROWS)
    )
