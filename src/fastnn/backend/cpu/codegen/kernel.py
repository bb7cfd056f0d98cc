"""The argument of kernel factories: record words by name, typed pointers, formulas, and slices of the work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np

from fastnn.backend.cpu.codegen.custom_math import single
from fastnn.backend.cpu.codegen.elementary import functions
from fastnn.backend.cpu.codegen.intrinsics import (
    call_map,
    float32_operand,
    float32_pointer,
    float64_operand,
    float64_pointer,
    int64_pointer,
    smaller,
)
from fastnn.backend.cpu.codegen.options import helper, users
from fastnn.program.layout import MAP_WORD, OFFSET_BITS, PARAMS_AT, Counter, Status
from fastnn.program.opcodes import OPS

_PARAMS_BYTES = PARAMS_AT * 8
_STATUS, _DETAIL, _RAISED = int(Counter.STATUS), int(Counter.STATUS_DETAIL), int(Status.KERNEL_RAISED)

Factory = Callable[["Kit", str], Callable[..., Any]]


@dataclass(frozen=True)
class KernelEntry:
    """A kernel factory and the calling convention of its functions."""

    factory: Factory
    arguments: int
    returns: bool


KERNELS: dict[str, KernelEntry] = {}


def kernel(*ops: str, arguments: int = 4, returns: bool = False) -> Callable[[Factory], Factory]:
    """Register the factory of the kernels of one or several ops: (record, context, ith, nth) by default."""

    def register(factory: Factory) -> Factory:
        for op in ops:
            KERNELS[op] = KernelEntry(factory, arguments, returns)
        return factory

    return register


@helper
def part(n: int, ith: int, nth: int) -> tuple[int, int]:
    """Return the slice of n elements for part `ith` of `nth`.

    Slices start at multiples of 64 elements, so that an element is computed by the same instructions (vector
    body or scalar remainder) however many parts there are. If `nth` is negative, parts have -nth elements.
    """
    if nth == 1:  # two divisions are 20 cycles, a tenth of the smallest kernels
        return 0, n
    if nth < 0:
        return ith * -nth, smaller(n, (ith + 1) * -nth)
    units = (n + 63) // 64
    return units * ith // nth * 64, smaller(n, units * (ith + 1) // nth * 64)


@helper
def rows_part(n: int, ith: int, nth: int) -> tuple[int, int]:
    """Return the slice of n rows for part `ith` of `nth`."""
    if nth == 1:
        return 0, n
    return n * ith // nth, n * (ith + 1) // nth


@helper
def note_raised(record: int, context: int) -> None:
    """End a program because a record's kernel has raised, as a user-defined function may."""
    words = int64_pointer(context)
    words[_DETAIL] = record
    words[_STATUS] = _RAISED


@helper
def apply_map(record: int, context: int, out: int, x: int, saved: int, n: int) -> None:
    """Apply a record's mapped function to n elements; if it raises, as a user-defined one may, the program ends."""
    if call_map(int64_pointer(record)[MAP_WORD], context, out, x, saved, n, record + _PARAMS_BYTES) != 0:
        note_raised(record, context)


@helper
def given(record: int, context: int, word: int) -> bool:
    """Return whether a record has an optional operand, and the context a buffer for it."""
    operand = int64_pointer(record)[word]
    return operand >= 0 and int64_pointer(context)[operand >> OFFSET_BITS] != 0


@helper
def overlap(first: int, first_bytes: int, second: int, second_bytes: int) -> bool:
    """Return whether two memory ranges share bytes."""
    return first < second + second_bytes and second < first + first_bytes


@cache
def pointers(dtype: str) -> tuple[Any, Any]:
    """Return two jitted functions: address -> pointer to reals, and (record, context, word) -> the same."""
    return (float32_pointer, float32_operand) if dtype == "float32" else (float64_pointer, float64_operand)


class Kit:
    """The building blocks of one kernel.

    Attributes
    ----------
    real : type
        np.float32 or np.float64; constants are written `real(2.0)`, otherwise the arithmetic becomes float64.
    reals, at : jitted functions
        Pointers to reals from an address, and from (record, context, word of an operand).
    math : namespace
        Elementary functions of `real`.
    """

    def __init__(self, op: str, dtype: str) -> None:
        self.op = op
        self.dtype = dtype
        self.real: Any = np.dtype(dtype).type if dtype in ("float32", "float64") else None
        self.itemsize = np.dtype(dtype).itemsize
        if self.real is not None:
            self.reals, self.at = pointers(dtype)

    @property
    def math(self) -> SimpleNamespace:
        """The elementary functions, jitted."""
        return functions(self.dtype)

    @property
    def users(self) -> Callable[[Any], Any]:
        """The compiler of users' scalar functions."""
        return single if self.dtype == "float32" else users

    def words(self, names: str) -> tuple[int, ...]:
        """Return the record words of the op's operands, dimensions and parameters with these names."""
        return OPS[self.op].words(*names.split())
