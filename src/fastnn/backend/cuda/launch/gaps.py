"""Products with one matrix that have operands with gaps: a GPU copies these first.

Kernels of `batched_matmul` make one tile after the other, whatever the sizes. The kernels of `matmul` choose among many
algorithms, cut long sums into parts, and round for tensor cores, but they read operands without gaps. The copies are
short-lived: those of all products share memory at the arena's end. In the body of a loop, where copies would be made in
every round, products stay as they are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cuda.launch.rewriting import Parts, rewritten
from fastnn.program.layout import FLAGS_WORD, Buffer, Flag, align, encode
from fastnn.program.loop_rules import in_loops
from fastnn.program.opcodes import OPS
from fastnn.program.program import Program, RecordDraft, Value
from fastnn.program.record import ITEM_SIZES, dims_of, op_of, params_of

_BATCHED = OPS["batched_matmul"]


def without_gaps(program: Program) -> Program:
    """Return a program in which products of one matrix with gaps, outside loops, are copies and a `matmul`."""
    parts: dict[int, Parts] = {}
    values: list[Value] = []
    looped = in_loops(program.records)
    for index, record in enumerate(program.records):
        names = [] if looped[index] else _operands_with_gaps(record)
        if names:
            parts[index], copies = _copied(program, index, names)
            values += copies
    return rewritten(program, program.records, parts, values) if parts else program


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


def _copied(program: Program, index: int, names: list[str]) -> tuple[list[RecordDraft], list[Value]]:
    """Return the copies and the product for a record, and the copies' values."""
    record = program.records[index]
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
        values.append(Value(f"copy of {name}", end, rows * cols * item, index, index))
        operands[name] = copy
        end += align(rows * cols * item)
    turned = Flag(flags) & (Flag.TRANSPOSE_A | Flag.TRANSPOSE_B)
    sizes = {name: dims[name] for name in "mnk"}
    return [*drafts, RecordDraft("matmul", operands, sizes, flags=turned, mapped=program.maps[index])], values
