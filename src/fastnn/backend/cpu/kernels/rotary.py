"""Kernels of positions: cosines and sines of angles that grow with them, and rotations of pairs by such angles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.backend.cpu.codegen.elementary import functions
from fastnn.backend.cpu.codegen.intrinsics import address, float64_pointer, int64_pointer
from fastnn.backend.cpu.codegen.kernel import Kit, given, kernel, rows_part
from fastnn.backend.cpu.codegen.options import formula
from fastnn.formulas import trigonometric


@kernel("angles")
def angles(kit: Kit, variant: str) -> Callable[..., Any]:
    """Make cosines and sines of position scale exp(-i decay), in float64."""
    Y, POSITION, ROWS, HALF, SCALE, DECAY = kit.words("y position rows half scale decay")
    at, real = kit.at, kit.real
    exp, circle = functions("float64").exp_weight, trigonometric.define(np.float64, formula)
    sin, cos = circle.sin, circle.cos

    def angles(record, context, ith, nth):
        r, params = int64_pointer(record), float64_pointer(record)
        half, scale, decay = r[HALF], params[SCALE], params[DECAY]
        first, last = rows_part(r[ROWS], ith, nth)
        y, positions = at(record, context, Y), int64_pointer(address(record, context, POSITION))
        numbered = not given(record, context, POSITION)
        for row in range(first, last):
            position = scale * np.float64(row if numbered else positions[row])
            begin = 2 * half * row
            for i in range(half):
                angle = position * exp(-decay * np.float64(i))
                y[begin + i] = real(cos(angle))
                y[begin + half + i] = real(sin(angle))

    return angles


@kernel("rotate")
def rotate(kit: Kit, variant: str) -> Callable[..., Any]:
    """Rotate pairs that are half a head apart."""
    Y, X, ANGLES, OUTER, ROWS = kit.words("y x angles outer rows")
    HEADS, HALF, INVERSE = kit.words("heads half inverse")
    at, one = kit.at, kit.real(1.0)

    def rotate(record, context, ith, nth):
        r = int64_pointer(record)
        rows, heads, half = r[ROWS], r[HEADS], r[HALF]
        sign = -one if r[INVERSE] != 0 else one
        first, last = rows_part(r[OUTER] * rows, ith, nth)
        y, x, table = at(record, context, Y), at(record, context, X), at(record, context, ANGLES)
        for step in range(first, last):
            turn = 2 * half * (step % rows)
            for head in range(step * heads, (step + 1) * heads):
                low = 2 * half * head
                high = low + half
                for i in range(half):
                    cosine, sine = table[turn + i], sign * table[turn + half + i]
                    a, b = x[low + i], x[high + i]
                    y[low + i] = a * cosine - b * sine
                    y[high + i] = b * cosine + a * sine

    return rotate
