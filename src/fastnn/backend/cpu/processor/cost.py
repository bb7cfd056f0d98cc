"""Rough estimates of the time of records, and so of the number of parts into which they are cut.

The table of ops says what an op costs and how its work is shared. The rates are those of one fast core, on data in its
caches. A record that is slower than estimated is cut into fewer parts than possible, which costs little; one that is
faster would be cut although that does not pay.
"""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cpu.processor import target
from fastnn.backend.cpu.processor.blocking import Blocking
from fastnn.backend.cpu.processor.pieces import CHAIN_OP, ChainWord
from fastnn.program.layout import FLAGS_WORD, OP_WORD, PARTS_SHIFT
from fastnn.program.loop_rules import rounds_of
from fastnn.program.opcodes import OPS
from fastnn.program.record import dims_of, op_of

#: Bytes per nanosecond that a product of one row, which streams its matrix, reads.
STREAMED_BYTES = 40.0

#: The minimum work of a part. Records of twice as much ran 1.5 to 2 times as fast on two cores (128 x 64 x 32: 6.6 us
#: alone, 3.9 us together); a phase costs 0.3 us and the time to fetch data from the other core's cache.
PART_NANOSECONDS = 2500.0
MOST_PARTS = 1024
#: Likewise for records of the update, where other records are shared. Both cores have read the weights, and a line that
#: is written has to be fetched from the other core: alone the master took 18 to 20 instead of 6 us for Adam in steps of
#: 64-128-64-10 x 128.
UPDATE_NANOSECONDS = 1000.0


#: how threads share products of many matrices; one of them is shared as `matmul` is
_MANY = OPS["batched_matmul"].shared.over


def flops(itemsize: int) -> int:
    """Return the floating-point operations of one core per nanosecond.

    They are two multiply-adds of a whole vector per cycle, at 3 GHz.
    """
    return 12 * target.vector_bytes() // itemsize


def nanoseconds(record: NDArray[np.int64], dtype: str) -> float:
    """Estimate the time of a record on one core."""
    if record[OP_WORD] == CHAIN_OP:
        return float(record[ChainWord.ELEMENTS] * record.view(np.float64)[ChainWord.TIME])
    op, dims = op_of(record), dims_of(record)
    itemsize = np.dtype(dtype).itemsize
    if op.multiply_adds:
        needed = [spec.shape for spec in op.operands if not spec.optional]
        moved = itemsize * sum(
            prod(name if isinstance(name, int) else dims[name] for name in shape) for shape in needed
        )
        return max(2.0 * prod(dims[name] for name in op.multiply_adds) / flops(itemsize), moved / STREAMED_BYTES)
    if not op.rate:
        return 0.0
    return prod(dims[name] for name in op.elements) * itemsize / 4.0 / op.rate


def units(record: NDArray[np.int64], dtype: str) -> int:
    """Return the number of parts into which a record can be cut."""
    if record[OP_WORD] == CHAIN_OP:
        return int(-(-record[ChainWord.ELEMENTS] // record[ChainWord.PIECE]))
    (over, least), dims = op_of(record).shared, dims_of(record)
    if not over:
        return 1
    if over == ("tiles",) or (over == _MANY and dims["samples"] * dims["count"] == 1):
        shape = Blocking.of(dtype)
        return max(-(-dims["m"] // shape.unit_m), -(-dims["n"] // shape.unit_n))
    return -(-prod(dims[name] for name in over) // least)


def part_nanoseconds(record: NDArray[np.int64], beside: bool) -> float:
    """Return the minimum work of a part; `beside` says whether other records of the program are shared."""
    updates = record[OP_WORD] != CHAIN_OP and op_of(record).update
    return min(UPDATE_NANOSECONDS, PART_NANOSECONDS) if beside and updates else PART_NANOSECONDS


def parts(record: NDArray[np.int64], dtype: str, *, beside: bool = False) -> int:
    """Return the maximum number of parts that pays for a record; `beside` as for `part_nanoseconds`."""
    count = units(record, dtype)
    if count <= 1:
        return 1
    return max(1, min(int(nanoseconds(record, dtype) / part_nanoseconds(record, beside)), count, MOST_PARTS))


def cut(records: NDArray[np.int64], dtype: str) -> float:
    """Write the number of parts into a program's records; returns the nanoseconds of a step that can be shared."""
    shared = 0.0
    beside = any(parts(record, dtype) > 1 for record in records)
    for record, rounds in zip(records, rounds_of(records).tolist(), strict=True):
        count = parts(record, dtype, beside=beside)
        if count > 1:
            record[FLAGS_WORD] |= count << PARTS_SHIFT
            shared += rounds * nanoseconds(record, dtype)
    return shared


def total(records: NDArray[np.int64], dtype: str) -> float:
    """Estimate the time of all records of a step on one core."""
    rounds: list[int] = rounds_of(records).tolist()
    return sum(times * nanoseconds(record, dtype) for record, times in zip(records, rounds, strict=True))
