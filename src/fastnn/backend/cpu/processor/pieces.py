"""The record with which the CPU runs a chain, and the memory of a piece of it."""

from __future__ import annotations

from enum import IntEnum

from fastnn.program.chains import MOST_LOCAL
from fastnn.program.layout import OPERANDS_AT, Buffer

#: What stands in the place of the number of an op in the record of a chain.
CHAIN_OP = -1


class ChainWord(IntEnum):
    """Words of the record of a chain, besides the address of the kernel, CHAIN_OP and the flags.

    The records of a chain are not among those that the executor runs: they follow the last of these.
    """

    DISTANCE = OPERANDS_AT  # in bytes from this record to the first one of the chain
    COUNT = OPERANDS_AT + 1  # records of the chain
    ELEMENTS = OPERANDS_AT + 2  # of each of its values
    PIECE = OPERANDS_AT + 3  # elements of a piece: a multiple of 64
    TIME = OPERANDS_AT + 4  # float64: nanoseconds for each element
    AHEAD_COUNT = OPERANDS_AT + 5  # the number of words that follow
    AHEAD = OPERANDS_AT + 6  # operands of which each piece is in memory: the numbers of their words from DISTANCE on


#: Of at most so many values the next piece is fetched while the present one is computed.
MOST_AHEAD = 8
#: Local values of a chain are in this buffer, which no record of a chain needs for anything else, at multiples of
#: PIECE_BYTES.
LOCAL = Buffer.SCRATCH
#: The bytes of a piece. Six records with two inputs, 10^6 elements of float32: 0.46 ms, with 8192 bytes 0.60 ms.
PIECE_BYTES = 2048
#: Memory for a piece of each local value, on the stack.
LOCAL_BYTES = MOST_LOCAL * PIECE_BYTES
