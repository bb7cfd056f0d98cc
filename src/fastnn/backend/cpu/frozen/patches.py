"""Changes of a code's records with the number of rows: dimensions, places, scales, algorithms of products."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cpu.executor.chains import Arranged
from fastnn.backend.cpu.layouts.code import PATCH_WORDS, PRODUCT_WORDS, SCALE_WORDS, UNIT
from fastnn.backend.cpu.processor.blocking import ALGORITHMS, PRODUCTS, Blocking
from fastnn.backend.cpu.processor.pieces import LOCAL, ChainWord
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
from fastnn.program.record import KernelKey, dims_of, elements_of, op_of, params_of

# a product that packs no blocks with this many rows never does
_MOST_ROWS = 1 << 20


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


Table = NDArray[np.int64]


def in_place(
    arranged: Arranged, unit: Program, double: Program, patches: Table, factors: Table, product_table: Table
) -> tuple[Table, Table, Table]:
    """Return the tables of a program whose records are arranged as the CPU has them.

    Local values of chains do not move, and the records of chains grow with the rows.

    Parameters
    ----------
    unit, double : Program
        The programs for UNIT and for twice as many rows.
    patches, factors, product_table : ndarray of int64
        Of the program, from `row_patches`, `scales` and `products`.
    """
    places = arranged.places()

    def moved(words: Table) -> Table:
        return places[words // RECORD_WORDS] * RECORD_WORDS + words % RECORD_WORDS

    patches, factors, product_table = patches.copy(), factors.copy(), product_table.copy()
    patches[:, 0], factors[:, :2] = moved(patches[:, 0]), moved(factors[:, :2])
    product_table[:, 0] = places[product_table[:, 0]]
    inside = patches[:, 0] % RECORD_WORDS
    is_local = (inside >= OPERANDS_AT) & (inside < DIMS_AT)
    is_local &= arranged.records.ravel()[patches[:, 0]] >> OFFSET_BITS == LOCAL
    grown = []
    for place, chain in zip(arranged.chains(), unit.chains, strict=True):
        first, second = (elements_of(program.records[chain.first]) for program in (unit, double))
        growth = (second - first) // UNIT
        grown.append((place * RECORD_WORDS + ChainWord.ELEMENTS, first - growth * UNIT, growth, 0))
    added = np.array(grown, np.int64).reshape(-1, PATCH_WORDS)
    return np.concatenate([patches[~is_local], added]), factors, product_table


def _refuse(program: Program, wrong: NDArray[np.bool_], why: str) -> None:
    """Raise where any word of a record is wrong."""
    records = np.flatnonzero(wrong.any(axis=1))
    if records.size:
        raise NotImplementedError(f"{program.kernels[records[0]]} {why}")


def scales(unit: Program, double: Program, loss_weights: Sequence[float]) -> NDArray[np.int64]:
    """Find the factors of gradients, each of which is the weight of a loss divided by the number of its rows."""
    found = []
    for record, (first, second) in enumerate(zip(unit.records, double.records, strict=True)):
        op, start = op_of(first), record * RECORD_WORDS
        if not op.per_row:
            continue
        fitting = [
            weight
            for weight in loss_weights
            if all(params_of(each)[op.per_row] == weight / dims_of(each)["rows"] for each in (first, second))
        ]
        if not fitting:
            raise NotImplementedError(f"{unit.kernels[record]} scales gradients in an unknown way")
        weight = int(np.float64(fitting[0]).view(np.int64))
        found.append((start + op.word(op.per_row), start + op.word("rows"), weight))
    return np.array(found, np.int64).reshape(-1, SCALE_WORDS)


def products(unit: Program, double: Program) -> tuple[NDArray[np.int64], list[tuple[KernelKey, ...]], int]:
    """Describe the matrix products of a program for two and more rows.

    Those of many matrices are among them if the sizes of the matrices depend on the number of rows.

    Returns
    -------
    table : ndarray of int64, shape (products, PRODUCT_WORDS)
        The records, and a 1 for each algorithm that may be used.
    kernels : list of tuples
        For each product its kernels by algorithm.
    blocks_from : int
        The number of rows from which a product packs blocks, 0 if none ever does.
    """
    found, kernels, blocks_from = [], [], 0
    by_algorithm = {
        (op, many): tuple(
            KernelKey(op, unit.dtype, "simple" if many and name == "blocked" else name) for name in ALGORITHMS
        )
        for op in PRODUCTS
        for many in (False, True)
    }
    known: dict[tuple[str, int, bytes, bytes], tuple[tuple[int, ...], bool]] = {}
    blocking = Blocking.of(unit.dtype)
    for index, (record, twice, key) in enumerate(zip(unit.records, double.records, unit.kernels, strict=True)):
        if key.op not in PRODUCTS:
            continue
        # layers of a deep network are alike
        form = key.op, int(record[FLAGS_WORD]), record[DIMS_AT:PARAMS_AT].tobytes(), twice[DIMS_AT:PARAMS_AT].tobytes()
        if form in known:
            marked, many = known[form]
            if marked:
                found.append((index, *marked))
                kernels.append(by_algorithm[key.op, many])
            continue
        dims, flags = dims_of(record), int(record[FLAGS_WORD])
        transposed = bool(flags & Flag.TRANSPOSE_A), bool(flags & Flag.TRANSPOSE_B)
        growth = {name: (dims_of(twice)[name] - size) // UNIT for name, size in dims.items()}
        # how many matrices there are
        many = any(each.get("samples", 1) * each.get("count", 1) > 1 for each in (dims, dims_of(twice)))
        if key.op != "matmul" and not any(growth[name] for name in "mnk"):
            known[form] = (), many
            continue

        def algorithm(rows: int, dims: dict[str, int] = dims, growth: dict[str, int] = growth,
                transposed: tuple[bool, bool] = transposed) -> str:  # fmt: skip
            m, n, k = (dims[name] + growth[name] * (rows - UNIT) for name in ("m", "n", "k"))
            return blocking.algorithm(m, n, k, *transposed)

        marks = dict.fromkeys(ALGORITHMS, 0)
        # besides blocks the algorithm depends on whether a has one, up to three or more rows
        marks |= {"simple" if algorithm(rows) == "blocked" else algorithm(rows): 1 for rows in (2, 3, UNIT)}
        first = _first_blocked(algorithm)
        if first:
            marks["blocked"] = 1
            if not many:
                blocks_from = min(blocks_from or first, first)
        known[form] = tuple(marks.values()), many
        found.append((index, *marks.values()))
        kernels.append(by_algorithm[key.op, many])
    return np.array(found, np.int64).reshape(-1, PRODUCT_WORDS), kernels, blocks_from


def fixed_products(program: Program, arranged: Arranged) -> tuple[Table, list[tuple[KernelKey, ...]], int]:
    """Describe the matrix products of a program whose number of rows does not change; see `products`."""
    found, kernels, blocking, packs = [], [], Blocking.of(program.dtype), False
    for place, record, key in zip(arranged.places(), program.records, program.kernels, strict=True):
        if key.op not in PRODUCTS:
            continue
        dims, flags = dims_of(record), int(record[FLAGS_WORD])
        if dims.get("samples", 1) * dims.get("count", 1) > 1:
            continue  # their kernel is that of the record
        transposed = bool(flags & Flag.TRANSPOSE_A), bool(flags & Flag.TRANSPOSE_B)
        algorithm = blocking.algorithm(dims["m"], dims["n"], dims["k"], *transposed)
        packs = packs or algorithm == "blocked"
        # without memory for blocks it is a simple one
        wanted = (algorithm, "simple") if algorithm == "blocked" else (algorithm,)
        found.append((place, *(int(name in wanted) for name in ALGORITHMS)))
        kernels.append(tuple(KernelKey(key.op, program.dtype, name) for name in ALGORITHMS))
    return np.array(found, np.int64).reshape(-1, PRODUCT_WORDS), kernels, int(packs)


def _first_blocked(algorithm: Callable[[int], str]) -> int:
    """Return the number of rows from which on a product packs blocks, 0 if it never does."""
    high = 2
    while algorithm(high) != "blocked":
        high *= 2
        if high > _MOST_ROWS:
            return 0
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if algorithm(middle) == "blocked" else (middle, high)
    return high
