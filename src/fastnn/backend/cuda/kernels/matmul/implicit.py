"""Convolutions and their gradients as matrix products on a GPU's ordinary arithmetic units; see `implicit_frame.py`.

Tiles, their products and their end are those of `simt.py`, and `gathered.py` finds the elements of maps. Channels and
filters are multiples of a pack.
"""

from __future__ import annotations

import numpy as np
from numba import cuda

from fastnn.backend.cuda.codegen.kernel import Kit, Stage, ptx
from fastnn.backend.cuda.codegen.sizes import CONVOLUTIONS, PACK, SIZES
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
from fastnn.backend.cuda.kernels.matmul.simt import depth_of, make_leave, make_multiply, tile_elements
from fastnn.backend.cuda.kernels.matmul.tiles import make_loads

i32, u32 = np.int32, np.uint32


def implicit_product(kit: Kit, algorithm: Algorithm) -> Stage:
    """Make the stage that multiplies; for a product in parts it writes the parts to scratch memory."""
    op, back, for_weights = kit.op, kit.op == "conv_back", kit.op == "conv_weights"
    A, B = kit.words({"conv": "x w", "conv_back": "dy w", "conv_weights": "x dy"}[op])
    BATCH, WINDOW = kit.words("batch window")
    tile = CONVOLUTIONS[op].tiles[algorithm.shape]
    size, real, group = kit.itemsize, kit.real, 16 // kit.itemsize
    rows, cols, depth, threads, warp = tile.rows, tile.cols, depth_of(kit, tile), tile.threads, SIZES.warp
    pitch_a, pitch_b = rows + group, cols + group
    # a's neighbours in memory are channels: columns of a product, or rows of the gradient for weights
    loads_a = make_loads(kit, rows, depth, pitch_a, threads, not for_weights, PACK)
    loads_b = make_loads(kit, cols, depth, pitch_b, threads, back, PACK)
    place_a, stash_a, count_a, units_a = loads_a.place, loads_a.stash, loads_a.count, loads_a.units
    begin_b, fetch_b, fetch_part_b = loads_b.begin, loads_b.fetch, loads_b.fetch_part
    place_b, stash_b, count_b, units_b, step_b = (
        loads_b.place,
        loads_b.stash,
        loads_b.count,
        loads_b.units,
        loads_b.step,
    )
    line_a = (rows if for_weights else depth) // PACK
    all_a, line_b = line_a * (depth if for_weights else rows), depth // PACK
    assert threads % line_a == 0 and threads % line_b == 0
    all_b = line_b * cols
    half = depth // 2
    multiply = make_multiply(kit, tile, half, pitch_a, pitch_b)
    in_turn = tile.tall * tile.wide >= 64
    finish = make_partial(kit) if algorithm.split else make_finish(kit, algorithm.epilogue, RESULT_OF[op])
    frame = make_frame(kit, algorithm, depth)
    maps, columns, block, describe = frame.maps, frame.columns, frame.block, frame.describe
    extents, stretch_of_k, parts_of_block = frame.extents, frame.stretch_of_k, frame.parts
    leave = make_leave(kit, tile, finish, PACK, frame.row_of)
    buffer, b_at = tile_elements(kit, tile), depth * pitch_a
    make_shared, shared_at = ptx.shared(2 * buffer, kit.dtype), ptx.SHARED_AT[kit.dtype]
    tall, wide, across = tile.tall, tile.wide, tile.across
    sums_count, warps_across, high = tall * wide, cols // wide // across, warp // across
    pitch_out, zero = cols + group, real(0.0)
    slots = SLOTS if for_weights else rows
    gather = make_gather(kit)
    write, write_taps, unit = gather.write, gather.write_taps, gather.unit
    fill = make_fill(write, depth, threads)
    axes_count, all_taps = 3 * AXIS, 5 * TAPS

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
        # what is needed at the end only, and would take registers until then
        notes = cuda.shared.array(4, np.int32)
        memory = make_shared()
        number, row, col = block(record)
        describe(record, axes, number, thread)
        cuda.syncthreads()
        m, k, first_image, places = extents(record, axes, number)
        tiles, part, first = stretch_of_k(k)

        lane, in_warp = u32(thread // warp), u32(thread % warp)
        x = u32(in_warp % across + lane % warps_across * across)
        y = u32(in_warp // across + lane // warps_across * high)
        sums = cuda.local.array(sums_count, real)
        left, right = cuda.local.array(tall, real), cuda.local.array(wide, real)
        next_a, next_b = cuda.local.array(count_a, real), cuda.local.array(count_b, real)
        places_b = cuda.local.array(units_b, np.uint32)
        for i in range(sums_count):
            sums[i] = zero
        to_a, to_b = shared_at(memory, place_a(thread)), shared_at(memory, u32(b_at + place_b(thread)))
        from_a, from_b = shared_at(memory, u32(y * group)), shared_at(memory, u32(b_at + x * group))

        # the thread's unit of a: a column, or a row of the gradient for weights; and its first line
        unit_a = u32(thread % all_a)
        along = i32(u32(unit_a % line_a * PACK))
        lines = i32(unit_a // line_a)
        column = i32(part) + along
        slot = thread
        if for_weights:
            column = i32(min(u32(row + u32(along)), u32(m - PACK)))
            origin, last = i32(u32(first_image * places) + part), i32(u32(record[BATCH]) * places - u32(1))
            fill(bases, zs, ys, xs, i32(0), i32(first), origin, last, axes, map_d, map_h, map_w, channels, thread)
            fill(bases, zs, ys, xs, i32(1), i32(first), origin, last, axes, map_d, map_h, map_w, channels, thread)
        else:
            origin, last = i32(0), i32(0)
            while slot < rows:
                write(bases, zs, ys, xs, slot, min(u32(row + slot), u32(m - 1)), axes, map_d, map_h, map_w, channels)
                slot = u32(slot + threads)
        apart = i32(n * u32(channels) if back else u32(0))
        window_h, window_w = i32(of_axis(record[WINDOW], 1)), i32(of_axis(record[WINDOW], 2))
        write_taps(listed, axes, map_h, map_w, channels, window_h, window_w, apart, thread, threads)
        tap = i32(column // channels)
        channel = i32(column - tap * channels)
        if thread == 0:
            notes[0], notes[1], notes[2] = i32(row), i32(col), i32(m)
        cuda.syncthreads()

        a, b, row_b = record[A], record[B], n
        if back:
            row_b = u32(channels)
        if for_weights:
            b += step_b(u32(u32(first_image * places) + part), n) * size
        elif not back:
            b += step_b(part, n) * size
        begin_b(places_b, thread, col, n, row_b)
        if back:
            # a place holds the thread's k in a tile, which its tap and channel hold as well
            b -= np.int64(u32(u32(thread % all_b) % line_b * PACK)) * size
        step_of_b = step_b(depth, row_b) * size
        v = i32(0)

        for i in range(units_a):
            line = i32(lines + i * threads // line_a)
            if (line if for_weights else along) < i32(first):
                unit(next_a, PACK * i, a, bases, zs, ys, xs, line, listed, tap, channel, map_d, map_h, map_w)
            else:
                for e in range(PACK):
                    next_a[PACK * i + e] = zero
        here_b = b
        if back:
            here_b = b + (np.int64(listed[tap + 4 * TAPS]) + channel) * size
        fetch_part_b(next_b, here_b, places_b, thread, first)
        if not back:
            b = b + step_b(first, row_b) * size
        if not for_weights:
            tap, channel = later(tap, channel, i32(first), channels)
        stash_a(next_a, to_a)
        stash_b(next_b, to_b)
        cuda.syncthreads()
        shift_at = u32(0)
        while tiles > 0:
            tiles = i32(tiles - 1)
            v = i32(v + depth)
            from_here_a, from_here_b = shared_at(from_a, shift_at), shared_at(from_b, shift_at)
            shift_at = u32(buffer - shift_at)
            if tiles > 0:
                # this half has been read before the last barrier
                if for_weights and v % STRETCH == 0:
                    half_number = i32(v // STRETCH + 1)
                    fill(bases, zs, ys, xs, half_number, i32(first), origin, last, axes, map_d, map_h, map_w, channels,
                         thread)  # fmt: skip
                for i in range(units_a):
                    line = i32(lines + i * threads // line_a)
                    if for_weights:
                        line = i32(u32(v + line) % u32(SLOTS))
                    unit(next_a, PACK * i, a, bases, zs, ys, xs, line, listed, tap, channel, map_d, map_h, map_w)
                if not in_turn:
                    if back:
                        here_b = b + (np.int64(listed[tap + 4 * TAPS]) + channel) * size
                    fetch_b(next_b, here_b if back else b, places_b)
            multiply(sums, left, right, from_here_a, from_here_b, 0)
            if in_turn and tiles > 0:
                stash_a(next_a, shared_at(to_a, shift_at))
                if back:
                    here_b = b + (np.int64(listed[tap + 4 * TAPS]) + channel) * size
                fetch_b(next_b, here_b if back else b, places_b)
            multiply(sums, left, right, from_here_a, from_here_b, half)
            if tiles > 0:
                if not in_turn:
                    stash_a(next_a, shared_at(to_a, shift_at))
                stash_b(next_b, shared_at(to_b, shift_at))
                if not back:
                    b = b + step_of_b
                if not for_weights:
                    tap, channel = later(tap, channel, i32(depth), channels)
            cuda.syncthreads()
        parts = parts_of_block(record, thread)
        mine = shared_at(memory, u32(y * group * pitch_out + x * group))
        n = columns(record)
        leave(record, parts, sums, memory, mine, u32(notes[0]), u32(notes[1]), u32(notes[2]), n, thread)

    return Stage(product, grid_of(op, algorithm), threads, blocks_at_once=0 if size == 8 else tile.at_once)
