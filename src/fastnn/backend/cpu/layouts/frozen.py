"""The words of a frozen network's code: all that native code knows about a network, besides its weights."""

from __future__ import annotations

from enum import IntEnum

from fastnn.formulas.optimizers import HYPER_COLUMNS
from fastnn.program.layout import ALIGNMENT, RECORD_WORDS
from fastnn.program.opcodes import TABLE

#: The version of the layouts below, of their use by `run_frozen` and `run_learner`, and of records. Users' functions
#: that Numba keeps on disk contain the number that they were compiled with, and refuse networks of another version.
LAYOUT_VERSION = TABLE.digest ^ 4
#: Maximum dimensions of a sample.
MOST_DIMS = 8
#: Maximum numbers of a loss that takes only certain targets.
MOST_ALLOWED = 3
#: Maximum rows of a workspace: sizes in bytes stay within 64 bits.
MOST_ROWS = 1 << 32
#: Numbers, shapes, and sizes per shape that are noted of a failed call.
NOTED_NUMBERS, NOTED_SHAPES, NOTED_DIMS = 4, 3, MOST_DIMS + 2
#: Maximum accumulators of a learner.
MOST_TOTALS = 8
#: Corrections of hyper rows, by number: `Formula.correction`.
CORRECTIONS = ("", "adam", "nadam", "count")


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
    FINGERPRINT = INPUT_BYTES + 16  # of the programs
    FAILURES = INPUT_BYTES + 17  # address of the table that `Failed` describes
    NOTE = INPUT_BYTES + 18  # address of `note_failure`
    # only the code of a learner has the following words; its OUTPUT words describe the targets
    UPDATE_ONE = INPUT_BYTES + 19  # the number of records before those of the update
    UPDATE_MANY = INPUT_BYTES + 20
    SCALES_AT = INPUT_BYTES + 21
    SCALES_COUNT = INPUT_BYTES + 22
    LOSS_WEIGHT = INPUT_BYTES + 23  # float64
    LABELS = INPUT_BYTES + 24  # 1: targets are int64 numbers of classes
    COLUMNS = INPUT_BYTES + 25  # of the network's output: classes, or targets of a row
    LOWEST = INPUT_BYTES + 26  # float64, of targets
    HIGHEST = INPUT_BYTES + 27
    TOLERANCE = (
        INPUT_BYTES + 28
    )  # float64: the allowed distance of the sum of a row's targets from 1, 0 if it is not checked
    PENALTY_AT = INPUT_BYTES + 29  # among the accumulators: sums of penalties, of losses, and the number of rows
    LOSS_AT = INPUT_BYTES + 30
    ALLOWED_COUNT = INPUT_BYTES + 31  # 0, or the number of allowed targets
    ALLOWED = INPUT_BYTES + 32  # float64
    SLOTS = ALLOWED + MOST_ALLOWED  # of the optimizer
    RATES = SLOTS + 1  # columns of a hyper row that are proportional to the learning rate
    CORRECTION = SLOTS + 2  # see CORRECTIONS
    ACCUMULATED = SLOTS + 3  # steps whose gradients make one update of the weights
    HEAD = SLOTS + 4  # the number of words before the first table


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
WAY_WORDS = 7
#: A weight: its first element in the buffer of parameters, and its number of elements.
WEIGHT_WORDS = 2
#: A factor of gradients: the word of a record that holds LOSS_WEIGHT over the number of rows, and the word with that.
SCALE_WORDS = 2
#: One row needs no workspace if its values take no more than this: then they are on the stack.
STACK_BYTES = 8192


class Outcome(IntEnum):
    """The result of a call of a frozen network; from EACH on, what compiled callers find themselves."""

    DONE = 0
    RAISED = 1  # a kernel raised
    FOREIGN = 2  # the code belongs to another process or another version
    PARAMETERS = 3  # their number differs from the code's
    INPUT = 4  # x does not have the shape of a sample or a batch
    OUTPUT = 5  # out does not have the shape of x's outputs
    WORKSPACE = 6  # the workspace is too small
    MEMORY = 7  # not enough memory for a workspace
    GRADIENT = 8  # dx does not have the shape of x
    ABSENT = 9  # the network was frozen without gradients
    TARGETS = 10  # y does not have the shape of x's targets
    LABELS = 11  # y has labels but the loss takes dense targets, or the other way round
    WEIGHTS = 12  # sample_weight does not have one number per row
    EMPTY = 13  # there are no rows
    NOT_FINITE = 14  # x or sample_weight
    TARGET_VALUES = 15  # y holds a value that the loss does not accept
    SHARED = 18  # an input shares memory with an output
    UNSEEDED = 17  # the learner was made without gradients of custom losses
    SCHEDULE = 16  # the schedule was computed for fewer steps
    EACH = 19  # x and out are for another number of networks
    MATRIX = 20  # it does not have the size of the Jacobian matrix
    BATCH = 21  # a workspace is made for 1 to MOST_ROWS rows
    FLAT = 22  # the number of elements differs from that of the weights
    MEMBER = 23  # there are not that many networks
    RATE = 24  # it is not a learning rate


class Failed(IntEnum):
    """Words of a slot of the table of failures, in which a thread finds what its latest failed call was given."""

    THREAD = 0  # 0: the slot is free
    OUTCOME = 1
    NUMBERS = 2  # by outcome
    SHAPES = NUMBERS + NOTED_NUMBERS  # of arrays, each with its number of dimensions (-1: none) before its sizes
    HEAD = SHAPES + NOTED_SHAPES * (1 + NOTED_DIMS)  # a copy of the code's
    WORDS = HEAD + Word.HEAD


#: Words of the table before its slots, the first of which is the address of C's `PyThread_get_thread_ident`.
TABLE_HEAD = 8
#: Threads whose failed calls are noted: a slot stays its thread's, but a dead thread's identity is given to a new one.
TABLE_SLOTS = 256


class Part(IntEnum):
    """The parts of a training step that a learner does; they can be added."""

    GRADIENTS = 1  # of the loss, into the first part of its state
    UPDATE = 2  # of the weights by these gradients


def workspace_bytes(many_count: int, many_arena: int, one_arena: int, n: int) -> int:
    """Return the bytes of workspace that n rows need; 0 if the stack is enough. Compiled code calls it too."""
    if n <= 1:
        return 0 if one_arena <= STACK_BYTES else one_arena + ALIGNMENT
    rows = min(n, BLOCK)
    arena = max(many_arena * ((rows + UNIT - 1) // UNIT), one_arena)
    return many_count * RECORD_WORDS * 8 + arena + ALIGNMENT


def learner_bytes(many_count: int, many_arena: int, one_arena: int, n: int) -> int:
    """Return the bytes of workspace that a training step on n rows needs; see `workspace_bytes`."""
    if n <= 1:
        return 0 if one_arena <= STACK_BYTES else one_arena + ALIGNMENT
    arena = many_arena * ((n + UNIT - 1) // UNIT)
    return many_count * RECORD_WORDS * 8 + arena + ALIGNMENT


def seed_bytes(output_bytes: int) -> int:
    """Return the bytes of workspace, after those above, for the seed of a Jacobian matrix."""
    return (output_bytes + 7) // 8 * 8
