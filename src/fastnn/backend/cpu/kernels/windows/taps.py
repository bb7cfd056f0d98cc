"""Products of taps: tiles down lines of neighbours, whose sums run over several places of the left matrix.

Convolutions and their gradients are such products (`convolution.py`): the rows of a tile are neighbouring pixels, and
its taps the places of the window. Nothing is laid out anew for that but the border.
"""

from __future__ import annotations

from typing import Any

from fastnn.backend.cpu.codegen.kernel import Kit, kernel
from fastnn.backend.cpu.codegen.options import helper, inlined
from fastnn.backend.cpu.codegen.taps_tile import SHIFTS, make_shifted_weights_tile, make_taps_tile
from fastnn.backend.cpu.processor.blocking import Blocking
from fastnn.backend.cpu.processor.heights import tile_heights

#: The number of arguments of a function of taps.
TAPS_ARGUMENTS = 21


def next_height(lanes_bytes: int, vectors: int, products: int) -> Any:
    """Make the function that chooses the height of the next tile; see `tile_heights`."""
    heights, choices = tile_heights(lanes_bytes, vectors, products)
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
    def call(
        wanted, a, a_row, a_k, places, offsets, k, b, b_k, b_step, b_shift, c, c_row, init, init_row, late, columns,
        rectify,
    ):  # fmt: skip
        if rest is None or wanted == height:
            tile(a, a_row, a_k, places, offsets, k, b, b_k, b_step, b_shift, c, c_row, init, init_row, late, columns,
                 rectify)  # fmt: skip
        else:
            rest(wanted, a, a_row, a_k, places, offsets, k, b, b_k, b_step, b_shift, c, c_row, init, init_row, late,
                 columns, rectify)  # fmt: skip

    return call


@kernel("taps", arguments=TAPS_ARGUMENTS)
def taps_tiles(kit: Kit, variant: str) -> Any:
    """Make the function that computes `lines` times `rows` rows of c: of two vectors of columns, "narrow" of one.

    Lines of a and c begin `a_line` and `c_line` bytes after each other. The other arguments are those of the tiles
    (`make_taps_tile`, whose kind is the second part of the variant); init and rectify follow c, unless init is one row
    or 0.
    """
    width, _, kind = variant.partition("_")
    lanes, vectors = Blocking.of(kit.dtype).lanes, 1 if width == "narrow" else 2
    products = SHIFTS if kind == "shifts" else 1
    heights, _ = tile_heights(lanes * kit.itemsize, vectors, products)
    choose = next_height(lanes * kit.itemsize, vectors, products)
    tile = _dispatch([(height, make_taps_tile(kit.dtype, lanes, height, vectors, kind)) for height in heights])

    def taps(
        lines, a_line, c_line, rows, a, a_row, a_k, places, offsets, k, b, b_k, b_step, b_shift, c, c_row, init,
        init_row, late, columns, rectify,
    ):  # fmt: skip
        for line in range(lines):
            at, to, left = a + line * a_line, c + line * c_line, rows
            start = init + line * c_line if init_row != 0 else init
            saved = rectify + line * c_line if rectify > 1 else rectify
            while left > 0:
                height = choose(left)
                tile(height, at, a_row, a_k, places, offsets, k, b, b_k, b_step, b_shift, to, c_row, start, init_row,
                     late, columns, saved)  # fmt: skip
                left -= height
                at += height * a_row
                to += height * c_row
                start += height * init_row
                saved += height * c_row if saved > 1 else 0

    return taps


#: The number of arguments of the function of shifted weights.
SHIFTED_ARGUMENTS = 14
#: Rows of its tiles: with eight, three times as many sums fill the registers that are not needed otherwise.
_SHIFTED_HEIGHTS = (8, 4, 2, 1)


def _dispatch_shifted(tiles: list[tuple[int, Any]]) -> Any:
    (height, tile), *others = tiles
    rest = _dispatch_shifted(others) if others else None

    @inlined
    def call(wanted, a, a_k, places, offsets, k, b, b_k, b_step, c, c_row, c_shift, adds, columns):
        if rest is None or wanted >= height:
            tile(a, a_k, places, offsets, k, b, b_k, b_step, c, c_row, c_shift, adds, columns)
            return height
        return rest(wanted, a, a_k, places, offsets, k, b, b_k, b_step, c, c_row, c_shift, adds, columns)

    return call


@kernel("shifted_weights", arguments=SHIFTED_ARGUMENTS)
def shifted_weights(kit: Kit, variant: str) -> Any:
    """Make the function that computes `rows` rows of each of the tiles of `make_shifted_weights_tile`."""
    lanes, size = Blocking.of(kit.dtype).lanes, kit.itemsize
    tile = _dispatch_shifted(
        [(height, make_shifted_weights_tile(kit.dtype, lanes, height)) for height in _SHIFTED_HEIGHTS]
    )

    def shifted(rows, a, a_k, places, offsets, k, b, b_k, b_step, c, c_row, c_shift, adds, columns):
        while rows > 0:
            done = tile(rows, a, a_k, places, offsets, k, b, b_k, b_step, c, c_row, c_shift, adds, columns)
            rows -= done
            a += done * size
            c += done * c_row

    return shifted
