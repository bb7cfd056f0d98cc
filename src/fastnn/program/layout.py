"""The layout of records and contexts, and the encoding of an operand in one int64 word.

A record is `RECORD_WORDS` int64 words: the addresses that a backend fills in, the op, flags, operands,
dimensions and float64 parameters (as bits). There is room for as many of each as any op of the table has. A context is
`CONTEXT_WORDS` int64 words: the base address of every buffer, then the counters that the records of a running program
read and write. Because an operand is a buffer and an offset, never an address, one program serves any number of
contexts at a time.
"""

from __future__ import annotations

from enum import IntEnum

from fastnn.program.flags import NO_FLAGS as NO_FLAGS
from fastnn.program.flags import Flag as Flag
from fastnn.program.op import Op
from fastnn.program.opcodes import TABLE

KERNEL_WORD = 0
OP_WORD = 1
FLAGS_WORD = 2
#: In the copy of the records that the CPU runs, the flags word holds from this bit on the number of parts that pays.
PARTS_SHIFT = 32
MAP_WORD = 3
OPERANDS_AT, DIMS_AT, PARAMS_AT, RECORD_WORDS = TABLE.sections
#: ops by number
BY_CODE: tuple[Op, ...] = tuple(TABLE.ops.values())

ALIGNMENT = 64
OFFSET_BITS = 48
OFFSET_MASK = (1 << OFFSET_BITS) - 1
ABSENT = -1

CONTEXT_WORDS = 224
#: The word where kernels on a device note the smallest number of a row of the batch that holds NaN or infinity; NO_ROW
#: until then.
BAD_ROW = CONTEXT_WORDS - 1
NO_ROW = 2**62
MAX_BUFFERS = 96


class Buffer(IntEnum):
    """The buffers that a program's operands point into; data slots follow from `DATA` on, up to `SHARED`."""

    PARAMETERS = 0
    GRADIENTS = 1
    OPTIMIZER = 2
    ARENA = 3
    ACCUMULATORS = 4
    HYPER = 5
    INDEX = 6
    SCRATCH = 7  # for the kernels' internal use: `nth` pieces, or 0 if there is none
    DATA = 8


#: from this buffer on come the weights of other models that a model is made of
SHARED = 80
#: The words of a context, after its counters, where the windows of a loop begin in the present round: operands name
#: them as buffers.
WINDOWS = 112
MOST_WINDOWS = CONTEXT_WORDS - 1 - WINDOWS


class Counter(IntEnum):
    """The words of a context after its buffer addresses."""

    STATUS = MAX_BUFFERS  # 0, or why the program stopped (a `Status`)
    STATUS_DETAIL = MAX_BUFFERS + 1  # the row of the data that stopped it, or the address of the record that raised
    STEP = MAX_BUFFERS + 2  # training steps taken since the model was made: keys random numbers
    CHUNK_STEP = MAX_BUFFERS + 3  # steps taken in this call: the row of the HYPER buffer
    CURSOR = MAX_BUFFERS + 4  # rows of the data consumed in this pass
    SEED = MAX_BUFFERS + 5
    BAD_LOSS_STEP = MAX_BUFFERS + 6  # 1 + the first step whose loss was not finite, or 0
    EPOCH = MAX_BUFFERS + 7  # passes over the data finished since the model was made; records do not use it
    ERROR = MAX_BUFFERS + 8  # the address of Numba's description of a kernel's exception, 0 if there is none
    FIRST_STEP = MAX_BUFFERS + 9  # the step at which the optimizer's state began
    ROUND = MAX_BUFFERS + 10  # the round of the loop that runs


class Status(IntEnum):
    """Why a program stopped before its last step."""

    RUNNING = 0
    NOT_FINITE_INPUT = 1
    KERNEL_RAISED = 2
    REPEATS = 3  # not stopped: a loop begins after this record


def is_window(buffer: int) -> bool:
    """Return whether an operand's buffer is a window of a loop."""
    return WINDOWS <= buffer < WINDOWS + MOST_WINDOWS


def encode(buffer: int, offset: int) -> int:
    """Write a buffer and a byte offset into one operand word."""
    return (int(buffer) << OFFSET_BITS) | offset


def decode(word: int) -> tuple[int, int]:
    """Read an operand word back as `(buffer, byte offset)`."""
    return word >> OFFSET_BITS, word & OFFSET_MASK


def align(nbytes: int) -> int:
    """Round a size in bytes up to the alignment of every buffer and operand."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT
