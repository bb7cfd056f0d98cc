"""The words of a frozen network's code: what native code knows about the network whose weights it is given."""

from __future__ import annotations

from enum import IntEnum

from fastnn.program.layout import ALIGNMENT, RECORD_WORDS

#: Of the layout below and of what `run_frozen` makes of it. Users' functions that Numba keeps on disk hold the number
#: that they were compiled with, and refuse networks of another one.
LAYOUT_VERSION = 1
#: Dimensions of a sample at most.
MOST_DIMS = 8


class Word(IntEnum):
    """Indices of int64 words from the start of the code; `_AT` words are such indices themselves."""

    VERSION = 0
    TOKEN = 1  # of the process that the addresses below belong to
    RUN = 2  # address of `run_frozen`, or of `run_frozen_gradient`
    PARAMETERS = 3  # elements of the buffer of parameters
    INPUT_NDIM = 4  # of a sample
    OUTPUT_NDIM = 5
    INPUT_SHAPE = 6
    OUTPUT_SHAPE = INPUT_SHAPE + MOST_DIMS
    INPUT_BYTES = OUTPUT_SHAPE + MOST_DIMS  # of a sample
    OUTPUT_BYTES = INPUT_BYTES + 1
    ONE_AT = INPUT_BYTES + 2  # the records for one row
    ONE_COUNT = INPUT_BYTES + 3
    ONE_ARENA = INPUT_BYTES + 4  # bytes
    MANY_AT = INPUT_BYTES + 5  # the records for UNIT rows, to be patched for others
    MANY_COUNT = INPUT_BYTES + 6
    MANY_ARENA = INPUT_BYTES + 7  # bytes for each UNIT rows
    PATCHES_AT = INPUT_BYTES + 8
    PATCHES_COUNT = INPUT_BYTES + 9
    WAYS_AT = INPUT_BYTES + 10
    WAYS_COUNT = INPUT_BYTES + 11
    WEIGHTS_AT = INPUT_BYTES + 12
    WEIGHTS_COUNT = INPUT_BYTES + 13
    TRAINABLE = INPUT_BYTES + 14  # elements of all weights together
    ITEM_BYTES = INPUT_BYTES + 15  # of the dtype
    HEAD = INPUT_BYTES + 16  # how many words there are before the first table


#: Records are patched for any number of rows from those for this many: sizes of values in bytes are then multiples of
#: the arena's alignment, and so the offsets of a plan grow in proportion.
UNIT = 16
#: As many rows are computed at once, as `predict` does.
BLOCK = 256
#: A patch: the word in the records, its value for no rows, what each row adds, what each UNIT rows or part of it add.
PATCH_WORDS = 4
#: A matrix product: its record, and the addresses of its kernels by way (0 where a way is never taken).
WAY_WORDS = 7
#: A weight: its first element in the buffer of parameters, and how many there are.
WEIGHT_WORDS = 2
#: One row needs no workspace when its values take no more than this: they are on the stack.
STACK_BYTES = 8192


class Outcome(IntEnum):
    """What a call of a frozen network ends in."""

    DONE = 0
    RAISED = 1  # a kernel did
    FOREIGN = 2  # the code is another process's, or another version's
    PARAMETERS = 3  # there are not as many as the code says
    INPUT = 4  # x has not the shape of a sample or a batch
    OUTPUT = 5  # out has not the shape of x's outputs
    WORKSPACE = 6  # it is too small
    MEMORY = 7  # there is none for a workspace
    GRADIENT = 8  # dx has not the shape of x
    ABSENT = 9  # the network was frozen without gradients


def workspace_bytes(many_count: int, many_arena: int, one_arena: int, n: int) -> int:
    """Return the bytes of workspace that n rows need; 0 where there is room on the stack. Compiled code asks too."""
    if n <= 1:
        return 0 if one_arena <= STACK_BYTES else one_arena + ALIGNMENT
    rows = min(n, BLOCK)
    arena = max(many_arena * ((rows + UNIT - 1) // UNIT), one_arena)
    return many_count * RECORD_WORDS * 8 + arena + ALIGNMENT
