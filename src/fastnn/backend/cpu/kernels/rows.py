"""Kernels that work on whole rows: softmax, log-softmax, their gradients, and the sum over rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.backend.cpu.codegen import bits
from fastnn.backend.cpu.codegen.intrinsics import (
    SOURCE_POINTERS,
    address,
    flags_of,
    float64_pointer,
    int64_pointer,
    smaller,
    stack_bytes,
)
from fastnn.backend.cpu.codegen.kernel import Kit, kernel, part, rows_part
from fastnn.backend.cpu.codegen.options import formula, helper, inlined
from fastnn.backend.cpu.codegen.row import make_row_update
from fastnn.backend.cpu.kernels.norms.column_sums import TOGETHER, fold, side_by_side
from fastnn.backend.cpu.kernels.short_rows import LANES, LONGEST, is_short, lane_functions, lanes_of
from fastnn.backend.cpu.processor.blocking import Blocking
from fastnn.program.layout import Flag

_ACCUMULATE = int(Flag.ACCUMULATE)
# Rows that are summed in the dtype, and elements of a single column, which has 16 or more parallel sums.
_STRETCH, _COLUMN = 64, 2048


def row_functions(kit: Kit) -> tuple[Any, Any, Any]:
    """Make `row_max(address, cols)` and `exp_sum(x, at, cols, largest, y, to)`: exp(x - largest), and its sum.

    `exp_sum_ahead` does the same and returns the maximum of the row at another address as well.

    A NaN anywhere in a row reaches the sum, even if the maximum missed it.
    """
    exp_weight, real = kit.math.exp_weight, kit.real
    single = kit.dtype == "float32"
    integer, integers = (np.int32, SOURCE_POINTERS["int32"]) if single else (np.int64, int64_pointer)
    as_real = bits.int_as_float if single else bits.int_as_double
    sign, smallest = integer(8 * kit.itemsize - 1), integer(np.iinfo(integer).min)
    magnitude = integer(np.iinfo(integer).max)

    @inlined
    def ordered(i):
        # Floats have the order of their bits, except for the magnitude of negative ones. Integers are compared because
        # the maximum of floats is a chain of scalar instructions, unless NaN is excluded (1.2 ns per element).
        return integer(i ^ integer(integer(i >> sign) & magnitude))

    @helper
    def row_max(address, cols):
        x, largest = integers(address), smallest
        for j in range(cols):
            bits_of = ordered(x[j])
            largest = bits_of if bits_of > largest else largest
        return as_real(ordered(largest))

    @helper
    def exp_sum(x, at, cols, largest, y, to):
        total = real(0.0)
        for j in range(cols):
            e = exp_weight(x[at + j] - largest)
            y[to + j] = e
            total += e
        return total

    @helper
    def exp_sum_ahead(x, at, cols, largest, y, to, ahead):
        # loads the next row while it computes: softmax of 4096 x 4096 in 10.7 instead of 12.2 ms
        total, following, largest_ahead = real(0.0), integers(ahead), smallest
        for j in range(cols):
            e = exp_weight(x[at + j] - largest)
            y[to + j] = e
            total += e
            bits_of = ordered(following[j])
            largest_ahead = bits_of if bits_of > largest_ahead else largest_ahead
        return total, as_real(ordered(largest_ahead))

    return row_max, exp_sum, exp_sum_ahead


@formula
def times(a, b):
    """Multiply without reassociation, which would turn each product with a reciprocal into a division."""
    return a * b


@kernel("softmax")
def softmax(kit: Kit, variant: str) -> Callable[..., Any]:
    """Make every row exp(x - max) / sum."""
    Y, X, ROWS, COLS = kit.words("y x rows cols")
    at, reals, real, itemsize = kit.at, kit.reals, kit.real, kit.itemsize
    row_max, _, exp_sum_ahead = row_functions(kit)
    lane = lane_functions(kit)
    load, store, maxima, exp_weight = lane.load, lane.store, lane.maxima, kit.math.exp_weight
    block_bytes, lane_bytes = LANES * LONGEST * itemsize, LANES * itemsize
    zero, one = real(0.0), real(1.0)

    # the sum of a short row is that of a lane, so that its bits do not depend on the number of rows
    @formula
    def in_order(y, i, cols, total):
        for j in range(cols):
            total = total + y[i + j]
        return total

    def softmax(record, context, ith, nth):
        r = int64_pointer(record)
        rows, cols = r[ROWS], r[COLS]
        first, last = rows_part(rows, ith, nth)
        y, x = at(record, context, Y), at(record, context, X)
        if is_short(rows, cols):
            lanes, block = lanes_of(nth), stack_bytes(block_bytes)
            t, m, total = reals(block), reals(stack_bytes(lane_bytes)), reals(stack_bytes(lane_bytes))
            for row in range(first, last, LANES):
                load(address(record, context, X), row, last, cols, block, lanes)
                maxima(t, cols, lanes, m, total)
                for lane in range(lanes):
                    total[lane] = zero
                for j in range(cols):
                    for lane in range(lanes):
                        e = exp_weight(t[LANES * j + lane] - m[lane])
                        t[LANES * j + lane] = e
                        total[lane] += e
                for lane in range(lanes):
                    total[lane] = one / total[lane]
                for j in range(cols):
                    for lane in range(lanes):
                        t[LANES * j + lane] *= total[lane]
                store(block, row, last, cols, address(record, context, Y), lanes)
            return
        x_at = address(record, context, X)
        largest = row_max(x_at + smaller(first, rows - 1) * cols * itemsize, cols)
        for row in range(first, last):
            i = row * cols
            ahead = x_at + smaller(row + 1, last - 1) * cols * itemsize
            total, largest = exp_sum_ahead(x, i, cols, largest, y, i, ahead)
            if cols < LONGEST:
                total = in_order(y, i, cols, zero)
            scale = one / total
            for j in range(cols):
                y[i + j] = times(y[i + j], scale)

    return softmax


@kernel("log_softmax")
def log_softmax(kit: Kit, variant: str) -> Callable[..., Any]:
    """Make every row x - max - log(sum(exp(x - max)))."""
    Y, X, ROWS, COLS = kit.words("y x rows cols")
    at, log, real, itemsize = kit.at, kit.math.log, kit.real, kit.itemsize
    exp_weight = kit.math.exp_weight
    row_max, _, _ = row_functions(kit)

    def log_softmax(record, context, ith, nth):
        r = int64_pointer(record)
        cols = r[COLS]
        first, last = rows_part(r[ROWS], ith, nth)
        y, x = at(record, context, Y), at(record, context, X)
        x_at = address(record, context, X)
        for row in range(first, last):
            i = row * cols
            largest = row_max(x_at + i * itemsize, cols)
            total = real(0.0)
            for j in range(cols):
                d = x[i + j] - largest
                y[i + j] = d
                total += exp_weight(d)
            total = log(total)
            for j in range(cols):
                y[i + j] -= total

    return log_softmax


@kernel("softmax_grad")
def softmax_grad(kit: Kit, variant: str) -> Callable[..., Any]:
    """Make dx = y (dy - sum(dy y)) in every row."""
    DX, DY, Y, ROWS, COLS = kit.words("dx dy y rows cols")
    at, real = kit.at, kit.real

    def softmax_grad(record, context, ith, nth):
        r = int64_pointer(record)
        cols = r[COLS]
        first, last = rows_part(r[ROWS], ith, nth)
        dx, dy, y = at(record, context, DX), at(record, context, DY), at(record, context, Y)
        for row in range(first, last):
            i = row * cols
            total = real(0.0)
            for j in range(cols):
                total += dy[i + j] * y[i + j]
            for j in range(cols):
                dx[i + j] = y[i + j] * (dy[i + j] - total)

    return softmax_grad


@kernel("log_softmax_grad")
def log_softmax_grad(kit: Kit, variant: str) -> Callable[..., Any]:
    """Make dx = dy - exp(y) sum(dy) in every row."""
    DX, DY, Y, ROWS, COLS = kit.words("dx dy y rows cols")
    at, real, exp = kit.at, kit.real, kit.math.exp

    def log_softmax_grad(record, context, ith, nth):
        r = int64_pointer(record)
        cols = r[COLS]
        first, last = rows_part(r[ROWS], ith, nth)
        dx, dy, y = at(record, context, DX), at(record, context, DY), at(record, context, Y)
        for row in range(first, last):
            i = row * cols
            total = real(0.0)
            for j in range(cols):
                total += dy[i + j]
            for j in range(cols):
                dx[i + j] = dy[i + j] - exp(y[i + j]) * total

    return log_softmax_grad


@kernel("sum_rows")
def sum_rows(kit: Kit, variant: str) -> Callable[..., Any]:
    """Sum over rows; a part works on a slice of the columns. Stretches of rows are summed, and added up in float64."""
    Y, X, ROWS, COLS = kit.words("y x rows cols")
    at, reals, real, size = kit.at, kit.reals, kit.real, kit.itemsize
    lanes = Blocking.of(kit.dtype).lanes
    # eight rows at a time: a sum that is stored after each row waits for its own store (32 x 16: 0.11 to 0.03 us)
    add_rows, add_row = make_row_update(kit.dtype, lanes, 8), make_row_update(kit.dtype, lanes, 1)
    # this many columns of sums stay in the first-level cache while eight rows are read
    most = 8 * 1024 // size
    real_bytes, double_bytes = most * size, most * 8

    @inlined
    def add_stretch(one, x, row_bytes, rows, to, columns):
        i = 0
        while i + 8 <= rows:
            add_rows(one, 0, x + i * row_bytes, row_bytes, to, columns)
            i += 8
        while i < rows:
            add_row(one, 0, x + i * row_bytes, row_bytes, to, columns)
            i += 1

    @helper
    def add_stretches(one, x, row_bytes, rows, to, columns, several):
        """Add rows; short ones are taken `several` as one: 50,176 of 6 columns took 101 us one by one, now 11."""
        near, sums, y = stack_bytes(real_bytes), float64_pointer(stack_bytes(double_bytes)), reals(to)
        for j in range(several * columns):
            sums[j] = 0.0
        row, whole = 0, rows // several * several
        while row < rows:
            many = several if row < whole else 1
            count = smaller(_STRETCH * many, (whole if row < whole else rows) - row)
            for j in range(many * columns):
                reals(near)[j] = real(0.0)
            add_stretch(one, x + row * row_bytes, many * row_bytes, count // many, near, many * columns)
            for j in range(many * columns):
                sums[j] += np.float64(reals(near)[j])
            row += count
        fold(sums, columns, several)
        for j in range(columns):
            y[j] = real(np.float64(y[j]) + sums[j])

    @helper
    def column(x, rows):
        """Return the sum of a single column, which is contiguous."""
        total = 0.0
        for first in range(0, rows, _COLUMN):
            near = real(0.0)
            for i in range(first, smaller(rows, first + _COLUMN)):
                near += x[i]
            total += np.float64(near)
        return total

    def sum_rows(record, context, ith, nth):
        r = int64_pointer(record)
        rows, cols = r[ROWS], r[COLS]
        first, last = part(cols, ith, nth)
        y = at(record, context, Y)
        if flags_of(record) & _ACCUMULATE == 0:
            for j in range(first, last):
                y[j] = real(0.0)
        if first >= last:
            return
        if cols == 1:
            y[0] = real(np.float64(y[0]) + column(at(record, context, X), rows))
            return
        one = stack_bytes(size)
        reals(one)[0] = real(1.0)
        out, row_bytes = address(record, context, Y), cols * size
        for j in range(first, last, most):
            columns, here = smaller(most, last - j), address(record, context, X) + j * size
            if rows <= _STRETCH:
                add_stretch(one, here, row_bytes, rows, out + j * size, columns)
            else:
                several = side_by_side(rows, cols, TOGETHER)
                add_stretches(one, here, row_bytes, rows, out + j * size, columns, several)

    return sum_rows
