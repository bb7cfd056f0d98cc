"""Panels and packed blocks of the matmul: tiles down the rows of a panel, and the packing of a and b."""

from __future__ import annotations

from typing import Any

from fastnn.backend.cpu.codegen.intrinsics import smaller
from fastnn.backend.cpu.codegen.kernel import Kit, kernel
from fastnn.backend.cpu.codegen.options import helper
from fastnn.backend.cpu.codegen.packing import make_copy_rows, make_copy_strip, make_transpose, make_transpose_edge
from fastnn.backend.cpu.codegen.tile import make_tile
from fastnn.backend.cpu.processor.blocking import Blocking

# So many rows are packed at a time where the rows of a panel lie far apart: they stay in the first-level cache,
# and their pages in the translation buffer, until their last column is packed.
CHUNK = 16


# A panel's rows are brought near by at most 2^5 tiles of the one before.
MOST_PACE = 5


def first_height(shape: Blocking, vectors: int = 2) -> Any:
    """Make the function that chooses the first tile's height for some rows: the highest that leaves no bad one."""
    heights = shape.heights
    # of one vector, 16 = 8 + 8, not 12 + 4: a tile of four sums waits for them
    halved = 2 * heights[1] if vectors == 1 else 0
    if len(heights) == 5:
        high, second, third = heights[:3]

        @helper
        def next_height(left):
            if left >= high and left != halved:
                return high
            return second if left >= second else third if left >= third else 2 if left >= 2 else 1

    else:
        high, second = heights[:2]

        @helper
        def next_height(left):
            # 8 = 4 + 4, not 6 + 2: a tile of two rows waits for its own sums
            if left >= high and left != 2 * second:
                return high
            return second if left >= second else 2 if left >= 2 else 1

    return next_height


#: The number of arguments of a panel function.
PANEL_ARGUMENTS = 19


@kernel("panel", arguments=PANEL_ARGUMENTS)
def panel_tiles(kit: Kit, variant: str) -> Any:
    """Make the function that computes c = init + a b for a panel of columns: of two vectors, "narrow" of one.

    It is compiled once for each dtype, and the kernels that need it call it by its symbol: LLVM takes a second for its
    unrolled loops, each time that it meets them.

    Its `step` is the distance in bytes from the first row of a tile to that of the next, for each row between;
    `a_k` is 0 for a packed block, whose k lie a tile's height apart, `size` bytes each row. With `copy`, b's panel
    is packed there by the first tile, which has to be one of the highest (not "narrow"). Rows of the next panel, from
    `ahead` on, are brought near by the highest tiles ("fetching").
    """
    shape = Blocking.of(kit.dtype)
    vectors, copies, fetches = (1 if variant == "narrow" else 2), variant != "narrow", variant == "fetching"
    heights, high, size = shape.heights, shape.heights[0], kit.itemsize
    next_height = first_height(shape, vectors)
    tiles = {
        height: make_tile(kit.dtype, shape.lanes, height, vectors, fetches=fetches and height == high)
        for height in heights
    }
    first_tile = make_tile(kit.dtype, shape.lanes, high, vectors, copies=True)
    packed_row = vectors * shape.lanes * size
    tile_high, tile_second, tile_2, tile_1 = tiles[high], tiles[heights[1]], tiles[2], tiles[1]
    tile_third, has_third = tiles[heights[2]], len(heights) == 5
    second, third = heights[1], heights[2]

    def panel(
        rows, a, step, a_row, a_k, packed_size, b, b_k, k, c, c_row, init, init_row, late, columns, copy, rectify,
        ahead, ahead_row,
    ):  # fmt: skip
        i = 0
        if copies and copy != 0:
            first_tile(a, a_row, a_k + high * packed_size, b, b_k, k, c, c_row, init, init_row, late, columns, copy,
                       rectify, 0, 0, 0)  # fmt: skip
            i, b, b_k = high, copy, packed_row
        # the rows of the next panel, shared out among the highest tiles
        pace = 0
        while fetches and pace < MOST_PACE and i + (high << pace + 1) <= rows:
            pace += 1
        left_ahead = 1 << pace if fetches and ahead != 0 else 0
        while i < rows:
            height = next_height(rows - i)
            at, to, start = a + i * step, c + i * c_row, init + i * init_row
            skip = a_k + height * packed_size
            pass_on = rectify + i * c_row if rectify > 1 else rectify
            if height == high and left_ahead > 0:
                tile_high(at, a_row, skip, b, b_k, k, to, c_row, start, init_row, late, columns, 0, pass_on, ahead,
                          ahead_row, pace)  # fmt: skip
                ahead += (k >> pace) * ahead_row
                left_ahead -= 1
            elif height == high:
                tile_high(at, a_row, skip, b, b_k, k, to, c_row, start, init_row, late, columns, 0, pass_on, b, 0, 0)
            elif height == second:
                tile_second(at, a_row, skip, b, b_k, k, to, c_row, start, init_row, late, columns, 0, pass_on, 0, 0, 0)
            elif has_third and height == third:
                tile_third(at, a_row, skip, b, b_k, k, to, c_row, start, init_row, late, columns, 0, pass_on, 0, 0, 0)
            elif height == 2:
                tile_2(at, a_row, skip, b, b_k, k, to, c_row, start, init_row, late, columns, 0, pass_on, 0, 0, 0)
            else:
                tile_1(at, a_row, skip, b, b_k, k, to, c_row, start, init_row, late, columns, 0, pass_on, 0, 0, 0)
            i += height

    return panel


