"""Kernels of positions: cosines and sines of angles that grow with them, and rotations of pairs by such angles."""

from __future__ import annotations

import numpy as np
from numba import cuda

from fastnn.backend.cuda.codegen import windows
from fastnn.backend.cuda.codegen.kernel import Kit, Stage, elements, functions, kernel, ptx
from fastnn.backend.cuda.codegen.options import formula
from fastnn.backend.cuda.codegen.sizes import SIZES
from fastnn.formulas import trigonometric

_THREADS = SIZES.threads
load_int64, as_double = ptx.LOADS["int64"], ptx.int_as_double
split = formula(windows.split)


@kernel("angles")
def angles(kit: Kit) -> list[Stage]:
    """Make cosines and sines of position scale exp(-i decay), in float64: one thread per angle."""
    Y, POSITION, ROWS, HALF, SCALE, DECAY = kit.words("y position rows half scale decay")
    store, real, exp = kit.store, kit.real, functions("float64").exp
    defined = trigonometric.define(np.float64, formula)
    sin, cos = defined.sin, defined.cos

    def angles(record, context):
        n, half = cuda.blockIdx.x * _THREADS + cuda.threadIdx.x, record[HALF]
        if n < record[ROWS] * half:
            row, i = split(n, half)
            position = np.int64(row)
            if record[POSITION] != 0:
                position = load_int64(record[POSITION], row)
            scaled = as_double(record[SCALE]) * np.float64(position)
            angle = scaled * exp(-as_double(record[DECAY]) * np.float64(i))
            store(record[Y], 2 * half * row + i, real(cos(angle)))
            store(record[Y], 2 * half * row + half + i, real(sin(angle)))

    return [Stage(angles, elements("rows", "half"), _THREADS)]


@kernel("rotate")
def rotate(kit: Kit) -> list[Stage]:
    """Rotate pairs that are half a head apart: one thread per pair."""
    Y, X, ANGLES, OUTER, ROWS = kit.words("y x angles outer rows")
    HEADS, HALF, INVERSE = kit.words("heads half inverse")
    load, store, one = kit.load, kit.store, kit.real(1.0)

    def rotate(record, context):
        n, half, heads, rows = cuda.blockIdx.x * _THREADS + cuda.threadIdx.x, record[HALF], record[HEADS], record[ROWS]
        if n < record[OUTER] * rows * heads * half:
            head, i = split(n, half)
            step, _ = split(head, heads)
            _, row = split(step, rows)
            turn, low = 2 * half * row + i, 2 * half * head + i
            cosine, sine = load(record[ANGLES], turn), load(record[ANGLES], turn + half)
            sine *= -one if record[INVERSE] != 0 else one
            a, b = load(record[X], low), load(record[X], low + half)
            store(record[Y], low, a * cosine - b * sine)
            store(record[Y], low + half, b * cosine + a * sine)

    return [Stage(rotate, elements("outer", "rows", "heads", "half"), _THREADS)]
