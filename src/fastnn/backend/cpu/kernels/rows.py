"""Kernels that work on whole rows: softmax, log-softmax, their gradients, and the sum over rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnn.backend.cpu.intrinsics import int64_pointer
from fastnn.backend.cpu.kernels.kit import Kit, flags_of, kernel, part, rows_part
from fastnn.backend.cpu.options import helper
from fastnn.program.layout import Flag

_ACCUMULATE = int(Flag.ACCUMULATE)


def row_functions(kit: Kit) -> tuple[Any, Any]:
    """Make `row_max(x, at, cols)` and `exp_sum(x, at, cols, y)`, which writes exp(x - max) and returns its sum.

    A NaN anywhere in a row reaches the sum, even where the maximum missed it.
    """
    exp, real = kit.math.exp, kit.real

    @helper
    def row_max(x, at, cols):
        largest = x[at]
        for j in range(1, cols):
            largest = x[at + j] if x[at + j] > largest else largest
        return largest

    @helper
    def exp_sum(x, at, cols, largest, y, to):
        total = real(0.0)
        for j in range(cols):
            y[to + j] = exp(x[at + j] - largest)
        for j in range(cols):
            total += y[to + j]
        return total

    return row_max, exp_sum


@kernel("softmax")
def softmax(kit: Kit, variant: str) -> Callable[..., Any]:
    """Make every row exp(x - max) / sum."""
    Y, X, ROWS, COLS = kit.words("y x rows cols")
    at, real = kit.at, kit.real
    row_max, exp_sum = row_functions(kit)
    one = real(1.0)

    def softmax(record, context, ith, nth):
        r = int64_pointer(record)
        cols = r[COLS]
        first, last = rows_part(r[ROWS], ith, nth)
        y, x = at(record, context, Y), at(record, context, X)
        for row in range(first, last):
            i = row * cols
            scale = one / exp_sum(x, i, cols, row_max(x, i, cols), y, i)
            for j in range(cols):
                y[i + j] *= scale

    return softmax


@kernel("log_softmax")
def log_softmax(kit: Kit, variant: str) -> Callable[..., Any]:
    """Make every row x - max - log(sum(exp(x - max)))."""
    Y, X, ROWS, COLS = kit.words("y x rows cols")
    at, log = kit.at, kit.math.log
    row_max, exp_sum = row_functions(kit)

    def log_softmax(record, context, ith, nth):
        r = int64_pointer(record)
        cols = r[COLS]
        first, last = rows_part(r[ROWS], ith, nth)
        y, x = at(record, context, Y), at(record, context, X)
        for row in range(first, last):
            i = row * cols
            largest = row_max(x, i, cols)
            total = log(exp_sum(x, i, cols, largest, y, i))
            for j in range(cols):
                y[i + j] = (x[i + j] - largest) - total

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
    """Sum over rows, from the first to the last; a part works on a slice of the columns."""
    Y, X, ROWS, COLS = kit.words("y x rows cols")
    at, real = kit.at, kit.real

    def sum_rows(record, context, ith, nth):
        r = int64_pointer(record)
        cols = r[COLS]
        first, last = part(cols, ith, nth)
        y, x = at(record, context, Y), at(record, context, X)
        if flags_of(record) & _ACCUMULATE == 0:
            for j in range(first, last):
                y[j] = real(0.0)
        for i in range(r[ROWS]):
            for j in range(first, last):
                y[j] += x[i * cols + j]

    return sum_rows
