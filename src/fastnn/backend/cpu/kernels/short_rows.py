"""Short rows, 32 at a time: transposed onto the stack, so that each lane of a vector works on one row.

A loop over ten columns is scalar code; over one column of 32 rows it is four vectors of AVX2. Loops over lanes always
process whole vectors, so an element is computed by the same instructions whatever its row's position.
"""

from __future__ import annotations

from types import SimpleNamespace

from fastnn.backend.cpu.codegen.intrinsics import smaller
from fastnn.backend.cpu.codegen.kernel import Kit
from fastnn.backend.cpu.codegen.options import helper, inlined
from fastnn.backend.cpu.codegen.transpose import make_turn
from fastnn.backend.cpu.processor.target import vector_bytes

LANES = 32
LONGEST = 32
FEWEST_ROWS = 12


@helper
def is_short(rows: int, cols: int) -> bool:
    """Return whether rows are processed in lanes; it depends on the whole record, never on a part of it."""
    return cols < LONGEST and rows >= FEWEST_ROWS


@inlined
def lanes_of(nth: int) -> int:
    """Return LANES, hidden from the compiler, which would otherwise unroll loops instead of vectorising them."""
    return LANES + (nth >> 62)


def lane_functions(kit: Kit) -> SimpleNamespace:
    """Make the functions on a block of lanes; element j of the row in lane l is t[LANES * j + l].

    `load(table, row, last, cols, block, lanes)` and `store(block, row, last, cols, table, lanes)` move the rows
    [row, last) between a table and a block, given as addresses; `maxima(t, cols, lanes, m, scratch)` finds the largest
    element of each lane.
    """
    itemsize = kit.itemsize
    # not 16 x 16 for AVX-512, which took 14 s to compile
    width = min(vector_bytes(), 32) // itemsize
    turn_in, turn_out = (make_turn(kit.dtype, width, inwards=inwards) for inwards in (True, False))
    block_row = LANES * itemsize

    @helper
    def load(table, row, last, cols, block, lanes):
        for lane in range(0, lanes, width):
            begin = smaller(row + lane, last - 1)
            for j in range(0, cols, width):
                place = table + (begin * cols + j) * itemsize
                turn_in(
                    place, cols * itemsize, last - begin, cols - j, block + j * block_row + lane * itemsize, block_row
                )

    @helper
    def store(block, row, last, cols, table, lanes):
        for lane in range(0, smaller(lanes, last - row), width):
            for j in range(0, cols, width):
                place = table + ((row + lane) * cols + j) * itemsize
                turn_out(place, cols * itemsize, last - row - lane, cols - j, block + j * block_row + lane * itemsize,
                         block_row)  # fmt: skip

    @inlined
    def maxima(t, cols, lanes, m, scratch):
        for lane in range(lanes):
            m[lane] = t[lane]
        # Via scratch memory: `m = t if t > m else m` would become a masked store, which takes 20 cycles on AMD.
        for j in range(1, cols, 2):
            k = LANES * smaller(j + 1, cols - 1)
            for lane in range(lanes):
                value, largest = t[LANES * j + lane], m[lane]
                scratch[lane] = value if value > largest else largest
            for lane in range(lanes):
                value, largest = t[k + lane], scratch[lane]
                m[lane] = value if value > largest else largest

    return SimpleNamespace(load=load, store=store, maxima=maxima)
