"""Products with one matrix that have operands with gaps: a GPU copies these first.

Kernels of `batched_matmul` make one tile after the other, whatever the sizes. The kernels of `matmul` choose among many
algorithms, cut long sums into parts, and round for tensor cores, but they read operands without gaps. The copies are
short-lived: those of all products share memory at the arena's end.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fastnn.program.layout import FLAGS_WORD, Buffer, Flag, align, encode
from fastnn.program.opcodes import OPS
from fastnn.program.program import Program, RecordDraft, Value, make_program
from fastnn.program.record import ITEM_SIZES, KernelKey, dims_of, op_of, params_of

_BATCHED = OPS["batched_matmul"]


def without_gaps(program: Program) -> Program:
    """Return a program in which products of one matrix with gaps are copies and a `matmul`."""
    if all(not _operands_with_gaps(record) for record in program.records):
        return program
    records: list[NDArray[np.int64]] = []
    kernels: list[KernelKey] = []
    labels: list[str] = []
    maps: list[KernelKey | None] = []
    copies: list[Value] = []
    #: where each record is in the new program
    places: list[int] = []
    end = align(program.arena_bytes)
    for index, record in enumerate(program.records):
        names = _operands_with_gaps(record)
        if not names:
            added = [record], [program.kernels[index]]
        else:
            drafts, values = _copied(record, names, program, len(records))
            made = make_program(program.name, program.batch, program.dtype, drafts, (), {})
            added = list(made.records), list(made.kernels)
            copies += values
            end = max(end, *(value.offset + align(value.nbytes) for value in values))
        records += added[0]
        kernels += added[1]
        labels += [program.labels[index]] * len(added[0])
        maps += [*[None] * (len(added[0]) - 1), program.maps[index]]
        places.append(len(records) - 1)
    values = [replace(each, first=places[each.first], last=places[each.last]) for each in program.values]
    chains = [each._replace(first=places[each.first], last=places[each.last]) for each in program.chains]
    table = np.stack(records)
    table.flags.writeable = False
    return replace(
        program, records=table, kernels=tuple(kernels), maps=tuple(maps), labels=tuple(labels),
        values=(*values, *copies), sizes={**program.sizes, Buffer.ARENA: end}, chains=tuple(chains),
    )  # fmt: skip


def _shapes(dims: dict[str, int], flags: int) -> dict[str, tuple[int, int]]:
    """Return rows and columns of the operands of a product as they are in memory."""
    m, n, k = (dims[name] for name in "mnk")
    return {
        "a": (k, m) if flags & Flag.TRANSPOSE_A.value else (m, k),
        "b": (n, k) if flags & Flag.TRANSPOSE_B.value else (k, n),
    }


def _operands_with_gaps(record: NDArray[np.int64]) -> list[str]:
    """Return the operands with gaps of a product that `matmul` computes from copies of them."""
    if op_of(record) is not _BATCHED:
        return []
    dims = dims_of(record)
    if dims["samples"] * dims["count"] != 1 or params_of(record)["scale"] != 1.0 or dims["c_row"] != dims["n"]:
        return []
    shapes = _shapes(dims, int(record[FLAGS_WORD]))
    return [name for name, (_, cols) in shapes.items() if dims[f"{name}_first"] or dims[f"{name}_row"] != cols]


def _copied(
    record: NDArray[np.int64], names: list[str], program: Program, first: int
) -> tuple[list[RecordDraft], list[Value]]:
    """Return the copies and the product for a record, which are to be the records from a number on."""
    dims, flags = dims_of(record), int(record[FLAGS_WORD])
    operands = {name: int(record[_BATCHED.word(name)]) for name in "cab"}
    end, item = align(program.arena_bytes), ITEM_SIZES[program.dtype]
    drafts: list[RecordDraft] = []
    values: list[Value] = []
    for name in names:
        rows, cols = _shapes(dims, flags)[name]
        view = {f"n{axis}": 1 for axis in range(1, 4)} | {f"stride{axis}": 0 for axis in range(4)}
        view |= {"rows": rows, "cols": cols, "n4": rows, "stride4": dims[f"{name}_row"], "stride": 1}
        view |= {"first": dims[f"{name}_first"], "size": dims[f"{name}_size"]}
        copy = encode(Buffer.ARENA, end)
        drafts.append(RecordDraft("strided", {"y": copy, "x": operands[name]}, view))
        values.append(Value(f"copy of {name}", end, rows * cols * item, first + len(values), first + len(names)))
        operands[name] = copy
        end += align(rows * cols * item)
    turned = Flag(flags) & (Flag.TRANSPOSE_A | Flag.TRANSPOSE_B)
    return [*drafts, RecordDraft("matmul", operands, {name: dims[name] for name in "mnk"}, flags=turned)], values
