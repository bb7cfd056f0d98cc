"""Kernels of sums over weights or gradients: squares, for norms; L1 and L2 penalties with their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda

from fastnn.backend.cuda.codegen.kernel import (
    SCRATCH_WORD,
    Dims,
    Kit,
    Stage,
    ceil_div,
    kernel,
    ptx,
)
from fastnn.backend.cuda.codegen.options import formula, helper
from fastnn.backend.cuda.codegen.sizes import PACK, SIZES
from fastnn.formulas.optimizers import HYPER_COLUMNS, PENALTY_COLUMN
from fastnn.program.layout import BAD_ROW, FLAGS_WORD, NO_ROW, Counter, Flag

_ACCUMULATE, _CHUNK = int(Flag.ACCUMULATE), int(Counter.CHUNK_STEP)
_TEAM = SIZES.team
load_int64, as_double = ptx.LOADS["int64"], ptx.int_as_double
load_double, store_double = ptx.LOADS["float64"], ptx.STORES["float64"]

#: maximum number of parts of a sum, one per block: 1024 fill a large GPU, and are few to add for a last block
_PARTS = 4 * _TEAM
#: up to this many elements use one block, since a second launch takes longer
_ALONE = 4 * PACK * _TEAM


def _sum_algorithm(dims: Dims, flags: Flag) -> str:
    return "" if dims["n"] <= _ALONE else "parts"


def _sum_scratch(dims: Dims, itemsize: int, algorithm: str) -> int:
    return 8 * _PARTS


def _summed(kit: Kit, part: Any, finish: Any) -> list[Stage]:
    """Make the stages of a sum over n elements, in float64.

    `part(record, context, first, step)` sums the packs at `first`, `first + step`, ...; `finish(record, value)` takes
    the sum.
    """
    (N,) = kit.words("n")
    total = kit.team(_TEAM, "float64").total

    def parts(record, context):
        if load_int64(context, BAD_ROW) != NO_ROW:
            return
        block, blocks = np.int64(cuda.blockIdx.x), np.int64(cuda.gridDim.x)
        value = total(part(record, context, PACK * (_TEAM * block + cuda.threadIdx.x), PACK * _TEAM * blocks))
        if cuda.threadIdx.x == 0:
            if blocks == 1:
                finish(record, value)
            else:
                store_double(record[SCRATCH_WORD], block, value)

    def last(record, context):
        if load_int64(context, BAD_ROW) != NO_ROW:
            return
        many = min((record[N] + (PACK * _TEAM - 1)) // (PACK * _TEAM), _PARTS)
        value, i = 0.0, cuda.threadIdx.x
        while i < many:
            value += load_double(record[SCRATCH_WORD], i)
            i += _TEAM
        value = total(value)
        if cuda.threadIdx.x == 0:
            finish(record, value)

    if kit.algorithm == "":
        return [Stage(parts, lambda dims: (1, 1), _TEAM)]
    grid = lambda dims: (min(ceil_div(dims["n"], PACK * _TEAM), _PARTS), 1)  # noqa: E731
    return [Stage(parts, grid, _TEAM), Stage(last, lambda dims: (1, 1), _TEAM)]


@kernel("sum_squares", algorithms=("", "parts"), algorithm=_sum_algorithm, scratch=_sum_scratch)
def sum_squares(kit: Kit) -> list[Stage]:
    """Sum squares in float64."""
    TOTAL, X, N = kit.words("total x n")
    load, load_pack = kit.load, kit.load_pack

    @formula
    def square(x):
        return np.float64(x) * np.float64(x)

    @helper
    def part(record, context, first, step):
        n, i, value = record[N], first, 0.0
        while i + PACK <= n:
            x = load_pack(record[X], i)
            value += (square(x[0]) + square(x[1])) + (square(x[2]) + square(x[3]))
            i += step
        for e in range(i, n):
            value += square(load(record[X], e))
        return value

    @helper
    def finish(record, value):
        if record[FLAGS_WORD] & _ACCUMULATE != 0:
            value += load_double(record[TOTAL], 0)
        store_double(record[TOTAL], 0, value)

    return _summed(kit, part, finish)


@kernel("penalty", algorithms=("", "parts"), algorithm=_sum_algorithm, scratch=_sum_scratch)
def penalty(kit: Kit) -> list[Stage]:
    """Add batch s (l1 sum|w| + l2 sum w^2) to the total, and s (l1 sign(w) + 2 l2 w) to the gradient."""
    TOTAL, DW, W, HYPER, N, BATCH, L1, L2 = kit.words("total dw w hyper n batch l1 l2")
    real, load, store, load_pack, store_pack = kit.real, kit.load, kit.store, kit.load_pack, kit.store_pack
    zero, two = real(0.0), real(2.0)

    @formula
    def gradient(w, l1, l2):
        sign = l1 if w > zero else (-l1 if w < zero else zero)
        return sign + two * l2 * w

    @formula
    def size(x):
        return abs(np.float64(x))

    @formula
    def square(x):
        return np.float64(x) * np.float64(x)

    @helper
    def part(record, context, first, step):
        scale = 1.0
        if record[HYPER] != 0:
            scale = load_double(record[HYPER] + load_int64(context, _CHUNK) * (8 * HYPER_COLUMNS), PENALTY_COLUMN)
        one_l1, one_l2 = scale * as_double(record[L1]), scale * as_double(record[L2])
        l1, l2 = real(one_l1), real(one_l2)
        n, i, absolute, squares = record[N], first, 0.0, 0.0
        while i + PACK <= n:
            w = load_pack(record[W], i)
            if record[DW] != 0:
                dw = load_pack(record[DW], i)
                store_pack(record[DW], i, (
                    dw[0] + gradient(w[0], l1, l2), dw[1] + gradient(w[1], l1, l2),
                    dw[2] + gradient(w[2], l1, l2), dw[3] + gradient(w[3], l1, l2),
                ))  # fmt: skip
            absolute += (size(w[0]) + size(w[1])) + (size(w[2]) + size(w[3]))
            squares += (square(w[0]) + square(w[1])) + (square(w[2]) + square(w[3]))
            i += step
        for e in range(i, n):
            one = load(record[W], e)
            if record[DW] != 0:
                store(record[DW], e, load(record[DW], e) + gradient(one, l1, l2))
            absolute += size(one)
            squares += square(one)
        return one_l1 * absolute + one_l2 * squares

    @helper
    def finish(record, value):
        store_double(record[TOTAL], 0, load_double(record[TOTAL], 0) + np.float64(record[BATCH]) * value)

    return _summed(kit, part, finish)
