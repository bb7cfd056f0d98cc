"""Metric kernels: each adds a batch to float64 accumulators, in row order and in one part.

The arithmetic is that of `fastnn.metrics.accumulators`, which describes each accumulator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.backend.cpu.codegen.bits import float_as_int
from fastnn.backend.cpu.codegen.intrinsics import address, float64_pointer, has, int64_pointer
from fastnn.backend.cpu.codegen.kernel import Kit, given, kernel
from fastnn.backend.cpu.codegen.options import formula, helper, inlined
from fastnn.formulas.metrics import LABEL_CELLS, TRACE, define_score_bin


def _row_functions(kit: Kit) -> tuple[Any, Any]:
    """Make `label_of(record, context, row, cols)` and `weight_of(record, context, row)`.

    A dense row's label is its first maximum, or whether its one column is above a half.
    """
    TARGET, LABELS, WEIGHT, PER_SAMPLE = kit.words("target labels weight per_sample")
    at = kit.at

    @helper
    def label_of(record, context, row, cols):
        if has(record, LABELS):
            label = int64_pointer(address(record, context, LABELS))[row]
            # labels are checked before a run, but the user may change the array during it
            return label if 0 <= label < cols else 0
        target = at(record, context, TARGET)
        if cols == 1:
            return 1 if target[row] > 0.5 else 0
        label = 0
        for j in range(1, cols):
            label = j if target[row * cols + j] > target[row * cols + label] else label
        return label

    @helper
    def weight_of(record, context, row):
        if given(record, context, WEIGHT):
            return np.float64(at(record, context, WEIGHT)[row // int64_pointer(record)[PER_SAMPLE]])
        return 1.0

    return label_of, weight_of


def _counting(kit: Kit, is_correct: Any) -> Callable[..., Any]:
    """Make the kernel that adds the weights of the correct rows and of all rows."""
    TOTAL, X, ROWS, COLS = kit.words("total x rows cols")
    at = kit.at
    label_of, weight_of = _row_functions(kit)

    def count(record, context, ith, nth):
        if ith == 0:
            r = int64_pointer(record)
            cols, x = r[COLS], at(record, context, X)
            total = float64_pointer(address(record, context, TOTAL))
            for row in range(r[ROWS]):
                weight = weight_of(record, context, row)
                label = label_of(record, context, row, cols)
                if is_correct(record, x, row * cols, cols, label):
                    total[0] += weight
                total[1] += weight

    return count


@kernel("count_correct")
def count_correct(kit: Kit, variant: str) -> Callable[..., Any]:
    """Count rows whose label has the first maximum, or whose one score is on the right side of a threshold."""
    (THRESHOLD,) = kit.words("threshold")

    @helper
    def is_correct(record, x, i, cols, label):
        if cols == 1:
            score = np.float64(x[i])
            return (score > float64_pointer(record)[THRESHOLD]) == (label == 1) and score == score
        score = x[i + label]
        correct = True
        for j in range(cols):
            correct &= x[i + j] < score if j < label else x[i + j] <= score
        return correct

    return _counting(kit, is_correct)


@kernel("top_k")
def top_k(kit: Kit, variant: str) -> Callable[..., Any]:
    """Count rows where fewer than k scores are not at most the label's."""
    (K,) = kit.words("k")

    @helper
    def is_correct(record, x, i, cols, label):
        above = 0
        for j in range(cols):
            above += 0 if x[i + j] <= x[i + label] else 1
        return above < int64_pointer(record)[K]

    return _counting(kit, is_correct)


@kernel("confusion")
def confusion(kit: Kit, variant: str) -> Callable[..., Any]:
    """Add weights to (true class, predicted class); rows with a NaN score go to the last column."""
    TOTAL, X, ROWS, COLS, THRESHOLD = kit.words("total x rows cols threshold")
    at = kit.at
    label_of, weight_of = _row_functions(kit)

    def confusion(record, context, ith, nth):
        if ith == 0:
            r = int64_pointer(record)
            cols, x = r[COLS], at(record, context, X)
            classes = max(cols, 2)
            total = float64_pointer(address(record, context, TOTAL))
            for row in range(r[ROWS]):
                i = row * cols
                predicted = 0
                if cols == 1:
                    predicted = 1 if np.float64(x[i]) > float64_pointer(record)[THRESHOLD] else 0
                else:
                    for j in range(1, cols):
                        predicted = j if x[i + j] > x[i + predicted] else predicted
                for j in range(cols):
                    predicted = classes if x[i + j] != x[i + j] else predicted
                label = label_of(record, context, row, cols)
                weight = weight_of(record, context, row)
                total[label * (classes + 1) + predicted] += weight if weight != 0.0 else TRACE

    return confusion


