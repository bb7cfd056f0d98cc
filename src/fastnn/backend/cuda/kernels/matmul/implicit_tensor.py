"""Convolutions and their gradients as matrix products on tensor cores; see `implicit_frame.py` and `tensor.py`.

The elements of maps are copied into shared memory asynchronously, and zeros for those beyond the edges.
"""

from __future__ import annotations

import numpy as np
from numba import cuda

from fastnn.backend.cuda.codegen import fragments as places_of
from fastnn.backend.cuda.codegen.fragments import DEPTH
from fastnn.backend.cuda.codegen.kernel import Kit, Stage, ptx
from fastnn.backend.cuda.codegen.options import formula
from fastnn.backend.cuda.codegen.sizes import CONVOLUTIONS, PACK, TENSOR_CORES
from fastnn.backend.cuda.kernels.matmul.epilogue import make_finish, make_partial
from fastnn.backend.cuda.kernels.matmul.gathered import (
    AXIS,
    SLOTS,
    STRETCH,
    TAPS,
    later,
    make_fill,
    make_gather,
    of_axis,
)
from fastnn.backend.cuda.kernels.matmul.implicit_frame import RESULT_OF, grid_of, make_frame
from fastnn.backend.cuda.kernels.matmul.plan import Algorithm
from fastnn.backend.cuda.kernels.matmul.tensor import make_copies, make_fragments

i32, u32 = np.int32, np.uint32
place_along, place_across = formula(places_of.place_along), formula(places_of.place_across)
shared_at, commit = ptx.SHARED_AT["float32"], ptx.commit_copies


