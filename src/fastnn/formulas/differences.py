"""Derivatives of custom functions by differences that stay inside the function's domain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Jit = Callable[[Any], Any]

#: Central differences in float64: near the cube root of the rounding error, and a power of 2.
STEP = 2.0**-17
#: Steps shrink by this factor, where they are too long.
SHRINK = 2.0**-4
# The shortest step, in relation to the place; and the step to one side, near the root of the rounding error.
_SHORTEST, _ONE_SIDED = 2.0**-48, 2.0**-26
# Slopes over a step and over half of it may differ by this share; extrapolated, they are right to about 1e-6.
_CLOSE = 1e-3
# What rounding makes of a difference, in relation to the values: four ulps.
_ROUNDING = 2.0**-50


def make(jit: Jit, value: Any) -> Any:
    """Make `derivative(given, x)` of a scalar function `value(given, x)`.

    Parameters
    ----------
    jit : function
        Compiles a function.
    value : function
        Takes a tuple that it may use and a float64, and returns a float64: NaN or infinity outside of its domain.

    Notes
    -----
    Central differences over a step of 2^-17, which suits functions that change over distances of about 1, and over half
    of it, extrapolated. To one side, where the other one is not finite. Where the two differ, as near a pole or a kink,
    the step is shortened, down to 2^-48 of x. Where no step fits, as at a jump, the smaller one of the differences to
    both sides counts.
    """

    @jit
    def derivative(given, x):  # type: ignore[no-untyped-def]
        if x - x != 0.0:  # at an infinity steps neither move nor shrink
            return x - x
        size = abs(x)
        h, shortest = STEP * max(1.0, size), _SHORTEST * (size if size > 0.0 else 1.0)
        while h >= shortest:
            before, after = x - h, x + h
            low, high = value(given, before), value(given, after)
            # infinity less itself is NaN
            left, right = low - low == 0.0, high - high == 0.0
            noise = _ROUNDING * max(abs(low) if left else 0.0, abs(high) if right else 0.0) / h
            if left and right:
                slope = (high - low) / (after - before)
                before, after = x - 0.5 * h, x + 0.5 * h
                nearer = (value(given, after) - value(given, before)) / (after - before)
                if abs(slope - nearer) <= _CLOSE * abs(nearer) + noise:
                    return nearer + (nearer - slope) / 3.0
            elif left or right:
                middle, end = value(given, x), (after if right else before)
                slope = ((high if right else low) - middle) / (end - x)
                end = x + (0.5 * h if right else -0.5 * h)
                nearer = (value(given, end) - middle) / (end - x)
                if abs(slope - nearer) <= _CLOSE * abs(nearer) + noise:
                    return nearer + (nearer - slope)
            h *= SHRINK
        h, middle = _ONE_SIDED * max(1.0, size), value(given, x)
        backward, forward = (middle - value(given, x - h)) / h, (value(given, x + h) - middle) / h
        if forward - forward != 0.0 or abs(backward) < abs(forward):
            return backward
        return forward

    return derivative
