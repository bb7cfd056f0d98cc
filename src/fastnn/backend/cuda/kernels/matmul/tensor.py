"""The matrix product on tensor cores: float32 in memory, rounded to tf32 or bfloat16 when loaded into a fragment.

A block makes a tile of the result, a warp a part of it. Asynchronous copies bring tiles of a and b into shared memory
while earlier tiles are multiplied; they keep their layout in memory, except that groups of 16 bytes are
permuted (see `fragments.py`). As in `simt.py`, the partial tile of k comes first, and elements past the
result's edges are computed from earlier data. Sums are float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numba import cuda

from fastnn.backend.cuda.codegen import fragments
from fastnn.backend.cuda.codegen.fragments import DEPTH, LANES, STEP_A, STEP_B
from fastnn.backend.cuda.codegen.kernel import Kit, Stage, ptx
from fastnn.backend.cuda.codegen.options import formula, helper
from fastnn.backend.cuda.codegen.sizes import PACK, PRODUCTS, TENSOR_CORES, TensorTile
from fastnn.backend.cuda.kernels.matmul.epilogue import (
    Finish,
    make_finish,
    make_partial,
    make_rows,
    note_parts,
    part_address,
)
from fastnn.backend.cuda.kernels.matmul.plan import Algorithm, blocks_of, parts_of
from fastnn.backend.cuda.kernels.matmul.tiles import tile_of

u32 = np.uint32
line_of, k_of = formula(fragments.line_of), formula(fragments.k_of)
place_along, place_across = formula(fragments.place_along), formula(fragments.place_across)
row_of_sum, col_of_sum = formula(fragments.row_of_sum), formula(fragments.col_of_sum)
shared_at, load, load_matrices = ptx.SHARED_AT["float32"], ptx.SHARED_LOADS["float32"], ptx.load_matrices
store_pair, commit, wait_for_all = ptx.store_shared_pair, ptx.commit_copies, ptx.wait_for_copies(0)

#: rows of a fragment of a, and columns of one of b
TALL, WIDE = 16, 8


def make_copies(lines: int, along_k: bool, width: int, threads: int) -> Any:
    """Make copy(target, address, origin, extent, row, thread) of a tile, and copy_part, which ends at a k."""
    across = (DEPTH if along_k else lines) // width
    units = lines * DEPTH // width // threads
    copy_unit, copy_unit_if = ptx.COPIES[width], ptx.COPIES_IF[width]

    @formula
    def line_and_k(thread, number):
        down = u32(thread // across + number * threads // across)
        on = u32((thread % across + number * threads % across) * width)
        return (down, on) if along_k else (on, down)

    @formula
    def index_of(line, k, origin, extent, row):
        if along_k:
            return u32(min(u32(origin + line), u32(extent - 1)) * row + k)
        return u32(k * row + min(u32(origin + line), u32(extent - width)))

    @formula
    def place_of(line, k):
        return u32(place_along(line, k)) if along_k else u32(place_across(line, k, lines))

    @formula
    def copy(target, address, origin, extent, row, thread):
        for number in range(units):
            line, k = line_and_k(thread, number)
            copy_unit(shared_at(target, place_of(line, k)), address, index_of(line, k, origin, extent, row))

    @formula
    def copy_part(target, address, origin, extent, row, thread, depth):
        for number in range(units):
            line, k = line_and_k(thread, number)
            index = index_of(line, k, origin, extent, row)
            copy_unit_if(shared_at(target, place_of(line, k)), address, index, k < depth)

    return copy, copy_part


def make_fetches(lines: int, along_k: bool, of_a: bool) -> tuple[Any, Any]:
    """Make the loads of fragments from a tile in shared memory.

    Returns
    -------
    begin : device function
        begin(tile, line, lane) -> four addresses, of a lane whose warp's first line is `line`, a multiple of 32.
    fetch : device function
        fetch(p0, p1, p2, p3, number, step) -> four values. Of a: two lines, eight apart, of fragment `number` of 16
        lines, at k and again at the k four later, of the `step` of eight. Of b: one line of fragment `number`, at four
        k that are four apart, of the `step` of sixteen.
    """
    return _fetches_along_k(of_a) if along_k else _fetches_across(lines, of_a)


def _fetches_along_k(of_a: bool) -> tuple[Any, Any]:
    step_k, high = (STEP_A, TALL) if of_a else (STEP_B, WIDE)
    line_to_load = formula(fragments.line_to_load_a if of_a else fragments.line_to_load_b)
    k_to_load = formula(fragments.k_to_load_a if of_a else fragments.k_to_load_b)

    @formula
    def begin(tile, line, lane):
        mine, k = u32(line + line_to_load(lane)), u32(k_to_load(lane))
        p0, p1 = shared_at(tile, u32(place_along(mine, k))), shared_at(tile, u32(place_along(mine, u32(k + step_k))))
        if not of_a:
            return p0, p1, p0, p1
        p2, p3 = u32(place_along(mine, u32(k + 2 * step_k))), u32(place_along(mine, u32(k + 3 * step_k)))
        return p0, p1, shared_at(tile, p2), shared_at(tile, p3)

    @formula
    def fetch(p0, p1, p2, p3, number, step):
        p = p0 if step == 0 else p1 if step == 1 else p2 if step == 2 else p3
        return load_matrices(p, number * high * DEPTH)

    return begin, fetch


def _fetches_across(lines: int, of_a: bool) -> tuple[Any, Any]:
    @formula
    def begin(tile, line, lane):
        mine, k = u32(line + line_of(lane)), u32(k_of(lane))
        return (
            shared_at(tile, u32(place_across(mine, k, lines))),
            shared_at(tile, u32(place_across(u32(mine + 8), k, lines))),
            shared_at(tile, u32(place_across(u32(mine + 16), k, lines))),
            shared_at(tile, u32(place_across(u32(mine + 24), k, lines))),
        )

    @formula
    def fetch(p0, p1, p2, p3, number, step):
        if of_a:
            at = number // 2 * 32 + step * STEP_A * lines
            p, q = (p0, p1) if number % 2 == 0 else (p2, p3)
            return load(p, at), load(q, at), load(p, at + 4 * lines), load(q, at + 4 * lines)
        turn, at = number % 4, number // 4 * 32 + step * STEP_B * lines
        p = p0 if turn == 0 else p1 if turn == 1 else p2 if turn == 2 else p3
        return load(p, at), load(p, at + 4 * lines), load(p, at + 8 * lines), load(p, at + 12 * lines)

    return begin, fetch


def make_multiply(tile: TensorTile, precision: str, fetch_a: Any, fetch_b: Any) -> Any:
    """Make multiply(sums, left, right, a0 .. a3, b0 .. b3): add the products of a tile in shared memory."""
    high, wide, mma, tf32 = tile.warp_rows // TALL, tile.warp_cols // WIDE, ptx.MMA[precision], precision == "tf32"
    to_tf32, to_bf16 = ptx.to_tf32, ptx.to_bf16

    @formula
    def fetch_left(left, a0, a1, a2, a3, step):
        for i in range(high):
            if tf32:
                v = fetch_a(a0, a1, a2, a3, i, step)
                left[4 * i], left[4 * i + 1] = to_tf32(v[0]), to_tf32(v[1])
                left[4 * i + 2], left[4 * i + 3] = to_tf32(v[2]), to_tf32(v[3])
            else:
                v, w = fetch_a(a0, a1, a2, a3, i, 2 * step), fetch_a(a0, a1, a2, a3, i, 2 * step + 1)
                left[4 * i], left[4 * i + 1] = to_bf16(v[0], v[2]), to_bf16(v[1], v[3])
                left[4 * i + 2], left[4 * i + 3] = to_bf16(w[0], w[2]), to_bf16(w[1], w[3])

    @formula
    def fetch_right(right, b0, b1, b2, b3, step):
        for j in range(wide):
            v = fetch_b(b0, b1, b2, b3, j, step)
            if tf32:
                right[4 * j], right[4 * j + 1] = to_tf32(v[0]), to_tf32(v[1])
                right[4 * j + 2], right[4 * j + 3] = to_tf32(v[2]), to_tf32(v[3])
            else:
                right[4 * j], right[4 * j + 1] = to_bf16(v[0], v[1]), to_bf16(v[2], v[3])

    @formula
    def add_products(sums, left, right, skip):
        for i in range(high):
            for j in range(wide):
                at, on = (i * wide + j) * 4, 4 * j + skip
                c = mma(
                    (left[4 * i], left[4 * i + 1], left[4 * i + 2], left[4 * i + 3]), (right[on], right[on + 1]),
                    (sums[at], sums[at + 1], sums[at + 2], sums[at + 3]),
                )  # fmt: skip
                sums[at], sums[at + 1], sums[at + 2], sums[at + 3] = c[0], c[1], c[2], c[3]

    def part(step):
        @formula
        def multiply(sums, left, right, a0, a1, a2, a3, b0, b1, b2, b3):
            fetch_right(right, b0, b1, b2, b3, step)
            if tf32:
                fetch_left(left, a0, a1, a2, a3, 2 * step)
                add_products(sums, left, right, 0)
                fetch_left(left, a0, a1, a2, a3, 2 * step + 1)
                add_products(sums, left, right, 2)
            else:
                fetch_left(left, a0, a1, a2, a3, step)
                add_products(sums, left, right, 0)

        return multiply

    def then(first, second):
        @formula
        def both(sums, left, right, a0, a1, a2, a3, b0, b1, b2, b3):
            first(sums, left, right, a0, a1, a2, a3, b0, b1, b2, b3)
            second(sums, left, right, a0, a1, a2, a3, b0, b1, b2, b3)

        return both

    return reduce(then, [part(step) for step in range(DEPTH // STEP_B)])


@dataclass(frozen=True)
class Fragments:
    """How the warps of a block multiply tiles in shared memory, and bring their sums to memory.

    Attributes
    ----------
    sums, left, right : int
        The sizes of a thread's arrays in registers.
    b_at, stage, elements : int
        Elements in shared memory before b's tile, of both tiles, and in all.
    place_of_warp : device function
        place_of_warp(thread) -> the first row and column of the thread's warp in the tile.
    add : device function
        add(sums, left, right, tiles, warp_row, warp_col, thread) adds the products of the tiles at an address.
    leave : device function
        leave(record, parts, sums, memory, warp_row, warp_col, row, col, m, n, thread) stores the sums; all threads
        have to call it.
    """

    sums: int
    left: int
    right: int
    b_at: int
    stage: int
    elements: int
    place_of_warp: Any
    add: Any
    leave: Any


def make_fragments(
    kit: Kit, algorithm: Algorithm, tile: TensorTile, finish: Finish, width: int, row_of: Any = None
) -> Fragments:
    """Make the functions for an algorithm's tile; see `make_rows` for the rest."""
    rows, cols, threads = tile.rows, tile.cols, tile.threads
    begin_a, fetch_a = make_fetches(rows, not algorithm.transpose_a, True)
    begin_b, fetch_b = make_fetches(cols, algorithm.transpose_b, False)
    multiply = make_multiply(tile, algorithm.precision, fetch_a, fetch_b)
    # eight elements of padding after each row: pairs of a warp's sums then go to different banks
    pitch = cols + WIDE
    rows_out = make_rows(kit, finish, rows, cols, pitch, width, threads, row_of)
    b_at, stage = rows * DEPTH, (rows + cols) * DEPTH
    warps_across, high, wide = cols // tile.warp_cols, tile.warp_rows // TALL, tile.warp_cols // WIDE
    warp_rows, warp_cols = tile.warp_rows, tile.warp_cols

    @formula
    def place_of_warp(thread):
        warp = u32(thread // LANES)
        return u32(warp // warps_across * warp_rows), u32(warp % warps_across * warp_cols)

    @formula
    def add(sums, left, right, tiles, warp_row, warp_col, thread):
        lane = u32(thread % LANES)
        a0, a1, a2, a3 = begin_a(tiles, warp_row, lane)
        b0, b1, b2, b3 = begin_b(shared_at(tiles, b_at), warp_col, lane)
        multiply(sums, left, right, a0, a1, a2, a3, b0, b1, b2, b3)

    @helper
    def leave(record, parts, sums, memory, warp_row, warp_col, row, col, m, n, thread):
        lane = u32(thread % LANES)
        wait_for_all()
        cuda.syncthreads()
        mine = shared_at(memory, u32((warp_row + row_of_sum(lane, 0)) * pitch + warp_col + col_of_sum(lane, 0)))
        for i in range(high):
            for j in range(wide):
                at = (i * wide + j) * 4
                place = i * TALL * pitch + j * WIDE
                store_pair(mine, place, (sums[at], sums[at + 1]))
                store_pair(mine, place + row_of_sum(0, 2) * pitch, (sums[at + 2], sums[at + 3]))
        cuda.syncthreads()
        rows_out(record, parts, memory, row, col, m, n, thread)

    elements = max(tile.stages * stage, rows * pitch)
    return Fragments(high * wide * 4, 4 * high, 4 * wide, b_at, stage, elements, place_of_warp, add, leave)


def tensor_product(kit: Kit, algorithm: Algorithm) -> Stage:
    """Make the stage that multiplies; for a product in parts it writes the parts to scratch memory."""
    if kit.dtype != "float32":
        raise ValueError(f"a product in {algorithm.precision} is one of float32, not {kit.dtype}")
    A, B, M, N, K = kit.words("a b m n k")
    tile: TensorTile = PRODUCTS.tensor_tiles[algorithm.shape]
    rows, cols, threads, stages, size = tile.rows, tile.cols, tile.threads, tile.stages, kit.itemsize
    transpose_a, transpose_b, split = algorithm.transpose_a, algorithm.transpose_b, algorithm.split
    width = 1 if algorithm.scalar else PACK
    copy_a, copy_part_a = make_copies(rows, not transpose_a, width, threads)
    copy_b, copy_part_b = make_copies(cols, transpose_b, width, threads)
    wait = ptx.wait_for_copies(stages - 2)
    finish = make_partial(kit) if split else make_finish(kit, algorithm.epilogue)
    fragments = make_fragments(kit, algorithm, tile, finish, width)
    place_of_warp, add, leave = fragments.place_of_warp, fragments.add, fragments.leave
    b_at, stage, ahead = fragments.b_at, fragments.stage, stages - 1
    sums_count, left_count, right_count = fragments.sums, fragments.left, fragments.right
    make_shared = ptx.shared(fragments.elements, "float32", dynamic=True)
    zero = np.float32(0.0)

    def tensor_product(record, context):
        m, n, k, thread = u32(record[M]), u32(record[N]), u32(record[K]), u32(cuda.threadIdx.x)
        tile_row, tile_col = tile_of(u32(cuda.blockIdx.x), u32((n + cols - 1) // cols), u32((m + rows - 1) // rows))
        row, col = u32(tile_row * rows), u32(tile_col * cols)
        warp_row, warp_col = place_of_warp(thread)
        # this block's part of k: whole tiles, except for the last part
        tiles, part, parts = u32((k + DEPTH - 1) // DEPTH), u32(0), np.int64(0)
        if split:
            part = u32(cuda.blockIdx.y)
            each = u32(u32(tiles + cuda.gridDim.y - 1) // u32(cuda.gridDim.y))
            tiles = min(each, u32(tiles - part * each))
            part = u32(part * each * DEPTH)
            parts = part_address(record, cuda.blockIdx.y, record[M] * record[N] * size)
            if cuda.blockIdx.x == 0 and cuda.blockIdx.y == 0 and thread == 0:
                note_parts(record, np.int64(cuda.gridDim.y))
        first = u32(min(k, u32(part + tiles * DEPTH)) - part - (tiles - 1) * DEPTH)
        row_a, row_b = m if transpose_a else k, k if transpose_b else n
        # bytes between one k and the next
        step_a = np.int64(row_a) * size if transpose_a else np.int64(size)
        step_b = np.int64(size) if transpose_b else np.int64(row_b) * size
        a, b = record[A] + step_a * np.int64(part), record[B] + step_b * np.int64(part)

        sums = cuda.local.array(sums_count, np.float32)
        left, right = cuda.local.array(left_count, np.uint32), cuda.local.array(right_count, np.uint32)
        for i in range(sums_count):
            sums[i] = zero
        memory = make_shared()
        copy_part_a(memory, a, row, m, row_a, thread, first)
        copy_part_b(shared_at(memory, b_at), b, col, n, row_b, thread, first)
        commit()
        a, b = a + step_a * np.int64(first), b + step_b * np.int64(first)
        fill = u32(1)
        while fill < ahead:
            if fill < tiles:
                target = shared_at(memory, u32(fill * stage))
                copy_a(target, a, row, m, row_a, thread)
                copy_b(shared_at(target, b_at), b, col, n, row_b, thread)
                a, b = a + step_a * DEPTH, b + step_b * DEPTH
            commit()
            fill = u32(fill + 1)
        now = u32(0)
        while tiles > 0:
            wait()
            # all copies of this tile have arrived, and no thread reads the previous one any more
            cuda.syncthreads()
            if tiles > ahead:
                target = shared_at(memory, u32(fill * stage))
                copy_a(target, a, row, m, row_a, thread)
                copy_b(shared_at(target, b_at), b, col, n, row_b, thread)
                a, b = a + step_a * DEPTH, b + step_b * DEPTH
            commit()
            add(sums, left, right, shared_at(memory, u32(now * stage)), warp_row, warp_col, thread)
            fill = now
            now = u32(now + 1) if now + 1 < stages else u32(0)
            tiles = u32(tiles - 1)
        leave(record, parts, sums, memory, warp_row, warp_col, row, col, m, n, thread)

    def grid(dims):
        return blocks_of(tile, dims["m"], dims["n"]), parts_of(dims, algorithm)

    return Stage(tensor_product, grid, threads, shared=4 * fragments.elements, minimum=TENSOR_CORES, tensor_cores=True)
