"""Products of taps: tiles down lines of neighbours, whose sums run over several places of the left matrix.

Convolutions and their gradients are such products (`convolution.py`): the rows of a tile are neighbouring pixels, and
its taps the places of the window. Nothing is laid out anew for that but the border.
"""

from __future__ import annotations

from typing import Any

from fastnn.backend.cpu.codegen.kernel import Kit, kernel
from fastnn.backend.cpu.codegen.options import helper, inlined
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


def _dispatch(tiles: list[tuple[int, Any]]) -> Any:
    """Make the function that calls the tile of a height, which comes before the tile's arguments."""
    (height, tile), *others = tiles
    rest = _dispatch(others) if others else None

    @inlined
    def call(wanted, a, a_row, a_k, places, offsets, k, b, b_k, b_tap, c, c_row, init, init_row, late, columns, rectify):
        if rest is None or wanted == height:
            tile(a, a_row, a_k, places, offsets, k, b, b_k, b_tap, c, c_row, init, init_row, late, columns, rectify)
        else:
            rest(wanted, a, a_row, a_k, places, offsets, k, b, b_k, b_tap, c, c_row, init, init_row, late, columns,
                 rectify)  # fmt: skip

    return call


@kernel("taps", arguments=TAPS_ARGUMENTS)
def taps_tiles(kit: Kit, variant: str) -> Any:
    """Make the function that computes `lines` times `rows` rows of c: of two vectors of columns, "narrow" of one.

    Lines of a and c begin `a_line` and `c_line` bytes after each other. The other arguments are those of the tiles
    (`make_taps_tile`); init and rectify follow c, unless init is one row or 0. In "neighbours" rows of a are one element
    apart.
    """
    lanes = Blocking.of(kit.dtype).lanes
    vectors, neighbours = 1 if variant.startswith("narrow") else 2, variant.endswith("neighbours")
    heights, _ = tile_heights(lanes * kit.itemsize, vectors)
    choose = next_height(lanes * kit.itemsize, vectors)
    tile = _dispatch(
        [(height, make_taps_tile(kit.dtype, lanes, height, vectors, neighbours=neighbours)) for height in heights]
    )

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
                tile(height, at, a_row, a_k, places, offsets, k, b, b_k, b_tap, to, c_row, start, init_row, late,
                     columns, saved)  # fmt: skip
                left -= height
                at += height * a_row
                to += height * c_row
                start += height * init_row
                saved += height * c_row if saved > 1 else 0

    return taps
