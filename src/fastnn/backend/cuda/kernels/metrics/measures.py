"""Metric kernels: each adds a batch to float64 accumulators, in an order that only the batch's shape decides.

The arithmetic is that of `fastnn.metrics.accumulators`. Rows of few columns have a thread each, longer ones a warp. A
batch that is too large for one block is cut into parts: each block writes its sums to scratch memory, and a last stage
adds them in order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda

from fastnn.backend.cuda.codegen.kernel import SCRATCH_WORD, Dims, Kit, Stage, ceil_div, kernel
from fastnn.backend.cuda.codegen.options import formula, helper
from fastnn.backend.cuda.kernels.metrics.rows import (
    ALONE,
    PARTS,
    SHORT,
    TEAM,
    WARP,
    WARPS,
    as_double,
    load_double,
    load_int64,
    make_rows,
    store_double,
)
from fastnn.program.layout import BAD_ROW, NO_ROW, Flag


def _count_algorithm(dims: Dims, flags: Flag) -> str:
    if dims["cols"] > SHORT:
        return "long"
    return "" if dims["rows"] <= ALONE * TEAM else "parts"


def _count_scratch(dims: Dims, itemsize: int, algorithm: str) -> int:
    return 16 * PARTS


def _counting(kit: Kit, against: Any, wanted: Any, one_column: Any) -> list[Stage]:
    """Make the kernel that adds the weights of the correct rows and of all rows.

    A row is correct if `against(score, label's score, column, label)` is true for fewer than `wanted(record)` scores;
    if it has one column, `one_column(record, score, label)` decides.
    """
    TOTAL, X, ROWS, COLS = kit.words("total x rows cols")
    load, rows_of = kit.load, make_rows(kit)
    label_of, label_by_warp, weight_of = rows_of.label, rows_of.label_by_warp, rows_of.weight
    total, warp_total = kit.team(TEAM, "float64").total, kit.team(WARP).total
    zero, one, nothing = kit.real(0.0), kit.real(1.0), np.float64(0.0)
    alone, long = kit.algorithm == "", kit.algorithm == "long"
    unit = WARPS if long else TEAM

    @helper
    def is_correct(record, row, cols):
        label, start = label_of(record, row, cols), row * cols
        if cols == 1:
            return one_column(record, load(record[X], row), label)
        score, number = load(record[X], start + label), 0
        for j in range(cols):
            number += 1 if against(load(record[X], start + j), score, j, label) else 0
        return number < wanted(record)

    @helper
    def is_correct_by_warp(record, row, cols, lane):
        label, start = label_by_warp(record, row, cols, lane), row * cols
        score, number, j = load(record[X], start + label), zero, lane
        while j < cols:
            number += one if against(load(record[X], start + j), score, j, label) else zero
            j += WARP
        return np.int64(warp_total(number)) < wanted(record)

    @helper
    def leave(record, right, whole):
        if cuda.threadIdx.x == 0:
            if alone:
                store_double(record[TOTAL], 0, load_double(record[TOTAL], 0) + right)
                store_double(record[TOTAL], 1, load_double(record[TOTAL], 1) + whole)
            else:
                store_double(record[SCRATCH_WORD], 2 * np.int64(cuda.blockIdx.x), right)
                store_double(record[SCRATCH_WORD], 2 * np.int64(cuda.blockIdx.x) + 1, whole)

    def count(record, context):
        if load_int64(context, BAD_ROW) != NO_ROW:
            return
        right, whole, cols = nothing, nothing, record[COLS]
        row = np.int64(TEAM) * cuda.blockIdx.x + cuda.threadIdx.x
        while row < record[ROWS]:
            weight = weight_of(record, row)
            right += weight if is_correct(record, row, cols) else nothing
            whole += weight
            row += np.int64(TEAM) * cuda.gridDim.x
        leave(record, total(right), total(whole))

    def count_long(record, context):
        if load_int64(context, BAD_ROW) != NO_ROW:
            return
        right, whole, cols, last = nothing, nothing, record[COLS], record[ROWS] - 1
        lane, own = np.int64(cuda.threadIdx.x) % WARP, np.int64(cuda.threadIdx.x) // WARP
        first = np.int64(WARPS) * cuda.blockIdx.x
        while first <= last:
            # a warp without a row repeats the last one, since the other warps wait for it
            row = min(first + own, last)
            correct = is_correct_by_warp(record, row, cols, lane)
            if lane == 0 and first + own <= last:
                weight = weight_of(record, row)
                right += weight if correct else nothing
                whole += weight
            first += np.int64(WARPS) * cuda.gridDim.x
        leave(record, total(right), total(whole))

    def add_counts(record, context):
        if load_int64(context, BAD_ROW) != NO_ROW:
            return
        many = min((record[ROWS] + (unit - 1)) // unit, PARTS)
        right, whole, i = nothing, nothing, np.int64(cuda.threadIdx.x)
        while i < many:
            right += load_double(record[SCRATCH_WORD], 2 * i)
            whole += load_double(record[SCRATCH_WORD], 2 * i + 1)
            i += TEAM
        right, whole = total(right), total(whole)
        if cuda.threadIdx.x == 0:
            store_double(record[TOTAL], 0, load_double(record[TOTAL], 0) + right)
            store_double(record[TOTAL], 1, load_double(record[TOTAL], 1) + whole)

    if alone:
        return [Stage(count, lambda dims: (1, 1), TEAM)]
    return [
        Stage(count_long if long else count, lambda dims: (min(ceil_div(dims["rows"], unit), PARTS), 1), TEAM),
        Stage(add_counts, lambda dims: (1, 1), TEAM),
    ]


@kernel("count_correct", algorithms=("", "parts", "long"), algorithm=_count_algorithm, scratch=_count_scratch)
def count_correct(kit: Kit) -> list[Stage]:
    """Count rows whose label has the first maximum, or whose one score is on the right side of a threshold."""
    (THRESHOLD,) = kit.words("threshold")

    @formula
    def against(score, best, j, label):
        return not (score < best if j < label else score <= best)

    @formula
    def wanted(record):
        return 1

    @helper
    def one_column(record, score, label):
        above = np.float64(score) > as_double(record[THRESHOLD])
        return above == (label == 1) and score == score

    return _counting(kit, against, wanted, one_column)


@kernel("top_k", algorithms=("", "parts", "long"), algorithm=_count_algorithm, scratch=_count_scratch)
def top_k(kit: Kit) -> list[Stage]:
    """Count rows where fewer than k scores are not at most the label's."""
    (K,) = kit.words("k")

    @formula
    def against(score, best, j, label):
        return not score <= best

    @formula
    def wanted(record):
        return record[K]

    @formula
    def one_column(record, score, label):
        return score == score

    return _counting(kit, against, wanted, one_column)
