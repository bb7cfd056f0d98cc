"""Derivatives of user-defined functions by differences that stay inside the function's domain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Jit = Callable[[Any], Any]

#: Central differences in float64: near the cube root of the rounding error, and a power of 2.
STEP = 2.0**-17
#: Steps that are too long shrink by this factor.
SHRINK = 2.0**-4
# The shortest step, relative to the place; and the one-sided step, near the root of the rounding error.
_SHORTEST, _ONE_SIDED = 2.0**-48, 2.0**-26
# Allowed relative difference of slopes over a step and over half of it; extrapolated, they are right to about 1e-6.
_CLOSE = 1e-3
# Slopes to both sides may differ by this share; what is made of both is then right to a fraction of it, mostly to 1e-9.
_STRAIGHT = 2.0**-12
# Rounding error of a difference, relative to the values: four ulps.
_ROUNDING = 2.0**-50


def make(jit: Jit, value: Any) -> Any:
    """Make `derivative(given, x)` of a scalar function `value(given, x)`.

    Parameters
    ----------
    jit : function
        Compiles a function.
    value : function
        Takes a tuple of further values and a float64, and returns a float64: NaN or infinity outside its domain.

    Notes
    -----
    In most places three values suffice: at x, at a step of 2^-17 before it, and at half a step after it. If the slopes
    between them differ, the derivative is found by more values:

    Central differences are taken over a step of 2^-17, which suits functions that change over distances of about 1, and
    over half of it, and extrapolated. If one side is not finite, differences to the other side are used. If the two
    differ, as near a pole or a kink, the step is shortened, down to 2^-48 of x. If no step fits, as at a jump, the
    smaller of the two one-sided differences is used.
    """

    @jit
    def derivative(given, x):  # type: ignore[no-untyped-def]
        if x - x != 0.0:  # at an infinity steps neither move nor shrink
            return x - x
        size = abs(x)
        h, shortest = STEP * max(1.0, size), _SHORTEST * (size if size > 0.0 else 1.0)
        # Far from ends, poles and kinks the slopes to both sides, over steps of different lengths, are nearly the same.
        # (Over steps of one length they would be so in the middle of a jump, too.)
        before, after = x - h, x + 0.5 * h
        middle = value(given, x)
        backward = (middle - value(given, before)) / (x - before)
        forward = (value(given, after) - middle) / (after - x)
        slope = (backward * (after - x) + forward * (x - before)) / (after - before)
        if slope - slope == 0.0 and abs(forward - backward) <= _STRAIGHT * abs(slope):
            return slope
        while h >= shortest:
            before, after = x - h, x + h
            low, high = value(given, before), value(given, after)
            # infinity minus infinity is NaN
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
