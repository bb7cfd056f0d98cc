"""The words that direct products and predictions read: what Python's objects are, and where kernels find what."""

from __future__ import annotations

from enum import IntEnum

from fastnn.backend.cpu.blocking import WAYS


class Word(IntEnum):
    """Indices of int64 words in the table of `direct`."""

    TYPE_AT = 0  # where an object holds its type, in bytes
    DATA_AT = 1  # where an array holds the address of its data
    NDARRAY = 2  # addresses of objects
    TRUE = 3
    FALSE = 4
    MOST_BYTES = 5  # products whose operands take more are not taken
    SCRATCHES = 6  # how many pieces of scratch memory are free, and behind it their addresses
    DTYPES = 6 + 1 + 4  # for float32, then float64: the dtype object, the least sizes that are blocked, kernels by way


#: Pieces of scratch memory: so many threads may multiply large matrices at once.
MOST_SCRATCHES = int(Word.DTYPES - Word.SCRATCHES) - 1
LEAST = 4
DTYPE_WORDS = 1 + LEAST + len(WAYS)
WORDS = int(Word.DTYPES) + 2 * DTYPE_WORDS


class RowsWord(IntEnum):
    """Indices of int64 words in the table of `direct_rows`."""

    TYPE_AT = 0  # as above
    DATA_AT = 1
    NDARRAY = 2
    DTYPE = 3  # the address of the dtype object
    NDIM = 4
    CONTEXT = 5  # its address
    SHAPE = 6  # and behind it the other dimensions
