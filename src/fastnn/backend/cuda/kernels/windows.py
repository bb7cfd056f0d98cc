"""Windows that slide over maps, in kernels."""

from __future__ import annotations

from fastnn.backend.cuda.codegen import windows
from fastnn.backend.cuda.codegen.options import formula
from fastnn.backend.cuda.kernels.moves import split
from fastnn.program.window import unpacked

#: returns the numbers of a record's word: along depth, height and width
three = formula(unpacked)
covered = formula(windows.covered)
covering, tap_of = formula(windows.covering), formula(windows.tap_of)


@formula
def pixel_of(number, depth, height, width):
    """Return image, slice, row and column of a pixel, of which there are at most 2^32."""
    rest, column = split(number, width)
    rest, row = split(rest, height)
    image, slice_ = split(rest, depth)
    return image, slice_, row, column
