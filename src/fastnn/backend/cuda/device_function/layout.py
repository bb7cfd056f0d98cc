"""The words of a network's code on a GPU, which the encoder writes and the interpreter in users' kernels reads.

The code is an array of int64: a head, and instructions of `STRIDE` words. Their operands are in four places:
the caller's input, output and workspace, and the constants, an array of weights in the order in which they are read.
"""

from __future__ import annotations

from enum import IntEnum

from fastnn.formulas.activations import SAVES


class Head(IntEnum):
    """Words at the start of the code; sizes are in elements."""

    MAGIC = 0  # see `instructions`
    ITEM_BYTES = 1  # of the dtype
    INPUTS = 2  # of a sample
    OUTPUTS = 3
    WORKSPACE = 4
    CONSTANTS = 5
    COUNT = 6  # of instructions
    WEIGHTS = 7  # of the model, only for display
    INTEGERS = 8  # whether a sample's input is of integers, from LOWEST to HIGHEST
    LOWEST = 9
    HIGHEST = 10


class InstructionWord(IntEnum):
    """Words of an instruction; each has the same meaning in all instructions.

    Y, X and OTHER are in input, output or workspace (see `operand`); CONSTANTS is the number of the first constant.
    """

    OP = 0
    Y = 1
    X = 2
    OTHER = 3
    CONSTANTS = 4
    ROWS = 5
    COLS = 6
    DEPTH = 7  # the columns of a matrix product's x
    Y_STRIDE = 8  # from row to row
    X_STRIDE = 9
    ACTIVATION = 10  # its number; of a matrix product NONE or that of relu
    A = 11  # float64: an activation's parameter or a normalisation's epsilon
    B = 12
    OTHER_STRIDE = 13  # from row to row
    FLAGS = 14  # the record's
    MAPS = 15  # sizes of maps over which a window slides: three numbers, as in a record
    RESULTS = 16  # how many windows there are along each axis
    WINDOW = 17
    MOVES = 18  # from a window to the next
    DILATION = 19
    PADDING = 20


class Place(IntEnum):
    """The place of an operand."""

    INPUT = 0
    OUTPUT = 1
    WORKSPACE = 2


HEAD, STRIDE = len(Head), len(InstructionWord)
PLACE_BITS = 2
#: columns of a matrix product that are computed at once, and widths for the rest
WIDE, NARROW = 8, 4
#: activations by number
ACTIVATIONS = tuple(SAVES)
NONE = -1


def operand(place: int, offset: int) -> int:
    """Encode a place and the number of an element in it in one word."""
    return offset << PLACE_BITS | int(place)


def tile_width(left: int) -> int:
    """Return the width of the next tile of a matrix product with `left` columns left."""
    return WIDE if left > NARROW else NARROW


def described() -> str:
    """Describe the layout, for a number that changes with it."""
    version = 5
    return repr((version, *(list(each) for each in (Head, InstructionWord, Place)), WIDE, NARROW, ACTIVATIONS))
