"""The places of a tile's elements in shared memory, and in the registers of a warp that uses tensor cores.

Plain functions of integers, which kernels compile and tests run. A *line* is a row of a or a column of b. Tensor cores
take fragments of 16 lines of a and 8 of b; a lane holds line lane // 4 of eight, and the values of k whose remainder by
4 is lane % 4. For bfloat16 that is another order of k than PTX's, but the same in both operands, so no sum changes.

Both layouts are free of bank conflicts: elements that the threads of a warp load or copy at the same time are in
different banks.
"""

# The functions take and return integers of the kernels' type; annotations would add nothing.
# mypy: disable-error-code=no-untyped-def

from __future__ import annotations

#: threads of a warp, and k of a tile: 128 bytes where neighbours in memory differ by k
LANES, DEPTH = 32, 32
#: k of the fragments that a lane loads at once: two chunks of four of a, four of b
STEP_A, STEP_B = 8, 16


def line_of(lane):
    """Return the line, of eight, that a lane holds."""
    return lane // 4


def k_of(lane):
    """Return the k, of four, that a lane holds."""
    return lane % 4


def place_along(line, k):
    """Return the place of an element if neighbours differ in k: lines permute their chunks of four."""
    return line * DEPTH + ((k // 4) ^ (line % 8)) * 4 + k % 4


def place_across(line, k, lines):
    """Return the place of an element if neighbours are lines: groups of eight are permuted within every 32 lines."""
    return k * lines + (line ^ (k % 4 * 8))


# matrices of 8 lines x 4 k, four at once: a lane names a line of one of them, and gets an element of each


def line_to_load_a(lane):
    """Return the line that a lane names of four matrices of a: two below each other, twice."""
    return lane % 16


def k_to_load_a(lane):
    """Return the first k of the line that a lane names of four matrices of a."""
    return lane // 16 * 4


def line_to_load_b(lane):
    """Return the line that a lane names of four matrices of b, all of the same lines."""
    return lane % 8


def k_to_load_b(lane):
    """Return the first k of the line that a lane names of four matrices of b."""
    return lane // 8 * 4


def row_of_sum(lane, number):
    """Return the row of 16 of a lane's sum `number` of four."""
    return lane // 4 + number // 2 * 8


def col_of_sum(lane, number):
    """Return the column of eight of a lane's sum `number` of four."""
    return lane % 4 * 2 + number % 2
