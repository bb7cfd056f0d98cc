"""The table of direct products: offsets in Python's objects, and addresses of kernels."""

from __future__ import annotations

from enum import IntEnum

from fastnn.backend.cpu.processor.blocking import ALGORITHMS
from fastnn.program.layout import CONTEXT_WORDS, RECORD_WORDS


class ProductWord(IntEnum):
    """Indices of int64 words in the table of `direct`."""

    TYPE_AT = 0  # offset of an object's type, in bytes
    DATA_AT = 1  # offset of the address of an array's data
    NDARRAY = 2  # addresses of objects
    TRUE = 3
    FALSE = 4
    LIMITED = 5  # address of the number of threads that run everything alone
    THREADS = 6  # the maximum number of threads of a product
    TEAM = 7  # address of the team's words, 0 while there is none
    TEAM_SCRATCH = 8  # scratch memory for all threads of the team; this address is constant,
    FREE_TEAM_SCRATCH = 9  # and is also here while no product uses the memory
    SKIPPED = 10  # number of small products since the last shared one
    SCRATCHES = 11  # the number of free pieces of scratch memory for one thread, followed by their addresses
    DTYPES = 11 + 1 + 4  # for float32, then float64: `DTYPE_WORDS` words each


class DtypeWord(IntEnum):
    """Indices of int64 words in the table's part for one dtype."""

    DTYPE = 0  # address of the dtype object
    LEAST = 1  # the smallest sizes that are blocked
    FLOPS = 5  # floating-point operations of one thread per nanosecond
    UNIT_M = 6  # the minimum rows and columns of a part
    UNIT_N = 7
    KERNELS = 8  # addresses by algorithm


#: Pieces of scratch memory: this many threads may multiply large matrices at the same time.
MOST_SCRATCHES = int(ProductWord.DTYPES - ProductWord.SCRATCHES) - 1
DTYPE_WORDS = int(DtypeWord.KERNELS) + len(ALGORITHMS)
#: After this many small products on one thread, sleeping workers are woken for the next one.
PATIENCE = 8
WORDS = int(ProductWord.DTYPES) + 2 * DTYPE_WORDS


#: A call's frame: a record, a context, and the team and number of threads that run it.
FRAME_THREADS = RECORD_WORDS + CONTEXT_WORDS
FRAME_TEAM = FRAME_THREADS + 1
FRAME_WORDS = FRAME_THREADS + 2