def copy_and_transpose(kit: Kit, shape: Blocking, *, whole_panels: bool) -> tuple[Any, Any]:
    """Make `copy_panel` and `transpose_panel`, which write k rows of a panel of b.

    Elements after the edge are finite if those of b are, and of vectors after the edge only if `whole_panels` is set.
    """
    reals, real, size, lanes, width = kit.reals, kit.real, kit.itemsize, shape.lanes, shape.width
    copy_panel = make_copy_rows(kit.dtype, lanes, 2)
    transpose, transpose_edge = make_transpose(kit.dtype, lanes, lanes), make_transpose_edge(kit.dtype, lanes)
    zero = real(0.0)

    @helper
    def transpose_panel(b, b_row, k, columns, buffer):
        whole = k // lanes * lanes
        for j in range(0, columns, lanes):
            left, source, target = columns - j, b + j * b_row, buffer + j * size
            if left >= lanes:
                for i in range(0, whole, lanes):
                    transpose(source + i * size, b_row, target + i * width * size, width * size)
            else:
                for i in range(0, whole, lanes):
                    transpose_edge(source + i * size, b_row, target + i * width * size, width * size, left)
        y = reals(buffer)
        for row in range(columns):
            x = reals(b + row * b_row)
            for i in range(whole, k):
                y[i * width + row] = x[i]
        vectors_end = (columns + lanes - 1) // lanes * lanes
        for i in range(whole, k):
            for row in range(columns, vectors_end):
                y[i * width + row] = zero
        if whole_panels and vectors_end < width:
            for i in range(k):
                for row in range(lanes):
                    y[i * width + lanes + row] = zero

    return copy_panel, transpose_panel


def pack_rows(kit: Kit, shape: Blocking) -> Any:
    """Make the function that packs a block of a: tile by tile, the tile's rows side by side for each k.

    A vector is written whole where fewer rows are left, and what it wrote too much is overwritten by what
    follows; the block's memory has room for one more vector.
    """
    reals, size, chunk = kit.reals, kit.itemsize, CHUNK
    next_height = first_height(shape)
    high, second = shape.heights[:2]
    strip_high, strip_second = (make_copy_strip(kit.dtype, height) for height in (high, second))
    pack_high, pack_second = _transposed_strip(kit, shape, high), _transposed_strip(kit, shape, second)

    @helper
    def pack_any(height, a, a_row, a_k, k, to):
        y = reals(to)
        for i in range(height):
            for j in range(k):
                y[j * height + i] = reals(a + i * a_row + j * a_k)[0]

    @helper
    def pack(rows, a, a_row, a_k, k, buffer):
        step = chunk if a_row == size else k
        j = 0
        while j < k:
            depth = smaller(step, k - j)
            i = 0
            while i < rows:
                height = next_height(rows - i)
                at, to = a + i * a_row + j * a_k, buffer + (i * k + j * height) * size
                if height == high and a_row == size:
                    strip_high(at, a_k, depth, to, high * size)
                elif height == high:
                    pack_high(at, a_row, depth, to)
                elif height == second and a_row == size:
                    strip_second(at, a_k, depth, to, second * size)
                elif height == second:
                    pack_second(at, a_row, depth, to)
                else:
                    pack_any(height, at, a_row, a_k, depth, to)
                i += height
            j += depth

    return pack


def _transposed_strip(kit: Kit, shape: Blocking, height: int) -> Any:
    """Make the function that packs `height` contiguous rows of k elements side by side."""
    reals, size, lanes = kit.reals, kit.itemsize, shape.lanes
    upper = (height - 1) // lanes * lanes
    transpose_upper = make_transpose(kit.dtype, lanes, height - upper)
    transpose_lower = make_transpose(kit.dtype, lanes, lanes)

    @helper
    def strip(a, a_row, k, to):
        whole = k // lanes * lanes
        for j in range(0, whole, lanes):
            # from the last rows to the first: what the last ones write too much belongs to the next k's first rows
            transpose_upper(a + upper * a_row + j * size, a_row, to + (j * height + upper) * size, height * size)
            for i in range(upper - lanes, -1, -lanes):
                transpose_lower(a + i * a_row + j * size, a_row, to + (j * height + i) * size, height * size)
        y = reals(to)
        for j in range(whole, k):
            for i in range(height):
                y[j * height + i] = reals(a + i * a_row + j * size)[0]

    return strip
