"""The tables of a call: the arrays that it is given, and the buffers of the network or learner."""

from __future__ import annotations

from enum import IntEnum


class Given(IntEnum):
    """Indices of int64 words of an array in a call; one array follows the other in the order of the code's slots.

    Few words, since each call writes them: two more for each array took 3 of 100 ns.
    """

    ADDRESS = 0  # 0: the array is absent
    KIND = 1  # see `kind_of`
    SHAPE = 2  # address of the sizes, and after them of the strides in bytes, if the array is not C-contiguous
    WORDS = 3


#: The parts of a `Given.KIND`: number of dimensions, number of the dtype, and whether there are strides.
NDIM_MASK, DTYPE_SHIFT, STRIDED_SHIFT = 0xFF, 8, 16


def kind_of(dtype: int, ndim: int, strided: bool) -> int:
    """Return the word that describes an array; `dtype` is a number in `layouts.code.DTYPES`."""
    return ndim | dtype << DTYPE_SHIFT | int(strided) << STRIDED_SHIFT


class Held(IntEnum):
    """Indices of int64 words in the table of buffers; `call_network` reads the first two."""

    PARAMETERS = 0  # addresses, and numbers of elements
    PARAMETERS_COUNT = 1
    GRADIENTS = 2
    OPTIMIZER = 3  # the optimizer's slots
    STATE_COUNT = 4  # of gradients and slots together
    PROGRESS = 5
    PROGRESS_COUNT = 6
    TOTALS = 7  # accumulators of the step, sums of all steps for losses, their samples; 0: no metrics are reported
    TOTALS_COUNT = 8
    LOSS = 9  # where to write the loss
    WORDS = 10


class Live(IntEnum):
    """Indices of the words after those of `Held`, in calls with `Part.LIVE`."""

    CONTEXT = int(Held.WORDS)  # the context to run with: its counters go on
    INITIAL = CONTEXT + 1  # address of the accumulators before a step
    PATCHED = CONTEXT + 2  # what the records in the workspace have been patched for; 0: nothing
    RUN = CONTEXT + 3  # address of the executor, if the team shares this call's records, else 0
    THREADS = CONTEXT + 4  # that may take part
    TEAM = CONTEXT + 5  # address of a word with the address of its words, 0 where there is no team
    SHARES_AT = CONTEXT + 6  # address of the table of records that the team may share (`Share`)
    SHARES_COUNT = CONTEXT + 7
    OWNERS_AT = CONTEXT + 8  # address of the addresses of buffers of weights that other models hold
    OWNERS_COUNT = CONTEXT + 9
    WORDS = CONTEXT + 10


class Share(IntEnum):
    """Indices of int64 words of a record whose parts depend on the number of rows: the smaller of two estimates.

    An estimate is the value for 0 rows and its growth per row, in units of 1 / SHARE_UNIT.
    """

    RECORD = 0  # the number of the record
    BY_TIME = 1
    BY_TIME_GROWTH = 2
    BY_SIZE = 3
    BY_SIZE_GROWTH = 4
    WORDS = 5


SHARE_UNIT = 1 << 16


class Part(IntEnum):
    """Parts of what a call does, if it does not do all; they can be added."""

    GRADIENTS = 1  # of the loss
    UPDATE = 2  # of the weights by these gradients
    CHECK = 4  # nothing is computed: the arguments are checked
    LIVE = 8  # with the counters of a model and a workspace of its own; all arrays are batches


class Outcome(IntEnum):
    """The result of a call; from EACH on, what compiled callers find themselves."""

    DONE = 0
    RAISED = 1  # a kernel raised
    FOREIGN = 2  # the code belongs to another process or another version
    PARAMETERS = 3  # their number differs from the code's
    SHAPE = 4  # an array does not have the shape of a sample or a batch, or of as many samples as the first input
    WORKSPACE = 5  # the workspace is too small
    MEMORY = 6  # not enough memory for a workspace
    ABSENT = 7  # the network was frozen without gradients
    INTEGERS = 8  # labels, or an input of integers, are real numbers
    EMPTY = 9  # there are no rows
    NOT_FINITE = 10  # inputs, weights of samples, or gradients
    TARGET_VALUES = 11  # there is a target that the loss does not accept
    RANGE = 12  # there is a label, or an integer of an input, that is out of range
    SCHEDULE = 13  # the schedule was computed for fewer steps
    UNSEEDED = 14  # the learner was made without gradients of custom losses
    SHARED = 15  # an input shares memory with what the step writes
    ARRAYS = 16  # another number of arrays
    EACH = 17  # x and out are for another number of networks
    MATRIX = 18  # it does not have the size of the Jacobian matrix
    BATCH = 19  # a workspace is made for 1 to MOST_ROWS rows
    FLAT = 20  # the number of elements differs from that of the weights
    MEMBER = 21  # there are not that many networks
    RATE = 22  # it is not a learning rate
    BEHIND = 23  # the progress of a learner is not that of the context
    FULL = 24  # a sequence has had as many steps as there is room for
