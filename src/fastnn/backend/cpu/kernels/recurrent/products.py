"""Products of states with the recurrent kernel, and of gates' gradients with its transpose.

The kernel is packed once for all steps of a part: panel by panel, in the order in which tiles read it. A kernel that
would not stay in the caches is packed panel by panel in each step. Each element is one chain of multiply-adds in rising
order, so results do not depend on how many rows a part has.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from fastnn.backend.cpu.codegen.intrinsics import smaller
from fastnn.backend.cpu.codegen.kernel import Kit
from fastnn.backend.cpu.codegen.options import helper
from fastnn.backend.cpu.codegen.shared import shared
from fastnn.backend.cpu.kernels.panels import PANEL_ARGUMENTS, copy_and_transpose
from fastnn.backend.cpu.kernels.single_row import row_in_registers
from fastnn.backend.cpu.processor.blocking import Blocking
from fastnn.program.record import KernelKey

#: Kernels of more bytes than this are packed in each step.
PACKED_BYTES = 3 << 20


class Products(NamedTuple):
    """Functions of a recurrent kernel; addresses and strides are in bytes.

    Attributes
    ----------
    packed_bytes : jitted function
        (n, k) -> bytes of a packed matrix of n columns and k rows.
    pack : jitted function
        (w, w_row, n, k, to): pack the matrix at w.
    product : jitted function
        (rows, n, k, a, a_row, packed, w, w_row, panel, bias, c, c_row): c = a w + bias, where `packed` is the packed
        matrix, or 0: then `panel` is memory for one panel. `bias` may be 0.
    """

    packed_bytes: Any
    pack: Any
    product: Any


def products_of(kit: Kit, *, transposed: bool) -> Products:
    """Make the functions: of w, or of its transpose, of which w has the columns as rows."""
    shape, size = Blocking.of(kit.dtype), kit.itemsize
    lanes, width, packed_row = shape.lanes, shape.width, shape.width * kit.itemsize
    wide, narrow = (shared(KernelKey("panel", kit.dtype, kind), PANEL_ARGUMENTS) for kind in ("wide", "narrow"))
    copy_panel, transpose_panel = copy_and_transpose(kit, shape, whole_panels=True)
    single = row_in_registers(kit, shape)

    @helper
    def packed_bytes(n, k):
        return (n + width - 1) // width * k * packed_row

    @helper
    def pack_panel(w, w_row, j, n, k, to):
        if transposed:
            transpose_panel(w + j * w_row, w_row, k, smaller(width, n - j), to)
        else:
            copy_panel(w + j * size, w_row, k, smaller(width, n - j), to, packed_row)

    @helper
    def pack(w, w_row, n, k, to):
        for j in range(0, n, width):
            pack_panel(w, w_row, j, n, k, to + j // width * k * packed_row)

    @helper
    def product(rows, n, k, a, a_row, packed, w, w_row, panel, bias, c, c_row):
        if not transposed and rows == 1:
            single(0, n, k, a, size, w, w_row, c, bias)
            return
        for j in range(0, n, width):
            columns, right = smaller(width, n - j), packed + j // width * k * packed_row
            if packed == 0:
                right = panel
                pack_panel(w, w_row, j, n, k, panel)
            init = bias + j * size if bias != 0 else 0
            if columns > lanes:
                wide(rows, a, a_row, a_row, size, 0, right, packed_row, k, c + j * size, c_row, init, 0, 0, columns, 0,
                     0, 0, 0)  # fmt: skip
            else:
                narrow(rows, a, a_row, a_row, size, 0, right, packed_row, k, c + j * size, c_row, init, 0, 0, columns,
                       0, 0, 0, 0)  # fmt: skip

    return Products(packed_bytes, pack, product)
