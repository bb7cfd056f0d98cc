"""Products of many matrices, which lie in every sample at places of their own.

A block makes a tile of one result. Tiles of a and b lie in shared memory with k as their first axis, and elements past
an edge are zeros there. Neighbouring threads have neighbouring columns of the result.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numba import cuda

from fastnn.backend.cuda.codegen.kernel import Kit, Stage, ceil_div, kernel, ptx
from fastnn.backend.cuda.codegen.options import formula
from fastnn.backend.cuda.codegen.sizes import PRODUCTS
from fastnn.program.layout import FLAGS_WORD, Flag

u32 = np.uint32
as_double = ptx.int_as_double
_TRANSPOSE_A, _TRANSPOSE_B = int(Flag.TRANSPOSE_A), int(Flag.TRANSPOSE_B)
_REPEAT_A, _REPEAT_B, _CYCLE_A, _CYCLE_B = (
    int(flag) for flag in (Flag.REPEAT_A, Flag.REPEAT_B, Flag.CYCLE_A, Flag.CYCLE_B)
)


def _algorithm(dims: Mapping[str, int], flags: Flag) -> str:
    """Return the largest tile of which a result fills at least a half along each axis, or the smallest one."""
    for name, tile in PRODUCTS.batched_tiles.items():
        if 2 * dims["m"] > tile.rows and 2 * dims["n"] > tile.cols:
            return name
    return name


@kernel("batched_matmul", algorithms=tuple(PRODUCTS.batched_tiles), algorithm=_algorithm)
def batched_matmul(kit: Kit) -> list[Stage]:
    """Make c = scale op(a) op(b) for every matrix of every sample."""
    C, A, B, COUNT, INNER, M, N, K, SCALE = kit.words("c a b count inner m n k scale")
    A_SIZE, A_FIRST, A_BETWEEN, A_ROW = kit.words("a_size a_first a_between a_row")
    B_SIZE, B_FIRST, B_BETWEEN, B_ROW = kit.words("b_size b_first b_between b_row")
    C_BETWEEN, C_ROW = kit.words("c_between c_row")
    tile = PRODUCTS.batched_tiles[kit.algorithm]
    rows, cols, depth, tall, wide, threads = tile.rows, tile.cols, tile.depth, tile.tall, tile.wide, tile.threads
    real, size, load, store = kit.real, kit.itemsize, kit.load, kit.store
    # one more element in each row: threads that store along k meet different banks
    pitch_a, pitch_b, zero = rows + 1, cols + 1, real(0.0)
    left_count, right_count, sums_count = depth * pitch_a, depth * pitch_b, tall * wide
    threads_across, rows_apart, cols_apart = cols // wide, rows // tall, cols // wide

    @formula
    def fetch(to, pitch, extent, along_k, source, line_apart, k_apart, lines, k, thread):
        unit = thread
        while unit < extent * depth:
            line, step = u32(unit % extent), u32(unit // extent)
            if along_k:
                line, step = u32(unit // depth), u32(unit % depth)
            value = zero
            if line < lines and step < k:
                value = load(source, u32(line * line_apart + step * k_apart))
            to[u32(step * pitch + line)] = value
            unit = u32(unit + threads)

    def batched_matmul(record, context):
        m, n, k, thread = u32(record[M]), u32(record[N]), u32(record[K]), u32(cuda.threadIdx.x)
        flags, scale = record[FLAGS_WORD], real(as_double(record[SCALE]))
        across, down = u32((n + cols - 1) // cols), u32((m + rows - 1) // rows)
        matrix, part = u32(cuda.blockIdx.x // u32(across * down)), u32(cuda.blockIdx.x % u32(across * down))
        row, col = u32(part // across * rows), u32(part % across * cols)
        sample, number = np.int64(matrix // u32(record[COUNT])), np.int64(matrix % u32(record[COUNT]))
        group, inner = np.int64(u32(number) // u32(record[INNER])), record[INNER]
        a_number = b_number = number
        if flags & _REPEAT_A != 0:
            a_number = group
        if flags & _CYCLE_A != 0:
            a_number = number - group * inner
        if flags & _REPEAT_B != 0:
            b_number = group
        if flags & _CYCLE_B != 0:
            b_number = number - group * inner
        a = record[A] + (sample * record[A_SIZE] + record[A_FIRST] + a_number * record[A_BETWEEN]) * size
        b = record[B] + (sample * record[B_SIZE] + record[B_FIRST] + b_number * record[B_BETWEEN]) * size
        c = record[C] + (sample * record[COUNT] * m * n + number * record[C_BETWEEN]) * size
        a_line, a_k, b_line, b_k = u32(record[A_ROW]), u32(1), u32(1), u32(record[B_ROW])
        if flags & _TRANSPOSE_A != 0:
            a_line, a_k = a_k, a_line
        if flags & _TRANSPOSE_B != 0:
            b_line, b_k = b_k, b_line
        a += np.int64(row) * a_line * size
        b += np.int64(col) * b_line * size
        x, y = u32(thread % threads_across), u32(thread // threads_across)
        # the simulator tells shared arrays apart by their lines
        left = cuda.shared.array(left_count, real)
        right = cuda.shared.array(right_count, real)
        sums = cuda.local.array(sums_count, real)
        for i in range(sums_count):
            sums[i] = zero
        done = u32(0)
        while done < k:
            fetch(left, pitch_a, rows, a_k == 1, a, a_line, a_k, u32(m - row), u32(k - done), thread)
            fetch(right, pitch_b, cols, b_k == 1, b, b_line, b_k, u32(n - col), u32(k - done), thread)
            cuda.syncthreads()
            for step in range(depth):
                for i in range(tall):
                    value = left[u32(step * pitch_a + y + i * rows_apart)]
                    for j in range(wide):
                        sums[i * wide + j] += value * right[u32(step * pitch_b + x + j * cols_apart)]
            cuda.syncthreads()
            done = u32(done + depth)
            a += np.int64(depth) * a_k * size
            b += np.int64(depth) * b_k * size
        for i in range(tall):
            for j in range(wide):
                here_row, here_col = u32(row + y + i * rows_apart), u32(col + x + j * cols_apart)
                if here_row < m and here_col < n:
                    store(c, u32(here_row * u32(record[C_ROW]) + here_col), scale * sums[i * wide + j])

    def grid(dims):
        tiles = ceil_div(dims["m"], rows) * ceil_div(dims["n"], cols)
        return dims["samples"] * dims["count"] * tiles, 1

    return [Stage(batched_matmul, grid, threads)]