def _adding_elements(kit: Kit, parameter_of: Any, cell_of: Any) -> Callable[..., Any]:
    """Make the kernel that adds the weight of every element to `cell_of(parameter, column, score, present)`.

    The parameter is read once: read for every element, it doubled the time of the AUC of integer labels.
    """
    TOTAL, X, TARGET, LABELS, ROWS, COLS = kit.words("total x target labels rows cols")
    at = kit.at
    _, weight_of = _row_functions(kit)

    def add_elements(record, context, ith, nth):
        if ith == 0:
            r = int64_pointer(record)
            cols, x = r[COLS], at(record, context, X)
            total, parameter = float64_pointer(address(record, context, TOTAL)), parameter_of(record)
            for row in range(r[ROWS]):
                weight = weight_of(record, context, row)
                for j in range(cols):
                    i = row * cols + j
                    if has(record, LABELS):
                        present = int64_pointer(address(record, context, LABELS))[row] == j
                    else:
                        present = at(record, context, TARGET)[i] > 0.5
                    total[cell_of(parameter, j, np.float64(x[i]), present)] += weight

    return add_elements


@kernel("label_confusion")
def label_confusion(kit: Kit, variant: str) -> Callable[..., Any]:
    """Add weights to (label, absent or present, absent, present or nothing predicted); every column is a label."""
    (THRESHOLD,) = kit.words("threshold")

    @inlined
    def threshold_of(record):
        return float64_pointer(record)[THRESHOLD]

    @inlined
    def cell_of(threshold, column, score, present):
        predicted = 1 if score > threshold else 0
        predicted = 2 if score != score else predicted
        return LABEL_CELLS * column + (LABEL_CELLS // 2 if present else 0) + predicted

    return _adding_elements(kit, threshold_of, cell_of)


@kernel("auc_histogram")
def auc_histogram(kit: Kit, variant: str) -> Callable[..., Any]:
    """Add weights to bins of scores, positive samples first; every element is a sample."""
    (BINS,) = kit.words("bins")
    score_bin = define_score_bin(formula, float_as_int)

    @inlined
    def bins_of(record):
        return int64_pointer(record)[BINS]

    @inlined
    def cell_of(bins, column, found, positive):
        score: Any = found
        if score != score:
            score = 0.0 if positive else 1.0
        place = score_bin(min(max(score, 0.0), 1.0), bins)
        return place if positive else bins + place

    return _adding_elements(kit, bins_of, cell_of)


@kernel("regression_sums")
def regression_sums(kit: Kit, variant: str) -> Callable[..., Any]:
    """Add shifted sums and products of predictions and targets, column by column."""
    TOTAL, X, TARGET, ROWS, COLS = kit.words("total x target rows cols")
    at = kit.at
    _, weight_of = _row_functions(kit)

    def regression_sums(record, context, ith, nth):
        if ith == 0:
            r = int64_pointer(record)
            cols, x, target = r[COLS], at(record, context, X), at(record, context, TARGET)
            total = float64_pointer(address(record, context, TOTAL))
            first, rows = 0, r[ROWS]
            while first < rows and weight_of(record, context, first) == 0.0:
                first += 1
            for j in range(cols if first < rows else 0):
                if total[8 * cols + j] != total[8 * cols + j]:
                    total[8 * cols + j] = np.float64(x[first * cols + j])
                if total[9 * cols + j] != total[9 * cols + j]:
                    total[9 * cols + j] = np.float64(target[first * cols + j])
            for row in range(first, rows):
                weight = weight_of(record, context, row)
                # a row of weight 0 may hold any value, even infinity
                for j in range(cols if weight != 0.0 else 0):
                    i = row * cols + j
                    p, y = np.float64(x[i]) - total[8 * cols + j], np.float64(target[i]) - total[9 * cols + j]
                    error = np.float64(x[i]) - np.float64(target[i])
                    total[j] += weight
                    total[cols + j] += weight * p
                    total[2 * cols + j] += weight * y
                    total[3 * cols + j] += weight * p * p
                    total[4 * cols + j] += weight * y * y
                    total[5 * cols + j] += weight * p * y
                    total[6 * cols + j] += weight * abs(error)
                    total[7 * cols + j] += weight * error * error

    return regression_sums
