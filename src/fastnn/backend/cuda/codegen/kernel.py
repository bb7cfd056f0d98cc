"""The argument of kernel factories: record words by name, typed memory, formulas, teams of threads; and the registry.

A kernel is a function `(record, context)`. `record` is a tuple of the words of a record in which every operand is
an address (0 if absent), word 0 the address of scratch memory, and parameters are float64 bits. `context` is
the address of the program's context on the device, whose counters outlive a step. A factory returns its record's
stages: functions that run one after another, each on its own grid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from math import prod
from types import SimpleNamespace
from typing import Any

import numpy as np
from numba import cuda
from numba.cuda import libdevice

from fastnn.backend.cuda.codegen.options import formula, helper
from fastnn.backend.cuda.codegen.sizes import PACK, SIMULATED, SIZES
from fastnn.formulas import elementary
from fastnn.program.layout import RECORD_WORDS
from fastnn.program.opcodes import OPS

ptx: Any = import_module("fastnn.backend.cuda." + ("simulator.ptx" if SIMULATED else "codegen.ptx"))

SCRATCH_WORD = 0
#: the word with the address of a launch's table, if it has one
TABLE_WORD = 1
ARGUMENTS = RECORD_WORDS + 1

Dims = Mapping[str, int]
Grid = Callable[[Dims], tuple[int, int]]


@dataclass(frozen=True, order=True)
class Key:
    """The name of one CUDA kernel: op, dtype, the op's variant, and the algorithm for a record's shape and flags."""

    op: str
    dtype: str
    variant: str = ""
    algorithm: str = ""

    def __str__(self) -> str:
        return "-".join(part for part in (self.op, self.variant, self.algorithm, self.dtype) if part)


@dataclass(frozen=True)
class Stage:
    """One function of a kernel, and its launch parameters.

    Attributes
    ----------
    function : callable
        Takes (record, context), written for Numba's CUDA target.
    grid : callable
        The numbers of blocks (x, y) for the record's dimensions.
    threads : int
        Threads of a block, which has one dimension.
    shared : int
        Bytes of dynamic shared memory.
    blocks_at_once : int
        Number of blocks for which each multiprocessor must have registers; 0 leaves it to the compiler.
    minimum : tuple of int
        The compute capability that the function needs.
    only : str
        The only architecture whose special instructions the function uses; "" if it uses none.
    tensor_cores : bool
        Whether it uses tensor cores.
    quick_division : bool
        Whether divisions in float32, by numbers from 2^-126 to 2^126, may be wrong by 2 units in the last place. That
        takes fewer instructions than a correctly rounded division, and no call: with a call the
        assembler makes warpgroups wait for each of their products.
    """

    function: Callable[..., None]
    grid: Grid
    threads: int
    shared: int = 0
    blocks_at_once: int = 0
    minimum: tuple[int, int] = (0, 0)
    only: str = ""
    tensor_cores: bool = False
    quick_division: bool = False

    def runs_on(self, architecture: str) -> bool:
        """Return whether it can be compiled for an architecture, such as "80" or "90a"."""
        if self.only:
            return architecture == self.only
        return capability(architecture)[:2] >= self.minimum


Factory = Callable[["Kit"], list[Stage]]


def capability(architecture: str) -> tuple[Any, ...]:
    """Split an architecture such as "90a" into major, minor and suffix, as Numba needs it."""
    digits = architecture.rstrip("af")
    suffix = architecture[len(digits) :]
    return (int(digits[:-1]), int(digits[-1]), *([suffix] if suffix else []))


@dataclass(frozen=True)
class KernelEntry:
    """Properties of an op's kernels, known before one is made.

    Attributes
    ----------
    algorithm : callable
        Chooses among the op's algorithms by dimensions and flags; for matrix products it takes a precision, too.
    scratch : callable
        Returns the bytes of scratch memory that a record needs, by dimensions, dtype's size and algorithm.
    algorithms : tuple of str
        All algorithms, for tests that compile every kernel.
    variants : callable
        Returns the variants of an algorithm.
    dtypes : callable
        Returns the dtypes of an algorithm.
    """

    factory: Factory
    algorithm: Callable[..., str]
    scratch: Callable[[Dims, int, str], int]
    algorithms: tuple[str, ...]
    variants: Callable[[str], Sequence[str]]
    dtypes: Callable[[str], Sequence[str]]


KERNELS: dict[str, KernelEntry] = {}


def kernel(
    *ops: str,
    algorithms: tuple[str, ...] = ("",),
    variants: Callable[[str], Sequence[str]] = lambda algorithm: ("",),
    algorithm: Callable[..., str] = lambda dims, flags: "",
    scratch: Callable[[Dims, int, str], int] = lambda dims, itemsize, algorithm: 0,
    dtypes: Callable[[str], Sequence[str]] = lambda algorithm: ("float32", "float64"),
) -> Callable[[Factory], Factory]:
    """Register the factory of the kernels of one or several ops."""

    def register(factory: Factory) -> Factory:
        for op in ops:
            KERNELS[op] = KernelEntry(factory, algorithm, scratch, algorithms, variants, dtypes)
        return factory

    return register


def ceil_div(number: int, by: int) -> int:
    """Divide, rounding up."""
    return -(-number // by)


def elements(*axes: str) -> Grid:
    """Return the grid of a kernel with one thread for each element of an array of these axes."""
    return lambda dims: (ceil_div(prod(dims[axis] for axis in axes), SIZES.threads), 1)


def packs(name: str = "n") -> Grid:
    """Return the grid of an elementwise kernel: one thread per `PACK` elements."""
    return lambda dims: (ceil_div(dims[name], PACK * SIZES.threads), 1)


@cache
def functions(dtype: str) -> SimpleNamespace:
    """Return the elementary functions of a dtype."""
    defined = elementary.define(np.dtype(dtype).type, formula, ptx)
    if dtype == "float64" and not SIMULATED:
        # libdevice's cosine has a branch for huge angles that keeps arrays in local memory
        defined.cos2pi = formula(_cos2pi)
    return defined


def _cos2pi(turns: Any) -> Any:
    return libdevice.cospi(turns + turns)


class Kit:
    """The building blocks of one kernel.

    Attributes
    ----------
    real : type
        np.float32 or np.float64; constants are written `real(2.0)`, otherwise the arithmetic becomes float64.
    load, store : device functions
        load(address, index) -> real, and store(address, index, value).
    load_pack, store_pack : device functions
        The same for tuples of `PACK` neighbours, at addresses aligned to 16 bytes.
    """

    def __init__(self, key: Key) -> None:
        self.key = key
        self.op, self.dtype, self.variant, self.algorithm = key.op, key.dtype, key.variant, key.algorithm
        self.real: Any = np.dtype(key.dtype).type
        self.itemsize = np.dtype(key.dtype).itemsize
        self.load, self.store = ptx.LOADS[key.dtype], ptx.STORES[key.dtype]
        self.load_pack, self.store_pack = ptx.LOAD_PACKS[key.dtype], ptx.STORE_PACKS[key.dtype]

    @property
    def math(self) -> SimpleNamespace:
        """The elementary functions, as device functions."""
        return functions(self.dtype)

    def words(self, names: str) -> tuple[int, ...]:
        """Return the record words of the op's operands, dimensions and parameters with these names."""
        return OPS[self.op].words(*names.split())

    def team(self, size: int, dtype: str = "") -> SimpleNamespace:
        """Make functions of a team: a part of a warp, a warp, or a block of `size` threads; see `make_team`."""
        return make_team(size, dtype or self.dtype)


