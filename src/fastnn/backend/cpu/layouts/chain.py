"""The record with which the CPU runs a chain, and the memory of a piece of it."""

from __future__ import annotations

from enum import IntEnum

from fastnn.program.layout import OPERANDS_AT, Buffer


class ChainWord(IntEnum):
    """Words of the record of a chain, besides the address of the kernel and the flags.

    The records of a chain are not among those that the executor runs: they follow the last of these.
    """

    DISTANCE = OPERANDS_AT  # in bytes from this record to the first one of the chain
    COUNT = OPERANDS_AT + 1  # records of the chain
    ELEMENTS = OPERANDS_AT + 2  # of each of its values
    PIECE = OPERANDS_AT + 3  # elements of a piece: a multiple of 64
    PIECE_BYTES = OPERANDS_AT + 4


#: Local values of a chain are in this buffer, in which they begin at multiples of a piece. No record of a chain needs
#: it for anything else.
LOCAL = Buffer.SCRATCH
#: Memory for a piece of each local value, on the stack.
LOCAL_BYTES = 32768
#: The bytes of a piece, if there are few local values.
MOST_PIECE_BYTES = 8192
