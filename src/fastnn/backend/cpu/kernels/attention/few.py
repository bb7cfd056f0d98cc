"""Attention of few queries, such as the next step of a sequence: dot products, and sums of rows.

In blocks most lanes would be empty: one query took 1.3 to 1.9 times as long (2,048 and 256 keys).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.backend.cpu.codegen.intrinsics import smaller
from fastnn.backend.cpu.codegen.kernel import Kit
from fastnn.backend.cpu.codegen.options import helper
from fastnn.backend.cpu.codegen.row import make_dots, make_rows_update
from fastnn.backend.cpu.kernels.rows import row_functions
from fastnn.backend.cpu.processor.blocking import Blocking

#: The most queries that are few.
FEW = 4
# Keys whose weights are summed before they are added to those of others.
_KEYS = 512


def one_query(kit: Kit) -> Any:
    """Make `attend(q, k, v, row, keys, depth, scale, mask, y, memory)`, which returns the logarithm of the sum.

    `row` is the distance from one key or value to the next; `mask` may be 0. Of memory it needs 2 `depth` elements, and
    `few_bytes` bytes.
    """
    size, real, reals, lanes = kit.itemsize, kit.real, kit.reals, Blocking.of(kit.dtype).lanes
    exp, log = kit.math.exp_weight, kit.math.log
    dots, one_dot = make_dots(kit.dtype, lanes, 4), make_dots(kit.dtype, lanes, 1)
    add_rows = make_rows_update(kit.dtype, lanes)
    row_max, exp_sum, _ = row_functions(kit)
    zero, one, nothing, block = real(0.0), real(1.0), real(-np.inf), _KEYS

    @helper
    def score(query, k, row, count, depth, scores):
        i = 0
        while i + 4 <= count:
            dots(query, k + i * row, row, depth, scores + i * size)
            i += 4
        while i < count:
            one_dot(query, k + i * row, row, depth, scores + i * size)
            i += 1

    @helper
    def attend(q, k, v, row, keys, depth, scale, mask, y, memory):
        part, scores = memory + depth * size, memory + 2 * depth * size
        x, given, sums, s, out = reals(memory), reals(q), reals(part), reals(scores), reals(y)
        largest, total = nothing, zero
        for j in range(depth):
            x[j], out[j] = given[j] * scale, zero
        for first in range(0, keys, block):
            count = smaller(block, keys - first)
            for j in range(count):
                s[j] = zero
            if mask != 0:
                added = reals(mask + first * size)
                for j in range(count):
                    s[j] = added[j]
            score(memory, k + first * row, row, count, depth, scores)
            peak = row_max(scores, count)
            peak = peak if peak > largest else largest
            less = zero if peak == nothing else peak
            factor = exp(largest - less)
            largest, total = peak, total * factor + exp_sum(s, 0, count, less, s, 0)
            for j in range(depth):
                sums[j] = zero
            add_rows(scores, size, v + first * row, row, count, part, depth)
            for j in range(depth):
                out[j] = out[j] * factor + sums[j]
        factor = one / total if total != zero else zero
        for j in range(depth):
            out[j] *= factor
        return largest + log(total) if total != zero else zero

    return attend


def few_bytes(kit: Kit) -> int:
    """Return the bytes of memory for the scores of a query."""
    return _KEYS * kit.itemsize
