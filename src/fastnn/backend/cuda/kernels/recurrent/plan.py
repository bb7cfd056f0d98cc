"""How many samples a block has, and where it keeps their states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numba import cuda

from fastnn.backend.cuda.codegen.kernel import SCRATCH_WORD, Dims, Kit, Stage, ceil_div, kernel, ptx
from fastnn.backend.cuda.codegen.options import helper
from fastnn.backend.cuda.codegen.sizes import PACK, RECURRENT
from fastnn.backend.cuda.kernels.elementwise import DIVIDE_QUICKLY
from fastnn.program.layout import Flag

#: numbers that a block keeps for each unit of a sample: states, gradients, and the products of all gates
KEPT = {"simple_rnn": 3, "gru": 6, "lstm": 7, "simple_rnn_grad": 2, "gru_grad": 4, "lstm_grad": 6}
_SHARED, _SCRATCH, _PACKS, _SINGLE = "shared", "scratch", "packs", "single"
_ALGORITHMS = tuple(
    f"{place}-{samples}-{loads}"
    for place, samples, loads in product((_SHARED, _SCRATCH), RECURRENT.samples, (_PACKS, _SINGLE))
)
# activations that the tests compile for all architectures
_VARIANTS = {True: ("tanh,sigmoid", "relu,hard_sigmoid", "softplus,tanh"), False: ("tanh", "relu", "softplus")}


def scan_kernel(op: str) -> Callable[[Any], Any]:
    """Register the factory of the kernels of a recurrent layer, or of its gradient."""

    def algorithm(dims: Dims, flags: Flag) -> str:
        few = [samples for samples in RECURRENT.samples if ceil_div(dims["batch"], samples) <= RECURRENT.processors]
        samples = few[0] if few else RECURRENT.samples[-1]
        fits = KEPT[op] * dims["units"] <= RECURRENT.elements // samples
        return f"{_SHARED if fits else _SCRATCH}-{samples}-{_SINGLE if dims['units'] % PACK else _PACKS}"

    def scratch(dims: Dims, itemsize: int, algorithm: str) -> int:
        place, samples, _ = algorithm.split("-")
        blocks = ceil_div(dims["batch"], int(samples))
        return blocks * int(samples) * KEPT[op] * dims["units"] * itemsize if place == _SCRATCH else 0

    return kernel(
        op, algorithms=_ALGORITHMS, variants=lambda algorithm: _VARIANTS["rnn" not in op], algorithm=algorithm,
        scratch=scratch,
    )  # fmt: skip


@dataclass(frozen=True)
class Block:
    """What the functions of a block know when they are compiled.

    Attributes
    ----------
    samples : int
    width : int
        Neighbours of the recurrent kernel that a thread loads at once.
    memory : device function
        `memory(record)`: where the block's numbers are, for the functions below. A kernel calls it once.
    gap : device function
        `gap(record)`: from the numbers of a sample to those of the next. In shared memory it is a constant, so that the
        places of all samples are one address and constants; registers for eight addresses would be too many.
    move : device function
        `move(memory, i)`: `memory`, from element i on.
    get, put, get_some : device functions
        `get(memory, i)`, `put(memory, i, value)`, and `get_some(values, at, memory, i)`, which copies `width`
        neighbours to an array.
    load_some : device function
        `load_some(values, at, address, i)`: the same for memory of all blocks.
    """

    samples: int
    width: int
    memory: Any
    gap: Any
    move: Any
    get: Any
    put: Any
    get_some: Any
    load_some: Any


def block_of(kit: Kit) -> Block:
    """Make the functions for the kit's algorithm."""
    place, number, loads = kit.algorithm.split("-")
    (UNITS,), samples, itemsize, kept = kit.words("units"), int(number), kit.itemsize, KEPT[kit.op]
    width, between = PACK if loads == _PACKS else 1, RECURRENT.elements // samples

    @helper
    def in_scratch(record):
        return record[SCRATCH_WORD] + np.int64(cuda.blockIdx.x) * (samples * kept * itemsize * record[UNITS])

    @helper
    def gap_in_scratch(record):
        return kept * record[UNITS]

    @helper
    def move_in_scratch(memory, i):
        return memory + np.int64(i) * itemsize

    load_some = _several(kit.load, kit.load_pack, width, PACK)
    if place == _SCRATCH:
        return Block(
            samples, width, in_scratch, gap_in_scratch, move_in_scratch, kit.load, kit.store, load_some, load_some
        )
    shared, get_pack = ptx.shared(RECURRENT.elements, kit.dtype, dynamic=True), ptx.SHARED_LOAD_PACKS[kit.dtype]
    get, put, move = ptx.SHARED_LOADS[kit.dtype], ptx.SHARED_STORES[kit.dtype], ptx.SHARED_AT[kit.dtype]

    @helper
    def in_shared(record):
        return shared()

    @helper
    def gap_in_shared(record):
        return between

    get_some = _several(get, get_pack, width, 16 // itemsize)
    return Block(samples, width, in_shared, gap_in_shared, move, get, put, get_some, load_some)


def _several(load_one: Any, load_pack: Any, width: int, pack: int) -> Any:
    """Make the function that copies neighbours to an array, by packs of so many, or one by one."""

    @helper
    def single(values, at, address, i):
        values[at] = load_one(address, i)

    @helper
    def four(values, at, address, i):
        found = load_pack(address, i)
        values[at], values[at + 1], values[at + 2], values[at + 3] = found[0], found[1], found[2], found[3]

    @helper
    def twice_two(values, at, address, i):
        low, high = load_pack(address, i), load_pack(address, i + 2)
        values[at], values[at + 1], values[at + 2], values[at + 3] = low[0], low[1], high[0], high[1]

    return single if width == 1 else {2: twice_two, 4: four}[pack]


def scan_stage(kit: Kit, function: Any) -> Stage:
    """Make the stage of a kernel: a block for some samples."""
    place, samples, _ = kit.algorithm.split("-")
    return Stage(
        function, lambda dims: (ceil_div(dims["batch"], int(samples)), 1), RECURRENT.threads,
        shared=RECURRENT.elements * kit.itemsize if place == _SHARED else 0,
        quick_division=all(name in DIVIDE_QUICKLY for name in kit.variant.split(",")),
    )  # fmt: skip
