"""Metrics that add weights to cells: confusion matrices, and histograms of scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import cuda

from fastnn.backend.cuda.codegen.kernel import SCRATCH_WORD, Dims, Kit, Stage, ceil_div, kernel, ptx
from fastnn.backend.cuda.codegen.options import formula, helper
from fastnn.backend.cuda.kernels.metrics.rows import (
    BLOCK,
    LANES,
    MOST_CELLS,
    SHORT,
    STRIPS,
    TEAM,
    WARP,
    WARPS,
    as_double,
    load_double,
    load_int64,
    make_peaks,
    make_rows,
    store_double,
    store_int64,
)
from fastnn.formulas.metrics import LABEL_CELLS, TRACE, define_score_bin
from fastnn.program.layout import BAD_ROW, NO_ROW, Flag


def add_parts(cells: Any, parts: Any, skip: Any, finish: Any, total: int, grid: Callable[[Dims], int]) -> Stage:
    """Make the last stage, which adds the results of `parts(record)` blocks to `cells(record)` accumulators.

    The parts follow each other in scratch memory, after `skip(record)` bytes. `finish(record, cell)` is called when
    an accumulator is complete.
    """

    def add_parts(record, context):
        if load_int64(context, BAD_ROW) != NO_ROW:
            return
        lane, strip = np.int64(cuda.threadIdx.x) % LANES, np.int64(cuda.threadIdx.x) // LANES
        cell = np.int64(LANES) * cuda.blockIdx.x + lane
        size, many, left = cells(record), parts(record), record[SCRATCH_WORD] + skip(record)
        found = np.float64(0.0)
        if cell < size:
            while strip < many:
                found += load_double(left, strip * size + cell)
                strip += STRIPS
        sums = cuda.shared.array(BLOCK, np.float64)
        sums[cuda.threadIdx.x] = found
        cuda.syncthreads()
        if cuda.threadIdx.x < LANES and cell < size:
            for index in range(1, STRIPS):
                found += sums[index * LANES + lane]
            store_double(record[total], cell, load_double(record[total], cell) + found)
            finish(record, cell)

    return Stage(add_parts, lambda dims: (ceil_div(grid(dims), LANES), 1), BLOCK)


@formula
def do_nothing(record, cell):
    """Do nothing."""
    return


@formula
def no_bytes(record):
    """Return 0: there is nothing before the cells."""
    return 0


def _scatter_parts(samples, size):
    """Return the number of blocks that share the samples, if each fills accumulators of this size."""
    return max(min(-(-samples // TEAM), TEAM, MOST_CELLS // size), 1)


_scatter_parts_there = formula(_scatter_parts)


def _scatter(kit: Kit, sample: Any, samples: Any, skip: Any) -> tuple[Callable[..., None], Any]:
    """Make the kernel that adds the weights of samples to cells, and the function for the number of its blocks.

    `sample(record, number)` returns a cell and a weight. A block takes samples in tiles, one per thread. Of a warp's
    threads with the same cell the first adds up their weights, and of the block's threads the first adds those of the
    warps; no other thread changes that cell until the next tile.
    """
    TOTAL, SIZE = kit.words("total size")
    alone = not kit.algorithm.endswith("parts")
    one, two, three, four = np.uint32(1), np.uint32(2), np.uint32(3), np.uint32(4)

    @helper
    def gather_cell(cells, weights, index, end, own):
        mine, found = cells[own], np.float64(0.0)
        leads = mine >= 0
        # a thread without a cell has nothing to look for
        end = end if leads else index
        while index < end:
            # most other threads have another cell; after the last sample they have none
            a, b, c, d = cells[index], cells[index + one], cells[index + two], cells[index + three]
            if (a == mine) | (b == mine) | (c == mine) | (d == mine):
                for step in range(4):
                    other = index + np.uint32(step)
                    if cells[other] == mine:
                        leads = leads and other >= own
                        found += weights[other]
            index += four
        return leads, found

    def scatter(record, context):
        if load_int64(context, BAD_ROW) != NO_ROW:
            return
        weights = cuda.shared.array(TEAM, np.float64)
        sums = cuda.shared.array(TEAM, np.float64)
        cells = cuda.shared.array(TEAM, np.int32)
        leaders = cuda.shared.array(TEAM, np.int32)
        own, size, many = np.uint32(cuda.threadIdx.x), record[SIZE], samples(record)
        warp = own // np.uint32(WARP) * np.uint32(WARP)
        left = record[TOTAL]
        if not alone:
            left = record[SCRATCH_WORD] + skip(record) + 8 * size * cuda.blockIdx.x
            clear = np.int64(own)
            while clear < size:
                store_double(left, clear, np.float64(0.0))
                clear += TEAM
        first = np.int64(TEAM) * cuda.blockIdx.x
        while first < many:
            count = min(np.int64(TEAM), many - first)
            cell, weight = np.int64(-1), np.float64(0.0)
            if np.int64(own) < count:
                cell, weight = sample(record, first + np.int64(own))
            cells[own] = np.int32(cell)
            weights[own] = weight
            cuda.syncthreads()
            leads, found = gather_cell(cells, weights, warp, warp + np.uint32(WARP), own)
            leaders[own] = np.int32(cell) if leads else np.int32(-1)
            sums[own] = found
            cuda.syncthreads()
            leads, found = gather_cell(leaders, sums, np.uint32(0), np.uint32(count), own)
            if leads:
                store_double(left, cell, load_double(left, cell) + found)
            first += np.int64(TEAM) * cuda.gridDim.x

    @helper
    def parts(record):
        return _scatter_parts_there(samples(record), record[SIZE])

    return scatter, parts


def _confusion_algorithm(dims: Dims, flags: Flag) -> str:
    parts = "parts" if _scatter_parts(dims["rows"], dims["size"]) > 1 else ""
    return f"long{parts and '-'}{parts}" if dims["cols"] > SHORT else parts


def _confusion_scratch(dims: Dims, itemsize: int, algorithm: str) -> int:
    return 8 * (dims["rows"] + dims["size"] * _scatter_parts(dims["rows"], dims["size"]))


@kernel(
    "confusion",
    algorithms=("", "parts", "long", "long-parts"),
    algorithm=_confusion_algorithm,
    scratch=_confusion_scratch,
)
def confusion(kit: Kit) -> list[Stage]:
    """Add weights to (true class, predicted class); rows with a NaN score go to the last column."""
    TOTAL, X, ROWS, COLS, SIZE, THRESHOLD = kit.words("total x rows cols size threshold")
    load, rows_of = kit.load, make_rows(kit)
    label_of, label_by_warp, weight_of = rows_of.label, rows_of.label_by_warp, rows_of.weight
    peak, peak_by_warp = make_peaks(kit)
    total_by_warp, zero = kit.team(WARP).total, kit.real(0.0)
    long, nothing, trace = kit.algorithm.startswith("long"), np.float64(0.0), np.float64(TRACE)

    @helper
    def rows_there(record):
        return record[ROWS]

    @helper
    def cells_there(record):
        return record[SIZE]

    @helper
    def bytes_of_cells(record):
        return 8 * record[ROWS]

    @helper
    def cell_of(record, row, cols):
        start, classes = row * cols, max(cols, 2)
        if cols == 1:
            above = np.float64(load(record[X], row)) > as_double(record[THRESHOLD])
            predicted = np.int64(1) if above else np.int64(0)
        else:
            predicted = peak(record[X], start, cols)
        for j in range(cols):
            score = load(record[X], start + j)
            predicted = classes if score != score else predicted
        return label_of(record, row, cols) * (classes + 1) + predicted

    @helper
    def weight_or_trace(record, row):
        weight = weight_of(record, row)
        return weight if weight != nothing else trace

    @helper
    def sample(record, row):
        return cell_of(record, row, record[COLS]), weight_or_trace(record, row)

    @helper
    def sample_found(record, row):
        return load_int64(record[SCRATCH_WORD], row), weight_or_trace(record, row)

    def find_cells(record, context):
        lane, own = np.int64(cuda.threadIdx.x) % WARP, np.int64(cuda.threadIdx.x) // WARP
        cols, row = record[COLS], np.int64(WARPS) * cuda.blockIdx.x + own
        # a warp without a row repeats the last one, since the other warps wait for it
        at = min(row, record[ROWS] - 1)
        predicted, odd = peak_by_warp(record[X], at * cols, cols, lane)
        predicted = predicted if total_by_warp(odd) == zero else cols
        label = label_by_warp(record, at, cols, lane)
        if lane == 0 and row == at:
            store_int64(record[SCRATCH_WORD], row, label * (cols + 1) + predicted)

    skip = bytes_of_cells if long else no_bytes
    scatter, parts = _scatter(kit, sample_found if long else sample, rows_there, skip)
    found = [Stage(find_cells, lambda dims: (ceil_div(dims["rows"], WARPS), 1), TEAM)] if long else []
    found.append(Stage(scatter, lambda dims: (_scatter_parts(dims["rows"], dims["size"]), 1), TEAM))
    if kit.algorithm.endswith("parts"):
        found.append(add_parts(cells_there, parts, skip, do_nothing, TOTAL, lambda dims: dims["size"]))
    return found


def _element_parts(dims: Dims) -> int:
    return _scatter_parts(dims["rows"] * dims["cols"], dims["size"])


def _elements(kit: Kit, cell_of: Any) -> list[Stage]:
    """Make the stages of a metric of which every element is a sample: `cell_of(record, i, column, present)`."""
    TOTAL, TARGET, LABELS = kit.words("total target labels")
    ROWS, COLS, SIZE = kit.words("rows cols size")
    load, weight_of, half = kit.load, make_rows(kit).weight, kit.real(0.5)

    @helper
    def samples(record):
        return record[ROWS] * record[COLS]

    @helper
    def cells_there(record):
        return record[SIZE]

    @helper
    def sample(record, i):
        row = np.int64(np.uint32(i) // np.uint32(record[COLS]))
        column = i - row * record[COLS]
        by_label = record[LABELS] != 0
        present = load_int64(record[LABELS], row) == column if by_label else load(record[TARGET], i) > half
        return cell_of(record, i, column, present), weight_of(record, row)

    scatter, parts = _scatter(kit, sample, samples, no_bytes)
    found = [Stage(scatter, lambda dims: (_element_parts(dims), 1), TEAM)]
    if kit.algorithm == "parts":
        found.append(add_parts(cells_there, parts, no_bytes, do_nothing, TOTAL, lambda dims: dims["size"]))
    return found


_BY_ELEMENT: dict[str, Any] = {
    "algorithms": ("", "parts"),
    "algorithm": lambda dims, flags: "parts" if _element_parts(dims) > 1 else "",
    "scratch": lambda dims, itemsize, algorithm: 8 * dims["size"] * _element_parts(dims),
}


@kernel("label_confusion", **_BY_ELEMENT)
def label_confusion(kit: Kit) -> list[Stage]:
    """Add weights to (label, absent or present, absent, present or nothing predicted); every column is a label."""
    X, THRESHOLD = kit.words("x threshold")
    load, absent, present_from = kit.load, np.int64(0), np.int64(LABEL_CELLS // 2)

    @helper
    def cell_of(record, i, column, present):
        score = np.float64(load(record[X], i))
        predicted = np.int64(1) if score > as_double(record[THRESHOLD]) else np.int64(0)
        predicted = np.int64(2) if score != score else predicted
        return LABEL_CELLS * column + (present_from if present else absent) + predicted

    return _elements(kit, cell_of)


@kernel("auc_histogram", **_BY_ELEMENT)
def auc_histogram(kit: Kit) -> list[Stage]:
    """Add weights to bins of scores, positive samples first; every element is a sample."""
    X, BINS = kit.words("x bins")
    load, nothing, certain = kit.load, np.float64(0.0), np.float64(1.0)
    score_bin = define_score_bin(formula, ptx.float_as_int)

    @helper
    def cell_of(record, i, column, positive):
        bins, score = record[BINS], np.float64(load(record[X], i))
        if score != score:
            score = nothing if positive else certain
        score = nothing if score < nothing else (certain if score > certain else score)
        place = score_bin(score, bins)
        return place if positive else bins + place

    return _elements(kit, cell_of)
