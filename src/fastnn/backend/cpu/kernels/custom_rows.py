"""User-defined functions of arrays, row by row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import carray

from fastnn.backend.cpu.codegen.intrinsics import address, flags_of, has, int64_pointer, smaller
from fastnn.backend.cpu.codegen.kernel import Kit, kernel
from fastnn.backend.cpu.codegen.options import rows
from fastnn.formulas import custom, custom_formulas
from fastnn.program.layout import Flag

_ACCUMULATE = int(Flag.ACCUMULATE)
# rows whose gradients for the weights are added up in the dtype
_STRETCH = 64


@kernel("row_function")
def row_function(kit: Kit, variant: str) -> Callable[..., Any]:
    """Fill every row of y from the row of x with a user-defined function. Runs as one part: its cost is unknown."""
    Y, X, W, ROWS, COLS, UNITS = kit.words("y x w rows cols units")
    users = custom.find(variant)
    assert users is not None
    reals, itemsize, shape = kit.reals, kit.itemsize, users.shape
    zero = kit.real(0.0)
    function, _ = custom_formulas.rows(users, rows)

    def row_function(record, context, ith, nth):
        if ith == 0:
            r = int64_pointer(record)
            cols, units = r[COLS], r[UNITS]
            x, y = address(record, context, X), address(record, context, Y)
            # without weights the function ignores them
            w = carray(reals(address(record, context, W) if has(record, W) else x), shape)
            into = reals(y)
            for i in range(r[ROWS] * units):
                into[i] = zero
            for row in range(r[ROWS]):
                given = carray(reals(x + row * cols * itemsize), (cols,))
                function(given, w, carray(reals(y + row * units * itemsize), (units,)))

    return row_function


@kernel("row_function_grad")
def row_function_grad(kit: Kit, variant: str) -> Callable[..., Any]:
    """Fill every row of dx, and add to dw, from the rows of dy and x with a user-defined gradient.

    The sums for dw over stretches of rows are added up in float64.
    """
    DX, DW, DY, X, W, ROWS, COLS, UNITS = kit.words("dx dw dy x w rows cols units")
    users = custom.find(variant)
    assert users is not None
    real, reals, itemsize, shape = kit.real, kit.reals, kit.itemsize, users.shape
    _, gradient = custom_formulas.rows(users, rows)
    zero = real(0.0)

    @rows
    def add_rows(x, dy, dx, first, last, cols, units, w, dw):
        for row in range(first, last):
            gradient(
                carray(reals(x + row * cols * itemsize), (cols,)), w,
                carray(reals(dy + row * units * itemsize), (units,)),
                carray(reals(dx + row * cols * itemsize), (cols,)), dw,
            )  # fmt: skip

    def row_function_grad(record, context, ith, nth):
        if ith == 0:
            r = int64_pointer(record)
            cols, units = r[COLS], r[UNITS]
            x, dy, dx = address(record, context, X), address(record, context, DY), address(record, context, DX)
            w = carray(reals(address(record, context, W) if has(record, W) else x), shape)
            # without weights, or if their gradient is not needed, it is discarded
            dw = carray(reals(address(record, context, DW)), shape) if has(record, DW) else np.zeros(shape, real)
            if flags_of(record) & _ACCUMULATE == 0:
                dw[:] = zero
            into = reals(dx)
            for i in range(r[ROWS] * cols):
                into[i] = zero
            if r[ROWS] <= _STRETCH:
                add_rows(x, dy, dx, 0, r[ROWS], cols, units, w, dw)
                return
            near, sums = np.zeros(shape, real), np.zeros(shape, np.float64)
            for first in range(0, r[ROWS], _STRETCH):
                near[:] = zero
                add_rows(x, dy, dx, first, smaller(r[ROWS], first + _STRETCH), cols, units, w, near)
                sums += near
            dw += sums

    return row_function_grad
