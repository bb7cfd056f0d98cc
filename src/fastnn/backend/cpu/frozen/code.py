"""The code of a frozen network or a learner: records for one row, and records for many with patches for their number.

The code is an array of int64 (`layouts/code.py`). It holds addresses of compiled functions, so it is valid in one
process; `relocate` adapts it to another.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cpu.executor.chains import CHAIN, arrange
from fastnn.backend.cpu.executor.engine import addresses_of, flagged, kernels_of, prepare
from fastnn.backend.cpu.frozen.failures import table_address
from fastnn.backend.cpu.frozen.patches import fixed_products, in_place, products, row_patches, scales
from fastnn.backend.cpu.frozen.process_token import process_token
from fastnn.backend.cpu.layouts.code import (
    CORRECTIONS,
    DTYPES,
    LAYOUT_VERSION,
    MOST_ALLOWED,
    MOST_DIMS,
    MOST_SLOTS,
    MOST_TOTALS,
    PATCH_WORDS,
    PRODUCT_WORDS,
    SCALE_WORDS,
    UNIT,
    WEIGHT_WORDS,
    CodeWord,
    Role,
    Slot,
)
from fastnn.backend.cpu.loading import library
from fastnn.backend.cpu.loading.collection import without_collection
from fastnn.backend.cpu.loading.library import Loaded
from fastnn.backend.cpu.processor.blocking import PRODUCTS, Blocking
from fastnn.formulas import custom
from fastnn.formulas.custom import CustomFunction
from fastnn.program.layout import KERNEL_WORD, MAP_WORD, OFFSET_BITS, RECORD_WORDS, Buffer
from fastnn.program.opcodes import OPS
from fastnn.program.program import Program
from fastnn.program.record import KernelKey

#: The most bytes of values of a code for exactly n rows.
MOST_BYTES = 1 << OFFSET_BITS - 1

NETWORK = KernelKey("call_network", "int64")
LEARNER = KernelKey("call_learner", "int64")
NOTE = KernelKey("note_failure", "int64")

Code = NDArray[np.int64]


class Make(Protocol):
    """A function that makes a program for a number of rows; those that are only compared need no plan of the arena."""

    def __call__(self, rows: int, /, *, planned: bool = True) -> Program: ...


#: A function, and the positions of its address in the code.
Relocation = tuple[str, str, str, list[int]]


@dataclass(frozen=True)
class SlotSpec:
    """An array of a call, for one sample.

    Attributes
    ----------
    role : Role
    shape : tuple of int
    dtype : str
        That the program reads or writes.
    integers : (int, int)
        The range of integers, labels included; of numbers it means nothing.
    columns : int
        Columns of the network's output, for targets and labels.
    tolerance : float
        The allowed distance of the sum of a row's targets from 1; 0 if the loss takes any sum.
    target_range : (float, float)
    allowed : tuple of float
        The only targets that the loss takes; any in the range if empty.
    loss_weight : float
        0 where the output has no loss.
    loss_at : int
        The accumulator of its losses, which that of the rows follows.
    """

    role: Role
    shape: tuple[int, ...]
    dtype: str
    integers: tuple[int, int] = (0, 0)
    columns: int = 0
    tolerance: float = 0.0
    target_range: tuple[float, float] = (-math.inf, math.inf)
    allowed: tuple[float, ...] = ()
    loss_weight: float = 0.0
    loss_at: int = 0

    @property
    def size(self) -> int:
        """The elements of a sample."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The bytes of a sample."""
        return self.size * np.dtype(self.dtype).itemsize

    @property
    def holds_integers(self) -> bool:
        """Whether these are labels or other integers."""
        return self.dtype == "int64"


@dataclass(frozen=True)
class Interface:
    """The arrays that a code reads and writes, and its weights.

    Attributes
    ----------
    inputs, results : sequence of SlotSpec
        In the order of the program's data slots.
    parameters, gradients : int
        Elements of the buffer of parameters, which has the weights that no other model holds, and of that of gradients,
        which has all weights.
    weights : sequence of (first element, number of elements)
        In the buffer of gradients.
    """

    inputs: tuple[SlotSpec, ...]
    results: tuple[SlotSpec, ...]
    parameters: int
    gradients: int
    weights: Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Training:
    """The data of a learner besides its programs and arrays.

    Attributes
    ----------
    slots : int
        Slots of the optimizer.
    accumulated : int
        Steps whose gradients make one update of the weights; 0 or 1 where each step is one.
    penalty_at : int
        The accumulator of penalties.
    loss_totals, totals : int
        Accumulators of penalties and losses, which come first; all accumulators.
    rates : int
        Columns of the optimizer's hyper rows that are proportional to the learning rate.
    correction : str
        One of `CORRECTIONS`.
    """

    slots: int
    accumulated: int = 0
    penalty_at: int = 0
    loss_totals: int = 0
    totals: int = 0
    rates: int = 0
    correction: str = ""


