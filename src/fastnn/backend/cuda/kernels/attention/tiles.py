"""Tiles of scores in shared memory: products of rows, and products of weights with rows.

A block of threads has a tile of scores. A thread has some of its rows and columns, apart by the number of threads along
each axis; neighbouring threads have neighbouring columns, and those of one row are a part of a warp.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from numba import cuda

from fastnn.backend.cuda.codegen.kernel import Kit, ptx
from fastnn.backend.cuda.codegen.options import formula, helper
from fastnn.backend.cuda.codegen.sizes import ATTENTION
from fastnn.backend.cuda.kernels.philox import BLOCKS, GROUP, philox
from fastnn.program.layout import Counter

u32 = np.uint32
_SEED, _STEP = int(Counter.SEED), int(Counter.STEP)
as_double, load_int64 = ptx.int_as_double, ptx.LOADS["int64"]


def tile_functions(kit: Kit) -> SimpleNamespace:
    """Make the building blocks of attention's kernels.

    Returns
    -------
    types.SimpleNamespace
        multiply : device function
            `multiply(tile, left, right, a, a_row, rows, b, b_row, cols, depth, thread)`: write the products of rows
            of a and rows of b to a tile in shared memory; those after `rows` and `cols` count as zeros. Each thread
            writes the elements that it has. Addresses, and distances in elements.
        add_rows : device function
            `add_rows(out, out_row, rows, tile, right, b, b_row, cols, depth, thread, factors, fresh)`: out = factors
            out + tile b, or out = tile b if `fresh`; each row has a factor, in shared memory.
        added : device function
            `added(record, mask, sample, head, query, key)`: what the mask adds to a score.
        kept : device function
            `kept(record, context, number, query, key)`: the factor of dropout of a pair of a head.
        tile : AttentionTile
            Its sizes; `left_count`, `right_count`, `tile_count`: elements of shared arrays; `pitch`: those of a tile's
            row; `down`: threads along a column.
    """
    tile = ATTENTION.for_itemsize(kit.itemsize)
    rows_each, cols_each, depth_each, tall, wide = tile.rows, tile.cols, tile.depth, tile.tall, tile.wide
    across, threads = tile.across, tile.threads
    down = threads // across
    real, load, store = kit.real, kit.load, kit.store
    # one more element in each row: threads that store along a column meet different banks
    left_pitch, right_pitch, tile_pitch, zero = rows_each + 1, cols_each + 1, cols_each + 1, real(0.0)
    sums_count, one = tall * wide, real(1.0)
    QUERIES, KEYS, NODE, RATE = kit.words("queries keys node rate")
    MASK_SAMPLE, MASK_HEAD, MASK_QUERY = kit.words("mask_sample mask_head mask_query")

    @formula
    def fetch(to, pitch, lines_each, source, row, lines, first, end, thread):
        unit = u32(thread)
        while unit < lines_each * depth_each:
            line, step = u32(unit // depth_each), u32(unit % depth_each)
            value, place = zero, u32(first + step)
            if line < lines and place < end:
                value = load(source, u32(u32(line * row) + place))
            to[u32(step * pitch + line)] = value
            unit = u32(unit + threads)

    @helper
    def multiply(to, left, right, a, a_row, rows, b, b_row, cols, depth, thread):
        x, y, a_row, b_row = u32(thread % across), u32(thread // across), u32(a_row), u32(b_row)
        rows, cols, depth = u32(rows), u32(cols), u32(depth)
        sums = cuda.local.array(sums_count, real)
        for i in range(sums_count):
            sums[i] = zero
        done = u32(0)
        while done < depth:
            fetch(left, left_pitch, rows_each, a, a_row, rows, done, depth, thread)
            fetch(right, right_pitch, cols_each, b, b_row, cols, done, depth, thread)
            cuda.syncthreads()
            for step in range(depth_each):
                for i in range(tall):
                    value = left[u32(step * left_pitch + y + i * down)]
                    for j in range(wide):
                        sums[i * wide + j] += value * right[u32(step * right_pitch + x + j * across)]
            cuda.syncthreads()
            done = u32(done + depth_each)
        for i in range(tall):
            for j in range(wide):
                to[u32(u32(y + i * down) * tile_pitch + x + j * across)] = sums[i * wide + j]

    @helper
    def add_rows(out, out_row, rows, weights, right, b, b_row, cols, depth, thread, factors, fresh):
        x, y, out_row, b_row = u32(thread % across), u32(thread // across), u32(out_row), u32(b_row)
        rows, cols, depth, column = u32(rows), u32(cols), u32(depth), u32(0)
        sums = cuda.local.array(sums_count, real)
        while column < depth:
            for i in range(sums_count):
                sums[i] = zero
            done = u32(0)
            while done < cols:
                unit = u32(thread)
                while unit < depth_each * cols_each:
                    step, place = u32(unit // cols_each), u32(unit % cols_each)
                    here, value = u32(column + place), zero
                    if u32(done + step) < cols and here < depth:
                        value = load(b, u32(u32(u32(done + step) * b_row) + here))
                    right[u32(step * right_pitch + place)] = value
                    unit = u32(unit + threads)
                cuda.syncthreads()
                for step in range(depth_each):
                    for i in range(tall):
                        value = weights[u32(u32(y + i * down) * tile_pitch + done + step)]
                        for j in range(wide):
                            sums[i * wide + j] += value * right[u32(step * right_pitch + x + j * across)]
                cuda.syncthreads()
                done = u32(done + depth_each)
            for i in range(tall):
                here = u32(y + i * down)
                factor = zero if fresh else factors[here]
                for j in range(wide):
                    place = u32(column + x + j * across)
                    if here < rows and place < depth:
                        at, before = u32(u32(here * out_row) + place), zero
                        if not fresh:
                            before = load(out, at) * factor
                        store(out, at, before + sums[i * wide + j])
            column = u32(column + cols_each)

    @formula
    def added(record, mask, sample, head, query, key):
        if mask == 0:
            return zero
        return load(mask, sample * record[MASK_SAMPLE] + head * record[MASK_HEAD] + query * record[MASK_QUERY] + key)

    @formula
    def kept(record, context, number, query, key):
        rate = as_double(record[RATE])
        if rate == 0.0:
            return one
        padded = (record[QUERIES] + GROUP - 1) // GROUP * GROUP
        element = (number * record[KEYS] + key) * padded + query
        place = element % GROUP
        block = element // GROUP * BLOCKS + place % BLOCKS
        words = philox(block, record[NODE], load_int64(context, _STEP), load_int64(context, _SEED))
        word = words[0]
        if place // BLOCKS == 1:
            word = words[1]
        elif place // BLOCKS == 2:
            word = words[2]
        elif place // BLOCKS == 3:
            word = words[3]
        return real(1.0 / (1.0 - rate)) if word >= np.uint64(rate * 4294967296.0) else zero

    return SimpleNamespace(
        multiply=multiply, add_rows=add_rows, added=added, kept=kept, tile=tile, down=down, pitch=tile_pitch,
        left_count=depth_each * left_pitch, right_count=depth_each * right_pitch, tile_count=rows_each * tile_pitch,
    )  # fmt: skip
