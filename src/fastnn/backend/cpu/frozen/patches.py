"""Changes of a frozen network's records with the number of rows: dimensions, places, scales, product algorithms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cpu.executor.engine import kernels_of
from fastnn.backend.cpu.layouts.frozen import PATCH_WORDS, SCALE_WORDS, UNIT, WAY_WORDS
from fastnn.backend.cpu.processor.blocking import WAYS, Blocking
from fastnn.program.layout import (
    BY_CODE,
    DIMS_AT,
    FLAGS_WORD,
    OFFSET_BITS,
    OFFSET_MASK,
    OP_WORD,
    OPERANDS_AT,
    PARAMS_AT,
    RECORD_WORDS,
    Buffer,
    Flag,
)
from fastnn.program.program import Program
from fastnn.program.record import KernelKey, dims_of, op_of, params_of


def unblocked(program: Program) -> list[KernelKey]:
    """Return the kernel of every record; none packs blocks, which need more memory (the results are the same)."""
    return [replace(key, variant="simple") if key.variant == "blocked" else key for key in kernels_of(program)]


def row_patches(one: Program, unit: Program, double: Program) -> NDArray[np.int64]:
    """Find the words that change with the number of rows: dimensions in proportion, places in the arena by units.

    Places in the arena are those of `unit`; `double` needs no plan. The program for one row shows whether dimensions
    are linear in the rows.
    """
    first, second = unit.records, double.records
    differs = first != second
    fixed = differs.copy()
    fixed[:, OPERANDS_AT:PARAMS_AT] = False
    for op in {int(code) for code in first[:, OP_WORD]}:
        if BY_CODE[op].per_row:  # see `scales`
            fixed[first[:, OP_WORD] == op, BY_CODE[op].word(BY_CODE[op].per_row)] = False
    _refuse(unit, fixed, "depends on the number of rows in an unknown way")
    operands = np.zeros_like(differs)
    operands[:, OPERANDS_AT:DIMS_AT] = True
    in_arena = operands & (first >> OFFSET_BITS == Buffer.ARENA)
    _refuse(unit, differs & operands & ~in_arena, "moves with the number of rows")
    slopes = np.zeros_like(first)
    dims = np.s_[:, DIMS_AT:PARAMS_AT]
    slopes[dims], rest = np.divmod(second[dims] - first[dims], UNIT)
    bent = np.zeros_like(differs)
    bent[dims] = (rest != 0) | (first[dims] - one.records[dims] != slopes[dims] * (UNIT - 1))
    _refuse(unit, bent, "has a dimension that is not linear in the rows")
    # values of several units fit at their first unit's place times the number of units
    offsets = np.where(in_arena, first & OFFSET_MASK, 0)
    changing = (offsets != 0) | (slopes != 0)
    found = [np.flatnonzero(changing)]
    found += [each[changing] for each in (first - offsets - slopes * UNIT, slopes, offsets)]
    return np.stack(found, axis=1).astype(np.int64).reshape(-1, PATCH_WORDS)


def _refuse(program: Program, wrong: NDArray[np.bool_], why: str) -> None:
    """Raise where any word of a record is wrong."""
    records = np.flatnonzero(wrong.any(axis=1))
    if records.size:
        raise NotImplementedError(f"{program.kernels[records[0]]} {why}")


def scales(unit: Program, double: Program, loss_weight: float) -> NDArray[np.int64]:
    """Find the factors of gradients, which are the weight of the loss divided by the number of rows."""
    found = []
    for record, (first, second) in enumerate(zip(unit.records, double.records, strict=True)):
        op, start = op_of(first), record * RECORD_WORDS
        if not op.per_row:
            continue
        for each in (first, second):
            if params_of(each)[op.per_row] != loss_weight / dims_of(each)["rows"]:
                raise NotImplementedError(f"{unit.kernels[record]} scales gradients in an unknown way")
        found.append((start + op.word("scale"), start + op.word("rows")))
    return np.array(found, np.int64).reshape(-1, SCALE_WORDS)


def ways(program: Program, double: Program) -> tuple[NDArray[np.int64], set[KernelKey]]:
    """List the matrix products, and mark by 1 the algorithms that they may use with two and more rows."""
    found, keys = [], set()
    known: dict[tuple[int, bytes, bytes], tuple[int, ...]] = {}
    blocking = Blocking.of(program.dtype)
    for index, (record, twice, key) in enumerate(zip(program.records, double.records, program.kernels, strict=True)):
        if key.op != "matmul":
            continue
        # layers of a deep network are alike
        form = record[FLAGS_WORD], record[DIMS_AT:PARAMS_AT].tobytes(), twice[DIMS_AT:PARAMS_AT].tobytes()
        if form in known:
            found.append((index, *known[form]))
            continue
        dims, flags = dims_of(record), int(record[FLAGS_WORD])
        transposed = bool(flags & Flag.TRANSPOSE_A), bool(flags & Flag.TRANSPOSE_B)
        marks = dict.fromkeys(WAYS, 0)
        # the algorithm depends on whether a has one, up to three or more rows
        slope = (dims_of(twice)["m"] - dims["m"]) // UNIT
        for m in {dims["m"] + slope * (rows - UNIT) for rows in (2, 3, UNIT)}:
            way = blocking.way(m, dims["n"], dims["k"], *transposed)
            marks["simple" if way == "blocked" else way] = 1
        known[form] = tuple(marks.values())
        found.append((index, *known[form]))
        keys |= {KernelKey("matmul", program.dtype, way) for way, mark in marks.items() if mark}
    return np.array(found, np.int64).reshape(-1, WAY_WORDS), keys
