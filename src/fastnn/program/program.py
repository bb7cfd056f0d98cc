"""A frozen program: its records, the kernels they name, the arena plan, and a readable disassembly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastnn.program.layout import (
    ABSENT,
    ALIGNMENT,
    DIMS_AT,
    FLAGS_WORD,
    NO_FLAGS,
    OP_WORD,
    OPERANDS_AT,
    PARAMS_AT,
    RECORD_WORDS,
    Buffer,
    Flag,
    decode,
)
from fastnn.program.ops import BY_CODE, OPS, Op, Operand

ITEM_SIZES = {"float32": 4, "float64": 8, "int64": 8}


@dataclass(frozen=True, order=True)
class KernelKey:
    """The name of one compiled function: an op, the program's dtype, and the op's variant if it has any."""

    op: str
    dtype: str
    variant: str = ""

    def __str__(self) -> str:
        return "-".join(part for part in (self.op, self.variant, self.dtype) if part)


@dataclass(frozen=True)
class Value:
    """One value of the arena: its place, and the first and last record that touch it."""

    name: str
    offset: int
    nbytes: int
    first: int
    last: int


@dataclass(frozen=True)
class Program:
    """Records that any backend can run, and everything known about them before they run.

    Attributes
    ----------
    dtype : {"float32", "float64"}
        The dtype of every operand of kind "real".
    records : ndarray, int64, shape (n_records, RECORD_WORDS)
        Read-only; the words for addresses are zero.
    kernels, maps : tuple of KernelKey (or None)
        For each record its kernel, and the elementwise function that the kernel applies.
    labels : tuple of str
        For each record the layer that it came from.
    values : tuple of Value
        The arena's plan.
    sizes : mapping of buffer to bytes
        The minimum size of each buffer; data slots are described by their arrays instead, unless records compute
        in them.
    fusions : tuple of str
        Descriptions of the fusions made by the lowering.
    """

    name: str
    batch: int
    dtype: str
    records: NDArray[np.int64]
    kernels: tuple[KernelKey, ...]
    maps: tuple[KernelKey | None, ...]
    labels: tuple[str, ...]
    values: tuple[Value, ...]
    sizes: Mapping[int, int]
    fusions: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.records)

    @property
    def arena_bytes(self) -> int:
        """The size of the arena in bytes."""
        return self.sizes.get(Buffer.ARENA, 0)

    def __str__(self) -> str:
        from fastnn.program.disassembly import disassemble

        return disassemble(self)


@dataclass
class RecordDraft:
    """A record before it becomes part of a program: operands by name, each a word from `layout.encode`."""

    op: str
    operands: Mapping[str, int]
    dims: Mapping[str, int]
    params: Mapping[str, float] = field(default_factory=dict)
    flags: Flag = NO_FLAGS
    variant: str = ""
    mapped: KernelKey | None = None
    label: str = ""


def make_program(
    name: str,
    batch: int,
    dtype: str,
    drafts: Sequence[RecordDraft],
    values: Sequence[Value],
    sizes: Mapping[int, int],
    fusions: Sequence[str] = (),
) -> Program:
    """Write drafts into records, and make them read-only."""
    records = np.zeros((len(drafts), RECORD_WORDS), np.int64)
    records[:, OPERANDS_AT:DIMS_AT] = ABSENT
    params = records.view(np.float64)
    for record, floats, draft in zip(records, params, drafts, strict=True):
        op = OPS[draft.op]
        record[OP_WORD] = op.code
        record[FLAGS_WORD] = draft.flags
        for key, word in (*draft.operands.items(), *draft.dims.items()):
            record[op.word(key)] = word
        for key, number in draft.params.items():
            floats[op.word(key)] = number
    records.flags.writeable = False
    keys = {each: KernelKey(each[0], dtype, each[1]) for each in {(draft.op, draft.variant) for draft in drafts}}
    kernels = tuple(keys[draft.op, draft.variant] for draft in drafts)
    return Program(
        name=name,
        batch=batch,
        dtype=dtype,
        records=records,
        kernels=kernels,
        maps=tuple(draft.mapped for draft in drafts),
        labels=tuple(draft.label for draft in drafts),
        values=tuple(values),
        sizes=dict(sizes),
        fusions=tuple(fusions),
    )


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
        shape = tuple(size if isinstance(size, int) else dims[size] for size in spec.shape)
        item = ITEM_SIZES[dtype if spec.kind == "real" else spec.kind] if spec.kind != "any" else 0
        buffer, offset = decode(word)
        found.append(OperandView(spec, buffer, offset, shape, item * int(np.prod(shape, dtype=np.int64))))
    return found


def aligned_zeros(nbytes: int, alignment: int = ALIGNMENT) -> NDArray[np.uint8]:
    """Allocate zeroed bytes that start at a multiple of the alignment."""
    raw = np.zeros(nbytes + alignment, np.uint8)
    start = -raw.ctypes.data % alignment
    return raw[start : start + nbytes]
