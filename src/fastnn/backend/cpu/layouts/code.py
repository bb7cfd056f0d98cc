"""The words of a code: all that compiled code knows about a network or a learner, besides its weights.

A code is an array of int64. Its head (`CodeWord`) is followed by tables: the slots, which describe the arrays that a
call gives, the records for one row and for many, and what changes in them with the number of rows.

A code may be for exactly n rows (`CodeWord.ROWS`). Its sample is then the whole batch: the shapes of slots are those of
whole arrays, a call computes one such sample, and nothing is patched but the algorithms of products.
"""

from __future__ import annotations

from enum import IntEnum, auto
from typing import Any

from fastnn.backend.cpu.processor.blocking import SCRATCH_BYTES
from fastnn.formulas.optimizers import HYPER_COLUMNS
from fastnn.program.layout import ALIGNMENT, RECORD_WORDS
from fastnn.program.opcodes import TABLE

#: The version of the layouts of codes, calls and records. Users' functions that Numba keeps on disk contain the number
#: that they were compiled with, and refuse networks of another version.
LAYOUT_VERSION = TABLE.digest ^ 10
#: Maximum dimensions of a sample.
MOST_DIMS = 8
#: Maximum numbers of a loss that takes only certain targets.
MOST_ALLOWED = 3
#: Maximum arrays of a call: inputs, and outputs or targets and weights, and gradients of inputs.
MOST_SLOTS = 64
#: Maximum rows of a workspace: sizes in bytes stay within 64 bits.
MOST_ROWS = 1 << 32
#: Accumulators of a step that reports no metrics: a scratch value, penalties, two for each output.
MOST_TOTALS = 48
#: Corrections of hyper rows, by number: `Formula.correction`.
CORRECTIONS = ("", "adam", "nadam", "count")
#: The dtypes of arrays in calls, by number; the first three are those that programs read in place.
DTYPES = (
    "float32", "float64", "int64", "int8", "int16", "int32", "uint8", "uint16", "uint32", "uint64", "bool",
)  # fmt: skip
REAL_DTYPES = 2  # the number of those that are not integers


class _Words(IntEnum):
    @staticmethod
    def _generate_next_value_(name: str, start: int, count: int, last_values: list[Any]) -> int:
        return count


class CodeWord(_Words):
    """Indices of int64 words from the start of the code; `_AT` words are such indices themselves."""

    VERSION = auto()
    TOKEN = auto()  # of the process that the addresses belong to
    CALL = auto()  # address of `call_network` or `call_learner`
    NOTE = auto()  # address of `note_failure`
    CONVERT = auto()  # address of `convert`
    FAILURES = auto()  # address of the table that `Failed` describes
    PARAMETERS = auto()  # elements of the buffer of parameters
    GRADIENTS = auto()  # elements of the buffer of gradients, and of each slot of the optimizer
    TRAINABLE = auto()  # elements of all weights together
    ITEM_BYTES = auto()  # of the dtype
    FINGERPRINT = auto()  # of the programs
    SLOTS_AT = auto()
    SLOTS_COUNT = auto()
    X_COUNT = auto()  # the number of slots of inputs, which come first
    ARRAYS = auto()  # X_COUNT << 32 | SLOTS_COUNT
    INPUTS = auto()  # the number of slots that are read, which come before the results
    INTEGERS = auto()  # the number of slots of integers
    ROW_BYTES = auto()  # of one row of all slots that are read
    ROWS = auto()  # the number of rows that it is for, 0: any number
    CARRIED = (
        auto()
    )  # numbers of a row of a state that the caller copies after a call, from its second to its first half
    MOST_SO_FAR = auto()  # the most steps that a sequence may have had before a call, -1: nobody counts them
    ONE_AT = auto()  # the records for one row; there are none in a code for exactly n rows
    ONE_COUNT = auto()
    ONE_ARENA = auto()  # bytes
    MANY_AT = auto()  # the records for UNIT rows, to be patched for others; those for exactly n rows
    MANY_COUNT = auto()
    MANY_RUN = auto()  # how many of them the executor runs; those of chains follow
    MANY_ARENA = auto()  # bytes for each UNIT rows; those for exactly n rows
    PATCHES_AT = auto()
    PATCHES_COUNT = auto()
    PRODUCTS_AT = auto()
    PRODUCTS_COUNT = auto()
    BLOCKS_FROM = auto()  # the number of samples from which a product may pack blocks, 0: none does
    LEAST_M = auto()  # the smallest sizes that are packed, and their product, as in `Blocking.least`
    LEAST_N = auto()
    LEAST_K = auto()
    LEAST_WORK = auto()
    WEIGHTS_AT = auto()
    WEIGHTS_COUNT = auto()
    # only the code of a learner has the following words
    UPDATE_ONE = auto()  # the number of records before those of the update
    UPDATE_MANY = auto()
    SCALES_AT = auto()
    SCALES_COUNT = auto()
    PENALTY_AT = auto()  # among the accumulators
    LOSS_TOTALS = auto()  # the number of accumulators of losses and penalties, which come first
    TOTALS = auto()  # the number of all accumulators
    OPTIMIZER_SLOTS = auto()
    RATES = auto()  # columns of a hyper row that are proportional to the learning rate
    CORRECTION = auto()  # see CORRECTIONS
    ACCUMULATED = auto()  # steps whose gradients make one update of the weights
    HEAD = auto()  # the number of words before the first table


