"""Convolutions and their gradients as matrix products on a GPU's ordinary arithmetic units; see `gathered.py`.

Tiles, their products and their end are those of `simt.py`. The rows of a convolution's product are places of the
window, and the sums run over taps and channels. In the gradient for maps the rows are entries of a map, one phase of
a stride after the other, and no zeros are inserted. In the gradient for weights the rows are taps and channels, and
sums run over the places of the images of a chunk. Channels and filters are multiples of a pack.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
from numba import cuda

from fastnn.backend.cuda.codegen.kernel import Dims, Kit, Stage, ceil_div, ptx
from fastnn.backend.cuda.codegen.options import formula, helper
from fastnn.backend.cuda.codegen.sizes import PACK, PRODUCTS, SIZES, Tile
from fastnn.backend.cuda.kernels.matmul.epilogue import make_finish, make_partial, note_parts, part_address, sum_parts
from fastnn.backend.cuda.kernels.matmul.gathered import (
    AXIS,
    COUNT,
    PLACES,
    TAPS,
    backward_axis,
    forward_axis,
    later,
    make_gather,
    of_axis,
    phases_of,
)
from fastnn.backend.cuda.kernels.matmul.plan import Algorithm, blocks_of, parts_of
from fastnn.backend.cuda.kernels.matmul.simt import depth_of, make_leave, make_multiply, tile_elements
from fastnn.backend.cuda.kernels.matmul.tiles import make_loads, tile_of
from fastnn.program.window import unpacked

i32, u32 = np.int32, np.uint32
#: places of a gradient for weights in the table at once, and in the half of it that is filled while the other is read
_SLOTS, _STRETCH = 128, 64
RESULT_OF = {"conv": "y", "conv_back": "dx", "conv_weights": "dw"}


def product_dims(op: str, dims: Mapping[str, int]) -> dict[str, int]:
    """Return the dimensions of the product of a record: those of all phases, or of all chunks, together."""
    batch, filters, channels = dims["batch"], dims["filters"], dims["channels"]
    places = batch * dims["out_depth"] * dims["rows"] * dims["cols"]
    if op == "conv":
        return {"m": places, "n": filters, "k": dims["weights"] // filters}
    if op == "conv_back":
        entries = batch * dims["depth"] * dims["height"] * dims["width"]
        window, stride = unpacked(dims["window"]), unpacked(dims["stride"])
        taps = prod(ceil_div(size, step) for size, step in zip(window, stride, strict=True))
        return {"m": entries, "n": channels, "k": taps * filters}
    chunks = min(dims["chunks"], batch)
    return {"m": chunks * (dims["weights"] // filters), "n": filters, "k": ceil_div(places, chunks)}


def _groups(op: str, dims: Mapping[str, int]) -> tuple[int, int]:
    """Return how many products a record is, and the rows of the largest one."""
    if op == "conv":
        return 1, product_dims(op, dims)["m"]
    if op == "conv_weights":
        return min(dims["chunks"], dims["batch"]), dims["weights"] // dims["filters"]
    sizes = dims["depth"], dims["height"], dims["width"]
    phases = [min(step, size) for step, size in zip(unpacked(dims["stride"]), sizes, strict=True)]
    rows = (ceil_div(size, step) for size, step in zip(sizes, unpacked(dims["stride"]), strict=True))
    return prod(phases), dims["batch"] * prod(rows)


def _row_of(kit: Kit) -> Any:
    """Make `row_of(record, row)`: the row of the result for a row of a product; None if it is the same one."""
    if kit.op == "conv":
        return None
    tile = PRODUCTS.tiles[Algorithm.parse(kit.algorithm).shape]
    rows, cols = tile.rows, tile.cols
    if kit.op == "conv_weights":
        WEIGHTS, FILTERS = kit.words("weights filters")

        @helper
        def row_of_chunk(record, row):
            m, n = u32(record[WEIGHTS] // record[FILTERS]), u32(record[FILTERS])
            blocks = u32(u32((m + rows - 1) // rows) * u32((n + cols - 1) // cols))
            return u32(u32(cuda.blockIdx.x // blocks) * m + row)

        return row_of_chunk
    BATCH, DEPTH, HEIGHT, WIDTH, CHANNELS, STRIDE = kit.words("batch depth height width channels stride")

    @helper
    def row_of_phase(record, row):
        d, h, w = of_axis(record[STRIDE], 0), of_axis(record[STRIDE], 1), of_axis(record[STRIDE], 2)
        if d * h * w == 1:
            return row
        depth, height, width = record[DEPTH], record[HEIGHT], record[WIDTH]
        most = record[BATCH] * ((depth + d - 1) // d) * ((height + h - 1) // h) * ((width + w - 1) // w)
        blocks = u32((most + rows - 1) // rows * ((record[CHANNELS] + cols - 1) // cols))
        phase = u32(cuda.blockIdx.x // blocks)
        across, down = u32(phases_of(w, width)), u32(phases_of(h, height))
        rest, phase_w = u32(phase // across), u32(phase % across)
        phase_d, phase_h = u32(rest // down), u32(rest % down)
        places = u32((width - phase_w + w - 1) // w)
        rest, x = u32(row // places), u32(row % places)
        places = u32((height - phase_h + h - 1) // h)
        rest, y = u32(rest // places), u32(rest % places)
        places = u32((depth - phase_d + d - 1) // d)
        image, z = u32(rest // places), u32(rest % places)
        line = (image * depth + z * d + phase_d) * height + y * h + phase_h
        return u32(line * width + x * w + phase_w)

    return row_of_phase


def implicit_product(kit: Kit, algorithm: Algorithm) -> Stage:
    """Make the stage that multiplies; for a product in parts it writes the parts to scratch memory."""
    op, back, for_weights = kit.op, kit.op == "conv_back", kit.op == "conv_weights"
    A, B = kit.words({"conv": "x w", "conv_back": "dy w", "conv_weights": "x dy"}[op])
    BATCH, DEPTH, HEIGHT, WIDTH, CHANNELS = kit.words("batch depth height width channels")
    OUT_DEPTH, ROWS, COLS, FILTERS, WEIGHTS = kit.words("out_depth rows cols filters weights")
    WINDOW, STRIDE, DILATION, PADDING = kit.words("window stride dilation padding")
    CHUNKS = kit.words("chunks")[0] if for_weights else 0
    tile: Tile = PRODUCTS.tiles[algorithm.shape]
    size, real, group = kit.itemsize, kit.real, 16 // kit.itemsize
    rows, cols, depth, threads, warp = tile.rows, tile.cols, depth_of(kit, tile), tile.threads, SIZES.warp
    split = algorithm.split
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
    finish = make_partial(kit) if split else make_finish(kit, algorithm.epilogue, RESULT_OF[op])
    leave = make_leave(kit, tile, finish, PACK, _row_of(kit))
    buffer, b_at = tile_elements(kit, tile), depth * pitch_a
    make_shared, shared_at = ptx.shared(2 * buffer, kit.dtype), ptx.SHARED_AT[kit.dtype]
    tall, wide, across = tile.tall, tile.wide, tile.across
    sums_count, warps_across, high = tall * wide, cols // wide // across, warp // across
    pitch_out, zero = cols + group, real(0.0)
    slots = _SLOTS if for_weights else rows
    gather = make_gather(kit)
    write, write_taps, unit = gather.write, gather.write_taps, gather.unit
    axis_of = backward_axis if back else forward_axis
    stretch, axes_count, half_slots, all_taps = _STRETCH, 3 * AXIS, _SLOTS // 2, 5 * TAPS

    @formula
    def fill(bases, zs, ys, xs, number, first, origin, last, axes, d, h, w, c, thread):
        """Write one half of the table of places of k; the first tile, of `first` places, is followed by whole ones."""
        slot = thread
        while slot < stretch:
            v = i32(number * stretch + slot)
            at = i32(v if v < depth else v + first - depth)
            write(bases, zs, ys, xs, i32(number % 2 * half_slots + slot), min(i32(origin + at), last), axes, d, h, w, c)
            slot = u32(slot + threads)

    def product(record, context):
        n, thread = u32(record[CHANNELS] if back else record[FILTERS]), u32(cuda.threadIdx.x)
        # the maps that are gathered, and their channels
        map_d, map_h = i32(record[OUT_DEPTH] if back else record[DEPTH]), i32(record[ROWS] if back else record[HEIGHT])
        map_w, channels = (
            i32(record[COLS] if back else record[WIDTH]),
            i32(record[FILTERS] if back else record[CHANNELS]),
        )
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
        # this block's product, and its tile
        most = record[BATCH] * record[OUT_DEPTH] * record[ROWS] * record[COLS]
        down_d, down_h, down_w = np.int64(1), np.int64(1), np.int64(1)
        if for_weights:
            most = record[WEIGHTS] // record[FILTERS]
        if back:
            down_d, down_h, down_w = of_axis(record[STRIDE], 0), of_axis(record[STRIDE], 1), of_axis(record[STRIDE], 2)
            most = (record[BATCH] * ((record[DEPTH] + down_d - 1) // down_d)
                    * ((record[HEIGHT] + down_h - 1) // down_h) * ((record[WIDTH] + down_w - 1) // down_w))  # fmt: skip
        tiles_across, tiles_down = u32((n + cols - 1) // cols), u32((most + rows - 1) // rows)
        number = u32(cuda.blockIdx.x // u32(tiles_across * tiles_down))
        tile_row, tile_col = tile_of(u32(cuda.blockIdx.x % u32(tiles_across * tiles_down)), tiles_across, tiles_down)
        row, col = u32(tile_row * rows), u32(tile_col * cols)
        if thread < 3:
            axis, phase = np.int64(thread), np.int64(0)
            extent = record[DEPTH] if axis == 0 else (record[HEIGHT] if axis == 1 else record[WIDTH])
            results = record[OUT_DEPTH] if axis == 0 else (record[ROWS] if axis == 1 else record[COLS])
            if back:
                across_w, across_h = u32(phases_of(down_w, record[WIDTH])), u32(phases_of(down_h, record[HEIGHT]))
                phase = np.int64(number % across_w)
                if axis == 0:
                    phase = np.int64(number // u32(across_w * across_h))
                if axis == 1:
                    phase = np.int64(number // across_w % across_h)
            axis_of(axes, axis * AXIS, extent, results, of_axis(record[WINDOW], axis), of_axis(record[STRIDE], axis),
                    of_axis(record[DILATION], axis), of_axis(record[PADDING], axis), phase)  # fmt: skip
        cuda.syncthreads()
        places = u32(u32(axes[PLACES]) * u32(axes[AXIS + PLACES]) * u32(axes[2 * AXIS + PLACES]))
        taps = u32(u32(axes[COUNT]) * u32(axes[AXIS + COUNT]) * u32(axes[2 * AXIS + COUNT]))
        m, k, first_image = u32(u32(record[BATCH]) * places), u32(taps * u32(channels)), u32(0)
        if for_weights:
            chunks = min(record[CHUNKS], record[BATCH])
            first_image = u32(record[BATCH] * number // chunks)
            m, k = k, u32(u32(u32(record[BATCH] * (number + 1) // chunks) - first_image) * places)
        # this block's part of k: whole tiles, except for the last part; perhaps no tile, which is one of zeros then
        tiles, part = i32((k + depth - 1) // depth), u32(0)
        if split:
            each = i32(i32(tiles + i32(cuda.gridDim.y) - 1) // i32(cuda.gridDim.y))
            before = i32(i32(cuda.blockIdx.y) * each)
            tiles = min(each, i32(tiles - before))
            part = u32(before * depth)
        first = u32(0)
        if tiles > 0:
            first = u32(min(k, u32(part + u32(tiles * depth))) - part - u32((tiles - 1) * depth))
        else:
            tiles, part = i32(1), u32(0)

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
                if for_weights and v % stretch == 0:
                    half_number = i32(v // stretch + 1)
                    fill(bases, zs, ys, xs, half_number, i32(first), origin, last, axes, map_d, map_h, map_w, channels,
                         thread)  # fmt: skip
                for i in range(units_a):
                    line = i32(lines + i * threads // line_a)
                    if for_weights:
                        line = i32(u32(v + line) % u32(2 * half_slots))
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
        parts = np.int64(0)
        if split:
            all_rows = record[BATCH]
            if for_weights:
                all_rows = min(record[CHUNKS], record[BATCH]) * (record[WEIGHTS] // record[FILTERS])
            elif back:
                all_rows *= record[DEPTH] * record[HEIGHT] * record[WIDTH]
            else:
                all_rows *= record[OUT_DEPTH] * record[ROWS] * record[COLS]
            all_rows *= record[CHANNELS] if back else record[FILTERS]
            parts = part_address(record, cuda.blockIdx.y, all_rows * size)
            if cuda.blockIdx.x == 0 and cuda.blockIdx.y == 0 and thread == 0:
                note_parts(record, np.int64(cuda.gridDim.y))
        mine = shared_at(memory, u32(y * group * pitch_out + x * group))
        n = u32(record[CHANNELS] if back else record[FILTERS])
        leave(record, parts, sums, memory, mine, u32(notes[0]), u32(notes[1]), u32(notes[2]), n, thread)

    def grid(dims: Dims) -> tuple[int, int]:
        count, most = _groups(op, dims)
        found = product_dims(op, dims)
        return count * blocks_of(tile, most, found["n"]), parts_of(found, algorithm)

    return Stage(product, grid, threads, blocks_at_once=0 if size == 8 else tile.at_once)


def implicit_sum(kit: Kit, algorithm: Algorithm) -> Stage:
    """Make the stage that adds the parts of a product."""
    op = kit.op
    BATCH, FILTERS = kit.words("batch filters")
    axes = {"conv": "out_depth rows cols filters", "conv_back": "depth height width channels",
            "conv_weights": "weights weights weights weights"}[op]  # fmt: skip
    ONE, TWO, THREE, COLUMNS = kit.words(axes)
    CHUNKS = kit.words("chunks")[0] if op == "conv_weights" else 0
    for_weights, threads = op == "conv_weights", SIZES.threads

    @formula
    def sizes(record):
        if for_weights:
            return record[COLUMNS] * min(record[CHUNKS], record[BATCH]), record[FILTERS]
        return record[BATCH] * record[ONE] * record[TWO] * record[THREE] * record[COLUMNS], record[COLUMNS]

    def grid(dims: Dims) -> tuple[int, int]:
        found = product_dims(op, dims)
        return ceil_div(found["m"] * found["n"], PACK * threads), 1

    return sum_parts(kit, algorithm.epilogue, PACK, RESULT_OF[op], sizes, grid)
