"""The code of a frozen network: records for one row, and records for many with what changes with their number.

The code is an array of int64 (`frozen_layout`). It holds addresses of compiled functions, and so belongs to one
process; `relocate` makes it right for another.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cpu import library
from fastnn.backend.cpu.blocking import WAYS, Blocking
from fastnn.backend.cpu.engine import bind, kernels_of, prepare
from fastnn.backend.cpu.frozen_layout import (
    LAYOUT_VERSION,
    MOST_DIMS,
    PATCH_WORDS,
    UNIT,
    WAY_WORDS,
    WEIGHT_WORDS,
    Word,
)
from fastnn.backend.cpu.token import process_token
from fastnn.program.layout import (
    DIMS_AT,
    FLAGS_WORD,
    KERNEL_WORD,
    MAP_WORD,
    MAX_DIMS,
    MAX_OPERANDS,
    OPERANDS_AT,
    PARAMS_AT,
    RECORD_WORDS,
    Buffer,
    Flag,
    decode,
)
from fastnn.program.program import KernelKey, Program, dims_of

RUN = KernelKey("run_frozen", "int64")
RUN_GRADIENT = KernelKey("run_frozen_gradient", "int64")

Code = NDArray[np.int64]
#: Where an address stands in the code, and the function that it is of.
Relocation = tuple[int, str, str, str]


@dataclass(frozen=True)
class Interface:
    """What a network takes and gives: shapes of a sample; and its weights in the buffer of parameters.

    Attributes
    ----------
    parameters : int
        Elements of the buffer.
    weights : sequence of (first element, number of elements)
    """

    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    parameters: int
    weights: Sequence[tuple[int, int]]


def assemble(
    make: Callable[[int], Program], interface: Interface, run: KernelKey = RUN
) -> tuple[Code, NDArray[np.uint8]]:
    """Make a network's code.

    Parameters
    ----------
    make : callable
        Gives the program for a number of rows: it reads them from the first data slot, and fills the second; or it
        reads both, and fills the third with gradients.
    interface : Interface
    run : KernelKey
        The function that runs the code: `RUN` or `RUN_GRADIENT`.

    Returns
    -------
    code : ndarray of int64
    relocations : ndarray of uint8
        For `relocate`, as JSON.
    """
    if max(len(interface.input_shape), len(interface.output_shape)) > MOST_DIMS:
        raise ValueError(f"a network that is to be frozen has samples of at most {MOST_DIMS} dimensions")
    one, many = make(1), make(UNIT)
    patches = _patches(many, make(2 * UNIT), make(3 * UNIT))
    ways, way_keys = _ways(many)
    prepare({run, *way_keys, *(key for each in (one, many) for _, key in _addresses(each, 0))})
    weights = np.array(interface.weights, np.int64).reshape(-1, WEIGHT_WORDS)
    tables = [bind(one, _kernels(one)), bind(many, _kernels(many)), patches, ways, weights]
    starts = int(Word.HEAD) + np.cumsum([0, *(table.size for table in tables)])
    code = np.concatenate([np.zeros(int(Word.HEAD), np.int64), *(table.ravel() for table in tables)])
    itemsize = np.dtype(one.dtype).itemsize
    values = {
        Word.VERSION: LAYOUT_VERSION,
        Word.PARAMETERS: interface.parameters,
        Word.INPUT_NDIM: len(interface.input_shape),
        Word.OUTPUT_NDIM: len(interface.output_shape),
        Word.INPUT_BYTES: math.prod(interface.input_shape) * itemsize,
        Word.OUTPUT_BYTES: math.prod(interface.output_shape) * itemsize,
        Word.ONE_AT: starts[0],
        Word.ONE_COUNT: len(one),
        Word.ONE_ARENA: one.arena_bytes,
        Word.MANY_AT: starts[1],
        Word.MANY_COUNT: len(many),
        Word.MANY_ARENA: many.arena_bytes,
        Word.PATCHES_AT: starts[2],
        Word.PATCHES_COUNT: len(patches),
        Word.WAYS_AT: starts[3],
        Word.WAYS_COUNT: len(ways),
        Word.WEIGHTS_AT: starts[4],
        Word.WEIGHTS_COUNT: len(weights),
        Word.ITEM_BYTES: itemsize,
        Word.TRAINABLE: int(weights[:, 1].sum()),
    }
    for word, value in values.items():
        code[word] = value
    for word, shape in ((Word.INPUT_SHAPE, interface.input_shape), (Word.OUTPUT_SHAPE, interface.output_shape)):
        code[word : word + len(shape)] = shape
    found = [(int(Word.RUN), run), *_addresses(one, int(starts[0])), *_addresses(many, int(starts[1]))]
    for index, row in enumerate(ways):
        for way, name in enumerate(WAYS):
            if row[1 + way]:
                found.append((int(starts[3]) + index * WAY_WORDS + 1 + way, KernelKey("matmul", many.dtype, name)))
    listed: list[Relocation] = [(at, key.op, key.dtype, key.variant) for at, key in found]
    relocations = np.frombuffer(json.dumps(listed).encode(), np.uint8).copy()
    return relocate(code, relocations), relocations


def relocate(code: Code, relocations: NDArray[np.uint8]) -> Code:
    """Return a code with the addresses and the token of this process; functions are loaded or compiled.

    Raises
    ------
    ValueError
        When the code was made by a version of fastnn with another layout.
    """
    if len(code) < int(Word.HEAD) or code[Word.VERSION] != LAYOUT_VERSION:
        raise ValueError("the network was frozen by another version of fastnn: freeze its model again")
    made = np.array(code, np.int64)
    keys = [(at, KernelKey(*key)) for at, *key in json.loads(bytes(relocations))]
    prepare({key for _, key in keys})
    for at, key in keys:
        made[at] = library.address(key)
    made[Word.TOKEN] = process_token()
    return made


def without_addresses(code: Code, relocations: NDArray[np.uint8]) -> Code:
    """Return a code that may leave the process."""
    made = code.copy()
    made[[at for at, *_ in json.loads(bytes(relocations))]] = 0
    made[Word.TOKEN] = 0
    return made


def _kernels(program: Program) -> list[KernelKey]:
    """Return the kernel of every record; none packs blocks, for which there is no memory (the results are the same)."""
    return [replace(key, variant="simple") if key.variant == "blocked" else key for key in kernels_of(program)]


def _addresses(program: Program, start: int) -> list[tuple[int, KernelKey]]:
    found = []
    for index, (key, mapped) in enumerate(zip(_kernels(program), program.maps, strict=True)):
        at = start + index * RECORD_WORDS
        found.append((at + KERNEL_WORD, key))
        if mapped is not None:
            found.append((at + MAP_WORD, mapped))
    return found


def _patches(unit: Program, double: Program, triple: Program) -> NDArray[np.int64]:
    """Find what changes with the number of rows: dimensions in proportion, places in the arena by its units."""
    found = []
    for record, (first, second, third) in enumerate(zip(unit.records, double.records, triple.records, strict=True)):
        if (first[:OPERANDS_AT] != second[:OPERANDS_AT]).any() or (first[PARAMS_AT:] != second[PARAMS_AT:]).any():
            raise NotImplementedError(f"{unit.kernels[record]} depends on the number of rows in a way of its own")
        start = record * RECORD_WORDS
        for word in range(OPERANDS_AT, OPERANDS_AT + MAX_OPERANDS):
            operand = int(first[word])
            buffer, offset = decode(operand)
            if buffer == Buffer.ARENA and offset:
                # values of so many units fit where their first unit was, times as many
                found.append((start + word, operand - offset, 0, offset))
            elif buffer != Buffer.ARENA and operand != second[word]:
                raise NotImplementedError(f"{unit.kernels[record]} moves with the number of rows")
        for word in range(DIMS_AT, DIMS_AT + MAX_DIMS):
            slope, rest = divmod(int(second[word] - first[word]), UNIT)
            if rest or third[word] - second[word] != second[word] - first[word]:
                raise NotImplementedError(f"{unit.kernels[record]} has a dimension that is not linear in the rows")
            if slope:
                found.append((start + word, int(first[word]) - slope * UNIT, slope, 0))
    return np.array(found, np.int64).reshape(-1, PATCH_WORDS)


def _ways(program: Program) -> tuple[NDArray[np.int64], set[KernelKey]]:
    """List the matrix products, and mark by 1 the ways that they may take with two and more rows."""
    rows, keys = [], set()
    blocking = Blocking.of(program.dtype)
    for index, (record, key) in enumerate(zip(program.records, program.kernels, strict=True)):
        if key.op != "matmul":
            continue
        dims, flags = dims_of(record), int(record[FLAGS_WORD])
        transposed = bool(flags & Flag.TRANSPOSE_A), bool(flags & Flag.TRANSPOSE_B)
        marks = dict.fromkeys(WAYS, 0)
        # the ways depend on whether there are one, up to three or more rows of a
        for m in {dims["m"], 2 * dims["m"] // UNIT, 3 * dims["m"] // UNIT}:
            way = blocking.way(m, dims["n"], dims["k"], *transposed)
            marks["simple" if way == "blocked" else way] = 1
        rows.append((index, *marks.values()))
        keys |= {KernelKey("matmul", program.dtype, way) for way, mark in marks.items() if mark}
    return np.array(rows, np.int64).reshape(-1, WAY_WORDS), keys
