"""The table of the epochs that one call trains."""

from enum import IntEnum

#: Full batches, and the rest.
MOST_PROGRAMS = 2
#: Maximum number of epochs of one call.
MOST_EPOCHS = 16


class Place(IntEnum):
    """Words of the table: three numbers, three words per program, three words per epoch."""

    ROWS = 0
    N_PROGRAMS = 1
    N_EPOCHS = 2
    PROGRAMS = 3
    EPOCHS = 3 + 3 * MOST_PROGRAMS
    WORDS = 3 + 3 * MOST_PROGRAMS + 3 * MOST_EPOCHS