class State(NamedTuple):
    """The state of sequences: arrays of the caller's, which a call reads and changes.

    Attributes
    ----------
    carried : int
        How many numbers of a row of the second half the caller copies to the first after a call.
    limit : int
        The most steps of a sequence, 0 if there is no limit. Otherwise the first number is the count of steps so far.
    steps : int
        The steps of a call.
    """

    carried: int
    limit: int
    steps: int


class Recipe(NamedTuple):
    """The programs that a code is made of, and the arrays that they read and fill.

    Attributes
    ----------
    make : callable
        Makes a program that reads and fills data slots in the interface's order.
    interface : Interface
    training : Training, optional
        For a learner.
    rows : int
        The number of rows that the code is for, 0 for any number. The interface's arrays are then whole batches.
    state : State, optional
        If arrays have the role STATE.
    """

    make: Make
    interface: Interface
    training: Training | None = None
    rows: int = 0
    state: State | None = None


class Parts(NamedTuple):
    """A code, and its relocations: the data, as JSON, with which `relocate` adapts it to another process."""

    code: Code
    relocations: NDArray[np.uint8]


#: of a network or a learner that was made without a gradient
NOTHING = Parts(np.empty(0, np.int64), np.empty(0, np.uint8))


def assemble(recipe: Recipe) -> Parts:
    """Make the code of a network, of its gradient, or of a learner.

    Raises
    ------
    ValueError
        When samples have too many dimensions, or there are too many arrays or rows.
    NotImplementedError
        When a record depends on the number of rows in a way that cannot be patched.
    """
    code, places = draft(recipe)
    listed: list[Relocation] = [(key.op, key.dtype, key.variant, where) for key, where in places.items()]
    relocations = np.frombuffer(json.dumps(listed).encode(), np.uint8).copy()
    return Parts(relocate(code, relocations), relocations)


