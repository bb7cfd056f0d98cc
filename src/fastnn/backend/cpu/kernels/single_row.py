"""A single row times a matrix, with the sums in registers."""

from __future__ import annotations

from typing import Any

from fastnn.backend.cpu.codegen.kernel import Kit
from fastnn.backend.cpu.codegen.options import helper
from fastnn.backend.cpu.codegen.row import make_row
from fastnn.backend.cpu.processor.blocking import Blocking


def row_in_registers(kit: Kit, shape: Blocking) -> Any:
    """Make the function that computes columns first to last of c = start + a b for one row.

    Each element is one chain over k in rising order, as in a tile. Its arguments, addresses and strides in bytes:
    first, last, k, a, a_k, b, b_row, c, start (0 for zeros).
    """
    size, lanes = kit.itemsize, shape.lanes
    eight = make_row(kit.dtype, lanes, 8, whole=True)
    one, two, three, four, six = (make_row(kit.dtype, lanes, vectors) for vectors in (1, 2, 3, 4, 6))

    @helper
    def in_registers(first, last, k, a, a_k, b, b_row, c, start):
        step = size if start != 0 else 0
        j = first
        while j < last:
            left, right, to, init = last - j, b + j * size, c + j * size, start + j * step
            if left >= 8 * lanes:
                eight(a, a_k, right, b_row, k, to, init, left)
                j += 8 * lanes
            elif left > 5 * lanes:
                six(a, a_k, right, b_row, k, to, init, left)
                j += 6 * lanes
            elif left > 3 * lanes:
                four(a, a_k, right, b_row, k, to, init, left)
                j += 4 * lanes
            elif left > 2 * lanes:
                three(a, a_k, right, b_row, k, to, init, left)
                j += 3 * lanes
            elif left > lanes:
                two(a, a_k, right, b_row, k, to, init, left)
                j += 2 * lanes
            else:
                one(a, a_k, right, b_row, k, to, init, left)
                j += lanes

    return in_registers
