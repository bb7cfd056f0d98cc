"""Definitions shared by the kernels of metrics and their versions on arrays."""

# The formulas take and return scalars of one type, which the compiler infers; annotations would add nothing.
# mypy: disable-error-code=no-untyped-def

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

#: Added to a confusion matrix by a row of weight 0: next to any other weight it is lost by rounding.
TRACE = 1e-300
#: Sums of traces stay below this, sums of weights above.
LEAST_WEIGHT = 1e-280

#: Numbers that `label_confusion` has of a label: absent or present, by absent, present or nothing predicted.
LABEL_CELLS = 6

#: Octaves of a histogram of scores: those from 2^-126 to 1/2 of the score, then those from 1/2 to 2^-53 of its distance
#: from 1.
OCTAVES = 125 + 52
_MANTISSA = 23
#: Bits of 2^-126 and of 2^-53 as float32.
LEAST_BITS, LEAST_BITS_FROM_1 = 1 << _MANTISSA, 74 << _MANTISSA


def define_score_bin(jit: Callable[[Any], Any], float_as_int: Any) -> Any:
    """Define `score_bin(score, bins)`: the bin of a score from 0 to 1, with (bins - 1) / `OCTAVES` bins per octave.

    The bits of a float32 grow with its logarithm, linearly within an octave. Bins that are uniform in the bits resolve
    scores near 0; above 1/2 the distance from 1 is used.
    """
    half, shift = np.float64(0.5), np.int64(_MANTISSA)

    @jit
    def score_bin(score, bins):
        above = score >= half
        distance = np.float32(np.float64(1.0) - score if above else score)
        bits = np.int64(float_as_int(distance)) - np.int64(LEAST_BITS_FROM_1 if above else LEAST_BITS)
        step = np.int64(bits * ((bins - 1) // OCTAVES)) >> shift
        step = step if step > 0 else np.int64(0)
        return bins - 1 - step if above else step

    return score_bin
