"""Windows that slide along an axis of maps: what a window covers, and which windows cover an entry; plain Python.

Kernels and the interpreter of networks compile these functions.
"""

# The functions are compiled for the GPU, where their arguments are typed; annotations would add nothing.
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np


def split(number, by):
    """Return quotient and remainder of numbers from 0 to 2^32."""
    quotient = np.int64(np.uint32(number) // np.uint32(by))
    return quotient, number - quotient * by


def covered(number, size, window, stride, dilation, padding):
    """Return what a window covers along an axis: the first entry, the tap that reads it, and how many there are.

    If it covers nothing, the last number is 0 or negative.
    """
    start, first = number * stride - padding, 0
    if start < 0:
        first = (dilation - 1 - start) // dilation
    last = min((size - 1 - start) // dilation, window - 1)
    return start + first * dilation, first, last - first + 1


def covering(entry, results, window, stride, dilation, padding):
    """Return the windows along an axis between whose ends an entry is: the first, and the number after the last."""
    reach, first = entry + padding, 0
    beyond = reach - (window - 1) * dilation
    if beyond > 0:
        first = (beyond + stride - 1) // stride
    return first, min(reach // stride, results - 1) + 1


def tap_of(entry, number, stride, dilation, padding):
    """Return the tap with which a window between whose ends an entry is reads it, or -1 if it skips it."""
    distance = entry + padding - number * stride
    tap = distance // dilation
    return tap if tap * dilation == distance else -1
