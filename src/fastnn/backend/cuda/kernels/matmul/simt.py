"""The matrix product on a GPU's ordinary arithmetic units.

A block makes a tile of the result. Tiles of a and b are double-buffered in shared memory: while one is multiplied, the
next is loaded through registers. A thread keeps a few rows and columns of the result in registers, in groups of 16
bytes that are far apart, so that the threads of a warp read neighbouring groups. The partial tile of k comes first, so
that no later one checks the end of k. Elements past the result's edges are computed from earlier data, and not stored.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
from numba import cuda

from fastnn.backend.cuda.codegen.kernel import Kit, Stage, ptx
from fastnn.backend.cuda.codegen.options import formula, helper
from fastnn.backend.cuda.codegen.sizes import PACK, PRODUCTS, SIMULATED, SIZES, Tile
from fastnn.backend.cuda.kernels.matmul.epilogue import (
    Finish,
    make_finish,
    make_partial,
    make_rows,
    note_parts,
    part_address,
)
from fastnn.backend.cuda.kernels.matmul.plan import Algorithm, blocks_of, parts_of
from fastnn.backend.cuda.kernels.matmul.tiles import make_loads, tile_of

u32 = np.uint32


def make_multiply(kit: Kit, tile: Tile, depth: int, pitch_a: int, pitch_b: int) -> Any:
    """Make multiply(sums, left, right, a, b, k): add products of tiles at addresses a and b in shared memory.

    It multiplies `depth` values of k, from k on.
    """
    group, load_pack = 16 // kit.itemsize, ptx.SHARED_LOAD_PACKS[kit.dtype]
    tall, wide = tile.tall, tile.wide
    rows_apart, cols_apart = tile.rows // (tall // group), tile.cols // (wide // group)

    @formula
    def put(values, at, pack):
        for e in range(group):
            values[at + e] = pack[e]

    @formula
    def add_products(sums, left, right):
        for i in range(tall):
            for j in range(wide):
                sums[i * wide + j] += left[i] * right[j]

    if SIMULATED:  # the simulator takes twenty times as long for loops

        def put(values, at, pack):
            values[at : at + group] = pack

        def add_products(sums, left, right):
            sums += np.outer(left, right).reshape(-1)

    @formula
    def one(sums, left, right, a, b, k):
        for i in range(0, tall, group):
            put(left, i, load_pack(a, k * pitch_a + i // group * rows_apart))
        for j in range(0, wide, group):
            put(right, j, load_pack(b, k * pitch_b + j // group * cols_apart))
        add_products(sums, left, right)

    def twice(multiply, distance):
        # unrolled for the whole depth: in a loop, LLVM does not move loads before the products of the previous step
        @formula
        def both(sums, left, right, a, b, k):
            multiply(sums, left, right, a, b, k)
            multiply(sums, left, right, a, b, k + distance)

        return both

    steps = [1 << power for power in range(depth.bit_length() - 1)]
    return reduce(twice, steps, one)


def make_leave(kit: Kit, tile: Tile, finish: Finish, width: int, row_of: Any = None) -> Any:
    """Make leave(...): a block's sums go through shared memory, so that neighbouring threads store neighbours.

    It takes one group of every thread's rows at a time, which are neighbouring rows of the result. `row_of` is that of
    `make_rows`.
    """
    group, cols, wide = 16 // kit.itemsize, tile.cols, tile.wide
    groups = tile.tall // group
    band, pitch, cols_apart = tile.rows // groups, cols + group, cols // (wide // group)
    store_pack = ptx.SHARED_STORE_PACKS[kit.dtype]
    rows_out = make_rows(kit, finish, band, cols, pitch, width, tile.threads, row_of)

    def leave_group(number):
        @helper
        def leave(record, parts, sums, memory, mine, row, col, m, n, thread):
            cuda.syncthreads()
            for i in range(group):
                for j in range(0, wide, group):
                    at, place = (number * group + i) * wide + j, i * pitch + j // group * cols_apart
                    if group == 4:
                        store_pack(mine, place, (sums[at], sums[at + 1], sums[at + 2], sums[at + 3]))
                    else:
                        store_pack(mine, place, (sums[at], sums[at + 1]))
            cuda.syncthreads()
            rows_out(record, parts, memory, u32(row + number * band), col, m, n, thread)

        return leave

    def then(first, second):
        @helper
        def both(record, parts, sums, memory, mine, row, col, m, n, thread):
            first(record, parts, sums, memory, mine, row, col, m, n, thread)
            second(record, parts, sums, memory, mine, row, col, m, n, thread)

        return both

    assert band * pitch <= 2 * tile_elements(kit, tile)
    return reduce(then, [leave_group(number) for number in range(groups)])


def depth_of(kit: Kit, tile: Tile) -> int:
    """Return the depth of k of a tile in shared memory."""
    return tile.depth * 4 // kit.itemsize


def tile_elements(kit: Kit, tile: Tile) -> int:
    """Return the elements of one tile of a and one of b in shared memory."""
    return depth_of(kit, tile) * (tile.rows + tile.cols + 2 * 16 // kit.itemsize)


def product(kit: Kit, algorithm: Algorithm) -> Stage:
    """Make the stage that multiplies; for a product in parts it writes the parts to scratch memory."""
    A, B, M, N, K = kit.words("a b m n k")
    tile: Tile = PRODUCTS.tiles[algorithm.shape]
    real, size, group = kit.real, kit.itemsize, 16 // kit.itemsize
    rows, cols, depth, threads, warp = tile.rows, tile.cols, depth_of(kit, tile), tile.threads, SIZES.warp
    width = 1 if algorithm.scalar else PACK
    transpose_a, transpose_b, split = algorithm.transpose_a, algorithm.transpose_b, algorithm.split
    # a group of padding after each row: transposed elements then go to different banks of shared memory
    pitch_a, pitch_b = rows + group, cols + group
    loads_a = make_loads(kit, rows, depth, pitch_a, threads, not transpose_a, width)
    loads_b = make_loads(kit, cols, depth, pitch_b, threads, transpose_b, width)
    begin_a, fetch_a, fetch_part_a, place_a = loads_a.begin, loads_a.fetch, loads_a.fetch_part, loads_a.place
    begin_b, fetch_b, fetch_part_b, place_b = loads_b.begin, loads_b.fetch, loads_b.fetch_part, loads_b.place
    stash_a, stash_b, step_a, step_b = loads_a.stash, loads_b.stash, loads_a.step, loads_b.step
    count_a, count_b, units_a, units_b = loads_a.count, loads_b.count, loads_a.units, loads_b.units
    half = depth // 2
    multiply = make_multiply(kit, tile, half, pitch_a, pitch_b)
    # the next tile of b is loaded after that of a: both would take too many registers
    in_turn = tile.tall * tile.wide >= 64
    leave = make_leave(kit, tile, make_partial(kit) if split else make_finish(kit, algorithm.epilogue), width)
    buffer, b_at = tile_elements(kit, tile), depth * pitch_a
    make_shared, shared_at = ptx.shared(2 * buffer, kit.dtype), ptx.SHARED_AT[kit.dtype]
    tall, wide, across = tile.tall, tile.wide, tile.across
    sums_count, warps_across, high = tall * wide, cols // wide // across, warp // across
    pitch_out, zero = cols + group, real(0.0)

    def product(record, context):
        m, n, k, thread = u32(record[M]), u32(record[N]), u32(record[K]), u32(cuda.threadIdx.x)
        tile_row, tile_col = tile_of(u32(cuda.blockIdx.x), u32((n + cols - 1) // cols), u32((m + rows - 1) // rows))
        row, col = u32(tile_row * rows), u32(tile_col * cols)
        lane, in_warp = u32(thread // warp), u32(thread % warp)
        x = u32(in_warp % across + lane % warps_across * across)
        y = u32(in_warp // across + lane // warps_across * high)
        # this block's part of k: whole tiles, except for the last part
        tiles, part, parts = u32((k + depth - 1) // depth), u32(0), np.int64(0)
        if split:
            part = u32(cuda.blockIdx.y)
            each = u32(u32(tiles + cuda.gridDim.y - 1) // u32(cuda.gridDim.y))
            tiles = min(each, u32(tiles - part * each))
            part = u32(part * each * depth)
            parts = part_address(record, cuda.blockIdx.y, record[M] * record[N] * size)
            if cuda.blockIdx.x == 0 and cuda.blockIdx.y == 0 and thread == 0:
                note_parts(record, np.int64(cuda.gridDim.y))
        first = u32(min(k, u32(part + tiles * depth)) - part - (tiles - 1) * depth)
        row_a, row_b = m if transpose_a else k, k if transpose_b else n
        a, b = record[A] + step_a(part, row_a) * size, record[B] + step_b(part, row_b) * size

        sums = cuda.local.array(sums_count, real)
        left, right = cuda.local.array(tall, real), cuda.local.array(wide, real)
        next_a, next_b = cuda.local.array(count_a, real), cuda.local.array(count_b, real)
        places_a, places_b = cuda.local.array(units_a, np.uint32), cuda.local.array(units_b, np.uint32)
        for i in range(sums_count):
            sums[i] = zero
        memory = make_shared()
        to_a, to_b = shared_at(memory, place_a(thread)), shared_at(memory, u32(b_at + place_b(thread)))
        from_a, from_b = shared_at(memory, u32(y * group)), shared_at(memory, u32(b_at + x * group))
        begin_a(places_a, thread, row, m, row_a)
        begin_b(places_b, thread, col, n, row_b)

        fetch_part_a(next_a, a, places_a, thread, first)
        fetch_part_b(next_b, b, places_b, thread, first)
        a, b = a + step_a(first, row_a) * size, b + step_b(first, row_b) * size
        stash_a(next_a, to_a)
        stash_b(next_b, to_b)
        cuda.syncthreads()
        step_of_a, step_of_b = step_a(depth, row_a) * size, step_b(depth, row_b) * size
        shift = u32(0)
        while tiles > 0:
            tiles = u32(tiles - 1)
            from_here_a, from_here_b = shared_at(from_a, shift), shared_at(from_b, shift)
            shift = u32(buffer - shift)
            if tiles > 0:
                fetch_a(next_a, a, places_a)
                if not in_turn:
                    fetch_b(next_b, b, places_b)
            multiply(sums, left, right, from_here_a, from_here_b, 0)
            if in_turn and tiles > 0:
                stash_a(next_a, shared_at(to_a, shift))
                fetch_b(next_b, b, places_b)
            multiply(sums, left, right, from_here_a, from_here_b, half)
            if tiles > 0:
                if not in_turn:
                    stash_a(next_a, shared_at(to_a, shift))
                stash_b(next_b, shared_at(to_b, shift))
                a, b = a + step_of_a, b + step_of_b
            cuda.syncthreads()
        mine = shared_at(memory, u32(y * group * pitch_out + x * group))
        leave(record, parts, sums, memory, mine, row, col, m, n, thread)

    def grid(dims):
        return blocks_of(tile, dims["m"], dims["n"]), parts_of(dims, algorithm)

    # the places of scalar loads take too many registers for that
    crowded = algorithm.scalar or size == 8
    return Stage(product, grid, threads, blocks_at_once=0 if crowded else tile.at_once)
