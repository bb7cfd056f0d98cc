"""Windows that slide over maps: which entries of a map a window covers, and which windows cover an entry."""

from __future__ import annotations

from fastnn.backend.cuda.codegen.options import formula
from fastnn.backend.cuda.kernels.moves import split
from fastnn.program.window import BITS, MOST

_BITS, _MOST = BITS, MOST


@formula
def three(word):
    """Return the three numbers of a record's word: along depth, height and width."""
    return word >> 2 * _BITS, word >> _BITS & _MOST, word & _MOST


@formula
def pixel_of(number, depth, height, width):
    """Return image, slice, row and column of a pixel, of which there are at most 2^32."""
    rest, column = split(number, width)
    rest, row = split(rest, height)
    image, slice_ = split(rest, depth)
    return image, slice_, row, column


@formula
def covered(number, size, window, stride, dilation, padding):
    """Return what a window covers along an axis: the first entry, the tap that reads it, and how many there are.

    If it covers nothing, the last number is 0 or negative.
    """
    start, first = number * stride - padding, 0
    if start < 0:
        first = (dilation - 1 - start) // dilation
    last = min((size - 1 - start) // dilation, window - 1)
    return start + first * dilation, first, last - first + 1


@formula
def covering(entry, results, window, stride, dilation, padding):
    """Return the windows along an axis between whose ends an entry is: the first, and the number after the last."""
    reach, first = entry + padding, 0
    beyond = reach - (window - 1) * dilation
    if beyond > 0:
        first = (beyond + stride - 1) // stride
    return first, min(reach // stride, results - 1) + 1


@formula
def tap_of(entry, number, stride, dilation, padding):
    """Return the tap with which a window between whose ends an entry is reads it, or -1 if it skips it."""
    distance = entry + padding - number * stride
    tap = distance // dilation
    return tap if tap * dilation == distance else -1
