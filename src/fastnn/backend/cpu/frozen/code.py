"""The code of a frozen network: records for one row, and records for many with patches for their number.

The code is an array of int64 (`frozen_layout`). It holds addresses of compiled functions, so it is valid in one
process; `relocate` adapts it to another.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cpu.executor.engine import bind, prepare
from fastnn.backend.cpu.frozen.failures import table_address
from fastnn.backend.cpu.frozen.patches import row_patches, scales, unblocked, ways
from fastnn.backend.cpu.frozen.process_token import process_token
from fastnn.backend.cpu.layouts.frozen import (
    CORRECTIONS,
    LAYOUT_VERSION,
    MOST_DIMS,
    UNIT,
    WAY_WORDS,
    WEIGHT_WORDS,
    Word,
)
from fastnn.backend.cpu.loading import library
from fastnn.backend.cpu.processor.blocking import WAYS
from fastnn.formulas import custom
from fastnn.formulas.custom import CustomFunction
from fastnn.program.layout import KERNEL_WORD, MAP_WORD, RECORD_WORDS
from fastnn.program.opcodes import OPS
from fastnn.program.program import Program
from fastnn.program.record import KernelKey

RUN = KernelKey("run_frozen", "int64")
RUN_GRADIENT = KernelKey("run_frozen_gradient", "int64")
LEARN = KernelKey("run_learner", "int64")
NOTE = KernelKey("note_failure", "int64")

Code = NDArray[np.int64]


class Make(Protocol):
    """What gives a network's program for a number of rows."""

    def __call__(self, rows: int, /, *, planned: bool) -> Program: ...


#: A function, and the positions of its address in the code.
Relocation = tuple[str, str, str, list[int]]


@dataclass(frozen=True)
class Interface:
    """A network's interface: shapes of a sample's input and output, and its weights in the buffer of parameters.

    Attributes
    ----------
    parameters : int
        Elements of the buffer.
    weights : sequence of (first element, number of elements)
    output_itemsize : int, optional
        If it differs from the dtype's.
    """

    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    parameters: int
    weights: Sequence[tuple[int, int]]
    output_itemsize: int | None = None


@dataclass(frozen=True)
class Training:
    """The data of a learner besides its programs.

    Attributes
    ----------
    columns : int
        Columns of the network's output.
    slots : int
        Slots of the optimizer.
    accumulated : int
        Steps whose gradients make one update of the weights; 0 or 1 where each step is one.
    loss_weight : float
    penalty_at, loss_at : int
        Accumulators.
    labels : bool
        Whether targets are class labels.
    tolerance : float
        The allowed distance of the sum of a row's targets from 1; 0 if the loss takes any sum.
    target_range : (float, float)
    allowed : tuple of float
        The only targets that the loss takes; any in the range if empty.
    rates : int
        Columns of the optimizer's hyper rows that are proportional to the learning rate.
    correction : str
        One of `CORRECTIONS`.
    """

    columns: int
    slots: int
    accumulated: int = 0
    loss_weight: float = 1.0
    penalty_at: int = 0
    loss_at: int = 0
    labels: bool = False
    tolerance: float = 0.0
    target_range: tuple[float, float] = (-math.inf, math.inf)
    allowed: tuple[float, ...] = ()
    rates: int = 0
    correction: str = ""