@cache
def make_team(size: int, dtype: str) -> SimpleNamespace:
    """Make `total(value)` and `largest(value)` over teams of `size` threads: a whole block, or equal parts of a warp.

    Every thread of the block has to call them equally often, and gets the same bits: sums have a fixed
    order. `largest` skips NaN. Only kernels call them, not helpers: numba-cuda links a function with shared memory
    that is reached on two paths twice, with its memory, and that fails.
    """
    warp, shuffle, real = SIZES.warp, ptx.SHUFFLES[dtype], np.dtype(dtype).type
    warps, part = size // warp, min(size, warp)

    @helper
    def warp_total(value: Any) -> Any:
        mask = part // 2
        while mask > 0:
            value = value + shuffle(value, np.int32(mask))
            mask //= 2
        return value

    @helper
    def warp_largest(value: Any) -> Any:
        mask = part // 2
        while mask > 0:
            other = shuffle(value, np.int32(mask))
            value = other if other > value or value != value else value
            mask //= 2
        return value

    if size <= warp:
        return SimpleNamespace(total=warp_total, largest=warp_largest)

    @helper
    def total(value: Any) -> Any:
        value = warp_total(value)
        parts = cuda.shared.array(warps, real)
        cuda.syncthreads()
        if cuda.threadIdx.x % warp == 0:
            parts[cuda.threadIdx.x // warp] = value
        cuda.syncthreads()
        found = parts[0]
        for index in range(1, warps):
            found += parts[index]
        return found

    @helper
    def largest(value: Any) -> Any:
        value = warp_largest(value)
        peaks = cuda.shared.array(warps, real)
        cuda.syncthreads()
        if cuda.threadIdx.x % warp == 0:
            peaks[cuda.threadIdx.x // warp] = value
        cuda.syncthreads()
        found = peaks[0]
        for index in range(1, warps):
            other = peaks[index]
            found = other if other > found or found != found else found
        return found

    return SimpleNamespace(total=total, largest=largest)
