"""Records decoded: the op, the operands with places and shapes, dimensions and parameters."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastnn.program.layout import ABSENT, BY_CODE, DIMS_AT, OP_WORD, OPERANDS_AT, PARAMS_AT, decode
from fastnn.program.op import Op, Operand

ITEM_SIZES = {"float32": 4, "float64": 8, "int64": 8}


@dataclass(frozen=True, order=True)
class KernelKey:
    """The name of one compiled function: an op, the program's dtype, and the op's variant if it has any."""

    op: str
    dtype: str
    variant: str = ""

    def __str__(self) -> str:
        return "-".join(part for part in (self.op, self.variant, self.dtype) if part)


class OperandView(NamedTuple):
    """A decoded operand of one record: its spec, place, shape and bytes."""

    spec: Operand
    buffer: int
    offset: int
    shape: tuple[int, ...]
    nbytes: int


def op_of(record: NDArray[np.int64]) -> Op:
    """Return the op of a record."""
    return BY_CODE[int(record[OP_WORD])]


def dims_of(record: NDArray[np.int64]) -> dict[str, int]:
    """Return a record's dimensions by name."""
    return {name: int(record[DIMS_AT + index]) for index, name in enumerate(op_of(record).dims)}


def elements_of(record: NDArray[np.int64]) -> int:
    """Return the number of elements that a record computes."""
    dims = dims_of(record)
    return prod(dims[name] for name in op_of(record).elements)


def params_of(record: NDArray[np.int64]) -> dict[str, float]:
    """Return a record's float64 parameters by name."""
    floats = record.view(np.float64)
    return {name: float(floats[PARAMS_AT + index]) for index, name in enumerate(op_of(record).params)}


def operands_of(record: NDArray[np.int64], dtype: str) -> list[OperandView]:
    """Return the operands that a record has, decoded."""
    dims = dims_of(record)
    found = []
    for index, spec in enumerate(op_of(record).operands):
        word = int(record[OPERANDS_AT + index])
        if word == ABSENT:
            continue
        shape = spec.extents(dims)
        item = ITEM_SIZES[dtype if spec.kind == "real" else spec.kind] if spec.kind != "any" else 0
        buffer, offset = decode(word)
        found.append(OperandView(spec, buffer, offset, shape, item * int(np.prod(shape, dtype=np.int64))))
    return found