def draft(recipe: Recipe) -> tuple[Code, dict[KernelKey, list[int]]]:
    """Return a code without addresses, and the places of those of each function; see `assemble`."""
    make, interface, training, only, state = recipe
    _check(interface, training)
    slots = [*interface.inputs, *interface.results]
    one: Program | None = None
    # the collector would look through the records again and again: a quarter of the time for 2,000 layers
    with without_collection():
        if only:
            many = make(only)
            _check_batch(many, slots)
        else:
            one, many = make(1), make(UNIT)
            double = make(2 * UNIT, planned=False)
    arranged = arrange(many, flagged(many))
    if one is None:
        patches, factors = np.zeros((0, PATCH_WORDS), np.int64), np.zeros((0, SCALE_WORDS), np.int64)
        product_table, product_kernels, blocks_from = fixed_products(many, arranged)
    else:
        product_table, product_kernels, blocks_from = products(many, double)
        factors = scales(many, double, [slot.loss_weight for slot in slots])
        patches, factors, product_table = in_place(
            arranged, many, double, row_patches(one, many, double), factors, product_table
        )
    weights = np.array(interface.weights, np.int64).reshape(-1, WEIGHT_WORDS)
    described = np.array([_described(slot) for slot in slots], np.int64)
    first = np.zeros((0, RECORD_WORDS), np.int64) if one is None else flagged(one)
    tables = [described, first, arranged.records, patches, product_table, weights, factors]
    starts = (int(CodeWord.HEAD) + np.cumsum([0, *(table.size for table in tables)])).tolist()
    code = np.concatenate([np.zeros(int(CodeWord.HEAD), np.int64), *(table.ravel() for table in tables)])
    least_m, least_n, least_k, least_work = Blocking.of(many.dtype).least
    values: dict[int, Any] = {
        CodeWord.VERSION: LAYOUT_VERSION,
        CodeWord.PARAMETERS: interface.parameters,
        CodeWord.GRADIENTS: interface.gradients,
        CodeWord.TRAINABLE: int(weights[:, 1].sum()),
        CodeWord.ITEM_BYTES: np.dtype(many.dtype).itemsize,
        CodeWord.FINGERPRINT: fingerprint(many),
        CodeWord.SLOTS_COUNT: len(slots),
        CodeWord.X_COUNT: sum(slot.role == Role.INPUT for slot in slots),
        CodeWord.ARRAYS: sum(slot.role == Role.INPUT for slot in slots) << 32 | len(slots),
        CodeWord.INPUTS: len(interface.inputs),
        CodeWord.INTEGERS: sum(slot.holds_integers for slot in interface.inputs),
        CodeWord.ROW_BYTES: sum(slot.nbytes for slot in interface.inputs),
        CodeWord.ROWS: only,
        CodeWord.CARRIED: 0 if state is None else state.carried,
        CodeWord.MOST_SO_FAR: -1 if state is None or not state.limit else state.limit - state.steps,
        CodeWord.ONE_COUNT: len(first),
        CodeWord.ONE_ARENA: 0 if one is None else one.arena_bytes,
        CodeWord.MANY_COUNT: len(arranged.records),
        CodeWord.MANY_RUN: arranged.run,
        CodeWord.MANY_ARENA: many.arena_bytes,
        CodeWord.PATCHES_COUNT: len(patches),
        CodeWord.PRODUCTS_COUNT: len(product_table),
        CodeWord.BLOCKS_FROM: blocks_from,
        CodeWord.LEAST_M: least_m,
        CodeWord.LEAST_N: least_n,
        CodeWord.LEAST_K: least_k,
        CodeWord.LEAST_WORK: least_work,
        CodeWord.WEIGHTS_COUNT: len(weights),
        CodeWord.SCALES_COUNT: len(factors),
    }
    at = (
        CodeWord.SLOTS_AT, CodeWord.ONE_AT, CodeWord.MANY_AT, CodeWord.PATCHES_AT, CodeWord.PRODUCTS_AT,
        CodeWord.WEIGHTS_AT, CodeWord.SCALES_AT,
    )  # fmt: skip
    values |= zip(at, starts, strict=False)
    if training is not None:
        values |= _training_words(training)
        values[CodeWord.UPDATE_ONE] = 0 if one is None else _first_of_update(one)
        values[CodeWord.UPDATE_MANY] = int(arranged.places()[_first_of_update(many)])
    for word, value in values.items():
        code[word] = value
    places: defaultdict[KernelKey, list[int]] = defaultdict(list)
    run, convert = NETWORK if training is None else LEARNER, KernelKey("convert", many.dtype)
    for key, word in ((run, CodeWord.CALL), (NOTE, CodeWord.NOTE), (convert, CodeWord.CONVERT)):
        places[key].append(int(word))
    in_table = [(many, kernels_of(many), starts[2] + RECORD_WORDS * arranged.places())]
    if one is not None:
        in_table.append((one, _without_blocks(kernels_of(one)), starts[1] + RECORD_WORDS * np.arange(len(one))))
    for program, kernels, table in in_table:
        for place, key, function in zip(table.tolist(), kernels, program.maps, strict=True):
            places[key].append(place + KERNEL_WORD)
            if function is not None:
                places[function].append(place + MAP_WORD)
    if arranged.run < len(arranged.records):
        places[CHAIN] += (starts[2] + RECORD_WORDS * arranged.chains() + KERNEL_WORD).tolist()
    for number, algorithm in np.argwhere(product_table[:, 1:]).tolist():
        places[product_kernels[number][algorithm]].append(starts[4] + number * PRODUCT_WORDS + algorithm + 1)
    return code, dict(places)


def _without_blocks(kernels: Iterable[KernelKey]) -> list[KernelKey]:
    """Return kernels that need no memory for packed blocks: a call of one row may have none, and does not choose."""
    return [
        replace(key, variant="simple") if key.op in PRODUCTS and key.variant == "blocked" else key for key in kernels
    ]


def _check(interface: Interface, training: Training | None) -> None:
    slots = [*interface.inputs, *interface.results]
    if max(len(slot.shape) for slot in slots) > MOST_DIMS:
        raise ValueError(f"networks with samples of more than {MOST_DIMS} dimensions cannot be frozen")
    if len(slots) > MOST_SLOTS or (training is not None and training.loss_totals > MOST_TOTALS):
        raise ValueError(f"networks with more than {MOST_SLOTS} arrays in a call cannot be frozen")


