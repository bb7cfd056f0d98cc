"""The gradients of attention: scores are computed again, in blocks.

A sample's head of keys is a unit of the work, with all heads of queries that share it, so no sum crosses a part. The
sums of a score start from minus the logarithm of the row's total, so its exponential is the weight. Those of dy v start
from minus the row's sum of dy y: times the weight, that is the gradient of the score.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnn.backend.cpu.codegen.intrinsics import (
    address,
    float64_pointer,
    has,
    int64_pointer,
    release,
    smaller,
    stack_bytes,
)
from fastnn.backend.cpu.codegen.kernel import Kit, kernel, note_raised, rows_part
from fastnn.backend.cpu.codegen.options import helper
from fastnn.backend.cpu.kernels.attention.blocks import Sizes, block_functions
from fastnn.backend.cpu.kernels.philox import GROUP, WORDS_BYTES
from fastnn.backend.cpu.kernels.windows.memory import STACK_BYTES, working_memory
from fastnn.backend.cpu.processor.blocking import Blocking


@kernel("attention_rows")
def attention_rows(kit: Kit, variant: str) -> Callable[..., Any]:
    """Make what the gradient needs of rows: lse, the sums of dy y, the mask."""
    ROWS, DY, Y, LSE, MASK = kit.words("rows dy y lse mask")
    BATCH, QUERIES, HEADS, SIZE, MASK_SIZE = kit.words("batch queries heads size mask_size")
    at, real = kit.at, kit.real

    def attention_rows(record, context, ith, nth):
        r = int64_pointer(record)
        queries, heads, depth = r[QUERIES], r[HEADS], r[SIZE]
        out, dy, y, lse = (
            at(record, context, ROWS), at(record, context, DY), at(record, context, Y), at(record, context, LSE)
        )  # fmt: skip
        first, last = rows_part(r[BATCH] * queries, ith, nth)
        count = r[BATCH] * queries * heads
        for row in range(first, last):
            sample, query = row // queries, row % queries
            for head in range(heads):
                i, place, total = (row * heads + head) * depth, (sample * heads + head) * queries + query, real(0.0)
                for j in range(depth):
                    total += dy[i + j] * y[i + j]
                out[place], out[count + place] = lse[place], total
        if has(record, MASK):
            mask = at(record, context, MASK)
            first, last = rows_part(r[MASK_SIZE], ith, nth)
            for i in range(first, last):
                out[2 * count + i] = mask[i]

    return attention_rows


@kernel("attention_grad")
def attention_grad(kit: Kit, variant: str) -> Callable[..., Any]:
    """Make the gradients of attention for q, k and v."""
    DQ, DK, DV, DY, Q, K, V, ROWS = kit.words("dq dk dv dy q k v rows")
    BATCH, QUERIES, KEYS, HEADS, KV_HEADS, SIZE = kit.words("batch queries keys heads kv_heads size")
    CAUSAL, NODE, MASK_SIZE = kit.words("causal node mask_size")
    MASK_SAMPLE, MASK_HEAD, MASK_QUERY = kit.words("mask_sample mask_head mask_query")
    SCALE, RATE = kit.words("scale rate")
    size, reals, real, sizes = kit.itemsize, kit.reals, kit.real, Sizes.of(kit, "gradient")
    lanes, width = Blocking.of(kit.dtype).lanes, Blocking.of(kit.dtype).width
    exp, blocks = kit.math.exp_weight, block_functions(kit, sizes)
    pack, score, times, load_mask, hide, drop = (
        blocks.pack, blocks.score, blocks.times, blocks.load_mask, blocks.hide, blocks.drop
    )  # fmt: skip
    block_queries, block_keys, row, panel_bytes = sizes.queries, sizes.keys, sizes.row, sizes.panel_bytes
    line = block_queries * size
    zero, one, nothing = real(0.0), real(1.0), blocks.nothing

    @helper
    def weigh(scores, products, keys, n, scale):
        """Make weights of scores, and the gradients of scores of products."""
        for j in range(keys):
            x, y = reals(scores + j * row), reals(products + j * row)
            for lane in range(n):
                weight = exp(x[lane])
                x[lane] = weight
                y[lane] = weight * y[lane] * scale

    @helper
    def weigh_dropped(record, context, number, step, scores, products, keys, n, state, words):
        """Do the same with dropout; `state` has minus the sums of dy y in its second line, memory in its third."""
        params, node = float64_pointer(record), int64_pointer(record)[NODE]
        scale, rate, less, f = real(params[SCALE]), params[RATE], reals(state + line), reals(state + 2 * line)
        for j in range(keys):
            drop(context, node, number + j * step, rate, state + 2 * line, n, words)
            x, y = reals(scores + j * row), reals(products + j * row)
            for lane in range(n):
                weight = exp(x[lane])
                x[lane] = weight * f[lane]
                y[lane] = weight * (f[lane] * y[lane] + less[lane]) * scale

    @helper
    def add_by_key(weights, keys, rows, rows_row, count, depth, to, to_row, bound, memory):
        """Add weights times rows of queries to rows of keys; a key belongs to the queries from key - `bound` on."""
        if bound >= keys:
            times(keys, weights, row, size, rows, rows_row, count, depth, to, to_row, False, memory)
            return
        for j in range(0, keys, width):
            first = j - bound if j > bound else 0
            if first < count:
                times(smaller(width, keys - j), weights + j * row + first * size, row, size, rows + first * rows_row,
                      rows_row, count - first, depth, to + j * to_row, to_row, False, memory)  # fmt: skip

    @helper
    def add_by_query(weights, keys, k, k_row, count, depth, to, to_row, bound, fresh, memory):
        """Add weights times rows of keys to rows of queries, which use the keys before `bound` and their own place."""
        if bound >= keys:
            times(count, weights, size, row, k, k_row, keys, depth, to, to_row, fresh, memory)
            return
        for first in range(0, count, width):
            used = smaller(keys, bound + first + width)
            if used > 0:
                times(smaller(width, count - first), weights + first * size, size, row, k, k_row, used, depth,
                      to + first * to_row, to_row, fresh, memory)  # fmt: skip

    @helper
    def clear(to, to_row, rows, columns):
        for i in range(rows):
            x = reals(to + i * to_row)
            for j in range(columns):
                x[j] = zero

    def attention_grad(record, context, ith, nth):
        r, params = int64_pointer(record), float64_pointer(record)
        queries, keys, heads, kv_heads, depth = r[QUERIES], r[KEYS], r[HEADS], r[KV_HEADS], r[SIZE]
        unit, last = rows_part(r[BATCH] * kv_heads, ith, nth)
        if unit >= last:
            return
        panels_bytes, scores_bytes = block_queries * depth * size, block_keys * row
        needed = 2 * (panels_bytes + scores_bytes) + 3 * line + panel_bytes
        panels, _, allocated = working_memory(context, ith, stack_bytes(STACK_BYTES), needed, needed)
        if panels == 0:
            note_raised(record, context)
            return
        dy_panels, scores, words = panels + panels_bytes, panels + 2 * panels_bytes, stack_bytes(WORDS_BYTES)
        products = scores + scores_bytes
        state = products + scores_bytes
        memory = state + 3 * line
        q, k, v, dy = (
            address(record, context, Q), address(record, context, K), address(record, context, V),
            address(record, context, DY),
        )  # fmt: skip
        dq, dk, dv, lse = (
            address(record, context, DQ), address(record, context, DK), address(record, context, DV),
            address(record, context, ROWS),
        )  # fmt: skip
        q_row, k_row, padded = heads * depth * size, kv_heads * depth * size, (queries + GROUP - 1) // GROUP * GROUP
        group, causal, masked = heads // kv_heads, r[CAUSAL] != 0, r[MASK_SIZE] != 0
        sums = lse + r[BATCH] * heads * queries * size
        mask = sums + r[BATCH] * heads * queries * size
        scale, rate = real(params[SCALE]), params[RATE]
        per_head = (queries + block_queries - 1) // block_queries
        for pair in range(unit, last):
            sample, kv_head = pair // kv_heads, pair % kv_heads
            other = (sample * keys * kv_heads + kv_head) * depth * size
            clear(dk + other, k_row, keys, depth)
            clear(dv + other, k_row, keys, depth)
            for block in range(group * per_head):
                head, first = kv_head * group + block // per_head, block % per_head * block_queries
                number, count = sample * heads + head, smaller(block_queries, queries - first)
                n = (count + lanes - 1) // lanes * lanes
                at = ((sample * queries + first) * heads + head) * depth * size
                pack(q + at, q_row, count, depth, scale, panels)
                pack(dy + at, q_row, count, depth, one, dy_panels)
                place = (number * queries + first) * size
                start, less = reals(state), reals(state + line)
                for lane in range(n):
                    start[lane] = less[lane] = zero
                for lane in range(count):
                    start[lane], less[lane] = -reals(lse + place)[lane], -reals(sums + place)[lane]
                end = smaller(keys, first + count) if causal else keys
                for j in range(0, end, block_keys):
                    here, init, init_row, bound = smaller(block_keys, end - j), state, 0, first - j if causal else keys
                    if masked:
                        place = sample * r[MASK_SAMPLE] + head * r[MASK_HEAD] + first * r[MASK_QUERY] + j
                        load_mask(mask + place * size, r[MASK_QUERY] * size, here, count, state, scores)
                        init, init_row = scores, row
                    there = other + j * k_row
                    score(k + there, k_row, here, panels, depth, count, scores, init, init_row, bound)
                    score(v + there, k_row, here, dy_panels, depth, count, products,
                          0 if rate > 0.0 else state + line, 0, bound)  # fmt: skip
                    if causal:
                        hide(scores, j - first, here, count, nothing)
                        hide(products, j - first, here, count, zero)
                    if rate > 0.0:
                        weigh_dropped(record, context, (number * keys + j) * padded + first, padded, scores, products,
                                      here, n, state, words)  # fmt: skip
                    else:
                        weigh(scores, products, here, n, scale)
                    add_by_key(scores, here, dy + at, q_row, count, depth, dv + there, k_row, bound, memory)
                    add_by_key(products, here, q + at, q_row, count, depth, dk + there, k_row, bound, memory)
                    add_by_query(products, here, k + there, k_row, count, depth, dq + at, q_row, bound, j == 0, memory)
        if allocated != 0:
            release(allocated)

    return attention_grad
