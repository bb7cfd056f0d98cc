"""A frozen program: its records, the kernels that they name, and the arena's plan; and drafts of records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from fastnn import markup
from fastnn.locks import cached_property
from fastnn.program.chains import Chain
from fastnn.program.disassembly import describe_chain, disassemble, format_bytes, moved_bytes
from fastnn.program.layout import (
    ABSENT,
    ALIGNMENT,
    DIMS_AT,
    FLAGS_WORD,
    NO_FLAGS,
    OP_WORD,
    OPERANDS_AT,
    RECORD_WORDS,
    Buffer,
    Flag,
)
from fastnn.program.opcodes import OPS
from fastnn.program.record import KernelKey
from fastnn.program.value import Value as Value


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
    chains : tuple of Chain
        Records that may run piece by piece, in order; see `fastnn.program.chains`.
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
    chains: tuple[Chain, ...] = ()

    def __len__(self) -> int:
        return len(self.records)

    @property
    def arena_bytes(self) -> int:
        """The size of the arena in bytes."""
        return self.sizes.get(Buffer.ARENA, 0)

    @cached_property
    def draws(self) -> bool:
        """Whether random numbers of `fastnn.ops` are drawn."""
        return any(key.op == "random" for key in self.kernels)

    @property
    def _title(self) -> str:
        return (
            f"program {self.name!r}: {len(self)} records, batch {self.batch}, {self.dtype}, "
            f"arena {format_bytes(self.arena_bytes)}"
        )

    def __repr__(self) -> str:
        return f"<{self._title}>"

    def _repr_html_(self) -> str:
        """Return the kernels and their layers as a table, for notebooks, and all that `print` shows."""
        rows = [("record", "kernel", "layer", "moves")]
        for index, (record, kernel, label) in enumerate(zip(self.records, self.kernels, self.labels, strict=True)):
            rows.append((str(index), str(kernel), label, format_bytes(moved_bytes(record, self.dtype))))
        details = markup.opening("operands, memory and fusions", markup.verbatim(str(self)))
        return markup.block(markup.line(self._title, strong=True), markup.table(rows, (0, 3)), details)

    def __str__(self) -> str:
        records = zip(self.records, self.kernels, self.maps, self.labels, strict=True)
        lines = [self._title]
        starts = {chain.first: chain for chain in self.chains}
        for index, record in enumerate(records):
            if index in starts:
                lines.append(f"      {describe_chain(starts[index], self.records, self.values)}")
            lines.append(f"{index:4d}  {disassemble(*record, self.dtype)}")
        if self.values:
            total = sum(value.nbytes for value in self.values)
            lines.append(
                f"arena: {len(self.values)} values of {format_bytes(total)} in {format_bytes(self.arena_bytes)}"
            )
            for value in self.values:
                lines.append(
                    f"      +{value.offset:#08x} {format_bytes(value.nbytes):>10}  "
                    f"records {value.first}-{value.last}  {value.name}"
                )
        lines.extend(f"fused: {fusion}" for fusion in self.fusions)
        return "\n".join(lines)


#: of records without parameters
NO_PARAMS: Mapping[str, float] = MappingProxyType({})


@dataclass(slots=True)
class RecordDraft:
    """A record before it becomes part of a program: operands by name, each a word from `layout.encode`."""

    op: str
    operands: Mapping[str, int]
    dims: Mapping[str, int]
    params: Mapping[str, float] = field(default_factory=lambda: NO_PARAMS)
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
    chains: Sequence[Chain] = (),
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
        chains=tuple(chains),
    )


def aligned_zeros(nbytes: int, alignment: int = ALIGNMENT) -> NDArray[np.uint8]:
    """Allocate zeroed bytes that start at a multiple of the alignment."""
    raw = np.zeros(nbytes + alignment, np.uint8)
    start = -raw.ctypes.data % alignment
    return raw[start : start + nbytes]