class Role(_Words):
    """The role of an array in a call."""

    INPUT = auto()
    SEED = auto()  # gradients of the outputs
    TARGET = auto()
    LABEL = auto()
    WEIGHT = auto()  # of samples or of their rows; it may be absent
    OUTPUT = auto()
    GRADIENT = auto()  # of the inputs
    STATE = auto()  # half of the state of sequences: read and changed


class Slot(IntEnum):
    """Indices of int64 words of a slot's description."""

    ROLE = 0
    DTYPE = 1  # that the program reads or writes, a number in DTYPES
    BYTES = 2  # of a sample
    ELEMENTS = 3  # of a sample
    NDIM = 4  # of a sample
    SHAPE = 5
    COLUMNS = SHAPE + MOST_DIMS  # of the network's output: classes, or targets of a row
    LOWEST = COLUMNS + 1  # of targets float64, of labels and other integers int64
    HIGHEST = COLUMNS + 2
    TOLERANCE = COLUMNS + 3  # float64: the allowed distance of the sum of a row's targets from 1, 0: it is not checked
    ALLOWED_COUNT = COLUMNS + 4  # 0, or the number of allowed targets
    ALLOWED = COLUMNS + 5  # float64
    LOSS_WEIGHT = ALLOWED + MOST_ALLOWED  # float64; 0: the output has no loss
    LOSS_AT = LOSS_WEIGHT + 1  # among the accumulators: the sum of losses, and the number of rows
    WORDS = LOSS_WEIGHT + 2


class Progress(IntEnum):
    """Words of a learner's progress: int64, or the bits of a float64."""

    STEP = 0  # training steps taken since the model was made: keys random numbers
    OPTIMIZER_STEP = 1  # steps since the optimizer's state began
    SEED = 2
    SCHEDULED = 3  # the number of learning rates at RATES_AT, 0 or one per step
    CONSTANT = 4  # 1: RATE is used in every step
    RATE = 5  # float64, like all that follow
    BETA_1 = 6
    BETA_2 = 7
    POWER_1 = 8  # beta_1 to the number of steps
    POWER_2 = 9
    POWER = 10  # of NADAM_DECAY
    PRODUCT = 11  # of Nadam's momenta
    UNIT_ROW = 12  # the hyper row for a learning rate of 1
    ROW = UNIT_ROW + HYPER_COLUMNS  # the current one
    RATES_AT = ROW + HYPER_COLUMNS


#: Records for any number of rows are patched from those for this many: sizes of values in bytes are then multiples of
#: the arena's alignment, and so the offsets of a plan grow in proportion.
UNIT = 16
#: This many rows are computed at once, as in `predict`.
BLOCK = 256
#: A patch: the word in the records, its value for 0 rows, its growth per row, its growth per UNIT rows (rounded up).
PATCH_WORDS = 4
#: A matrix product: its record, and the addresses of its kernels by algorithm (0 if one is never used).
PRODUCT_WORDS = 7
#: A weight: its first element in the buffer of parameters, and its number of elements.
WEIGHT_WORDS = 2
#: A factor of gradients: the word of a record that holds it, the word with the number of rows of its loss, and the
#: loss's weight (float64), which is divided by that number.
SCALE_WORDS = 3
#: One row needs no workspace if its values take no more than this: then they are on the stack.
STACK_BYTES = 8192


def network_bytes(many_count: int, many_arena: int, one_arena: int, only: int, n: int) -> int:
    """Return the bytes of workspace that n rows need; 0 if the stack is enough. Compiled code calls it too.

    The first arguments are the words of the code, `only` is `CodeWord.ROWS`: then the number of rows is not looked at.
    """
    if only > 0:
        return many_count * RECORD_WORDS * 8 + many_arena + ALIGNMENT
    if n <= 1:
        return 0 if one_arena <= STACK_BYTES else one_arena + ALIGNMENT
    rows = min(n, BLOCK)
    arena = max(many_arena * ((rows + UNIT - 1) // UNIT), one_arena)
    return many_count * RECORD_WORDS * 8 + arena + ALIGNMENT


def learner_bytes(many_count: int, many_arena: int, one_arena: int, only: int, n: int) -> int:
    """Return the bytes of workspace that a training step on n rows needs; see `network_bytes`."""
    if only > 0:
        return many_count * RECORD_WORDS * 8 + many_arena + ALIGNMENT
    if n <= 1:
        return 0 if one_arena <= STACK_BYTES else one_arena + ALIGNMENT
    arena = many_arena * ((n + UNIT - 1) // UNIT)
    return many_count * RECORD_WORDS * 8 + arena + ALIGNMENT


def extra_bytes(row_bytes: int, slots: int, blocks_from: int, rows: int) -> int:
    """Return the bytes of workspace that a call can use besides those that it needs, for `rows` samples at a time.

    They hold rows of arrays that are converted to another dtype, and packed blocks of matrices. Where they are
    missing, memory is allocated, and products pack nothing.
    """
    blocks = SCRATCH_BYTES if 0 < blocks_from <= rows else 0
    return row_bytes * rows + (slots + 1) * ALIGNMENT + blocks


def seed_bytes(output_bytes: int) -> int:
    """Return the bytes of workspace, after those above, for the seed of a Jacobian matrix."""
    return (output_bytes + 7) // 8 * 8
