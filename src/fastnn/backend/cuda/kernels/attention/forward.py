"""Attention: a block of threads goes through the keys of some queries, tile by tile.

Sums of weights times values are in the result's memory; when a larger score comes, they are scaled down (Milakov and
Gimelshein 2018, arXiv:1805.02867).
"""

from __future__ import annotations

import numpy as np
from numba import cuda

from fastnn.backend.cuda.codegen.kernel import Kit, Stage, ceil_div, kernel, ptx
from fastnn.backend.cuda.kernels.attention.tiles import tile_functions

as_double = ptx.int_as_double


@kernel("attention")
def attention(kit: Kit) -> list[Stage]:
    """Make y = dropout(softmax(scale q k^T + mask)) v in every head."""
    Y, LSE, Q, K, V, MASK = kit.words("y lse q k v mask")
    QUERIES, KEYS, HEADS, KV_HEADS, SIZE, CAUSAL = kit.words("queries keys heads kv_heads size causal")
    SCALE, RATE = kit.words("scale rate")
    t, real, store, load = tile_functions(kit), kit.real, kit.store, kit.load
    rows_each, cols_each, tall, wide = t.tile.rows, t.tile.cols, t.tile.tall, t.tile.wide
    across, down, size, threads, pitch = t.tile.across, t.down, kit.itemsize, t.tile.threads, t.pitch
    left_count, right_count, tile_count = t.left_count, t.right_count, t.tile_count
    multiply, add_rows, added, kept = t.multiply, t.add_rows, t.added, t.kept
    team, exp, log = kit.team(across), kit.math.exp_weight, kit.math.log
    team_total, team_largest = team.total, team.largest
    zero, one, nothing = real(0.0), real(1.0), real(-np.inf)

    def attention(record, context):
        queries, keys, heads, depth = record[QUERIES], record[KEYS], record[HEADS], record[SIZE]
        per_head, thread = (queries + rows_each - 1) // rows_each, np.int64(cuda.threadIdx.x)
        number, first = np.int64(cuda.blockIdx.x) // per_head, np.int64(cuda.blockIdx.x) % per_head * rows_each
        sample, head = number // heads, number % heads
        row, other_row = heads * depth, record[KV_HEADS] * depth
        at = ((sample * queries + first) * heads + head) * depth * size
        other = (sample * keys * record[KV_HEADS] + head // (heads // record[KV_HEADS])) * depth * size
        rows, scale = min(rows_each, queries - first), real(as_double(record[SCALE]))
        x, y = thread % across, thread // across
        # the simulator tells shared arrays apart by their lines
        left = cuda.shared.array(left_count, real)
        right = cuda.shared.array(right_count, real)
        weights = cuda.shared.array(tile_count, real)
        largest = cuda.shared.array(rows_each, real)
        totals = cuda.shared.array(rows_each, real)
        factors = cuda.shared.array(rows_each, real)
        for i in range(tall):
            largest[y + i * down], totals[y + i * down] = nothing, zero
        end = keys if record[CAUSAL] == 0 else min(keys, first + rows)
        key = 0
        while key < end:
            cols = min(cols_each, end - key)
            multiply(weights, left, right, record[Q] + at, row, rows, record[K] + other + key * other_row * size,
                     other_row, cols, depth, thread)  # fmt: skip
            # not unrolled, which would need too many registers
            here = y
            while here < rows_each:
                before, summed, line, query = largest[here], totals[here], here * pitch + x, first + here
                peak = before
                for j in range(wide):
                    col, score = x + j * across, nothing
                    if here < rows and col < cols and (record[CAUSAL] == 0 or key + col <= query):
                        score = scale * weights[line + j * across]
                        score += added(record, record[MASK], sample, head, query, key + col)
                    weights[line + j * across] = score
                    peak = score if score > peak else peak
                peak = team_largest(peak)
                less, total = zero if peak == nothing else peak, zero
                for j in range(wide):
                    weight = exp(weights[line + j * across] - less)
                    total += weight
                    weights[line + j * across] = weight
                total, factor = team_total(total), exp(before - less)
                # all threads of a row write the same numbers, which none of them reads after the sum
                largest[here], factors[here], totals[here] = peak, factor, summed * factor + total
                here += down
            if record[RATE] != 0:
                here = y
                while here < rows_each:
                    col = x
                    while col < cols_each:
                        weights[here * pitch + col] *= kept(record, context, number, first + here, key + col)
                        col += across
                    here += down
            cuda.syncthreads()
            add_rows(record[Y] + at, row, rows, weights, right, record[V] + other + key * other_row * size, other_row,
                     cols, depth, thread, factors, key == 0)  # fmt: skip
            key += cols_each
        here = y
        while here < rows:
            total = totals[here]
            factor = one / total if total != zero else zero
            column = x
            while column < depth:
                store(record[Y] + at, here * row + column, load(record[Y] + at, here * row + column) * factor)
                column += across
            if x == 0 and record[LSE] != 0:
                lse = largest[here] + log(total) if total != zero else zero
                store(record[LSE], number * queries + first + here, lse)
            here += down

    def grid(dims):
        return dims["batch"] * dims["heads"] * ceil_div(dims["queries"], rows_each), 1

    return [Stage(attention, grid, threads)]
