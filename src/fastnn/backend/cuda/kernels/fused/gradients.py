"""Gradients of fused layers' weights and biases: each block's part in a separate slab, and the sum of the slabs."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
from numba import cuda

from fastnn.backend.cuda.codegen.kernel import SCRATCH_WORD, TABLE_WORD, Kit, Stage, ceil_div, ptx
from fastnn.backend.cuda.codegen.options import formula, helper
from fastnn.backend.cuda.codegen.sizes import FUSED, PACK, SIMULATED, SIZES
from fastnn.backend.cuda.kernels.fused import plan as plan
from fastnn.backend.cuda.kernels.fused.plan import PITCH, ROW, Tile
from fastnn.backend.cuda.kernels.fused.tiles import THREADS, make_memory
from fastnn.program.layout import FLAGS_WORD, Flag

u32 = np.uint32
load_int64 = ptx.LOADS["int64"]
LAYERS, SLAB, SLABS = plan.LAYERS, plan.SLAB, plan.SLABS
TARGET, HEIGHT, WIDTH, HIGH, OFFSET = plan.TARGET, plan.HEIGHT, plan.WIDTH, plan.HIGH, plan.OFFSET
HIGH_ROWS = FUSED.high
_ACCUMULATE = int(Flag.ACCUMULATE)


def make_weight(kit: Kit, tile: Tile) -> Any:
    """Make the gradient of a layer's weights, inputs' rows by gradients' rows, and add it to the block's slab."""
    real, group, together = kit.real, 16 // kit.itemsize, min(tile.rows, 4)
    get, get_group, shared_at = make_memory(kit).get, ptx.SHARED_LOAD_PACKS[kit.dtype], ptx.SHARED_AT[kit.dtype]
    load_pack, store_pack, zero = kit.load_pack, kit.store_pack, real(0.0)
    sums_count = HIGH_ROWS * PACK

    @formula
    def add_one_by_one(sums, left, right):
        for i in range(HIGH_ROWS):
            for j in range(PACK):
                sums[i * PACK + j] += left[i] * right[j]

    def add_outer(sums, left, right):
        sums += np.outer(left, right).reshape(-1)

    # in the simulator loops take twenty times as long
    add_products = add_outer if SIMULATED else add_one_by_one

    @formula
    def one(sums, left, here, there, place):
        for i in range(0, HIGH_ROWS, group):
            p = get_group(here, place + i)
            for e in range(group):
                left[i + e] = p[e]
        add_products(sums, left, get(there, u32(place)))

    def twice(several, distance):
        # unrolled by hand: LLVM would keep the loop
        @formula
        def both(sums, left, here, there, place):
            several(sums, left, here, there, place)
            several(sums, left, here, there, place + distance)

        return both

    several = reduce(twice, [PITCH << power for power in range(together.bit_length() - 1)], one)

    @helper
    def weight(sums, left, inputs, gradients, count, height, width, slab, fresh, thread):
        across = u32(u32(width + (PACK - 1)) // PACK)
        blocks = u32(u32(u32(height + (HIGH_ROWS - 1)) // HIGH_ROWS) * across)
        block = thread
        while block < blocks:
            down = u32(block // across)
            here, there = u32(down * HIGH_ROWS), u32((block - down * across) * PACK)
            for i in range(sums_count):
                sums[i] = zero
            row = u32(0)
            # rows after the last are zeros
            while row < count:
                begin = u32(row * PITCH)
                several(sums, left, shared_at(inputs, u32(begin + here)), shared_at(gradients, u32(begin + there)), 0)
                row = u32(row + together)
            for i in range(HIGH_ROWS):
                place, e = u32(u32(i * blocks + block) * PACK), i * PACK
                v = sums[e], sums[e + 1], sums[e + 2], sums[e + 3]
                if not fresh:
                    p = load_pack(slab, place)
                    v = v[0] + p[0], v[1] + p[1], v[2] + p[2], v[3] + p[3]
                store_pack(slab, place, v)
            block = u32(block + THREADS)

    return weight


def make_bias(kit: Kit, rows: int) -> Any:
    """Make the gradient of a layer's bias, and add it to the block's slab."""
    load, store, zero = kit.load, kit.store, kit.real(0.0)
    get_one = ptx.SHARED_LOADS[kit.dtype]

    @helper
    def bias(gradients, width, slab, fresh, thread):
        column = thread
        while column < width:
            total = zero
            for row in range(rows):
                total += get_one(gradients, u32(row * PITCH + column))
            if not fresh:
                total += load(slab, column)
            store(slab, column, total)
            column = u32(column + THREADS)

    return bias


def make_sums(kit: Kit) -> Stage:
    """Make the stage that adds up slabs: a block has some packs of a gradient, and its threads divide the slabs."""
    real, load_pack, memory = kit.real, kit.load_pack, make_memory(kit)
    read, write, zero = memory.read, memory.write, real(0.0)
    lanes, strips = SIZES.lanes, SIZES.strips
    kept = lanes * strips * PACK

    @formula
    def plus(v, p):
        return v[0] + p[0], v[1] + p[1], v[2] + p[2], v[3] + p[3]

    def fused_sums(record, context):
        thread, item = u32(cuda.threadIdx.x), record[TABLE_WORD] + 8 * ROW * (record[LAYERS] + cuda.blockIdx.y)
        height, width = u32(load_int64(item, HEIGHT)), u32(load_int64(item, WIDTH))
        high, offset = u32(load_int64(item, HIGH)), u32(load_int64(item, OFFSET))
        slabs, step = u32(record[SLABS]), u32(record[SLAB])
        target, flags = load_int64(item, TARGET), load_int64(item, FLAGS_WORD)
        across = u32(u32(width + (PACK - 1)) // PACK)
        blocks = u32(u32(u32(height + high - 1) // high) * across)
        lane, strip = u32(thread % lanes), u32(thread // lanes)
        pack = u32(cuda.blockIdx.x * lanes + lane)
        parts = cuda.shared.array(kept, real)
        v = (zero, zero, zero, zero)
        if pack < blocks * high:
            slab, place = strip, u32(offset + pack * PACK)
            while slab + 3 * strips < slabs:
                # all are loaded before the first is added
                p = load_pack(record[SCRATCH_WORD], u32(slab * step + place))
                q = load_pack(record[SCRATCH_WORD], u32((slab + strips) * step + place))
                r = load_pack(record[SCRATCH_WORD], u32((slab + 2 * strips) * step + place))
                s = load_pack(record[SCRATCH_WORD], u32((slab + 3 * strips) * step + place))
                v = plus(plus(plus(plus(v, p), q), r), s)
                slab = u32(slab + 4 * strips)
            while slab < slabs:
                v = plus(v, load_pack(record[SCRATCH_WORD], u32(slab * step + place)))
                slab = u32(slab + strips)
        for e in range(PACK):
            parts[u32((e * strips + strip) * lanes + lane)] = v[e]
        cuda.syncthreads()
        if strip == 0 and pack < blocks * high:
            for other in range(1, strips):
                at = u32(other * lanes + lane)
                v = plus(v, (
                    parts[at], parts[u32(at + strips * lanes)], parts[u32(at + 2 * strips * lanes)],
                    parts[u32(at + 3 * strips * lanes)],
                ))  # fmt: skip
            i = u32(pack // blocks)
            block = u32(pack - i * blocks)
            down = u32(block // across)
            row, column = u32(down * high + i), u32((block - down * across) * PACK)
            if row < height:
                if flags & _ACCUMULATE != 0:
                    v = plus(v, read(target, row, column, width))
                write(target, row, column, width, v)

    return Stage(fused_sums, lambda dims: (ceil_div(dims["packs"], lanes), dims["sums"]), lanes * strips)
