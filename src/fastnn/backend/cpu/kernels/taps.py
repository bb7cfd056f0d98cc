"""Products of taps: tiles down lines of neighbours, whose sums run over several places of the left matrix.

Convolutions and their gradients are such products (`convolution.py`): the rows of a tile are neighbouring pixels, and
its taps the places of the window. Nothing is laid out anew for that but the border.
"""

from __future__ import annotations

from typing import Any

from fastnn.backend.cpu.codegen.kernel import Kit, kernel
from fastnn.backend.cpu.codegen.options import helper
from fastnn.backend.cpu.codegen.tile import make_taps_tile
from fastnn.backend.cpu.processor.blocking import Blocking
from fastnn.backend.cpu.processor.heights import tile_heights

#: The number of arguments of a function of taps.
TAPS_ARGUMENTS = 20


def next_height(lanes_bytes: int, vectors: int) -> Any:
    """Make the function that chooses the height of the next tile."""
    heights, choices = tile_heights(lanes_bytes, vectors)
    high, (first, second, third, fourth, fifth) = heights[0], choices

    @helper
    def choose(left):
        if left >= 2 * high:
            return high
        number = left // 12
        word = first if number == 0 else second if number == 1 else third if number == 2 else fourth
        word = fifth if number == 4 else word
        return word >> (left - number * 12) * 5 & 31

    return choose


@kernel("taps", arguments=TAPS_ARGUMENTS)
def taps_tiles(kit: Kit, variant: str) -> Any:
    """Make the function that computes `lines` times `rows` rows of c: of two vectors of columns, "narrow" of one.

    Lines of a and c begin `a_line` and `c_line` bytes after each other. The other arguments are those of the tiles
    (`make_taps_tile`); init and rectify follow c, unless init is one row or 0.
    """
    shape = Blocking.of(kit.dtype)
    lanes, vectors = shape.lanes, 1 if variant == "narrow" else 2
    heights, _ = tile_heights(lanes * kit.itemsize, vectors)
    choose = next_height(lanes * kit.itemsize, vectors)
    tiles = {height: make_taps_tile(kit.dtype, lanes, height, vectors) for height in heights}
    count = len(heights)
    padded = (*heights, *[0] * 8)
    h0, h1, h2, h3, h4, h5, h6 = padded[:7]
    t0, t1, t2, t3, t4, t5, t6, t7 = (tiles.get(height, tiles[1]) for height in padded[:8])
    assert count <= 8 and heights[-1] == 1

    def taps(
        lines, a_line, c_line, rows, a, a_row, a_k, places, offsets, k, b, b_k, b_tap, c, c_row, init, init_row, late,
        columns, rectify,
    ):  # fmt: skip
        for line in range(lines):
            at, to, left = a + line * a_line, c + line * c_line, rows
            start = init + line * c_line if init_row != 0 else init
            saved = rectify + line * c_line if rectify > 1 else rectify
            while left > 0:
                height = choose(left)
                if height == h0:
                    t0(at, a_row, a_k, places, offsets, k, b, b_k, b_tap, to, c_row, start, init_row, late, columns,
                       saved)  # fmt: skip
                elif count > 1 and height == h1:
                    t1(at, a_row, a_k, places, offsets, k, b, b_k, b_tap, to, c_row, start, init_row, late, columns,
                       saved)  # fmt: skip
                elif count > 2 and height == h2:
                    t2(at, a_row, a_k, places, offsets, k, b, b_k, b_tap, to, c_row, start, init_row, late, columns,
                       saved)  # fmt: skip
                elif count > 3 and height == h3:
                    t3(at, a_row, a_k, places, offsets, k, b, b_k, b_tap, to, c_row, start, init_row, late, columns,
                       saved)  # fmt: skip
                elif count > 4 and height == h4:
                    t4(at, a_row, a_k, places, offsets, k, b, b_k, b_tap, to, c_row, start, init_row, late, columns,
                       saved)  # fmt: skip
                elif count > 5 and height == h5:
                    t5(at, a_row, a_k, places, offsets, k, b, b_k, b_tap, to, c_row, start, init_row, late, columns,
                       saved)  # fmt: skip
                elif count > 6 and height == h6:
                    t6(at, a_row, a_k, places, offsets, k, b, b_k, b_tap, to, c_row, start, init_row, late, columns,
                       saved)  # fmt: skip
                else:
                    t7(at, a_row, a_k, places, offsets, k, b, b_k, b_tap, to, c_row, start, init_row, late, columns,
                       saved)  # fmt: skip
                left -= height
                at += height * a_row
                to += height * c_row
                start += height * init_row
                saved += height * c_row if saved > 1 else 0

    return taps
