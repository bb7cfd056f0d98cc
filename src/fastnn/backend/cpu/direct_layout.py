"""The words that direct products and predictions read: what Python's objects are, and where kernels find what."""

from __future__ import annotations

from enum import IntEnum

from fastnn.backend.cpu.blocking import WAYS
from fastnn.program.layout import CONTEXT_WORDS, RECORD_WORDS


class Word(IntEnum):
    """Indices of int64 words in the table of `direct`."""

    TYPE_AT = 0  # where an object holds its type, in bytes
    DATA_AT = 1  # where an array holds the address of its data
    NDARRAY = 2  # addresses of objects
    TRUE = 3
    FALSE = 4
    LIMITED = 5  # address of the count of threads that run everything alone
    THREADS = 6  # how many threads may work on a product
    TEAM = 7  # address of the team's words, 0 while there is none
    TEAM_SCRATCH = 8  # scratch memory for all threads of the team; it stays where it is,
    FREE_TEAM_SCRATCH = 9  # and is here, too, while no product uses it
    SKIPPED = 10  # small products since one was shared
    SCRATCHES = 11  # the number of free pieces of scratch memory for one thread, followed by their addresses
    DTYPES = 11 + 1 + 4  # for float32, then float64: `DTYPE_WORDS` words each


class DtypeWord(IntEnum):
    """Indices of int64 words in the part of the table that is about one dtype."""

    DTYPE = 0  # address of the dtype object
    LEAST = 1  # the least sizes that are blocked
    FLOPS = 5  # floating-point operations of one thread in a nanosecond
    UNIT_M = 6  # the least rows and columns of a part
    UNIT_N = 7
    KERNELS = 8  # addresses by algorithm


#: Pieces of scratch memory: this many threads may multiply large matrices at once.
MOST_SCRATCHES = int(Word.DTYPES - Word.SCRATCHES) - 1
DTYPE_WORDS = int(DtypeWord.KERNELS) + len(WAYS)
#: After this many small products on one thread, sleeping workers are woken for the next one.
PATIENCE = 8
WORDS = int(Word.DTYPES) + 2 * DTYPE_WORDS


#: A call's frame: a record, a context, and how many threads of which team run it.
FRAME_THREADS = RECORD_WORDS + CONTEXT_WORDS
FRAME_TEAM = FRAME_THREADS + 1
FRAME_WORDS = FRAME_THREADS + 2


class RowsWord(IntEnum):
    """Indices of int64 words in the table of `direct_rows`."""

    TYPE_AT = 0  # as above
    DATA_AT = 1
    NDARRAY = 2
    DTYPE = 3  # the address of the dtype object
    NDIM = 4
    CONTEXT = 5  # its address
    SHAPE = 6  # and behind it the other dimensions
