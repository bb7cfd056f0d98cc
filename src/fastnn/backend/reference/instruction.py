"""A decoded record, the counters that records read and write, and the table of functions that execute them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.modules import entering
from fastnn.program.layout import Flag
from fastnn.program.record import KernelKey

Array = NDArray[Any]


@dataclass
class Counters:
    """The words of a context after its buffers; see `layout.Counter`."""

    status: int = 0
    status_detail: int = 0
    step: int = 0
    chunk_step: int = 0
    cursor: int = 0
    seed: int = 0
    bad_loss_step: int = 0
    first_step: int = 0


@dataclass(frozen=True)
class Instruction:
    """One record whose operands are arrays of their shapes: views, so that writing to one changes its buffer.

    Attributes
    ----------
    operands : mapping of str to ndarray
        float64 (or int64 for operands of that kind); operands that the record lacks are missing. An operand in
        a data slot is the slot's array; one in the hyper buffer has all rows, of which `chunk_step` is current.
    dtype : str
        The program's dtype, whose limits apply; the arithmetic is float64.
    """

    op: str
    variant: str
    mapped: KernelKey | None
    flags: Flag
    operands: Mapping[str, Array]
    dims: Mapping[str, int]
    params: Mapping[str, float]
    dtype: str = "float64"

    def __getitem__(self, name: str) -> Array:
        return self.operands[name]

    def get(self, name: str) -> Array | None:
        """Return an optional operand, or None if the record does not have it."""
        return self.operands.get(name)

    def write(self, name: str, value: Array | float) -> None:
        """Overwrite an output if the record has it."""
        out = self.operands.get(name)
        if out is not None:
            out[...] = value

    def add(self, name: str, value: Array | float) -> None:
        """Overwrite an output, or add to it if the record has the flag ACCUMULATE."""
        if Flag.ACCUMULATE in self.flags and name in self.operands:
            value = self.operands[name] + value
        self.write(name, value)

    def row_weights(self) -> NDArray[np.float64]:
        """Return the sample weight of every row: a sample's rows share its weight; 1 without weights."""
        rows = self.dims["rows"]
        weight = self.operands.get("weight")
        if weight is None:
            return np.ones(rows)
        shared: NDArray[np.float64] = weight[np.arange(rows) // self.dims["per_sample"]]
        return shared


def weighted(weights: Array, values: Array) -> Array:
    """Multiply; a weight of 0 gives 0 even for infinity and NaN."""
    product: Array = weights * np.where(weights == 0.0, 0.0, values)
    return product


Execute = Callable[[Instruction, Counters], None]
EXECUTE: dict[str, Execute] = {}


def executes(*ops: str) -> Callable[[Execute], Execute]:
    """Register the function that executes the records of some ops."""
    return entering(EXECUTE, ops)
