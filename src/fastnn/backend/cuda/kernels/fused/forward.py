"""Consecutive layers in one kernel, whose activations stay in shared memory: the forward pass."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda

from fastnn.backend.cuda.codegen.kernel import Kit, Stage, ceil_div, kernel, ptx
from fastnn.backend.cuda.codegen.options import helper
from fastnn.backend.cuda.codegen.sizes import FUSED, PACK
from fastnn.backend.cuda.kernels.fused import plan as plan
from fastnn.backend.cuda.kernels.fused.plan import PITCH, ROW, algorithms_of, shared_bytes, tile_of, variants_of
from fastnn.backend.cuda.kernels.fused.product import make_product, make_weights
from fastnn.backend.cuda.kernels.fused.tiles import (
    THREADS,
    WARP,
    WARPS,
    make_dispatch,
    make_memory,
    make_rows,
    padded,
    read_table,
)

u32 = np.uint32
as_double = ptx.int_as_double
A, K, N, DEPTH, SPLITS, LAYERS, ROWS = plan.A, plan.K, plan.N, plan.DEPTH, plan.SPLITS, plan.LAYERS, plan.ROWS
BIAS, PRE, C, WHICH, P0, P1 = plan.BIAS, plan.PRE, plan.C, plan.WHICH, plan.P0, plan.P1


def _make_finish(kit: Kit, rows: int) -> Any:
    """Make the end of a layer: sums of its products, bias and activation, to shared and to global memory."""
    real, count, memory = kit.real, ceil_div(rows, WARPS), make_memory(kit)
    get, put, read, write, within = memory.get, memory.put, memory.read, memory.write, memory.within
    dispatch, zero = make_dispatch(kit, gradient=False), real(0.0)

    @helper
    def finish(table, at, sums_at, pitch, split_stride, splits, tile, first, m, last, thread):
        n, which = u32(table[u32(at + N)]), u32(table[u32(at + WHICH)])
        a, b = real(as_double(table[u32(at + P0)])), real(as_double(table[u32(at + P1)]))
        c, pre, bias_at = table[u32(at + C)], table[u32(at + PRE)], table[u32(at + BIAS)]
        column = u32(thread % WARP * PACK)
        if column < n:
            bias = (zero, zero, zero, zero)
            if bias_at != 0:
                bias = read(bias_at, u32(0), column, n)
            for i in range(count):
                row = u32(thread // WARP + i * WARPS)
                if row < rows:
                    place = u32(row * pitch + column)
                    v = get(sums_at, place)
                    for _ in range(1, splits):
                        place = u32(place + split_stride)
                        p = get(sums_at, place)
                        v = v[0] + p[0], v[1] + p[1], v[2] + p[2], v[3] + p[3]
                    v = v[0] + bias[0], v[1] + bias[1], v[2] + bias[2], v[3] + bias[3]
                    y = dispatch(which, v, a, b)
                    inside = first + row < m
                    if pre != 0 and inside:
                        write(pre, u32(first + row), column, n, v)
                    if c != 0 and inside:
                        write(c, u32(first + row), column, n, y)
                    if not last:
                        put(tile, u32(row * PITCH + column), within(y, column, n))

    return finish


@kernel("fused_forward", algorithms=algorithms_of(FUSED.forward), variants=variants_of)
def fused_forward(kit: Kit) -> list[Stage]:
    """Make a tile of rows of all layers."""
    tile = tile_of(kit.algorithm, kit.itemsize)
    real, rows, tall, groups, group = kit.real, tile.rows, tile.tall, tile.groups, 16 // kit.itemsize
    inputs, weights, product = make_rows(kit, tile), make_weights(kit, tile, turned=False), make_product(kit, tile)
    read_rows, stash_rows, fetch, stash = inputs.read, inputs.stash, weights.fetch, weights.stash
    multiply, leave, finish = product.multiply, product.leave, _make_finish(kit, rows)
    chunk, tile_elements = tile.chunk, rows * PITCH
    rows_count, ahead_count, sums_count, left_count = inputs.count * PACK, weights.count, tall * PACK, tall * group
    nbytes, table_words = shared_bytes(tile, 1, kit.itemsize), FUSED.layers * ROW
    make_shared, shared_at = ptx.shared(nbytes // kit.itemsize, kit.dtype, dynamic=True), ptx.SHARED_AT[kit.dtype]
    zero = real(0.0)

    def fused_forward(record, context):
        thread, m, layers = u32(cuda.threadIdx.x), u32(record[ROWS]), u32(record[LAYERS])
        first = u32(cuda.blockIdx.x * rows)
        table = cuda.shared.array(table_words, np.int64)
        sums, left = cuda.local.array(sums_count, real), cuda.local.array(left_count, real)
        right, ahead = cuda.local.array(PACK, real), cuda.local.array(ahead_count, real)
        held = cuda.local.array(rows_count, real)
        read_table(table, record, layers, thread)
        cuda.syncthreads()
        acts = make_shared()
        pieces = shared_at(acts, u32(tile_elements))
        read_rows(held, table[A], first, m, u32(table[K]), thread)
        fetch(ahead, table, u32(0), u32(0), thread)
        stash_rows(held, acts, u32(table[K]), thread)
        for i in range(sums_count):
            sums[i] = zero
        along = u32(thread % groups)
        layer, at, done, buffer = u32(0), u32(0), u32(0), u32(0)
        while layer < layers:
            k, n = u32(table[u32(at + K)]), u32(table[u32(at + N)])
            depth, splits = u32(table[u32(at + DEPTH)]), u32(table[u32(at + SPLITS)])
            pitch, across = u32(padded(n) | PACK), u32(u32(n + (PACK - 1)) // PACK)
            split = u32(u32(thread // groups) // across)
            column = u32((thread // groups - split * across) * PACK)
            piece = shared_at(pieces, buffer)
            stash(ahead, table, at, piece, thread)
            cuda.syncthreads()
            next_layer, next_at, next_done = layer, at, u32(done + depth)
            if next_done >= k:
                next_layer, next_at, next_done = u32(layer + 1), u32(at + ROW), u32(0)
            if next_layer < layers:
                fetch(ahead, table, next_at, next_done, thread)
            if split < splits:
                steps = u32(min(depth, u32(padded(k) - done)) // group)
                multiply(
                    sums, left, right, shared_at(acts, u32(along * PITCH + done)), shared_at(piece, column), pitch,
                    split, steps, splits,
                )  # fmt: skip
            if next_layer != layer:
                cuda.syncthreads()
                # if each sum belongs to one thread, the sums replace the rows from which they were computed
                sums_at, sums_pitch, split_stride = acts, u32(PITCH), u32(0)
                if splits > 1:
                    sums_at, sums_pitch, split_stride = pieces, pitch, u32(rows * pitch)
                if split < splits:
                    leave(sums, shared_at(sums_at, u32(split * split_stride + along * sums_pitch + column)), sums_pitch)
                for i in range(sums_count):
                    sums[i] = zero
                cuda.syncthreads()
                last = next_layer == layers
                finish(table, at, sums_at, sums_pitch, split_stride, splits, acts, first, m, last, thread)
                if splits > 1:
                    cuda.syncthreads()
            layer, at, done, buffer = next_layer, next_at, next_done, u32(chunk - buffer)

    # two blocks hide each other's latency
    at_once = 2 if kit.itemsize == 4 else 1
    return [Stage(fused_forward, lambda dims: (ceil_div(dims["rows"], rows), 1), THREADS, nbytes, at_once)]
