"""The matmul kernel: panels of b, packed where that pays, times tiles of rows of a read where they stand.

For each panel of columns and each block of k, b's panel is copied (or transposed) into a buffer on the stack
that fits the first-level cache; then the register tile walks down the rows. a is read in place with any strides,
because a tile only broadcasts its elements, so a transposed a costs nothing. With few rows and an untransposed
b, the panel is read in place too. A mapped activation (or its gradient) follows while the rows are in the cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnn.backend.cpu.intrinsics import call_map, int64_pointer, stack_bytes
from fastnn.backend.cpu.kernels.kit import Kit, address, flags_of, has, kernel, rows_part
from fastnn.backend.cpu.options import helper
from fastnn.backend.cpu.target import vector_bytes, vector_registers
from fastnn.backend.cpu.tile import make_tile, make_transpose
from fastnn.program.layout import MAP_WORD, PARAMS_AT, Flag

_PARAMS_BYTES = PARAMS_AT * 8
_ACCUMULATE, _FORWARD, _GRADIENT = int(Flag.ACCUMULATE), int(Flag.MAP_FORWARD), int(Flag.MAP_GRADIENT)
_TRANSPOSE_A, _TRANSPOSE_B = int(Flag.TRANSPOSE_A), int(Flag.TRANSPOSE_B)

# The panel buffer: two vectors of columns times BLOCK_K rows, 32 KiB with 64-byte vectors, on the stack.
BLOCK_K = 256


def _tiles(kit: Kit, lanes: int, vectors: int, heights: tuple[int, int, int]) -> Any:
    """Make the function that computes c = init + a b for a panel of up to `lanes * vectors` columns."""
    high, middle, low = heights
    tile_high = make_tile(kit.dtype, lanes, high, vectors)
    tile_middle = make_tile(kit.dtype, lanes, middle, vectors)
    tile_low = make_tile(kit.dtype, lanes, low, vectors)

    @helper
    def panel(m, a, a_row, a_k, b, b_k, k, c, c_row, init, init_row, columns):
        i = 0
        while i + high <= m:
            tile_high(a + i * a_row, a_row, a_k, b, b_k, k, c + i * c_row, c_row, init, init_row, columns)
            init += high * init_row
            i += high
        while i + middle <= m:
            tile_middle(a + i * a_row, a_row, a_k, b, b_k, k, c + i * c_row, c_row, init, init_row, columns)
            init += middle * init_row
            i += middle
        while i < m:
            tile_low(a + i * a_row, a_row, a_k, b, b_k, k, c + i * c_row, c_row, init, init_row, columns)
            init += low * init_row
            i += low

    return panel


def _packing(kit: Kit, lanes: int, width: int) -> tuple[Any, Any]:
    """Make `copy_panel` and `transpose_panel`, which write k rows of `width` columns, zeros behind the edge."""
    reals, real, size = kit.reals, kit.real, kit.itemsize
    transpose = make_transpose(kit.dtype, lanes)
    zero = real(0.0)

    @helper
    def copy_panel(b, b_row, k, columns, buffer):
        for i in range(k):
            x, y = reals(b + i * b_row), reals(buffer + i * (width * size))
            if columns == width:
                for j in range(width):
                    y[j] = x[j]
            else:
                for j in range(columns):
                    y[j] = x[j]
                for j in range(columns, width):
                    y[j] = zero

    @helper
    def transpose_panel(b, b_row, k, columns, buffer):
        whole = k // lanes * lanes
        j = 0
        while j + lanes <= columns:
            for i in range(0, whole, lanes):
                transpose(b + j * b_row + i * size, b_row, buffer + (i * width + j) * size, width * size)
            j += lanes
        y = reals(buffer)
        for row in range(j):
            x = reals(b + row * b_row)
            for i in range(whole, k):
                y[i * width + row] = x[i]
        for row in range(j, columns):
            x = reals(b + row * b_row)
            for i in range(k):
                y[i * width + row] = x[i]
        for row in range(columns, width):
            for i in range(k):
                y[i * width + row] = zero

    return copy_panel, transpose_panel


@kernel("matmul")
def matmul(kit: Kit, variant: str) -> Callable[..., Any]:
    """Make c (+)= op(a) op(b) + bias, with an activation or an activation's gradient applied to c."""
    C, PRE, A, B, BIAS, SAVED = kit.words("c pre a b bias saved")
    M, N, K = kit.words("m n k")
    size = kit.itemsize
    lanes = vector_bytes() // size
    width = 2 * lanes
    # two accumulators a row; what is left of the registers holds b's two vectors and one broadcast
    heights = (12, 4, 1) if vector_registers() == 32 else (6, 3, 1)
    wide, narrow = _tiles(kit, lanes, 2, heights), _tiles(kit, lanes, 1, heights)
    copy_panel, transpose_panel = _packing(kit, lanes, width)
    few_rows = 3 * heights[0]
    panel_bytes = BLOCK_K * width * size

    @helper
    def multiply(first, last, n, k, a, a_row, a_k, b, b_row, transposed, c, bias, accumulate):
        buffer = stack_bytes(panel_bytes)
        blocks = (k + BLOCK_K - 1) // BLOCK_K
        rows, c_row = last - first, n * size
        a += first * a_row
        c += first * c_row
        for j in range(0, n, width):
            columns = min(width, n - j)
            direct = not transposed and rows < few_rows and columns % lanes == 0
            for block in range(blocks):
                k0, k1 = k * block // blocks, k * (block + 1) // blocks
                panel, panel_row = b + k0 * b_row + j * size, b_row
                if transposed:
                    panel, panel_row = buffer, width * size
                    transpose_panel(b + j * b_row + k0 * size, b_row, k1 - k0, columns, buffer)
                elif not direct:
                    panel, panel_row = buffer, width * size
                    copy_panel(b + k0 * b_row + j * size, b_row, k1 - k0, columns, buffer)
                target = c + j * size
                init, init_row = target, c_row
                if block == 0 and not accumulate:
                    init, init_row = (bias + j * size if bias != 0 else 0), 0
                left = a + k0 * a_k
                if columns > lanes:
                    wide(rows, left, a_row, a_k, panel, panel_row, k1 - k0, target, c_row, init, init_row, columns)
                else:
                    narrow(rows, left, a_row, a_k, panel, panel_row, k1 - k0, target, c_row, init, init_row, columns)

    def matmul(record, context, ith, nth):
        r, flags = int64_pointer(record), flags_of(record)
        m, n, k = r[M], r[N], r[K]
        first, last = rows_part(m, ith, nth)
        if first == last:
            return
        a, b, c = address(record, context, A), address(record, context, B), address(record, context, C)
        a_row, a_k = k * size, size
        if flags & _TRANSPOSE_A != 0:
            a_row, a_k = size, m * size
        transposed = flags & _TRANSPOSE_B != 0
        b_row = k * size if transposed else n * size
        bias = address(record, context, BIAS) if has(record, BIAS) else 0
        keeps = has(record, PRE)
        target = address(record, context, PRE) if keeps else c
        multiply(first, last, n, k, a, a_row, a_k, b, b_row, transposed, target, bias, flags & _ACCUMULATE != 0)
        skip, count = first * n * size, (last - first) * n
        if flags & _FORWARD != 0:
            call_map(r[MAP_WORD], c + skip, target + skip, 0, count, record + _PARAMS_BYTES)
        elif flags & _GRADIENT != 0:
            saved = address(record, context, SAVED) + skip
            call_map(r[MAP_WORD], c + skip, c + skip, saved, count, record + _PARAMS_BYTES)

    return matmul
