"""The table of failures: what a thread's latest failed call was given."""

from __future__ import annotations

from enum import IntEnum

from fastnn.backend.cpu.layouts.code import MOST_DIMS, CodeWord, Slot

#: Numbers, shapes, and sizes per shape that are noted of a failed call.
NOTED_NUMBERS, NOTED_SHAPES, NOTED_DIMS = 4, 2, MOST_DIMS + 2


class Failed(IntEnum):
    """Words of a slot of the table, in which a thread finds what its latest failed call was given."""

    THREAD = 0  # 0: the slot is free
    OUTCOME = 1
    ARRAY = 2  # the number of the array that is wrong, in the order of the code's slots; -1: none
    NUMBERS = 3  # by outcome
    SHAPES = NUMBERS + NOTED_NUMBERS  # of the first array and the wrong one: the number of dimensions (-1: none), sizes
    HEAD = SHAPES + NOTED_SHAPES * (1 + NOTED_DIMS)  # a copy of the code's
    ROLES = HEAD + CodeWord.HEAD  # for each array of the code before the wrong one, how many had its role
    SLOT = ROLES + 2  # a copy of the description of the first array, and of the wrong one
    WORDS = SLOT + 2 * Slot.WORDS


#: Words of the table before its slots, the first of which is the address of C's `PyThread_get_thread_ident`.
TABLE_HEAD = 8
#: Threads whose failed calls are noted: a slot stays its thread's, but a dead thread's identity is given to a new one.
TABLE_SLOTS = 256
