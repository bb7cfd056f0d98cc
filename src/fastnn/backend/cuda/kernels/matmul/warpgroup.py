"""The matrix product by warpgroups, for compute capability 9.0: tensor cores read tiles in shared memory.

An earlier stage has rounded the operands, and laid them out in tiles (see `rounded.py`). One thread requests
tiles, a block of memory each. The warpgroups of a block, one below the other, multiply tiles that have arrived, and
continue with the next while tensor cores still work on the last ones. Sums are float32.
"""

from __future__ import annotations

import numpy as np
from numba import cuda

from fastnn.backend.cuda.codegen import fragments
from fastnn.backend.cuda.codegen.fragments import DEPTH, LANES
from fastnn.backend.cuda.codegen.kernel import SCRATCH_WORD, Kit, Stage, ptx
from fastnn.backend.cuda.codegen.options import formula
from fastnn.backend.cuda.codegen.sizes import PACK, PRODUCTS, WARPGROUP, WARPGROUP_ROWS, WARPGROUPS, WarpgroupTile
from fastnn.backend.cuda.kernels.matmul.epilogue import make_finish, make_rows
from fastnn.backend.cuda.kernels.matmul.plan import Algorithm, blocks_of, depth_of
from fastnn.backend.cuda.kernels.matmul.tiles import tile_of

u32 = np.uint32
row_of_sum, col_of_sum = formula(fragments.row_of_sum), formula(fragments.col_of_sum)
shared_at, store_pair = ptx.SHARED_AT["float32"], ptx.store_shared_pair
make_barrier, show_barriers, expect, has_opened = ptx.make_barrier, ptx.show_barriers, ptx.expect_bytes, ptx.has_opened
copy_block, begin, commit = ptx.copy_block, ptx.begin_products, ptx.commit_products
wait_but_one, wait_for_all = ptx.wait_for_products(1), ptx.wait_for_products(0)

#: rows of one of a warpgroup's warps
WARP_ROWS = 16
#: 16 bytes of a line, as tiles in shared memory begin at multiples of 1024 bytes
ALIGNMENT = 1024
_BARRIER_WORDS = 2


def warpgroup_product(kit: Kit, algorithm: Algorithm) -> Stage:
    """Make the stage that multiplies rounded operands."""
    M, N, K = kit.words("m n k")
    tile: WarpgroupTile = PRODUCTS.warpgroup_tiles[algorithm.shape]
    rows, cols, threads, stages, depth = tile.rows, tile.cols, tile.threads, tile.stages, depth_of(algorithm.precision)
    bytes_a, bytes_b, stage = 4 * rows * DEPTH, 4 * cols * DEPTH, (rows + cols) * DEPTH
    b_at, warpgroup_at, count = rows * DEPTH, WARPGROUP_ROWS * DEPTH, cols // 2
    # eight elements of padding after each row: pairs of a warp's sums then go to different banks
    pitch = cols + 8
    rows_out = make_rows(
        kit, make_finish(kit, algorithm.epilogue), rows, cols, pitch, 1 if algorithm.scalar else PACK, threads
    )
    barriers_at = max(stages * stage, rows * pitch)
    elements = barriers_at + stages * _BARRIER_WORDS
    make_shared = ptx.shared(elements, "float32", dynamic=True, alignment=ALIGNMENT)
    clear, multiply = ptx.clear_sums(count), ptx.multiply_matrices(algorithm.precision, cols)

    @formula
    def fetch(memory, barriers, place, a, b, number):
        """Request tile `number` of k, to be copied to one of the places."""
        target, barrier = shared_at(memory, place * stage), shared_at(barriers, place * _BARRIER_WORDS)
        expect(barrier, u32(bytes_a + bytes_b))
        copy_block(target, a + np.int64(number) * bytes_a, u32(bytes_a), barrier)
        copy_block(shared_at(target, b_at), b + np.int64(number) * bytes_b, u32(bytes_b), barrier)

    def warpgroup_product(record, context):
        m, n, thread = u32(record[M]), u32(record[N]), u32(cuda.threadIdx.x)
        across, down = u32((n + cols - 1) // cols), u32((m + rows - 1) // rows)
        tiles = u32((u32(record[K]) + depth - 1) // depth)
        tile_row, tile_col = tile_of(u32(cuda.blockIdx.x), across, down)
        a = record[SCRATCH_WORD] + np.int64(tile_row) * np.int64(tiles) * bytes_a
        b = record[SCRATCH_WORD] + (np.int64(down) * bytes_a + np.int64(tile_col) * bytes_b) * np.int64(tiles)
        memory = make_shared()
        barriers = shared_at(memory, barriers_at)
        if thread == 0:
            for place in range(stages):
                make_barrier(shared_at(barriers, place * _BARRIER_WORDS))
            show_barriers()
        cuda.syncthreads()
        if thread == 0:
            place = u32(0)
            while place < stages and place < tiles:
                fetch(memory, barriers, place, a, b, place)
                place = u32(place + 1)
        warpgroup, lane = u32(thread // WARPGROUP), u32(thread % LANES)
        sums = cuda.local.array(count, np.float32)
        clear(sums)
        now, last, parity, number = u32(0), u32(0), u32(0), u32(0)
        while number < tiles:
            while not has_opened(shared_at(barriers, now * _BARRIER_WORDS), parity):
                pass
            here = shared_at(memory, now * stage)
            mine, others = shared_at(here, warpgroup * warpgroup_at), shared_at(here, b_at)
            begin()
            multiply(sums, mine, others, u32(0))
            multiply(sums, mine, others, u32(1))
            multiply(sums, mine, others, u32(2))
            multiply(sums, mine, others, u32(3))
            commit()
            # no thread reads the previous tile any more
            wait_but_one()
            cuda.syncthreads()
            coming = u32(number + stages - 1)
            if thread == 0 and number > 0 and coming < tiles:
                fetch(memory, barriers, last, a, b, coming)
            last, now, number = now, u32(now + 1), u32(number + 1)
            if now == stages:
                now, parity = u32(0), u32(1 - parity)
        wait_for_all()
        cuda.syncthreads()
        row = u32(thread // LANES * WARP_ROWS + row_of_sum(lane, 0))
        target = shared_at(memory, u32(row * pitch + col_of_sum(lane, 0)))
        for j in range(cols // 8):
            store_pair(target, j * 8, (sums[4 * j], sums[4 * j + 1]))
            store_pair(target, j * 8 + row_of_sum(0, 2) * pitch, (sums[4 * j + 2], sums[4 * j + 3]))
        cuda.syncthreads()
        rows_out(record, np.int64(0), memory, u32(tile_row * rows), u32(tile_col * cols), m, n, thread)

    def grid(dims):
        return blocks_of(tile, dims["m"], dims["n"]), 1

    shared = 4 * elements + ALIGNMENT
    return Stage(warpgroup_product, grid, threads, shared, only=WARPGROUPS, tensor_cores=True, quick_division=True)
