"""Products of many matrices, which lie in every sample at places of their own.

Each is one product of `matmul`, by the algorithm that suits its shape. If there are several, they are small; nothing
is packed but a panel of b on the stack. Operands are read in place, with any distance between rows. Those with one
block of k have tiles of their own (`small.py`). Parts are slices of all rows; those of one matrix are as in `matmul`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnn.backend.cpu.codegen.intrinsics import address, flags_of, float64_pointer, int64_pointer, smaller
from fastnn.backend.cpu.codegen.kernel import Kit, kernel, rows_part
from fastnn.backend.cpu.codegen.options import helper
from fastnn.backend.cpu.kernels.matmul import ALGORITHMS, slicing_of
from fastnn.backend.cpu.kernels.small import small_panel
from fastnn.backend.cpu.processor.blocking import SCRATCH_BYTES, Blocking
from fastnn.program.layout import Buffer, Flag

_TRANSPOSE_A, _TRANSPOSE_B = int(Flag.TRANSPOSE_A), int(Flag.TRANSPOSE_B)
_REPEAT_A, _REPEAT_B, _CYCLE_A, _CYCLE_B = (
    int(flag) for flag in (Flag.REPEAT_A, Flag.REPEAT_B, Flag.CYCLE_A, Flag.CYCLE_B)
)
_SCRATCH = int(Buffer.SCRATCH)
# With fewer matrices for each part than this, parts begin within matrices, whose panels of b are then packed twice.
_WHOLE = 4


@kernel("batched_matmul")
def batched_matmul(kit: Kit, variant: str) -> Callable[..., Any]:
    """Make c = scale op(a) op(b) for every matrix of every sample."""
    C, A, B, SAMPLES, COUNT, INNER, M, N, K = kit.words("c a b samples count inner m n k")
    A_SIZE, A_FIRST, A_BETWEEN, A_ROW = kit.words("a_size a_first a_between a_row")
    B_SIZE, B_FIRST, B_BETWEEN, B_ROW = kit.words("b_size b_first b_between b_row")
    C_BETWEEN, C_ROW, SCALE = kit.words("c_between c_row scale")
    size, real, reals, shape = kit.itemsize, kit.real, kit.reals, Blocking.of(kit.dtype)
    unit_m, width, whole, block_k = shape.unit_m, shape.width, _WHOLE, shape.k
    one = real(1.0)
    # one column: the row b^T times the transpose of a
    column = variant in ("single_column", "dot_column")
    tiled = variant in ("", "simple")
    multiply = ALGORITHMS[variant or "simple"](kit, shape)
    slicing = slicing_of(shape)
    panel_product: Any = small_panel(kit, shape) if tiled else None

    @helper
    def scaled(c, c_row, rows, columns, scale):
        for i in range(rows):
            y = reals(c + i * c_row)
            for j in range(columns):
                y[j] *= scale

    @helper
    def distances(repeated, cycled, between, inner):
        if repeated != 0:
            return 0, between
        return between, 0 if cycled != 0 else between * inner

    def batched_matmul(record, context, ith, nth):
        r, flags = int64_pointer(record), flags_of(record)
        m, n, k, count = r[M], r[N], r[K], r[COUNT]
        a, b, c = address(record, context, A), address(record, context, B), address(record, context, C)
        matrices = r[SAMPLES] * count
        blocks = 1 if matrices >= whole * nth else (m + unit_m - 1) // unit_m
        unit, end = rows_part(matrices * blocks, ith, nth)
        first_column, last_column = 0, n
        if matrices == 1 and nth > 1:
            row, row_end, first_column, last_column = slicing(m, n, ith, nth)
            blocks = (m + unit_m - 1) // unit_m
            unit, end = row // unit_m, (row_end + unit_m - 1) // unit_m
            if first_column >= last_column:
                return
        a_row, a_k = r[A_ROW] * size, size
        if flags & _TRANSPOSE_A != 0:
            a_row, a_k = a_k, a_row
        b_row, c_row, transposed = r[B_ROW] * size, r[C_ROW] * size, flags & _TRANSPOSE_B != 0
        scratch = int64_pointer(context)[_SCRATCH] + ith * SCRATCH_BYTES
        scale = real(float64_pointer(record)[SCALE])
        # other algorithms than those of tiles take several panels at once
        columns_each = width if tiled else n
        panels = (last_column - first_column + columns_each - 1) // columns_each
        # from one matrix to the next within a group, and from one group to the next
        inner = r[INNER]
        a_within, a_apart = distances(flags & _REPEAT_A, flags & _CYCLE_A, r[A_BETWEEN], inner)
        b_within, b_apart = distances(flags & _REPEAT_B, flags & _CYCLE_B, r[B_BETWEEN], inner)
        # counted on, because a division takes as long as a tile of small matrices
        matrix = unit // blocks
        block, sample = unit - matrix * blocks, matrix // count
        number = matrix - sample * count
        group = number // inner
        within = number - group * inner
        left = a + (sample * r[A_SIZE] + r[A_FIRST] + group * a_apart + within * a_within) * size
        right = b + (sample * r[B_SIZE] + r[B_FIRST] + group * b_apart + within * b_within) * size
        while unit < end:
            block_end = smaller(blocks, block + end - unit)
            first, last = (0, m) if blocks == 1 else (block * unit_m, smaller(m, block_end * unit_m))
            target, rows = c + (sample * count * m * n + number * r[C_BETWEEN]) * size, last - first
            number, within = number + 1, within + 1
            if within == inner:
                group, within = group + 1, 0
            if number == count:
                sample, number, group = sample + 1, 0, 0
            next_left = a + (sample * r[A_SIZE] + r[A_FIRST] + group * a_apart + within * a_within) * size
            next_right = b + (sample * r[B_SIZE] + r[B_FIRST] + group * b_apart + within * b_within) * size
            unit, block = unit + block_end - block, 0
            if column:
                exchanged_row = a_k if flags & _TRANSPOSE_A != 0 else a_row
                multiply(0, 1, first, last, m, k, right, size, size, left, exchanged_row,
                         flags & _TRANSPOSE_A == 0, target, size, 0, False, 0)  # fmt: skip
                if scale != one:
                    scaled(target + first * size, size, 1, rows, scale)
            else:
                left, target = left + first * a_row, target + first * c_row
                # columns of a panel are scaled while they are in the cache
                for panel in range(panels):
                    j = first_column + panel * columns_each
                    columns = smaller(columns_each, last_column - j)
                    if tiled and k <= block_k:
                        here = right + j * (b_row if transposed else size)
                        panel_product(rows, columns, k, left, a_row, a_k, here, b_row, transposed, target + j * size,
                                      c_row, scale)  # fmt: skip
                        continue
                    multiply(scratch, rows, j, j + columns, n, k, left, a_row, a_k, right, b_row, transposed, target,
                             c_row, 0, False, 0)  # fmt: skip
                    if scale != one:
                        scaled(target + j * size, c_row, rows, columns, scale)
            left, right = next_left, next_right

    return batched_matmul