def _check_batch(program: Program, slots: Sequence[SlotSpec]) -> None:
    """Check that a program for exactly n rows fits into memory, and has the arrays that its code describes."""
    if program.arena_bytes > MOST_BYTES:
        raise ValueError(f"rows: expected fewer, the values of {program.batch} take {program.arena_bytes} bytes")
    for slot, described in enumerate(slots, Buffer.DATA):
        assert program.sizes[slot] == described.nbytes


def _bits(number: float) -> int:
    return int(np.float64(number).view(np.int64))


def _described(slot: SlotSpec) -> list[int]:
    """Return the words of a slot's description."""
    words = [0] * Slot.WORDS
    words[Slot.ROLE], words[Slot.DTYPE] = slot.role, DTYPES.index(slot.dtype)
    words[Slot.BYTES], words[Slot.ELEMENTS], words[Slot.NDIM] = slot.nbytes, slot.size, len(slot.shape)
    words[Slot.SHAPE : Slot.SHAPE + len(slot.shape)] = slot.shape
    words[Slot.COLUMNS] = slot.columns
    words[Slot.LOWEST], words[Slot.HIGHEST] = slot.integers if slot.holds_integers else map(_bits, slot.target_range)
    words[Slot.TOLERANCE], words[Slot.ALLOWED_COUNT] = _bits(slot.tolerance), len(slot.allowed)
    assert len(slot.allowed) <= MOST_ALLOWED
    words[Slot.ALLOWED : Slot.ALLOWED + len(slot.allowed)] = map(_bits, slot.allowed)
    words[Slot.LOSS_WEIGHT], words[Slot.LOSS_AT] = _bits(slot.loss_weight), slot.loss_at
    return words


def fingerprint(program: Program) -> int:
    """Return a hash of a program."""
    described = program.records.tobytes() + repr((program.kernels, program.maps)).encode()
    return int.from_bytes(hashlib.sha256(described).digest()[:7], "little")


def _training_words(training: Training) -> dict[int, int]:
    return {
        CodeWord.PENALTY_AT: training.penalty_at,
        CodeWord.LOSS_TOTALS: training.loss_totals,
        CodeWord.TOTALS: training.totals,
        CodeWord.OPTIMIZER_SLOTS: training.slots,
        CodeWord.RATES: training.rates,
        CodeWord.CORRECTION: CORRECTIONS.index(training.correction),
        CodeWord.ACCUMULATED: max(training.accumulated, 1),
    }


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
    if len(code) < int(CodeWord.HEAD) or code[CodeWord.VERSION] != LAYOUT_VERSION:
        raise ValueError("the network was frozen by another version of fastnn: freeze its model again")
    made = np.array(code, np.int64)
    places = _places(relocations)
    # never freed: a code is a plain array, and keeps nothing alive
    for key in prepare(set(places)):
        library.address(key)
    link(made, places, {})
    return made


def link(code: Code, places: Mapping[KernelKey, list[int]], held: Mapping[KernelKey, Loaded]) -> None:
    """Write the addresses and the token of this process into a code; functions that are not in `held` stay for good."""
    for key, address in addresses_of(places, held).items():
        code[places[key]] = address
    code[CodeWord.TOKEN], code[CodeWord.FAILURES] = process_token(), table_address()


def without_addresses(code: Code, relocations: NDArray[np.uint8]) -> Code:
    """Return a code that may be sent to another process."""
    made = code.copy()
    if not made.size:
        return made
    for where in _places(relocations).values():
        made[where] = 0
    made[CodeWord.TOKEN] = made[CodeWord.FAILURES] = 0
    return made


def _places(relocations: NDArray[np.uint8]) -> dict[KernelKey, list[int]]:
    return {KernelKey(*key): where for *key, where in json.loads(bytes(relocations))}


def users_functions(relocations: NDArray[np.uint8]) -> list[CustomFunction]:
    """Return the user-defined functions that a code calls, which another process has to register."""
    found = {key.variant: custom.find(key.variant) for key in _places(relocations)} if relocations.size else {}
    return [function for function in found.values() if function is not None]