def assemble(
    make: Make, interface: Interface, run: KernelKey = RUN, training: Training | None = None
) -> tuple[Code, NDArray[np.uint8]]:
    """Make a network's code.

    Parameters
    ----------
    make : callable
        Returns the program for a number of rows: it reads them from the first data slot, and fills the second; or it
        reads both, and fills the third with gradients; or, for a learner, it reads inputs, targets and weights. Those
        that are only compared need no plan of the arena.
    interface : Interface
    run : KernelKey
        The function that runs the code: `RUN`, `RUN_GRADIENT` or `LEARN`.
    training : Training
        For a learner.

    Returns
    -------
    code : ndarray of int64
    relocations : ndarray of uint8
        For `relocate`, as JSON.
    """
    if max(len(interface.input_shape), len(interface.output_shape)) > MOST_DIMS:
        raise ValueError(f"networks with samples of more than {MOST_DIMS} dimensions cannot be frozen")
    one, many = (make(rows, planned=True) for rows in (1, UNIT))
    double = make(2 * UNIT, planned=False)
    one_kernels, many_kernels = unblocked(one), unblocked(many)
    patches = row_patches(one, many, double)
    factors = scales(many, double, 1.0 if training is None else training.loss_weight)
    products, way_keys = ways(many, double)
    mapped = {key for key in (*one.maps, *many.maps) if key is not None}
    _prepare_for_good({run, NOTE, *way_keys, *one_kernels, *many_kernels, *mapped})
    weights = np.array(interface.weights, np.int64).reshape(-1, WEIGHT_WORDS)
    tables = [bind(one, one_kernels, {}), bind(many, many_kernels, {}), patches, products, weights, factors]
    starts = int(Word.HEAD) + np.cumsum([0, *(table.size for table in tables)])
    code = np.concatenate([np.zeros(int(Word.HEAD), np.int64), *(table.ravel() for table in tables)])
    itemsize = np.dtype(one.dtype).itemsize
    values: dict[int, Any] = {
        Word.VERSION: LAYOUT_VERSION,
        Word.PARAMETERS: interface.parameters,
        Word.INPUT_NDIM: len(interface.input_shape),
        Word.OUTPUT_NDIM: len(interface.output_shape),
        Word.INPUT_BYTES: math.prod(interface.input_shape) * itemsize,
        Word.OUTPUT_BYTES: math.prod(interface.output_shape) * (interface.output_itemsize or itemsize),
        Word.ONE_AT: starts[0],
        Word.ONE_COUNT: len(one),
        Word.ONE_ARENA: one.arena_bytes,
        Word.MANY_AT: starts[1],
        Word.MANY_COUNT: len(many),
        Word.MANY_ARENA: many.arena_bytes,
        Word.PATCHES_AT: starts[2],
        Word.PATCHES_COUNT: len(patches),
        Word.WAYS_AT: starts[3],
        Word.WAYS_COUNT: len(products),
        Word.WEIGHTS_AT: starts[4],
        Word.WEIGHTS_COUNT: len(weights),
        Word.ITEM_BYTES: itemsize,
        Word.TRAINABLE: int(weights[:, 1].sum()),
        Word.FINGERPRINT: fingerprint(many),
        Word.SCALES_AT: starts[5],
        Word.SCALES_COUNT: len(factors),
    }
    if training is not None:
        values |= _training_words(training, one, many)
    for word, value in values.items():
        code[word] = value
    for word, shape in ((Word.INPUT_SHAPE, interface.input_shape), (Word.OUTPUT_SHAPE, interface.output_shape)):
        code[word : word + len(shape)] = shape
    places: defaultdict[KernelKey, list[int]] = defaultdict(list)
    places[run].append(int(Word.RUN))
    places[NOTE].append(int(Word.NOTE))
    for program, kernels, start in ((one, one_kernels, int(starts[0])), (many, many_kernels, int(starts[1]))):
        for at, key, function in zip(range(start, starts[-1], RECORD_WORDS), kernels, program.maps, strict=False):
            places[key].append(at + KERNEL_WORD)
            if function is not None:
                places[function].append(at + MAP_WORD)
    for way, name in enumerate(WAYS, 1):
        taken = np.flatnonzero(products[:, way]) * WAY_WORDS + way
        if taken.size:
            places[KernelKey("matmul", many.dtype, name)] += (int(starts[3]) + taken).tolist()
    listed: list[Relocation] = [(key.op, key.dtype, key.variant, where) for key, where in places.items()]
    relocations = np.frombuffer(json.dumps(listed).encode(), np.uint8).copy()
    return relocate(code, relocations), relocations


def fingerprint(program: Program) -> int:
    """Return a hash of a program."""
    described = program.records.tobytes() + repr((program.kernels, program.maps)).encode()
    return int.from_bytes(hashlib.sha256(described).digest()[:7], "little")


def _training_words(training: Training, one: Program, many: Program) -> dict[int, int]:
    def bits(number: float) -> int:
        return int(np.float64(number).view(np.int64))

    values: dict[int, int] = {
        Word.UPDATE_ONE: _first_of_update(one),
        Word.UPDATE_MANY: _first_of_update(many),
        Word.LOSS_WEIGHT: bits(training.loss_weight),
        Word.LABELS: int(training.labels),
        Word.COLUMNS: training.columns,
        Word.LOWEST: bits(training.target_range[0]),
        Word.HIGHEST: bits(training.target_range[1]),
        Word.TOLERANCE: bits(training.tolerance),
        Word.PENALTY_AT: training.penalty_at,
        Word.LOSS_AT: training.loss_at,
        Word.ALLOWED_COUNT: len(training.allowed),
        Word.SLOTS: training.slots,
        Word.RATES: training.rates,
        Word.CORRECTION: CORRECTIONS.index(training.correction),
        Word.ACCUMULATED: max(training.accumulated, 1),
    }
    return values | {Word.ALLOWED + index: bits(number) for index, number in enumerate(training.allowed)}


def _first_of_update(program: Program) -> int:
    return next(index for index, key in enumerate(program.kernels) if OPS[key.op].update)


def relocate(code: Code, relocations: NDArray[np.uint8]) -> Code:
    """Return a code with the addresses and the token of this process; functions are loaded or compiled.

    An empty code stays empty.

    Raises
    ------
    ValueError
        When the code was made by a version of fastnn with another layout.
    """
    if not code.size:
        return np.array(code)
    if len(code) < int(Word.HEAD) or code[Word.VERSION] != LAYOUT_VERSION:
        raise ValueError("the network was frozen by another version of fastnn: freeze its model again")
    made = np.array(code, np.int64)
    places = _places(relocations)
    _prepare_for_good(set(places))
    for key, where in places.items():
        made[where] = library.address(key)
    made[Word.TOKEN], made[Word.FAILURES] = process_token(), table_address()
    return made


def _prepare_for_good(keys: set[KernelKey]) -> None:
    """Load or compile functions that are never freed: a code is a plain array, and keeps nothing alive."""
    for key in prepare(keys):
        library.address(key)


def without_addresses(code: Code, relocations: NDArray[np.uint8]) -> Code:
    """Return a code that may be sent to another process."""
    made = code.copy()
    if not made.size:
        return made
    for where in _places(relocations).values():
        made[where] = 0
    made[Word.TOKEN] = made[Word.FAILURES] = 0
    return made


def _places(relocations: NDArray[np.uint8]) -> dict[KernelKey, list[int]]:
    return {KernelKey(*key): where for *key, where in json.loads(bytes(relocations))}


def users_functions(relocations: NDArray[np.uint8]) -> list[CustomFunction]:
    """Return the user-defined functions that a code calls, which another process has to register."""
    found = {key.variant: custom.find(key.variant) for key in _places(relocations)} if relocations.size else {}
    return [function for function in found.values() if function is not None]
