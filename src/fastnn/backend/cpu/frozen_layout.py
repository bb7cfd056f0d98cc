"""The words of a frozen network's code: what native code knows about the network whose weights it is given."""

from __future__ import annotations

from enum import IntEnum

from fastnn.formulas.optimizers import HYPER_COLUMNS
from fastnn.program.layout import ALIGNMENT, RECORD_WORDS

#: Of the layouts below and of what `run_frozen` and `run_learner` make of them. Users' functions that Numba keeps on
#: disk hold the number that they were compiled with, and refuse networks of another one.
LAYOUT_VERSION = 3
#: Dimensions of a sample at most.
MOST_DIMS = 8
#: Numbers at most, where a loss takes no others as targets.
MOST_ALLOWED = 3
#: Rows at most, where a workspace is made: sizes in bytes stay within 64 bits.
MOST_ROWS = 1 << 32
#: Of a failed call are noted as many numbers, shapes, and sizes of a shape.
NOTED_NUMBERS, NOTED_SHAPES, NOTED_DIMS = 4, 3, MOST_DIMS + 2
#: Accumulators of a learner at most.
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
    # what follows is there in the code of a learner alone, whose OUTPUT words describe the targets
    UPDATE_ONE = INPUT_BYTES + 19  # how many records there are before those of the update
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
    )  # float64: how far from 1 the sum of a row's targets may be, 0 where it is not looked at
    PENALTY_AT = INPUT_BYTES + 29  # among the accumulators: sums of penalties, of losses, and the number of rows
    LOSS_AT = INPUT_BYTES + 30
    ALLOWED_COUNT = INPUT_BYTES + 31  # 0, or targets are among so many numbers
    ALLOWED = INPUT_BYTES + 32  # float64
    SLOTS = ALLOWED + MOST_ALLOWED  # of the optimizer
    RATES = SLOTS + 1  # columns of a hyper row that are proportional to the learning rate
    CORRECTION = SLOTS + 2  # see CORRECTIONS
    HEAD = SLOTS + 3  # how many words there are before the first table


class Progress(IntEnum):
    """Words of a learner's progress: int64, or the bits of a float64."""

    STEP = 0  # training steps taken since the model was made: keys random numbers
    OPTIMIZER_STEP = 1  # steps since the optimizer's state began
    SEED = 2
    SCHEDULED = 3  # how many learning rates there are at RATES_AT, 0 or one a step
    CONSTANT = 4  # 1: RATE is used in every step
    RATE = 5  # float64, like all that follow
    BETA_1 = 6
    BETA_2 = 7
    POWER_1 = 8  # beta_1 to the number of steps
    POWER_2 = 9
    POWER = 10  # of NADAM_DECAY
    PRODUCT = 11  # of Nadam's momenta
    UNIT_ROW = 12  # the hyper row for a learning rate of 1
    ROW = UNIT_ROW + HYPER_COLUMNS  # the one in use
    RATES_AT = ROW + HYPER_COLUMNS


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
#: A factor of gradients: the word of a record that holds LOSS_WEIGHT over the number of rows, and the word with that.
SCALE_WORDS = 2
#: One row needs no workspace when its values take no more than this: they are on the stack.
STACK_BYTES = 8192


class Outcome(IntEnum):
    """What a call of a frozen network ends in; from EACH on, what compiled callers find themselves."""

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
    TARGETS = 10  # y has not the shape of x's targets
    LABELS = 11  # y are labels where the loss takes others, or the other way round
    WEIGHTS = 12  # sample_weight has not one number a row
    EMPTY = 13  # there are no rows
    NOT_FINITE = 14  # x or sample_weight
    TARGET_VALUES = 15  # y holds something that the loss does not take
    SHARED = 18  # what is read shares memory with what is written to
    UNSEEDED = 17  # the learner was made without gradients of any function
    SCHEDULE = 16  # it has been worked out for fewer steps
    EACH = 19  # x and out are not for as many networks
    MATRIX = 20  # it does not have the size of the Jacobian matrix
    BATCH = 21  # no workspace is made for so many rows
    FLAT = 22  # there are not as many numbers as weights
    MEMBER = 23  # there are not that many networks
    RATE = 24  # it is no learning rate


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
#: Threads that failed calls are noted of; slots are never given back, but a thread's identity is.
TABLE_SLOTS = 256


class Part(IntEnum):
    """What a learner is to do; to be added."""

    GRADIENTS = 1  # of the loss, into the first part of its state
    UPDATE = 2  # of the weights by these gradients


def workspace_bytes(many_count: int, many_arena: int, one_arena: int, n: int) -> int:
    """Return the bytes of workspace that n rows need; 0 where there is room on the stack. Compiled code asks too."""
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
    """Return the bytes of workspace, behind those above, for the seed of a Jacobian matrix."""
    return (output_bytes + 7) // 8 * 8
