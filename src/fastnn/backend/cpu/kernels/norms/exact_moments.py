"""Mean and deviation of one row or column in float64, for the few whose squares overflow the dtype."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np

from fastnn.backend.cpu.codegen.kernel import Kit
from fastnn.backend.cpu.codegen.options import formula, helper


@formula
def centred(x, mean):
    """Return x - mean.

    A separate function: with reassociation LLVM would otherwise turn a sum of differences into the sum of x minus a
    multiple of the mean, which cancels.
    """
    return x - mean


def moment_functions(kit: Kit) -> SimpleNamespace:
    """Make the functions on `count` elements of x, `stride` elements apart.

    `exact_moments(x, start, count, stride, epsilon)` returns the mean, the biased variance (infinite where it exceeds
    float64) and 1 / sqrt(variance + epsilon), all in float64; `exact_normalize(x, y, start, count, stride, mean, rstd,
    gamma, beta)` writes one column; NaN and infinities make NaN.
    """
    real = kit.real

    @helper
    def exact_moments(x, start, count, stride, epsilon):
        # divided by the largest: the squares would overflow float64, too
        largest = 0.0
        for i in range(count):
            size = abs(np.float64(x[start + i * stride]))
            largest = size if size > largest else largest
        scale = largest if 0.0 < largest < math.inf else 1.0
        total = 0.0
        for i in range(count):
            total += np.float64(x[start + i * stride]) / scale
        mean = total / count
        squares = 0.0
        for i in range(count):
            distance = centred(np.float64(x[start + i * stride]) / scale, mean)
            squares += distance * distance
        deviation = math.sqrt(squares / count) * scale
        variance = deviation * deviation
        rstd = 1.0 / (math.sqrt(variance + epsilon) if variance < math.inf else deviation)
        return mean * scale, variance, rstd

    @helper
    def exact_normalize(x, y, start, count, stride, mean, rstd, gamma, beta):
        for i in range(count):
            at = start + i * stride
            y[at] = real((np.float64(x[at]) - mean) * rstd * np.float64(gamma) + np.float64(beta))

    return SimpleNamespace(exact_moments=exact_moments, exact_normalize=exact_normalize)
