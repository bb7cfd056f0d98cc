"""Shared parts of metric kernels: their sizes, labels and weights of rows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from fastnn.backend.cuda.codegen.kernel import Kit, ptx
from fastnn.backend.cuda.codegen.options import helper
from fastnn.backend.cuda.codegen.sizes import SIZES

WARP, TEAM, LANES, STRIPS = SIZES.warp, SIZES.team, SIZES.lanes, SIZES.strips
WARPS, BLOCK = TEAM // WARP, LANES * STRIPS
load_int64, store_int64, as_double = ptx.LOADS["int64"], ptx.STORES["int64"], ptx.int_as_double
load_double, store_double = ptx.LOADS["float64"], ptx.STORES["float64"]

#: rows of up to this many columns have one thread each; a warp would be mostly idle
SHORT = WARP + STRIPS
#: the maximum number of blocks that share a batch, enough to fill a large GPU
PARTS = 2 * TEAM
#: the work of a single block, in rows per thread: a second launch takes as long
ALONE = 4
#: the maximum number of float64 of all parts' accumulators together
MOST_CELLS = 2**21


def make_peaks(kit: Kit) -> tuple[Any, Any]:
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
            j += WARP
        mask = WARP // 2
        while mask > 0:
            other, place = shuffle(largest, np.int32(mask)), shuffle_index(found, np.int32(mask))
            if other > largest or (other == largest and place < found):
                largest, found = other, place
            mask //= 2
        first = load(address, start)
        # nothing is larger than a NaN in column 0; later NaNs are larger than nothing
        return np.int64(found) if first == first else np.int64(0), odd

    return peak, peak_by_warp


def make_rows(kit: Kit) -> SimpleNamespace:
    """Make `label(record, row, cols)`, `label_by_warp(record, row, cols, lane)` and `weight(record, row)`.

    A dense row's label is its first maximum, or whether its one column is above a half.
    """
    TARGET, LABELS, WEIGHT, PER_SAMPLE = kit.words("target labels weight per_sample")
    load, half = kit.load, kit.real(0.5)
    peak, peak_by_warp = make_peaks(kit)

    @helper
    def given(record, row, cols):
        found = load_int64(record[LABELS], row)
        # labels are checked before a run, but the user may change the array during it
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
