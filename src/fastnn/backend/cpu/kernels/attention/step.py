"""One step of causal attention: keys and values of the steps so far are in rows of the caller's.

A step gives the bits that the same step has in a whole sequence (`forward.py`): scores are chains over the elements of
a head, weights are summed from the first key on, sums of values are those of blocks of keys, which are added up. Keys
are transposed, so that lanes are keys; values are rows, so that lanes are the elements of a head. Both are read once,
in the order of memory, whose bandwidth is the limit where there are many steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.backend.cpu.codegen.intrinsics import address, float64_pointer, int64_pointer, smaller, stack_bytes
from fastnn.backend.cpu.codegen.kernel import Kit, kernel, rows_part
from fastnn.backend.cpu.codegen.options import formula, helper
from fastnn.backend.cpu.codegen.row import make_rows_update
from fastnn.backend.cpu.kernels.attention.blocks import KEYS
from fastnn.backend.cpu.processor.blocking import Blocking

# Keys whose scores are computed at once: rows of transposed keys are read in pieces of this many.
_PIECE = 8 * KEYS
# Elements of a head that are scaled, or whose sums are computed, at once.
_PART = 512


@kernel("attention_step")
def attention_step(kit: Kit, variant: str) -> Callable[..., Any]:
    """Append keys and values, and make y = softmax(scale q k^T) v in every head."""
    Y, KEYS_AT, VALUES_AT, Q, K, V = kit.words("y keys values q k v")
    SEQUENCES, STEPS, HEADS, KV_HEADS, SIZE, MOST, ROW, FIRST = kit.words(
        "sequences steps heads kv_heads size most row first"
    )
    (SCALE,) = kit.words("scale")
    size, reals, real = kit.itemsize, kit.reals, kit.real
    lanes, exp = Blocking.of(kit.dtype).lanes, kit.math.exp_weight
    add_rows = make_rows_update(kit.dtype, lanes)
    zero, one, nothing, block, piece, part_size = real(0.0), real(1.0), real(-np.inf), KEYS, _PIECE, _PART
    scores_bytes, part_bytes = _PIECE * size, _PART * size

    @helper
    def clear(x, count):
        y = reals(x)
        for i in range(count):
            y[i] = zero

    @helper
    def load_scaled(q, count, scale, to):
        x, y = reals(q), reals(to)
        for i in range(count):
            y[i] = x[i] * scale

    @helper
    def largest_of(scores, count, largest):
        x = reals(scores)
        for j in range(count):
            largest = x[j] if x[j] > largest else largest
        return largest

    # without reassociation: from the first key on, as lanes of queries are summed
    @formula
    def summed(weights, count, total):
        x = reals(weights)
        for j in range(count):
            total = total + x[j]
        return total

    @helper
    def weigh(scores, count, least):
        x = reals(scores)
        for j in range(count):
            x[j] = exp(x[j] - least)

    @helper
    def scale_row(y, count, factor):
        x = reals(y)
        for j in range(count):
            x[j] *= factor

    @helper
    def add_part(y, part, count):
        x, more = reals(y), reals(part)
        for j in range(count):
            x[j] += more[j]

    @helper
    def attend(q, keys, values, most, count, depth, scale, y, scores, part, total_at):
        """Make the result of one query with `count` keys."""
        total, largest = reals(total_at), nothing
        total[0] = zero
        for start in range(0, count, piece):
            here = smaller(piece, count - start)
            clear(scores, here)
            for i in range(0, depth, part_size):
                n = smaller(part_size, depth - i)
                load_scaled(q + i * size, n, scale, part)
                add_rows(part, size, keys + (i * most + start) * size, most * size, n, scores, here)
            for j in range(0, here, block):
                n, at = smaller(block, here - j), scores + j * size
                peak = largest_of(at, n, largest)
                least = zero if peak == nothing else peak
                factor = exp(largest - least)
                largest = peak
                weigh(at, n, least)
                total[0] *= factor
                total[0] = summed(at, n, total[0])
                rows = values + (start + j) * depth * size
                if start + j == 0:
                    clear(y, depth)
                    add_rows(at, size, rows, depth * size, n, y, depth)
                    continue
                if factor != one:
                    scale_row(y, depth, factor)
                for i in range(0, depth, part_size):
                    columns = smaller(part_size, depth - i)
                    clear(part, columns)
                    add_rows(at, size, rows + i * size, depth * size, n, part, columns)
                    add_part(y + i * size, part, columns)
        factor = one / total[0] if total[0] != zero else zero
        if factor != one:
            scale_row(y, depth, factor)

    @helper
    def append(k, k_row, v, steps, keys, values, most, depth):
        """Put keys, as columns, and values after those of earlier steps."""
        for step in range(steps):
            new, old = reals(k + step * k_row), reals(keys + step * size)
            for i in range(depth):
                old[i * most] = new[i]
            new, old = reals(v + step * k_row), reals(values + step * depth * size)
            for i in range(depth):
                old[i] = new[i]

    def attention_step(record, context, ith, nth):
        r = int64_pointer(record)
        steps, heads, kv_heads, depth, most = r[STEPS], r[HEADS], r[KV_HEADS], r[SIZE], r[MOST]
        unit, last = rows_part(r[SEQUENCES] * kv_heads, ith, nth)
        if unit >= last:
            return
        scale, group = real(float64_pointer(record)[SCALE]), heads // kv_heads
        scores, part, total = stack_bytes(scores_bytes), stack_bytes(part_bytes), stack_bytes(8)
        q, k, v, y = (
            address(record, context, Q), address(record, context, K), address(record, context, V),
            address(record, context, Y),
        )  # fmt: skip
        keys, values = address(record, context, KEYS_AT), address(record, context, VALUES_AT)
        q_row, k_row = heads * depth * size, kv_heads * depth * size
        while unit < last:
            sequence, head = unit // kv_heads, unit % kv_heads
            row = sequence * r[ROW] * size
            position = int(reals(keys + row)[0])
            own = row + (r[FIRST] + head * depth * most) * size
            new = (sequence * steps * kv_heads + head) * depth * size
            append(k + new, k_row, v + new, steps, keys + own + position * size,
                   values + own + position * depth * size, most, depth)  # fmt: skip
            for step in range(steps):
                for one_head in range(head * group, (head + 1) * group):
                    at = (sequence * steps + step) * q_row + one_head * depth * size
                    attend(q + at, keys + own, values + own, most, position + step + 1, depth, scale, y + at, scores,
                           part, total)  # fmt: skip
            unit += 1

    return attention_step
