"""Consecutive layers in one kernel, from the last to the first: the backward pass.

A block has tiles of rows, and the gradients of each layer's outputs for them stay in shared memory. Its parts of the
gradients of weights and biases go to a separate slab in scratch memory; a second stage adds up the slabs in
order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda

from fastnn.backend.cuda.codegen.kernel import SCRATCH_WORD, Kit, Stage, ceil_div, kernel, ptx
from fastnn.backend.cuda.codegen.options import helper
from fastnn.backend.cuda.codegen.sizes import FUSED, PACK
from fastnn.backend.cuda.kernels.fused import plan as plan
from fastnn.backend.cuda.kernels.fused.gradients import HIGH_ROWS, make_bias, make_sums, make_weight
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
A, W, SAVED, C, DZ, K, N = plan.A, plan.W, plan.SAVED, plan.C, plan.DZ, plan.K, plan.N
DEPTH, SPLITS, WHICH, P0, P1 = plan.DEPTH, plan.SPLITS, plan.WHICH, plan.P0, plan.P1
HAS_WEIGHT, WEIGHT_AT, HAS_BIAS, BIAS_AT = plan.HAS_WEIGHT, plan.WEIGHT_AT, plan.HAS_BIAS, plan.BIAS_AT
LAYERS, ROWS, SLAB = plan.LAYERS, plan.ROWS, plan.SLAB


def _make_finish(kit: Kit, rows: int) -> Any:
    """Make the end of a product with transposed weights: times an activation's derivative, to both memories."""
    real, count, memory = kit.real, ceil_div(rows, WARPS), make_memory(kit)
    get, put, write, within = memory.get, memory.put, memory.write, memory.within
    dispatch, zero = make_dispatch(kit, gradient=True), real(0.0)

    @helper
    def finish(table, at, sums_at, pitch, split_stride, splits, tile, saved, first, m, thread):
        n, which = u32(table[u32(at + N)]), u32(table[u32(at + WHICH)])
        a, b = real(as_double(table[u32(at + P0)])), real(as_double(table[u32(at + P1)]))
        c, column = table[u32(at + C)], u32(thread % WARP * PACK)
        if column < n:
            for i in range(count):
                row = u32(thread // WARP + i * WARPS)
                if row < rows:
                    place = u32(row * pitch + column)
                    v = get(sums_at, place)
                    for _ in range(1, splits):
                        place = u32(place + split_stride)
                        p = get(sums_at, place)
                        v = v[0] + p[0], v[1] + p[1], v[2] + p[2], v[3] + p[3]
                    dz = (zero, zero, zero, zero)
                    if first + row < m:
                        dz = dispatch(which, get(saved, u32(row * PITCH + column)), v, a, b)
                        if c != 0:
                            write(c, u32(first + row), column, n, dz)
                    put(tile, u32(row * PITCH + column), within(dz, column, n))

    return finish


@kernel("fused_backward", algorithms=algorithms_of(FUSED.backward), variants=variants_of)
def fused_backward(kit: Kit) -> list[Stage]:
    """Make the gradients of all layers from the gradient of the last one's result."""
    tile = tile_of(kit.algorithm, kit.itemsize)
    real, size, group = kit.real, kit.itemsize, 16 // kit.itemsize
    rows, tall, groups = tile.rows, tile.tall, tile.groups
    inputs, weights, product = make_rows(kit, tile), make_weights(kit, tile, turned=True), make_product(kit, tile)
    read_rows, stash_rows, fetch, stash = inputs.read, inputs.stash, weights.fetch, weights.stash
    multiply, leave, finish = product.multiply, product.leave, _make_finish(kit, rows)
    weight, bias = make_weight(kit, tile), make_bias(kit, rows)
    chunk, tile_elements = tile.chunk, rows * PITCH
    rows_count, ahead_count, sums_count, left_count = inputs.count * PACK, weights.count, tall * PACK, tall * group
    block_count = HIGH_ROWS * PACK
    nbytes, table_words = shared_bytes(tile, 2, kit.itemsize), FUSED.layers * ROW
    make_shared, shared_at = ptx.shared(nbytes // kit.itemsize, kit.dtype, dynamic=True), ptx.SHARED_AT[kit.dtype]
    zero = real(0.0)

    def fused_backward(record, context):
        thread, m, layers = u32(cuda.threadIdx.x), u32(record[ROWS]), u32(record[LAYERS])
        table = cuda.shared.array(table_words, np.int64)
        sums, left = cuda.local.array(sums_count, real), cuda.local.array(left_count, real)
        right, ahead = cuda.local.array(PACK, real), cuda.local.array(ahead_count, real)
        held, block = cuda.local.array(rows_count, real), cuda.local.array(block_count, real)
        column_of = cuda.local.array(HIGH_ROWS, real)
        read_table(table, record, layers, thread)
        cuda.syncthreads()
        gradients = make_shared()
        activations = shared_at(gradients, u32(tile_elements))
        pieces = shared_at(gradients, u32(2 * tile_elements))
        slab = record[SCRATCH_WORD] + cuda.blockIdx.x * record[SLAB] * size
        along, first, fresh = u32(thread % groups), u32(cuda.blockIdx.x * rows), True
        while first < m:
            read_rows(held, table[DZ], first, m, u32(table[K]), thread)
            stash_rows(held, gradients, u32(table[K]), thread)
            layer, at = u32(0), u32(0)
            while layer < layers:
                k, n = u32(table[u32(at + K)]), u32(table[u32(at + N)])
                turned, has_weight = table[u32(at + W)] != 0, table[u32(at + HAS_WEIGHT)] != 0
                if has_weight:
                    read_rows(held, table[u32(at + A)], first, m, n, thread)
                if turned:
                    fetch(ahead, table, at, u32(0), thread)
                if has_weight:
                    stash_rows(held, activations, n, thread)
                cuda.syncthreads()
                if has_weight:
                    place, here = slab + table[u32(at + WEIGHT_AT)] * size, min(u32(m - first), u32(rows))
                    weight(block, column_of, activations, gradients, here, n, k, place, fresh, thread)
                if table[u32(at + HAS_BIAS)] != 0:
                    bias(gradients, k, slab + table[u32(at + BIAS_AT)] * size, fresh, thread)
                if turned:
                    saved = table[u32(at + SAVED)]
                    # for most activations the saved value that this layer's gradient needs is already there
                    another = saved != 0 and (saved != table[u32(at + A)] or not has_weight)
                    if another:
                        read_rows(held, saved, first, m, n, thread)
                    depth, splits = u32(table[u32(at + DEPTH)]), u32(table[u32(at + SPLITS)])
                    pitch, across = u32(padded(n) | PACK), u32(u32(n + (PACK - 1)) // PACK)
                    split = u32(u32(thread // groups) // across)
                    column = u32((thread // groups - split * across) * PACK)
                    done, buffer = u32(0), u32(0)
                    for i in range(sums_count):
                        sums[i] = zero
                    while done < k:
                        piece = shared_at(pieces, buffer)
                        stash(ahead, table, at, piece, thread)
                        cuda.syncthreads()
                        following = u32(done + depth)
                        if following < k:
                            fetch(ahead, table, at, following, thread)
                        if split < splits:
                            steps = u32(min(depth, u32(padded(k) - done)) // group)
                            multiply(
                                sums, left, right, shared_at(gradients, u32(along * PITCH + done)),
                                shared_at(piece, column), pitch, split, steps, splits,
                            )  # fmt: skip
                        done, buffer = following, u32(chunk - buffer)
                    cuda.syncthreads()
                    if another:
                        stash_rows(held, activations, n, thread)
                    # if each sum belongs to one thread, the sums replace the rows from which they were computed
                    sums_at, sums_pitch, split_stride = gradients, u32(PITCH), u32(0)
                    if splits > 1:
                        sums_at, sums_pitch, split_stride = pieces, pitch, u32(rows * pitch)
                    if split < splits:
                        leave(
                            sums,
                            shared_at(sums_at, u32(split * split_stride + along * sums_pitch + column)),
                            sums_pitch,
                        )
                    cuda.syncthreads()
                    finish(
                        table, at, sums_at, sums_pitch, split_stride, splits, gradients, activations, first, m, thread
                    )
                layer, at = u32(layer + 1), u32(at + ROW)
            cuda.syncthreads()
            first, fresh = u32(first + cuda.gridDim.x * rows), False

    # two blocks hide each other's latency
    at_once = 2 if size == 4 else 1
    return [Stage(fused_backward, lambda dims: (dims["slabs"], 1), THREADS, nbytes, at_once), make_sums(kit)]
