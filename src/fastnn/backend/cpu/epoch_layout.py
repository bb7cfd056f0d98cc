"""The table that says which epochs one call trains."""

from enum import IntEnum

#: Full batches, and what is left.
MOST_PROGRAMS = 2
#: Epochs that one call trains at most.
MOST_EPOCHS = 16


class Place(IntEnum):
    """Words of the table: three numbers, three words a program, three words an epoch."""

    ROWS = 0
    N_PROGRAMS = 1
    N_EPOCHS = 2
    PROGRAMS = 3
    EPOCHS = 3 + 3 * MOST_PROGRAMS
    WORDS = 3 + 3 * MOST_PROGRAMS + 3 * MOST_EPOCHS
