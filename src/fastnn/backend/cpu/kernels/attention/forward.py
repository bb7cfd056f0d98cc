"""Attention: softmax over blocks of keys, whose sums follow the largest score so far.

A block of queries is a unit of the work: it goes through the keys from the first on, so its bits do not depend on the
parts. After each block the sums of before are scaled by how much the largest score has grown (Milakov and
Gimelshein 2018, arXiv:1805.02867).
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
from fastnn.backend.cpu.kernels.attention.few import FEW, few_bytes, one_query
from fastnn.backend.cpu.kernels.philox import GROUP, WORDS_BYTES
from fastnn.backend.cpu.kernels.windows.memory import STACK_BYTES, working_memory
from fastnn.backend.cpu.processor.blocking import Blocking


@kernel("attention")
def attention(kit: Kit, variant: str) -> Callable[..., Any]:
    """Make y = dropout(softmax(scale q k^T + mask)) v in every head."""
    Y, LSE, Q, K, V, MASK = kit.words("y lse q k v mask")
    BATCH, QUERIES, KEYS, HEADS, KV_HEADS, SIZE = kit.words("batch queries keys heads kv_heads size")
    CAUSAL, NODE, MASK_SAMPLE, MASK_HEAD, MASK_QUERY = kit.words("causal node mask_sample mask_head mask_query")
    SCALE, RATE = kit.words("scale rate")
    size, reals, real, sizes = kit.itemsize, kit.reals, kit.real, Sizes.of(kit, "forward")
    lanes, width = Blocking.of(kit.dtype).lanes, Blocking.of(kit.dtype).width
    exp, log, blocks = kit.math.exp_weight, kit.math.log, block_functions(kit, sizes)
    pack, score, times, load_mask, hide, drop = (
        blocks.pack, blocks.score, blocks.times, blocks.load_mask, blocks.hide, blocks.drop
    )  # fmt: skip
    block_queries, block_keys, row, panel_bytes = sizes.queries, sizes.keys, sizes.row, sizes.panel_bytes
    attend, few_memory, most_few = one_query(kit), few_bytes(kit), FEW
    line = block_queries * size
    zero, one, nothing = real(0.0), real(1.0), blocks.nothing

    @helper
    def weigh(scores, keys, n, state):
        """Make weights of scores; `state` has largest scores, sums, factors for what was summed before, and memory."""
        largest, sums, factors, least = (
            reals(state), reals(state + line), reals(state + 2 * line), reals(state + 3 * line)
        )  # fmt: skip
        for lane in range(n):
            factors[lane] = largest[lane]
        # via other memory, because a conditional store to the same place would be a masked one
        for j in range(0, keys, 2):
            x, y = reals(scores + j * row), reals(scores + smaller(j + 1, keys - 1) * row)
            for lane in range(n):
                value, before = x[lane], largest[lane]
                least[lane] = value if value > before else before
            for lane in range(n):
                value, before = y[lane], least[lane]
                largest[lane] = value if value > before else before
        for lane in range(n):
            # of a query without any key so far
            least[lane] = zero if largest[lane] == nothing else largest[lane]
        for lane in range(n):
            factors[lane] = exp(factors[lane] - least[lane])
            sums[lane] *= factors[lane]
        for j in range(keys):
            x = reals(scores + j * row)
            for lane in range(n):
                e = exp(x[lane] - least[lane])
                x[lane] = e
                sums[lane] += e

    @helper
    def scale_rows(y, y_row, count, columns, factors):
        for i in range(count):
            x, factor = reals(y + i * y_row), reals(factors)[i]
            if factor != one:
                for j in range(columns):
                    x[j] *= factor

    @helper
    def sum_values(scores, keys, v, v_row, depth, y, y_row, count, bound, fresh, memory):
        """Add weights times values to rows of y; the queries of a panel use the keys before `bound` alone."""
        if bound >= keys:
            times(count, scores, size, row, v, v_row, keys, depth, y, y_row, fresh, memory)
            return
        for first in range(0, count, width):
            used = smaller(keys, bound + first + width)
            if used > 0:
                times(smaller(width, count - first), scores + first * size, size, row, v, v_row, used, depth,
                      y + first * y_row, y_row, fresh, memory)  # fmt: skip

    @helper
    def attend_few(record, unit, last, q, k, v, y, lse, mask, memory):
        """Go through whole heads of few queries."""
        r, scale = int64_pointer(record), real(float64_pointer(record)[SCALE])
        queries, keys, heads, kv_heads, depth = r[QUERIES], r[KEYS], r[HEADS], r[KV_HEADS], r[SIZE]
        for number in range(unit, last):
            sample, head = number // heads, number % heads
            other = (sample * keys * kv_heads + head // (heads // kv_heads)) * depth * size
            for query in range(queries):
                at = ((sample * queries + query) * heads + head) * depth * size
                place = sample * r[MASK_SAMPLE] + head * r[MASK_HEAD] + query * r[MASK_QUERY]
                added = mask + place * size if mask != 0 else 0
                found = attend(q + at, k + other, v + other, kv_heads * depth * size, keys, depth, scale, added, y + at,
                               memory)  # fmt: skip
                if lse != 0:
                    reals(lse)[number * queries + query] = found

    @helper
    def drop_weights(record, context, number, step, scores, keys, count, factors, words):
        rate, node, f = float64_pointer(record)[RATE], int64_pointer(record)[NODE], reals(factors)
        for j in range(keys):
            drop(context, node, number + j * step, rate, factors, count, words)
            x = reals(scores + j * row)
            for lane in range(count):
                x[lane] *= f[lane]

    def attention(record, context, ith, nth):
        r = int64_pointer(record)
        queries, keys, heads, kv_heads, depth = r[QUERIES], r[KEYS], r[HEADS], r[KV_HEADS], r[SIZE]
        per_head, causal = (queries + block_queries - 1) // block_queries, r[CAUSAL] != 0
        unit, last = rows_part(r[BATCH] * heads * per_head, ith, nth)
        if unit >= last:
            return
        panels_bytes, scores_bytes = block_queries * depth * size, block_keys * row
        rate = float64_pointer(record)[RATE]
        # causal ones are not: a step has the same bits in all sequences, and alone (`step.py`)
        few = queries <= most_few and rate == 0.0 and not causal
        needed = 2 * depth * size + few_memory if few else panels_bytes + scores_bytes + 4 * line + panel_bytes
        panels, _, allocated = working_memory(context, ith, stack_bytes(STACK_BYTES), needed, needed)
        if panels == 0:
            note_raised(record, context)
            return
        scores = panels + panels_bytes
        state, memory, words = scores + scores_bytes, scores + scores_bytes + 4 * line, stack_bytes(WORDS_BYTES)
        q, k, v, y = (
            address(record, context, Q), address(record, context, K), address(record, context, V),
            address(record, context, Y),
        )  # fmt: skip
        mask = address(record, context, MASK) if has(record, MASK) else 0
        lse = address(record, context, LSE) if has(record, LSE) else 0
        if few:
            attend_few(record, unit, last, q, k, v, y, lse, mask, panels)
            if allocated != 0:
                release(allocated)
            return
        q_row, k_row, padded = heads * depth * size, kv_heads * depth * size, (queries + GROUP - 1) // GROUP * GROUP
        scale, none = real(float64_pointer(record)[SCALE]), state + 3 * line
        while unit < last:
            number, block = unit // per_head, unit % per_head
            if causal:
                # later queries have more keys: long and short blocks take turns, so that parts are alike
                block = block // 2 if block % 2 == 0 else per_head - 1 - block // 2
            sample, head, first = number // heads, number % heads, block * block_queries
            count = smaller(block_queries, queries - first)
            n = (count + lanes - 1) // lanes * lanes
            at = ((sample * queries + first) * heads + head) * depth * size
            other = (sample * keys * kv_heads + head // (heads // kv_heads)) * depth * size
            pack(q + at, q_row, count, depth, scale, panels)
            for lane in range(n):
                reals(state)[lane] = nothing
                reals(state + line)[lane] = zero
            end = smaller(keys, first + count) if causal else keys
            for j in range(0, end, block_keys):
                here, init, init_row, bound = smaller(block_keys, end - j), 0, 0, first - j if causal else keys
                if mask != 0:
                    for lane in range(n):
                        reals(none)[lane] = zero
                    place = sample * r[MASK_SAMPLE] + head * r[MASK_HEAD] + first * r[MASK_QUERY] + j
                    load_mask(mask + place * size, r[MASK_QUERY] * size, here, count, none, scores)
                    init, init_row = scores, row
                score(k + other + j * k_row, k_row, here, panels, depth, count, scores, init, init_row, bound)
                if causal:
                    hide(scores, j - first, here, count, nothing)
                weigh(scores, here, n, state)
                if j > 0:
                    scale_rows(y + at, q_row, count, depth, state + 2 * line)
                if rate > 0.0:
                    drop_weights(record, context, (number * keys + j) * padded + first, padded, scores, here, count,
                                 none, words)  # fmt: skip
                sum_values(scores, here, v + other + j * k_row, k_row, depth, y + at, q_row, count, bound, j == 0,
                           memory)  # fmt: skip
            largest, sums, factors = reals(state), reals(state + line), reals(state + 2 * line)
            for lane in range(count):
                factors[lane] = one / sums[lane] if sums[lane] != zero else zero
            scale_rows(y + at, q_row, count, depth, state + 2 * line)
            if lse != 0:
                found = reals(lse + (number * queries + first) * size)
                for lane in range(count):
                    found[lane] = largest[lane] + log(sums[lane]) if sums[lane] != zero else zero
            unit += 1
        if allocated != 0:
            release(allocated)

    return attention
