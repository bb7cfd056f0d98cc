"""Products of small matrices, of which a record has many: tiles without what takes longer than a short k."""

from __future__ import annotations

from typing import Any

from fastnn.backend.cpu.codegen.intrinsics import stack_bytes
from fastnn.backend.cpu.codegen.kernel import Kit
from fastnn.backend.cpu.codegen.options import inlined
from fastnn.backend.cpu.codegen.tile import make_small_tile
from fastnn.backend.cpu.kernels.panels import copy_and_transpose
from fastnn.backend.cpu.processor.blocking import Blocking

# A panel whose rows lie in more memory than this is copied first, if as many rows use it as pay for that.
_NEAR = 16 * 1024


def _down(kit: Kit, shape: Blocking, vectors: int) -> Any:
    """Make the function that computes a panel of some vectors, tile by tile."""
    heights = shape.heights
    tiles = [make_small_tile(kit.dtype, shape.lanes, height, vectors) for height in heights]
    high, second, third, has_third = *heights[:3], len(heights) == 5
    tile_high, tile_second, tile_third, tile_2, tile_1 = *tiles[:3], *tiles[-2:]

    @inlined
    def down(rows, a, a_row, a_k, b, b_k, k, c, c_row, columns, scale):
        left = rows
        # 16 = 8 + 8, not 12 + 4: a tile of few sums waits for them
        while left >= high and left != 2 * second:
            tile_high(a, a_row, a_k, b, b_k, k, c, c_row, columns, scale)
            left, a, c = left - high, a + high * a_row, c + high * c_row
        while left >= second:
            tile_second(a, a_row, a_k, b, b_k, k, c, c_row, columns, scale)
            left, a, c = left - second, a + second * a_row, c + second * c_row
        if has_third and left >= third:
            tile_third(a, a_row, a_k, b, b_k, k, c, c_row, columns, scale)
            left, a, c = left - third, a + third * a_row, c + third * c_row
        if left >= 2:
            tile_2(a, a_row, a_k, b, b_k, k, c, c_row, columns, scale)
            left, a, c = left - 2, a + 2 * a_row, c + 2 * c_row
        if left >= 1:
            tile_1(a, a_row, a_k, b, b_k, k, c, c_row, columns, scale)

    return down


def small_panel(kit: Kit, shape: Blocking) -> Any:
    """Make the function that computes a panel of c = scale a op(b), for one block of k.

    It is inlined in the loop over matrices, where strides do not change. The panels that `matmul` shares prepare more
    for their tiles than pays here (`benchmarks/batched_products.py`).
    """
    lanes, few, packed_row = shape.lanes, shape.few_rows, shape.width * kit.itemsize
    panel_bytes, near = shape.panel_bytes, _NEAR
    wide, narrow = _down(kit, shape, 2), _down(kit, shape, 1)
    copy_panel, transpose_panel = copy_and_transpose(kit, shape, whole_panels=False)

    @inlined
    def panel_product(rows, columns, k, a, a_row, a_k, b, b_row, transposed, c, c_row, scale):
        buffer = stack_bytes(panel_bytes)
        panel, panel_row = b, b_row
        if transposed:
            transpose_panel(b, b_row, k, columns, buffer)
            panel, panel_row = buffer, packed_row
        elif columns % lanes != 0 or (rows >= few and k * b_row > near):
            copy_panel(b, b_row, k, columns, buffer, packed_row)
            panel, panel_row = buffer, packed_row
        if columns > lanes:
            wide(rows, a, a_row, a_k, panel, panel_row, k, c, c_row, columns, scale)
        else:
            narrow(rows, a, a_row, a_k, panel, panel_row, k, c, c_row, columns, scale)

    return panel_product