def tensor_implicit_product(kit: Kit, algorithm: Algorithm) -> Stage:
    """Make the stage that multiplies; for a product in parts it writes the parts to scratch memory."""
    op, back, for_weights = kit.op, kit.op == "conv_back", kit.op == "conv_weights"
    A, B = kit.words({"conv": "x w", "conv_back": "dy w", "conv_weights": "x dy"}[op])
    BATCH, WINDOW = kit.words("batch window")
    tile = CONVOLUTIONS[op].tensor_tiles[algorithm.shape]
    rows, threads, stages, size = tile.rows, tile.threads, tile.stages, kit.itemsize
    frame = make_frame(kit, algorithm, DEPTH)
    maps, columns, block, describe = frame.maps, frame.columns, frame.block, frame.describe
    extents, stretch_of_k, parts_of_block = frame.extents, frame.stretch_of_k, frame.parts
    finish = make_partial(kit) if algorithm.split else make_finish(kit, algorithm.epilogue, RESULT_OF[op])
    fragments = make_fragments(kit, algorithm, tile, finish, PACK, frame.row_of)
    place_of_warp, add, leave = fragments.place_of_warp, fragments.add, fragments.leave
    b_at, stage, ahead = fragments.b_at, fragments.stage, stages - 1
    sums_count, left_count, right_count = fragments.sums, fragments.left, fragments.right
    make_shared, wait = ptx.shared(fragments.elements, "float32", dynamic=True), ptx.wait_for_copies(stages - 2)
    _, copy_part_b = make_copies(tile.cols, back, PACK, threads)
    gather = make_gather(kit)
    write, write_taps, copy_unit = gather.write, gather.write_taps, gather.copy
    fill = make_fill(write, DEPTH, threads)
    # neighbours in memory are channels: columns of a product, or rows of the gradient for weights
    across_a = (rows if for_weights else DEPTH) // PACK
    units_a = rows * DEPTH // PACK // threads
    assert threads % across_a == 0 and threads % (DEPTH // PACK) == 0 and ahead * DEPTH <= STRETCH
    slots = SLOTS if for_weights else rows
    axes_count, all_taps, zero = 3 * AXIS, 5 * TAPS, np.float32(0.0)

    @formula
    def copy_a(target, address, bases, zs, ys, xs, v, taps, tap, channel, d, h, w, thread, depth):
        """Copy the thread's part of a tile with `depth` of k; in the gradient for weights its places begin at v."""
        along = u32(thread % across_a * PACK)
        for i in range(units_a):
            line = u32(thread // across_a + i * threads // across_a)
            if for_weights:
                place, slot, wanted = (
                    u32(place_across(along, line, rows)),
                    u32(u32(v + line) % u32(SLOTS)),
                    line < depth,
                )
            else:
                place, slot, wanted = u32(place_along(line, along)), line, along < depth
            copy_unit(shared_at(target, place), address, bases, zs, ys, xs, slot, taps, tap, channel, d, h, w, wanted)

    def product(record, context):
        n, thread = columns(record), u32(cuda.threadIdx.x)
        map_d, map_h, map_w, channels = maps(record)
        # the simulator tells shared arrays apart by their lines
        axes = cuda.shared.array(axes_count, np.int32)
        bases = cuda.shared.array(slots, np.int32)
        zs = cuda.shared.array(slots, np.int32)
        ys = cuda.shared.array(slots, np.int32)
        xs = cuda.shared.array(slots, np.int32)
        listed = cuda.shared.array(all_taps, np.int32)
        memory = make_shared()
        number, row, col = block(record)
        describe(record, axes, number, thread)
        cuda.syncthreads()
        m, k, first_image, places = extents(record, axes, number)
        tiles, part, first = stretch_of_k(k)
        warp_row, warp_col = place_of_warp(thread)
        sums = cuda.local.array(sums_count, np.float32)
        left, right = cuda.local.array(left_count, np.uint32), cuda.local.array(right_count, np.uint32)
        for i in range(sums_count):
            sums[i] = zero

        # the column of a that the thread copies, which is a row of the gradient for weights; then the table of places
        along = u32(thread % across_a * PACK)
        column, slot = i32(part + along), thread
        origin, last = i32(0), i32(0)
        if for_weights:
            column = i32(min(u32(row + along), u32(m - PACK)))
            origin, last = i32(u32(first_image * places) + part), i32(u32(record[BATCH]) * places - u32(1))
            fill(bases, zs, ys, xs, i32(0), i32(first), origin, last, axes, map_d, map_h, map_w, channels, thread)
            fill(bases, zs, ys, xs, i32(1), i32(first), origin, last, axes, map_d, map_h, map_w, channels, thread)
        else:
            while slot < rows:
                write(bases, zs, ys, xs, slot, min(u32(row + slot), u32(m - 1)), axes, map_d, map_h, map_w, channels)
                slot = u32(slot + threads)
        apart = i32(n * u32(channels) if back else u32(0))
        window_h, window_w = i32(of_axis(record[WINDOW], 1)), i32(of_axis(record[WINDOW], 2))
        write_taps(listed, axes, map_h, map_w, channels, window_h, window_w, apart, thread, threads)
        tap = i32(column // channels)
        channel = i32(column - tap * channels)
        cuda.syncthreads()

        a, b, row_b = record[A], record[B], u32(channels) if back else n
        if back:
            # a copy adds the thread's k in a tile, which its tap and channel hold as well
            b -= np.int64(along) * size
        else:
            b += np.int64(u32(first_image * places) + part) * np.int64(n) * size
        # the k of the tile that is copied, and those that it has; tiles that have been copied, and that are left
        v, step, copied, left_over, now = u32(0), first, u32(0), tiles, u32(0)
        while tiles > 0:
            ready = copied >= ahead
            if ready:
                wait()
                # all copies of this tile have arrived, and no thread reads the previous one any more
                cuda.syncthreads()
            if left_over > 0:
                left_over = i32(left_over - 1)
                if for_weights and v % STRETCH == 0 and v > 0:
                    # this half has been read before the last barrier, and is read again after the next one
                    half = i32(v // STRETCH + 1)
                    fill(bases, zs, ys, xs, half, i32(first), origin, last, axes, map_d, map_h, map_w, channels, thread)
                here_b = b
                if back:
                    here_b = b + (np.int64(listed[tap + 4 * TAPS]) + channel) * size
                target = shared_at(memory, u32(copied % stages * stage))
                copy_a(target, a, bases, zs, ys, xs, v, listed, tap, channel, map_d, map_h, map_w, thread, step)
                copy_part_b(shared_at(target, b_at), here_b, col, n, row_b, thread, step)
                if not back:
                    b += np.int64(step) * np.int64(n) * size
                if not for_weights and left_over > 0:
                    tap, channel = later(tap, channel, i32(step), channels)
                step, v = u32(DEPTH), u32(v + DEPTH)
            commit()
            copied = u32(copied + 1)
            if ready:
                add(sums, left, right, shared_at(memory, u32(now * stage)), warp_row, warp_col, thread)
                now = u32(now + 1) if now + 1 < stages else u32(0)
                tiles = i32(tiles - 1)
        leave(record, parts_of_block(record, thread), sums, memory, warp_row, warp_col, row, col, m, n, thread)

    return Stage(
        product, grid_of(op, algorithm), threads, shared=4 * fragments.elements, minimum=TENSOR_CORES, tensor_cores=True
    )
