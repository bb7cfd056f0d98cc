"""The record with which the CPU runs a chain, and the memory of a piece of it."""

from __future__ import annotations

from enum import IntEnum

from fastnn.program.layout import ALIGNMENT, OPERANDS_AT, Buffer

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
    PIECE_BYTES = OPERANDS_AT + 4
    MOST = OPERANDS_AT + 5  # elements that may be one piece
    TIME = OPERANDS_AT + 6  # float64: nanoseconds for each element
    AHEAD_COUNT = OPERANDS_AT + 7  # the number of words that follow
    AHEAD = OPERANDS_AT + 8  # operands of which each piece is in memory: the numbers of their words from DISTANCE on


#: Of at most so many values the next piece is fetched while the present one is computed.
MOST_AHEAD = 8
#: Local values of a chain are in this buffer, which no record of a chain needs for anything else.
LOCAL = Buffer.SCRATCH
#: Bytes of local values, on the stack; and of local values and twice the others, of which the next piece is fetched.
LOCAL_BYTES = 24576
#: The bytes of a piece: the larger one if LOCAL_BYTES hold all of a chain, which saves calls of kernels.
PIECE_BYTES = (2048, 4096)


def local_bytes(local: int) -> int:
    """Return how far local values are apart, if there are so many at a time."""
    return LOCAL_BYTES // max(local, 1) // ALIGNMENT * ALIGNMENT


def piece_bytes(local: int, in_memory: int) -> int:
    """Return the bytes of a piece.

    A chain of six records with 2 local values and 3 in memory (10^6 elements of float32) takes 0.45 ms with pieces of
    2048 bytes, 0.48 ms with 4096 and 0.60 ms with 8192. One with 2 and 2, whose kernels take longer to begin, takes
    0.46 ms with 2048 and 0.41 ms with 4096.

    Parameters
    ----------
    local : int
        Local values at a time.
    in_memory : int
        Other values of which the chain touches each element.
    """
    small, large = PIECE_BYTES
    return large if (local + 2 * in_memory) * large <= LOCAL_BYTES else small
