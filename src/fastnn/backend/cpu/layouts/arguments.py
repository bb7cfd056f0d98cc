"""The table by which compiled code takes arrays from Python's arguments, and the frame that it describes them in."""

from __future__ import annotations

from enum import IntEnum

from fastnn.backend.cpu.layouts.call import Given
from fastnn.backend.cpu.layouts.code import MOST_DIMS

#: The numbers of NumPy's own types are below this.
TYPE_NUMBERS = 24


class ArgumentWord(IntEnum):
    """Indices of int64 words in the table of `take_arrays` and `take_rows`."""

    TYPE_AT = 0  # offset of an object's type, in bytes
    DATA_AT = 1  # offset of the address of an array's data
    NDARRAY = 2  # addresses of objects
    NONE = 3
    COUNT = 4  # the number of arguments
    REQUIRED = 5  # this many come first, and may not be None
    MOST_ROWS = 6  # a call with more rows is not taken
    DTYPES = 7  # by NumPy's number of a type: 0 if it is not accepted, else 1 + its number in `layouts.code.DTYPES`
    WORDS = DTYPES + TYPE_NUMBERS


#: Words of an array's sizes and strides in a frame.
ROOM_WORDS = 2 * (MOST_DIMS + 1)


def frame_bytes(slots: int) -> int:
    """Return the bytes of a call's frame: `Given` for each slot of the code, and then sizes and strides of each."""
    return 8 * slots * (Given.WORDS + ROOM_WORDS)
