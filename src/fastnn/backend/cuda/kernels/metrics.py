"""Metric kernels: each adds a batch to float64 accumulators, in an order that only the batch's shape decides.

The arithmetic is that of `fastnn.metrics.accumulators`. Rows of few columns have a thread each, longer ones a warp. A
batch that is too much for one block is cut into parts: each block leaves its sums in scratch memory, and a last stage
adds them in order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from numba import cuda

from fastnn.backend.cuda.kit import BAD_ROW, NO_ROW, SCRATCH_WORD, Dims, Kit, Stage, ceil_div, kernel, ptx
from fastnn.backend.cuda.options import formula, helper
from fastnn.backend.cuda.table import SIZES
from fastnn.program.layout import Flag

_WARP, _TEAM, _LANES, _STRIPS = SIZES.warp, SIZES.team, SIZES.lanes, SIZES.strips
_WARPS, _BLOCK = _TEAM // _WARP, _LANES * _STRIPS
load_int64, store_int64, as_double = ptx.LOADS["int64"], ptx.STORES["int64"], ptx.int_as_double
load_double, store_double = ptx.LOADS["float64"], ptx.STORES["float64"]

#: rows of so many columns have a thread each; a warp would be mostly idle
_SHORT = _WARP + _STRIPS
#: the most blocks that share a batch, enough to fill a large GPU
_PARTS = 2 * _TEAM
#: what one block takes on alone, in rows a thread: a second launch takes as long
_ALONE = 4
#: the accumulators of all parts together are at most so many float64
_MOST_CELLS = 2**21


def _peaks(kit: Kit) -> tuple[Any, Any]:
    """Make two functions that find the first maximum of a row, as a sequence of comparisons from column 0 on does.

    `peak(address, start, cols)` returns its column. `peak_by_warp(address, start, cols, lane)` returns the column, and
    how many of the lane's elements are NaN.
    """
    load, real = kit.load, kit.real
    shuffle, shuffle_index = ptx.SHUFFLES[kit.dtype], ptx.SHUFFLES["int32"]
    lowest, nowhere = real(-np.inf), np.int32(2**31 - 1)

    @helper
    def peak(address, start, cols):
        largest, found = load(address, start), np.int64(0)
        for j in range(1, cols):
            value = load(address, start + j)
            if value > largest:
                largest, found = value, np.int64(j)
        return found

    @helper
    def peak_by_warp(address, start, cols, lane):
        largest, found, odd, j = lowest, nowhere, real(0.0), np.int64(lane)
        while j < cols:
            value = load(address, start + j)
            if value > largest or (found == nowhere and value == value):
                largest, found = value, np.int32(j)
            odd += real(1.0) if value != value else real(0.0)
            j += _WARP
        mask = _WARP // 2
        while mask > 0:
            other, place = shuffle(largest, np.int32(mask)), shuffle_index(found, np.int32(mask))
            if other > largest or (other == largest and place < found):
                largest, found = other, place
            mask //= 2
        first = load(address, start)
        # nothing is larger than a NaN in column 0; those behind are larger than nothing
        return np.int64(found) if first == first else np.int64(0), odd

    return peak, peak_by_warp


def _rows(kit: Kit) -> SimpleNamespace:
    """Make `label(record, row, cols)`, `label_by_warp(record, row, cols, lane)` and `weight(record, row)`.

    A dense row's label is its first maximum, or whether its one column is above a half.
    """
    TARGET, LABELS, WEIGHT, PER_SAMPLE = kit.words("target labels weight per_sample")
    load, half = kit.load, kit.real(0.5)
    peak, peak_by_warp = _peaks(kit)

    @helper
    def given(record, row, cols):
        found = load_int64(record[LABELS], row)
        # labels are checked before a run, but the user's own array may be changed during it
        return found if found >= 0 and found < cols else np.int64(0)

    @helper
    def label(record, row, cols):
        if record[LABELS] != 0:
            return given(record, row, cols)
        if cols == 1:
            return np.int64(1) if load(record[TARGET], row) > half else np.int64(0)
        return peak(record[TARGET], row * cols, cols)

    @helper
    def label_by_warp(record, row, cols, lane):
        if record[LABELS] != 0:
            return given(record, row, cols)
        found, _ = peak_by_warp(record[TARGET], row * cols, cols, lane)
        return found

    @helper
    def weight(record, row):
        if record[WEIGHT] != 0:
            return np.float64(load(record[WEIGHT], np.uint32(row) // np.uint32(record[PER_SAMPLE])))
        return np.float64(1.0)

    return SimpleNamespace(label=label, label_by_warp=label_by_warp, weight=weight)


# --- counts of correct rows: two sums ------------------------------------------------------------------------------


def _count_way(dims: Dims, flags: Flag) -> str:
    if dims["cols"] > _SHORT:
        return "long"
    return "" if dims["rows"] <= _ALONE * _TEAM else "parts"


def _count_scratch(dims: Dims, itemsize: int) -> int:
    return 16 * _PARTS


def _counting(kit: Kit, against: Any, wanted: Any, one_column: Any) -> list[Stage]:
    """Make the kernel that adds the weights of the correct rows and of all rows.

    A row is correct where fewer than `wanted(record)` scores speak `against(score, label's score, column, label)` it;
    where it has one column, `one_column(record, score, label)` tells.
    """
    TOTAL, X, ROWS, COLS = kit.words("total x rows cols")
    load, rows_of = kit.load, _rows(kit)
    label_of, label_by_warp, weight_of = rows_of.label, rows_of.label_by_warp, rows_of.weight
    total, warp_total = kit.team(_TEAM, "float64").total, kit.team(_WARP).total
    zero, one, nothing = kit.real(0.0), kit.real(1.0), np.float64(0.0)
    alone, long = kit.way == "", kit.way == "long"
    unit = _WARPS if long else _TEAM

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
            j += _WARP
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
        row = np.int64(_TEAM) * cuda.blockIdx.x + cuda.threadIdx.x
        while row < record[ROWS]:
            weight = weight_of(record, row)
            right += weight if is_correct(record, row, cols) else nothing
            whole += weight
            row += np.int64(_TEAM) * cuda.gridDim.x
        leave(record, total(right), total(whole))

    def count_long(record, context):
        if load_int64(context, BAD_ROW) != NO_ROW:
            return
        right, whole, cols, last = nothing, nothing, record[COLS], record[ROWS] - 1
        lane, own = np.int64(cuda.threadIdx.x) % _WARP, np.int64(cuda.threadIdx.x) // _WARP
        first = np.int64(_WARPS) * cuda.blockIdx.x
        while first <= last:
            # a warp without a row repeats the last one, since the others wait for it
            row = min(first + own, last)
            correct = is_correct_by_warp(record, row, cols, lane)
            if lane == 0 and first + own <= last:
                weight = weight_of(record, row)
                right += weight if correct else nothing
                whole += weight
            first += np.int64(_WARPS) * cuda.gridDim.x
        leave(record, total(right), total(whole))

    def add_counts(record, context):
        if load_int64(context, BAD_ROW) != NO_ROW:
            return
        many = min((record[ROWS] + (unit - 1)) // unit, _PARTS)
        right, whole, i = nothing, nothing, np.int64(cuda.threadIdx.x)
        while i < many:
            right += load_double(record[SCRATCH_WORD], 2 * i)
            whole += load_double(record[SCRATCH_WORD], 2 * i + 1)
            i += _TEAM
        right, whole = total(right), total(whole)
        if cuda.threadIdx.x == 0:
            store_double(record[TOTAL], 0, load_double(record[TOTAL], 0) + right)
            store_double(record[TOTAL], 1, load_double(record[TOTAL], 1) + whole)

    if alone:
        return [Stage(count, lambda dims: (1, 1), _TEAM)]
    return [
        Stage(count_long if long else count, lambda dims: (min(ceil_div(dims["rows"], unit), _PARTS), 1), _TEAM),
        Stage(add_counts, lambda dims: (1, 1), _TEAM),
    ]


@kernel("count_correct", ways=("", "parts", "long"), way=_count_way, scratch=_count_scratch)
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


@kernel("top_k", ways=("", "parts", "long"), way=_count_way, scratch=_count_scratch)
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


# --- sums in many cells --------------------------------------------------------------------------------------------


def _add_parts(cells: Any, parts: Any, skip: Any, finish: Any, total: int, grid: Callable[[Dims], int]) -> Stage:
    """Make the last stage, which adds to `cells(record)` accumulators what the `parts(record)` blocks have left.

    The parts follow each other in scratch memory, behind `skip(record)` bytes. `finish(record, cell)` is called where
    an accumulator is complete.
    """

    def add_parts(record, context):
        if load_int64(context, BAD_ROW) != NO_ROW:
            return
        lane, strip = np.int64(cuda.threadIdx.x) % _LANES, np.int64(cuda.threadIdx.x) // _LANES
        cell = np.int64(_LANES) * cuda.blockIdx.x + lane
        size, many, left = cells(record), parts(record), record[SCRATCH_WORD] + skip(record)
        found = np.float64(0.0)
        if cell < size:
            while strip < many:
                found += load_double(left, strip * size + cell)
                strip += _STRIPS
        sums = cuda.shared.array(_BLOCK, np.float64)
        sums[cuda.threadIdx.x] = found
        cuda.syncthreads()
        if cuda.threadIdx.x < _LANES and cell < size:
            for index in range(1, _STRIPS):
                found += sums[index * _LANES + lane]
            store_double(record[total], cell, load_double(record[total], cell) + found)
            finish(record, cell)

    return Stage(add_parts, lambda dims: (ceil_div(grid(dims), _LANES), 1), _BLOCK)


@formula
def _nothing(record, cell):
    return


@formula
def _no_bytes(record):
    return 0


def _scatter_parts(samples, size):
    """Return how many blocks share so many samples, when each fills accumulators of this size."""
    return max(min(-(-samples // _TEAM), _TEAM, _MOST_CELLS // size), 1)


_scatter_parts_there = formula(_scatter_parts)


def _scatter(kit: Kit, sample: Any, samples: Any, skip: Any) -> tuple[Callable[..., None], Any]:
    """Make the kernel that adds the weights of samples to cells, and what tells the number of its blocks.

    `sample(record, number)` returns a cell and a weight. A block takes samples by tiles, one a thread. The first of a
    warp's threads with the same cell adds up their weights, the first of the block's those of the warps; nobody else
    changes that cell until the next tile.
    """
    TOTAL, SIZE = kit.words("total size")
    alone = not kit.way.endswith("parts")
    one, two, three, four = np.uint32(1), np.uint32(2), np.uint32(3), np.uint32(4)

    @helper
    def gather_cell(cells, weights, index, end, own):
        mine, found = cells[own], np.float64(0.0)
        leads = mine >= 0
        # who has no cell has nothing to look for
        end = end if leads else index
        while index < end:
            # most of the others have another cell; behind the last sample they have none
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
        weights = cuda.shared.array(_TEAM, np.float64)
        sums = cuda.shared.array(_TEAM, np.float64)
        cells = cuda.shared.array(_TEAM, np.int32)
        leaders = cuda.shared.array(_TEAM, np.int32)
        own, size, many = np.uint32(cuda.threadIdx.x), record[SIZE], samples(record)
        warp = own // np.uint32(_WARP) * np.uint32(_WARP)
        left = record[TOTAL]
        if not alone:
            left = record[SCRATCH_WORD] + skip(record) + 8 * size * cuda.blockIdx.x
            clear = np.int64(own)
            while clear < size:
                store_double(left, clear, np.float64(0.0))
                clear += _TEAM
        first = np.int64(_TEAM) * cuda.blockIdx.x
        while first < many:
            count = min(np.int64(_TEAM), many - first)
            cell, weight = np.int64(-1), np.float64(0.0)
            if np.int64(own) < count:
                cell, weight = sample(record, first + np.int64(own))
            cells[own] = np.int32(cell)
            weights[own] = weight
            cuda.syncthreads()
            leads, found = gather_cell(cells, weights, warp, warp + np.uint32(_WARP), own)
            leaders[own] = np.int32(cell) if leads else np.int32(-1)
            sums[own] = found
            cuda.syncthreads()
            leads, found = gather_cell(leaders, sums, np.uint32(0), np.uint32(count), own)
            if leads:
                store_double(left, cell, load_double(left, cell) + found)
            first += np.int64(_TEAM) * cuda.gridDim.x

    @helper
    def parts(record):
        return _scatter_parts_there(samples(record), record[SIZE])

    return scatter, parts


def _confusion_way(dims: Dims, flags: Flag) -> str:
    parts = "parts" if _scatter_parts(dims["rows"], dims["size"]) > 1 else ""
    return f"long{parts and '-'}{parts}" if dims["cols"] > _SHORT else parts


def _confusion_scratch(dims: Dims, itemsize: int) -> int:
    return 8 * (dims["rows"] + dims["size"] * _scatter_parts(dims["rows"], dims["size"]))


@kernel("confusion", ways=("", "parts", "long", "long-parts"), way=_confusion_way, scratch=_confusion_scratch)
def confusion(kit: Kit) -> list[Stage]:
    """Add weights to (true class, predicted class); rows with a NaN score go to the last column."""
    TOTAL, X, ROWS, COLS, SIZE, THRESHOLD = kit.words("total x rows cols size threshold")
    load, rows_of = kit.load, _rows(kit)
    label_of, label_by_warp, weight_of = rows_of.label, rows_of.label_by_warp, rows_of.weight
    peak, peak_by_warp = _peaks(kit)
    total_by_warp, zero = kit.team(_WARP).total, kit.real(0.0)
    long = kit.way.startswith("long")

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
    def sample(record, row):
        return cell_of(record, row, record[COLS]), weight_of(record, row)

    @helper
    def sample_found(record, row):
        return load_int64(record[SCRATCH_WORD], row), weight_of(record, row)

    def find_cells(record, context):
        lane, own = np.int64(cuda.threadIdx.x) % _WARP, np.int64(cuda.threadIdx.x) // _WARP
        cols, row = record[COLS], np.int64(_WARPS) * cuda.blockIdx.x + own
        # a warp without a row repeats the last one, since the others wait for it
        at = min(row, record[ROWS] - 1)
        predicted, odd = peak_by_warp(record[X], at * cols, cols, lane)
        predicted = predicted if total_by_warp(odd) == zero else cols
        label = label_by_warp(record, at, cols, lane)
        if lane == 0 and row == at:
            store_int64(record[SCRATCH_WORD], row, label * (cols + 1) + predicted)

    skip = bytes_of_cells if long else _no_bytes
    scatter, parts = _scatter(kit, sample_found if long else sample, rows_there, skip)
    found = [Stage(find_cells, lambda dims: (ceil_div(dims["rows"], _WARPS), 1), _TEAM)] if long else []
    found.append(Stage(scatter, lambda dims: (_scatter_parts(dims["rows"], dims["size"]), 1), _TEAM))
    if kit.way.endswith("parts"):
        found.append(_add_parts(cells_there, parts, skip, _nothing, TOTAL, lambda dims: dims["size"]))
    return found


def _histogram_parts(dims: Dims) -> int:
    return _scatter_parts(dims["rows"] * dims["cols"], dims["size"])


@kernel(
    "auc_histogram",
    ways=("", "parts"),
    way=lambda dims, flags: "parts" if _histogram_parts(dims) > 1 else "",
    scratch=lambda dims, itemsize: 8 * dims["size"] * _histogram_parts(dims),
)
def auc_histogram(kit: Kit) -> list[Stage]:
    """Add weights to bins of scores, positive samples first; every element is a sample."""
    TOTAL, X, TARGET, LABELS = kit.words("total x target labels")
    ROWS, COLS, SIZE, BINS = kit.words("rows cols size bins")
    load, weight_of, half = kit.load, _rows(kit).weight, kit.real(0.5)
    nothing, certain = np.float64(0.0), np.float64(1.0)

    @helper
    def samples(record):
        return record[ROWS] * record[COLS]

    @helper
    def cells_there(record):
        return record[SIZE]

    @helper
    def sample(record, i):
        row, bins = np.int64(np.uint32(i) // np.uint32(record[COLS])), record[BINS]
        if record[LABELS] != 0:
            positive = load_int64(record[LABELS], row) == i - row * record[COLS]
        else:
            positive = load(record[TARGET], i) > half
        score = np.float64(load(record[X], i))
        if score != score:
            score = nothing if positive else certain
        score = nothing if score < nothing else (certain if score > certain else score)
        place = np.int64(math.ceil(score * np.float64(bins - 1))) - 1
        place = place if place > 0 else np.int64(0)
        return place if positive else bins + place, weight_of(record, row)

    scatter, parts = _scatter(kit, sample, samples, _no_bytes)
    found = [Stage(scatter, lambda dims: (_histogram_parts(dims), 1), _TEAM)]
    if kit.way == "parts":
        found.append(_add_parts(cells_there, parts, _no_bytes, _nothing, TOTAL, lambda dims: dims["size"]))
    return found


# --- sums by column ------------------------------------------------------------------------------------------------

#: sums of a column, behind which its two shifts stand
_SUMS = 8
_TABLE = _SUMS * _TEAM


def _lanes(cols):
    """Return how many threads of a block stand side by side: a power of two."""
    lanes = 1
    while lanes < cols and lanes < _LANES:
        lanes *= 2
    return lanes


def _column_parts(rows, cols, lanes):
    """Return how many blocks share a column."""
    return max(min(-(-rows // (4 * _ALONE * (_TEAM // lanes))), _PARTS // -(-cols // lanes)), 1)


_lanes_there, _column_parts_there = formula(_lanes), formula(_column_parts)


def _regression_parts(dims: Dims) -> int:
    found: int = _column_parts(dims["rows"], dims["cols"], _lanes(dims["cols"]))
    return found


@kernel(
    "regression_sums",
    ways=("", "parts"),
    way=lambda dims, flags: "parts" if _regression_parts(dims) > 1 else "",
    scratch=lambda dims, itemsize: 8 * _SUMS * dims["cols"] * _regression_parts(dims),
)
def regression_sums(kit: Kit) -> list[Stage]:
    """Add shifted sums and products of predictions and targets, column by column."""
    TOTAL, X, TARGET, ROWS, COLS = kit.words("total x target rows cols")
    load, weight_of = kit.load, _rows(kit).weight
    alone = kit.way == ""

    @helper
    def shift_of(record, address, cell, column):
        # a column's value in the first row at hand stays its shift
        held = load_double(record[TOTAL], _SUMS * record[COLS] + cell)
        return held if held == held else np.float64(load(address, column))

    @helper
    def keep_shift(record, cell):
        cols = record[COLS]
        if cell < cols:
            store_double(record[TOTAL], _SUMS * cols + cell, shift_of(record, record[X], cell, cell))
        elif cell < 2 * cols:
            store_double(record[TOTAL], _SUMS * cols + cell, shift_of(record, record[TARGET], cell, cell - cols))

    def regression_sums(record, context):
        if load_int64(context, BAD_ROW) != NO_ROW:
            return
        rows, cols, own = record[ROWS], record[COLS], np.int64(cuda.threadIdx.x)
        lanes = np.int64(_lanes_there(cols))
        column = lanes * cuda.blockIdx.x + own % lanes
        w, wp, wy, wpp = np.float64(0.0), np.float64(0.0), np.float64(0.0), np.float64(0.0)
        wyy, wpy, absolute, squared = np.float64(0.0), np.float64(0.0), np.float64(0.0), np.float64(0.0)
        if column < cols:
            p_shift = shift_of(record, record[X], column, column)
            y_shift = shift_of(record, record[TARGET], cols + column, column)
            strips = _TEAM // lanes
            row = strips * cuda.blockIdx.y + own // lanes
            while row < rows:
                weight = weight_of(record, row)
                score = np.float64(load(record[X], row * cols + column))
                target = np.float64(load(record[TARGET], row * cols + column))
                p, y, error = score - p_shift, target - y_shift, score - target
                w += weight
                wp += weight * p
                wy += weight * y
                wpp += weight * p * p
                wyy += weight * y * y
                wpy += weight * p * y
                absolute += weight * abs(error)
                squared += weight * error * error
                row += strips * cuda.gridDim.y
        sums = cuda.shared.array(_TABLE, np.float64)
        sums[own], sums[_TEAM + own], sums[2 * _TEAM + own], sums[3 * _TEAM + own] = w, wp, wy, wpp
        sums[4 * _TEAM + own], sums[5 * _TEAM + own] = wyy, wpy
        sums[6 * _TEAM + own], sums[7 * _TEAM + own] = absolute, squared
        cuda.syncthreads()
        half = np.int64(_TEAM // 2)
        while half >= lanes:
            if own < half:
                for index in range(_SUMS):
                    sums[index * _TEAM + own] += sums[index * _TEAM + own + half]
            cuda.syncthreads()
            half //= 2
        if own < lanes and column < cols:
            for index in range(_SUMS):
                found, cell = sums[index * _TEAM + own], index * cols + column
                if alone:
                    store_double(record[TOTAL], cell, load_double(record[TOTAL], cell) + found)
                else:
                    store_double(record[SCRATCH_WORD], cuda.blockIdx.y * _SUMS * cols + cell, found)
            if alone:
                keep_shift(record, column)
                keep_shift(record, cols + column)

    @helper
    def cells_there(record):
        return _SUMS * record[COLS]

    @helper
    def parts(record):
        return _column_parts_there(record[ROWS], record[COLS], _lanes_there(record[COLS]))

    def grid(dims: Dims) -> tuple[int, int]:
        return ceil_div(dims["cols"], _lanes(dims["cols"])), _regression_parts(dims)

    if alone:
        return [Stage(regression_sums, grid, _TEAM)]
    last = _add_parts(cells_there, parts, _no_bytes, keep_shift, TOTAL, lambda dims: _SUMS * dims["cols"])
    return [Stage(regression_sums, grid, _TEAM), last]
