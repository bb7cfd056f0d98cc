"""The gradients of attention: scores are computed again, by tiles.

Gradients of queries come from one stage, whose blocks have queries and go through keys; those of keys and values from
another, whose blocks have keys and go through the queries of all heads that share them. So nothing is added up by
several blocks.
"""

from __future__ import annotations

import numpy as np
from numba import cuda

from fastnn.backend.cuda.codegen.kernel import Kit, Stage, ceil_div, kernel, ptx
from fastnn.backend.cuda.codegen.options import formula
from fastnn.backend.cuda.codegen.sizes import SIZES
from fastnn.backend.cuda.kernels.attention.tiles import tile_functions

as_double = ptx.int_as_double
_THREADS = SIZES.threads


@kernel("attention_rows")
def attention_rows(kit: Kit) -> list[Stage]:
    """Make what the gradient needs of rows: lse, the sums of dy y, the mask."""
    ROWS, DY, Y, LSE, MASK = kit.words("rows dy y lse mask")
    BATCH, QUERIES, HEADS, SIZE, MASK_SIZE = kit.words("batch queries heads size mask_size")
    load, store, real = kit.load, kit.store, kit.real
    zero = real(0.0)

    def attention_rows(record, context):
        place = np.int64(cuda.blockIdx.x) * _THREADS + cuda.threadIdx.x
        queries, heads, depth = record[QUERIES], record[HEADS], record[SIZE]
        count = record[BATCH] * heads * queries
        if place < count:
            number, query = place // queries, place % queries
            at = ((number // heads * queries + query) * heads + number % heads) * depth
            total = zero
            for i in range(depth):
                total += load(record[DY], at + i) * load(record[Y], at + i)
            store(record[ROWS], place, load(record[LSE], place))
            store(record[ROWS], count + place, total)

    def copy_mask(record, context):
        i = np.int64(cuda.blockIdx.x) * _THREADS + cuda.threadIdx.x
        if i < record[MASK_SIZE]:
            count = record[BATCH] * record[HEADS] * record[QUERIES]
            store(record[ROWS], 2 * count + i, load(record[MASK], i))

    def rows(dims):
        return ceil_div(dims["batch"] * dims["heads"] * dims["queries"], _THREADS), 1

    def elements(dims):
        return max(1, ceil_div(dims["mask_size"], _THREADS)), 1

    return [Stage(attention_rows, rows, _THREADS), Stage(copy_mask, elements, _THREADS)]


@kernel("attention_grad")
def attention_grad(kit: Kit) -> list[Stage]:
    """Make the gradients of attention for q, k and v."""
    DQ, DK, DV, DY, Q, K, V, ROWS = kit.words("dq dk dv dy q k v rows")
    BATCH, QUERIES, KEYS, HEADS, KV_HEADS, SIZE = kit.words("batch queries keys heads kv_heads size")
    CAUSAL, SCALE, MASK_SIZE = kit.words("causal scale mask_size")
    t, real, store, load = tile_functions(kit), kit.real, kit.store, kit.load
    rows_each, cols_each, tall, wide = t.tile.rows, t.tile.cols, t.tile.tall, t.tile.wide
    across, down, size, threads, pitch = t.tile.across, t.down, kit.itemsize, t.tile.threads, t.pitch
    left_count, right_count, tile_count = t.left_count, t.right_count, t.tile_count
    multiply, add_rows, added, kept = t.multiply, t.add_rows, t.added, t.kept
    exp, zero, one, nothing = kit.math.exp_weight, real(0.0), real(1.0), real(-np.inf)

    @formula
    def pair(record, context, sample, head, query, key, score, product):
        """Return the weight that values have, and the gradient of the score."""
        queries, heads = record[QUERIES], record[HEADS]
        count, number = record[BATCH] * heads * queries, sample * heads + head
        if query >= queries or key >= record[KEYS] or (record[CAUSAL] != 0 and key > query):
            return zero, zero
        mask = record[ROWS] + 2 * count * size if record[MASK_SIZE] != 0 else 0
        more = added(record, mask, sample, head, query, key)
        if more == nothing:
            return zero, zero
        scale, at = real(as_double(record[SCALE])), number * queries + query
        weight = exp(scale * score + more - load(record[ROWS], at))
        factor = kept(record, context, number, query, key)
        return weight * factor, scale * weight * (factor * product - load(record[ROWS], count + at))

    def by_query(record, context):
        queries, keys, heads, depth = record[QUERIES], record[KEYS], record[HEADS], record[SIZE]
        per_head, thread = (queries + rows_each - 1) // rows_each, np.int64(cuda.threadIdx.x)
        number, first = np.int64(cuda.blockIdx.x) // per_head, np.int64(cuda.blockIdx.x) % per_head * rows_each
        sample, head = number // heads, number % heads
        row, other_row, x, y = heads * depth, record[KV_HEADS] * depth, thread % across, thread // across
        at = ((sample * queries + first) * heads + head) * depth * size
        other = (sample * keys * record[KV_HEADS] + head // (heads // record[KV_HEADS])) * depth * size
        rows = min(rows_each, queries - first)
        left = cuda.shared.array(left_count, real)
        right = cuda.shared.array(right_count, real)
        weights = cuda.shared.array(tile_count, real)
        products = cuda.shared.array(tile_count, real)
        factors = cuda.shared.array(rows_each, real)
        for i in range(tall):
            factors[y + i * down] = one
        end = keys if record[CAUSAL] == 0 else min(keys, first + rows)
        key = 0
        while key < end:
            cols, there = min(cols_each, end - key), other + key * other_row * size
            multiply(weights, left, right, record[Q] + at, row, rows, record[K] + there, other_row, cols, depth, thread)
            multiply(products, left, right, record[DY] + at, row, rows, record[V] + there, other_row, cols, depth,
                     thread)  # fmt: skip
            for i in range(tall):
                for j in range(wide):
                    row_of, col = y + i * down, x + j * across
                    n = row_of * pitch + col
                    _, slope = pair(record, context, sample, head, first + row_of, key + col, weights[n], products[n])
                    weights[n] = slope if col < cols else zero
            cuda.syncthreads()
            add_rows(record[DQ] + at, row, rows, weights, right, record[K] + there, other_row, cols, depth, thread,
                     factors, key == 0)  # fmt: skip
            key += cols_each

    def by_key(record, context):
        queries, keys, heads, depth = record[QUERIES], record[KEYS], record[HEADS], record[SIZE]
        kv_heads, thread = record[KV_HEADS], np.int64(cuda.threadIdx.x)
        per_head, group = (keys + rows_each - 1) // rows_each, heads // kv_heads
        number, first = np.int64(cuda.blockIdx.x) // per_head, np.int64(cuda.blockIdx.x) % per_head * rows_each
        sample, kv_head = number // kv_heads, number % kv_heads
        row, other_row, x, y = kv_heads * depth, heads * depth, thread % across, thread // across
        at = ((sample * keys + first) * kv_heads + kv_head) * depth * size
        rows = min(rows_each, keys - first)
        left = cuda.shared.array(left_count, real)
        right = cuda.shared.array(right_count, real)
        weights = cuda.shared.array(tile_count, real)
        products = cuda.shared.array(tile_count, real)
        factors = cuda.shared.array(rows_each, real)
        for i in range(tall):
            factors[y + i * down] = one
        # elements belong to the threads that add to them
        for i in range(tall):
            here, column = y + i * down, x
            while here < rows and column < depth:
                store(record[DK] + at, here * row + column, zero)
                store(record[DV] + at, here * row + column, zero)
                column += across
        # queries before the tile's first key have none of its keys
        start = first // cols_each * cols_each if record[CAUSAL] != 0 else 0
        for member in range(group):
            head, query = kv_head * group + member, start
            while query < queries:
                cols = min(cols_each, queries - query)
                there = ((sample * queries + query) * heads + head) * depth * size
                multiply(weights, left, right, record[K] + at, row, rows, record[Q] + there, other_row, cols, depth,
                         thread)  # fmt: skip
                multiply(products, left, right, record[V] + at, row, rows, record[DY] + there, other_row, cols, depth,
                         thread)  # fmt: skip
                for i in range(tall):
                    for j in range(wide):
                        n = (y + i * down) * pitch + x + j * across
                        weights[n], products[n] = pair(record, context, sample, head, query + x + j * across,
                                                       first + y + i * down, weights[n], products[n])  # fmt: skip
                cuda.syncthreads()
                add_rows(record[DV] + at, row, rows, weights, right, record[DY] + there, other_row, cols, depth, thread,
                         factors, False)  # fmt: skip
                add_rows(record[DK] + at, row, rows, products, right, record[Q] + there, other_row, cols, depth, thread,
                         factors, False)  # fmt: skip
                query += cols_each

    def queries_grid(dims):
        return dims["batch"] * dims["heads"] * ceil_div(dims["queries"], rows_each), 1

    def keys_grid(dims):
        return dims["batch"] * dims["kv_heads"] * ceil_div(dims["keys"], rows_each), 1

    return [Stage(by_query, queries_grid, threads), Stage(by_key, keys_grid, threads)]
