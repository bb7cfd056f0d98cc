"""The matmul kernel: register tiles over panels of b, by one of these algorithms.

- blocked, for large matrices: blocks of b and of a are packed into scratch memory in the order in which tiles read them
  (the loops of BLIS: Van Zee and van de Geijn, 2015, doi:10.1145/2764454);
- simple: a is read where it stands, with any strides, because a tile only broadcasts its elements; a panel of b
  is read in place when few rows use it, or packed on the stack (by the first tile itself, or transposed);
- one row, b as it is: columns of b are summed in registers, or rows of a large b are streamed and added to the result;
- up to three rows, b transposed: dot products;
- one column: one of the last two, with the operands exchanged.

Sums over k are made of blocks, each from zero and then added to those before, so that their errors do not add up over a
million of rows: of as many equal numbers a single chain of float32 was 0.9 % off.

Which algorithm is taken depends on the shape alone, never on the part, so results do not depend on the number of parts.
relu and its gradient are applied to a tile in registers; another mapped activation (or gradient) follows while the
rows are in the cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.backend.cpu.codegen.intrinsics import address, flags_of, has, int64_pointer, smaller, stack_bytes
from fastnn.backend.cpu.codegen.kernel import Kit, apply_map, kernel
from fastnn.backend.cpu.codegen.options import helper
from fastnn.backend.cpu.codegen.row import make_dots, make_row_update, make_short_dots
from fastnn.backend.cpu.codegen.shared import shared
from fastnn.backend.cpu.kernels.panels import PANEL_ARGUMENTS, copy_and_transpose, first_height, pack_rows
from fastnn.backend.cpu.kernels.single_row import row_in_registers
from fastnn.backend.cpu.layouts.shared import packed_panel
from fastnn.backend.cpu.processor.blocking import SCRATCH_BYTES, Blocking
from fastnn.program.layout import Buffer, Flag
from fastnn.program.record import KernelKey

_ACCUMULATE, _FORWARD, _GRADIENT = int(Flag.ACCUMULATE), int(Flag.MAP_FORWARD), int(Flag.MAP_GRADIENT)
_TRANSPOSE_A, _TRANSPOSE_B = int(Flag.TRANSPOSE_A), int(Flag.TRANSPOSE_B)
_RECTIFY = int(Flag.RECTIFY)
_SCRATCH = int(Buffer.SCRATCH)
# The depth of a block of dot products, which have 16 or more sums side by side.
DOT_K = 4096


def _simple(kit: Kit, shape: Blocking) -> Any:
    """Make the product of small matrices: panels of b one after the other, all rows of a each time."""
    lanes, width, size, few = shape.lanes, shape.width, kit.itemsize, shape.few_rows
    block_k, panel_bytes = shape.k, shape.panel_bytes
    wide, narrow = (shared(KernelKey("panel", kit.dtype, kind), PANEL_ARGUMENTS) for kind in ("wide", "narrow"))
    copy_panel, transpose_panel = copy_and_transpose(kit, shape, whole_panels=False)

    @helper
    def simple(
        scratch, rows, first, last, n, k, a, a_row, a_k, b, b_row, transposed, c, c_row, bias, accumulate, rectify
    ):  # fmt: skip
        buffer = stack_bytes(panel_bytes)
        blocks, packed_row = (k + block_k - 1) // block_k, width * size
        for j in range(first, last, width):
            columns = smaller(width, last - j)
            for block in range(blocks):
                k0, k1 = (0, k) if blocks == 1 else (k * block // blocks, k * (block + 1) // blocks)
                panel, panel_row, copy = b + k0 * b_row + j * size, b_row, 0
                if transposed:
                    panel, panel_row = buffer, packed_row
                    transpose_panel(b + j * b_row + k0 * size, b_row, k1 - k0, columns, buffer)
                elif columns == width and rows >= few:
                    copy = buffer
                elif columns % lanes != 0 or (rows >= few and b_row > packed_row):
                    copy_panel(panel, b_row, k1 - k0, columns, buffer, packed_row)
                    panel, panel_row = buffer, packed_row
                target = c + j * size
                init, init_row = target, c_row
                if block == 0 and not accumulate:
                    init, init_row = (bias + j * size if bias != 0 else 0), 0
                left, depth = a + k0 * a_k, k1 - k0
                last_step = (rectify + j * size if rectify > 1 else rectify) if block == blocks - 1 else 0
                if columns > lanes:
                    wide(rows, left, a_row, a_row, a_k, 0, panel, panel_row, depth, target, c_row, init, init_row,
                         block, columns, copy, last_step, 0, 0)  # fmt: skip
                else:
                    narrow(rows, left, a_row, a_row, a_k, 0, panel, panel_row, depth, target, c_row, init, init_row,
                           block, columns, 0, last_step, 0, 0)  # fmt: skip

    return simple


def _blocked(kit: Kit, shape: Blocking) -> Any:
    """Make the product of large matrices: blocks of b and of a packed into scratch memory."""
    width, size, high = shape.width, kit.itemsize, shape.heights[0]
    block_m, block_n, block_k = shape.m, shape.n, shape.k
    tiles, next_height = shared(packed_panel(kit.dtype), PANEL_ARGUMENTS), first_height(shape)
    copy_panel, transpose_panel = copy_and_transpose(kit, shape, whole_panels=True)
    pack_a = pack_rows(kit, shape)
    a_bytes, packed_row = shape.a_bytes, shape.width * kit.itemsize

    @helper
    def blocked(
        scratch, m, first, last, n, k, a, a_row, a_k, b, b_row, transposed, c, c_row, bias, accumulate, rectify
    ):  # fmt: skip
        a_block, b_block = scratch, scratch + a_bytes
        blocks, b_k = (k + block_k - 1) // block_k, size if transposed else b_row
        for j0 in range(first, last, block_n):
            j1 = smaller(last, j0 + block_n)
            for block in range(blocks):
                k0, k1 = k * block // blocks, k * (block + 1) // blocks
                depth, right = k1 - k0, b + k0 * b_k
                # a panel that one block of a reads alone is packed where the last one was, which is in the caches:
                # 128 x 1024 x 4096 with b transposed from 118 to 133 GF/s
                panel_bytes = depth * packed_row if m > block_m else 0
                for i in range(0, m, block_m):
                    rows = smaller(block_m, m - i)
                    pack_a(rows, a + i * a_row + k0 * a_k, a_row, a_k, depth, a_block)
                    for j in range(j0, j1, width):
                        columns, copy = smaller(width, j1 - j), 0
                        panel, panel_row = b_block + (j - j0) // width * panel_bytes, packed_row
                        ahead, ahead_row = panel + panel_bytes, packed_row
                        if i == 0:
                            here = right + j * (b_row if transposed else size)
                            ahead, ahead_row = (0, 0) if transposed else (here + width * size, b_row)
                            if transposed:
                                transpose_panel(here, b_row, depth, columns, panel)
                            elif columns < width or next_height(rows) != high:
                                copy_panel(here, b_row, depth, columns, panel, packed_row)
                            else:
                                panel, panel_row, copy = here, b_row, panel
                        if j + width >= j1:
                            ahead, ahead_row = b_block, packed_row
                        target = c + i * c_row + j * size
                        init, init_row = target, c_row
                        if block == 0 and not accumulate:
                            init, init_row = (bias + j * size if bias != 0 else 0), 0
                        last_step = 0
                        if block == blocks - 1:
                            last_step = rectify + i * c_row + j * size if rectify > 1 else rectify
                        tiles(rows, a_block, depth * size, size, 0, size, panel, panel_row, depth, target, c_row,
                              init, init_row, block, columns, copy, last_step, ahead, ahead_row)  # fmt: skip

    return blocked


def _single_row(kit: Kit, shape: Blocking) -> Any:
    """Make c (+)= a b for one row.

    The sums of some columns stay in registers while k goes by: 64 x 128 from 0.29 to 0.13 µs. A b that comes from
    memory is read row by row instead: 1024 x 1024 in 137 instead of 224 µs.
    """
    size, lanes, most_bytes = kit.itemsize, shape.lanes, shape.row_bytes
    in_registers = row_in_registers(kit, shape)
    update, update_one = make_row_update(kit.dtype, lanes, 8), make_row_update(kit.dtype, lanes, 1)
    # this many columns of c stay in the first-level cache while eight rows of b pass by
    most = 8 * 1024 // size
    real, reals, block_k = kit.real, kit.reals, shape.k
    # of a b that is taken through registers in more than one block, a row has at most `most_bytes / block_k` bytes
    zero, part_bytes = real(0.0), max(most * size, most_bytes // block_k)

    @helper
    def add_rows(i, k, a, a_k, b, b_row, c, columns):
        while i + 8 <= k:
            update(a + i * a_k, a_k, b + i * b_row, b_row, c, columns)
            i += 8
        while i < k:
            update_one(a + i * a_k, a_k, b + i * b_row, b_row, c, columns)
            i += 1

    @helper
    def by_rows(first, last, k, a, a_k, b, b_row, c):
        part, blocks = stack_bytes(part_bytes), (k + block_k - 1) // block_k
        begin = np.int64(0)  # a constant argument would make Numba compile a second `add_rows`
        for j in range(first, last, most):
            columns, here, y, x = smaller(most, last - j), j * size, reals(c + j * size), reals(part)
            add_rows(begin, k // blocks, a, a_k, b + here, b_row, c + here, columns)
            for block in range(1, blocks):
                for i in range(columns):
                    x[i] = zero
                add_rows(k * block // blocks, k * (block + 1) // blocks, a, a_k, b + here, b_row, part, columns)
                for i in range(columns):
                    y[i] += x[i]

    @helper
    def blocks_in_registers(first, last, k, a, a_k, b, b_row, c, start):
        part, blocks = stack_bytes(part_bytes), (k + block_k - 1) // block_k
        y, x = reals(c), reals(part)
        begin, nothing = np.int64(0), np.int64(0)  # as above
        in_registers(first, last, k // blocks, a, a_k, b, b_row, c, start)
        for block in range(1, blocks):
            k0, k1 = k * block // blocks, k * (block + 1) // blocks
            right = b + k0 * b_row + first * size
            in_registers(begin, last - first, k1 - k0, a + k0 * a_k, a_k, right, b_row, part, nothing)
            for i in range(last - first):
                y[first + i] += x[i]

    @helper
    def single_row(
        scratch, rows, first, last, n, k, a, a_row, a_k, b, b_row, transposed, c, c_row, bias, accumulate, rectify
    ):  # fmt: skip
        if k * n * size <= most_bytes and k > block_k:
            blocks_in_registers(first, last, k, a, a_k, b, b_row, c, c if accumulate else bias)
            return
        if k * n * size <= most_bytes:
            in_registers(first, last, k, a, a_k, b, b_row, c, c if accumulate else bias)
            return
        y, start = reals(c), reals(bias)
        if not accumulate:
            for j in range(first, last):
                y[j] = start[j] if bias != 0 else zero
        by_rows(first, last, k, a, a_k, b, b_row, c)

    return single_row


def _dot_rows(kit: Kit, shape: Blocking) -> Any:
    """Make c (+)= a b^T for few rows of contiguous a."""
    size, real, reals = kit.itemsize, kit.real, kit.reals
    dots, one_dot = make_dots(kit.dtype, shape.lanes, 4), make_dots(kit.dtype, shape.lanes, 1)
    # such as gradients for the inputs of a layer of one to four units
    short_1, short_2, short_3, short_4 = (make_short_dots(kit.dtype, shape.lanes, k) for k in (1, 2, 3, 4))
    zero = real(0.0)

    @helper
    def blocks_of_dots(a, b, b_row, k, c, several):
        for k0 in range(0, k, DOT_K):
            depth, skip = smaller(DOT_K, k - k0), k0 * size
            if several:
                dots(a + skip, b + skip, b_row, depth, c)
            else:
                one_dot(a + skip, b + skip, b_row, depth, c)

    @helper
    def dot_rows(
        scratch, m, first, last, n, k, a, a_row, a_k, b, b_row, transposed, c, c_row, bias, accumulate, rectify
    ):  # fmt: skip
        start = reals(bias)
        for i in range(m):
            y = reals(c + i * c_row)
            if not accumulate:
                for j in range(first, last):
                    y[j] = start[j] if bias != 0 else zero
        if k <= 4 and b_row == k * size:
            for i in range(m):
                left, right, to = a + i * a_row, b + first * b_row, c + i * c_row + first * size
                if k == 1:
                    short_1(left, right, to, last - first)
                elif k == 2:
                    short_2(left, right, to, last - first)
                elif k == 3:
                    short_3(left, right, to, last - first)
                else:
                    short_4(left, right, to, last - first)
            return
        j = first
        while j + 4 <= last:
            for i in range(m):
                if k <= DOT_K:
                    dots(a + i * a_row, b + j * b_row, b_row, k, c + i * c_row + j * size)
                else:
                    blocks_of_dots(a + i * a_row, b + j * b_row, b_row, k, c + i * c_row + j * size, True)
            j += 4
        while j < last:
            for i in range(m):
                if k <= DOT_K:
                    one_dot(a + i * a_row, b + j * b_row, b_row, k, c + i * c_row + j * size)
                else:
                    blocks_of_dots(a + i * a_row, b + j * b_row, b_row, k, c + i * c_row + j * size, False)
            j += 1

    return dot_rows


def slicing_of(shape: Blocking) -> Any:
    """Make the function that gives a part its rows and columns: slices of the rows, or else of the columns."""
    unit_m, unit_n = shape.unit_m, shape.unit_n

    @helper
    def slicing(m, n, ith, nth):
        if nth == 1:  # the divisions take 20 ns
            return 0, m, 0, n
        units_m, units_n = (m + unit_m - 1) // unit_m, (n + unit_n - 1) // unit_n
        if units_m >= nth and (m >= n or units_n < nth):
            return smaller(m, units_m * ith // nth * unit_m), smaller(m, units_m * (ith + 1) // nth * unit_m), 0, n
        return 0, m, smaller(n, units_n * ith // nth * unit_n), smaller(n, units_n * (ith + 1) // nth * unit_n)

    return slicing


#: The algorithms by name: each is made by a function of a kit and the blocking.
ALGORITHMS = {
    "simple": _simple, "blocked": _blocked, "single_row": _single_row, "dot_rows": _dot_rows,
    "single_column": _single_row, "dot_column": _dot_rows,
}  # fmt: skip


@kernel("matmul")
def matmul(kit: Kit, variant: str) -> Callable[..., Any]:
    """Make c (+)= op(a) op(b) + bias, with an activation or an activation's gradient applied to c."""
    C, PRE, A, B, BIAS, SAVED = kit.words("c pre a b bias saved")
    M, N, K = kit.words("m n k")
    size = kit.itemsize
    shape = Blocking.of(kit.dtype)
    # the other two compute too little at a time for it to matter
    rectifies = variant in ("", "simple", "blocked")
    # one column: the row b^T times the transpose of a
    column = variant in ("single_column", "dot_column")
    reals = kit.reals
    slicing, multiply = slicing_of(shape), ALGORITHMS[variant or "simple"](kit, shape)

    def matmul(record, context, ith, nth):
        r, flags = int64_pointer(record), flags_of(record)
        m, n, k = r[M], r[N], r[K]
        row, row_end, first, last = slicing(m, n, ith, nth)
        rows = row_end - row
        if rows <= 0 or first >= last:
            return
        a, b, c = address(record, context, A), address(record, context, B), address(record, context, C)
        a_row, a_k = k * size, size
        if flags & _TRANSPOSE_A != 0:
            a_row, a_k = size, m * size
        transposed = flags & _TRANSPOSE_B != 0
        b_row = k * size if transposed else n * size
        bias = address(record, context, BIAS) if has(record, BIAS) else 0
        target = address(record, context, PRE) if has(record, PRE) else c
        scratch = int64_pointer(context)[_SCRATCH] + ith * SCRATCH_BYTES
        left, out = a + row * a_row, target + row * n * size
        accumulate = flags & _ACCUMULATE != 0
        saved = address(record, context, SAVED) if flags & _GRADIENT != 0 else c
        rectify = 0
        if rectifies and flags & _RECTIFY != 0 and not has(record, PRE):
            rectify = 1 if flags & _FORWARD != 0 else saved + row * n * size
        if column:
            if not accumulate and bias != 0:
                accumulate = True
                for i in range(row, row_end):
                    reals(target)[i] = reals(bias)[0]
            exchanged_row = m * size if flags & _TRANSPOSE_A != 0 else k * size
            multiply(scratch, 1, row, row_end, m, k, b, k * size, size, a, exchanged_row, flags & _TRANSPOSE_A == 0,
                     target, 0, 0, accumulate, 0)  # fmt: skip
        else:
            multiply(scratch, rows, first, last, n, k, left, a_row, a_k, b, b_row, transposed, out, n * size, bias,
                     accumulate, rectify)  # fmt: skip
        if flags & (_FORWARD | _GRADIENT) == 0 or rectify != 0:
            return
        # rows that a part has whole lie side by side
        runs, count = (1, rows * n) if last - first == n else (rows, last - first)
        for i in range(runs):
            skip = ((row + i) * n + first) * size
            x = target + skip if flags & _FORWARD != 0 else c + skip
            apply_map(record, context, c + skip, x, saved + skip, count)

    return matmul
