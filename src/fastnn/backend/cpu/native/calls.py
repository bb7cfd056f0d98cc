"""Products directly on array objects: the checks, and the resulting record and context."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnn.backend.cpu.codegen.intrinsics import SOURCE_POINTERS, int64_pointer, smaller
from fastnn.backend.cpu.codegen.kernel import Kit, kernel, overlap
from fastnn.backend.cpu.codegen.options import helper
from fastnn.backend.cpu.layouts.array_object import DTYPE, FLAGS, NDIM, READABLE, SHAPE, WRITEABLE
from fastnn.backend.cpu.layouts.products import (
    DTYPE_WORDS,
    FRAME_TEAM,
    FRAME_THREADS,
    PATIENCE,
    DtypeWord,
    ProductWord,
)
from fastnn.backend.cpu.layouts.team import WAKE_NANOSECONDS, TeamWord
from fastnn.backend.cpu.native.team import asleep
from fastnn.backend.cpu.processor.blocking import ALGORITHMS, algorithm_number
from fastnn.backend.cpu.processor.cost import MOST_PARTS, PART_NANOSECONDS, STREAMED_BYTES
from fastnn.program.layout import (
    ABSENT,
    DIMS_AT,
    FLAGS_WORD,
    KERNEL_WORD,
    OPERANDS_AT,
    PARTS_SHIFT,
    RECORD_WORDS,
    Buffer,
    Flag,
    encode,
)
from fastnn.program.opcodes import OPS

_C, _A, _B = OPS["matmul"].words("c", "a", "b")
_M, _N, _K = OPS["matmul"].words("m", "n", "k")
_DATA, _SCRATCH = int(Buffer.DATA), int(Buffer.SCRATCH)
_BLOCKED = ALGORITHMS.index("blocked")
_OPERANDS = tuple(encode(_DATA + slot, 0) for slot in range(3))
_TRANSPOSE_A, _TRANSPOSE_B = int(Flag.TRANSPOSE_A), int(Flag.TRANSPOSE_B)
_TYPE_AT, _DATA_AT, _NDARRAY, _TRUE, _FALSE, _LIMITED, _THREADS, _TEAM = (int(word) for word in list(ProductWord)[:8])
_TEAM_SCRATCH, _FREE_TEAM_SCRATCH, _SKIPPED = (
    int(ProductWord.TEAM_SCRATCH),
    int(ProductWord.FREE_TEAM_SCRATCH),
    int(ProductWord.SKIPPED),
)
_SCRATCHES, _DTYPES = int(ProductWord.SCRATCHES), int(ProductWord.DTYPES)
_LEAST, _FLOPS, _UNIT_M, _UNIT_N, _KERNELS = (int(word) for word in list(DtypeWord)[1:])
_SIZE, _MASTER_PROCESSOR, _PLACED = int(TeamWord.SIZE), int(TeamWord.MASTER_PROCESSOR), int(TeamWord.PLACED)
_PART_NANOSECONDS, _WAKE_NANOSECONDS, _STREAMED = int(PART_NANOSECONDS), int(WAKE_NANOSECONDS), int(STREAMED_BYTES)

_int32_pointer = SOURCE_POINTERS["int32"]
_algorithm_number = helper(algorithm_number)


@helper
def _is_array(array: int, table: int, ndim: int, flags: int) -> bool:
    """Return whether an object is an array of `ndim` dimensions with these flags."""
    words = int64_pointer(table)
    if int64_pointer(array + words[_TYPE_AT])[0] != words[_NDARRAY]:
        return False
    at = array + words[_DATA_AT]
    return _int32_pointer(at + NDIM)[0] == ndim and _int32_pointer(at + FLAGS)[0] & flags == flags


@helper
def _parts(kind: int, m: int, n: int, nanoseconds: int) -> int:
    """Return the maximum number of parts that pays for a product, as `work.parts` does."""
    words = int64_pointer(kind)
    units = max((m - 1) // words[_UNIT_M], (n - 1) // words[_UNIT_N]) + 1
    return smaller(smaller(nanoseconds // _PART_NANOSECONDS, units), MOST_PARTS)


@helper
def _together(table: int, nanoseconds: int) -> int:
    """Return 1 if the team takes part in a product that can be shared, 0 if it does not, -1 to call Python first.

    Python makes the team, and keeps its workers off the master's processor. Sleeping workers are woken for long
    products, or for a short one after several that ran alone.
    """
    words = int64_pointer(table)
    if int64_pointer(words[_LIMITED])[0] != 0:
        return -1
    team = words[_TEAM]
    ready = team != 0 and int64_pointer(team)[_SIZE] >= words[_THREADS]
    if nanoseconds < _WAKE_NANOSECONDS and (not ready or asleep(team)) and words[_SKIPPED] < PATIENCE:
        words[_SKIPPED] += 1
        return 0
    if not ready or int64_pointer(team)[_MASTER_PROCESSOR] != int64_pointer(team)[_PLACED]:
        return -1
    words[_SKIPPED] = 0
    return 1


@kernel("direct_matmul", arguments=4, returns=True)
def direct_matmul(kit: Kit, variant: str) -> Callable[..., Any]:
    """Write the record and context of a call's product; return 1, or 0 if it is not a plain product.

    The arguments: addresses of the call's arguments (a, b, out, transpose_a, transpose_b; the caller holds the GIL),
    their number, a zeroed frame, and the table, both laid out as in `layouts/products.py`.
    """
    c_operand, a_operand, b_operand = _OPERANDS

    def direct_matmul(arguments, count, frame, table):
        given, words = int64_pointer(arguments), int64_pointer(table)
        if count != 5:
            return 0
        a, b, out, yes = given[0], given[1], given[2], words[_TRUE]
        transpose_a, transpose_b = given[3] == yes, given[4] == yes
        if not (transpose_a or given[3] == words[_FALSE]) or not (transpose_b or given[4] == words[_FALSE]):
            return 0
        if not (
            _is_array(a, table, 2, READABLE)
            and _is_array(b, table, 2, READABLE)
            and _is_array(out, table, 2, WRITEABLE)
        ):
            return 0
        at = words[_DATA_AT]
        a, b, out = a + at, b + at, out + at
        dtype = int64_pointer(a + DTYPE)[0]
        kind, size = table + _DTYPES * 8, 4
        if dtype != int64_pointer(kind)[0]:
            kind, size = kind + DTYPE_WORDS * 8, 8
            if dtype != int64_pointer(kind)[0]:
                return 0
        if int64_pointer(b + DTYPE)[0] != dtype or int64_pointer(out + DTYPE)[0] != dtype:
            return 0
        shape_a, shape_b = int64_pointer(int64_pointer(a + SHAPE)[0]), int64_pointer(int64_pointer(b + SHAPE)[0])
        shape = int64_pointer(int64_pointer(out + SHAPE)[0])
        m, k = (shape_a[1], shape_a[0]) if transpose_a else (shape_a[0], shape_a[1])
        depth, n = (shape_b[1], shape_b[0]) if transpose_b else (shape_b[0], shape_b[1])
        if depth != k or shape[0] != m or shape[1] != n or m < 1 or n < 1 or k < 1:
            return 0
        a_bytes, b_bytes, out_bytes = m * k * size, k * n * size, m * n * size
        left, right, product = int64_pointer(a)[0], int64_pointer(b)[0], int64_pointer(out)[0]
        if overlap(left, a_bytes, product, out_bytes) or overlap(right, b_bytes, product, out_bytes):
            return 0
        limits = int64_pointer(kind + _LEAST * 8)
        algorithm = _algorithm_number(m, n, k, transpose_a, transpose_b, limits[0], limits[1], limits[2], limits[3])
        address = int64_pointer(kind)[_KERNELS + algorithm]
        if address == 0:
            return 0
        record, context = int64_pointer(frame), int64_pointer(frame + RECORD_WORDS * 8)
        parts = 1
        if words[_THREADS] > 1:
            flops = int64_pointer(kind)[_FLOPS]
            nanoseconds = max(2 * m * n * k // flops, (a_bytes + b_bytes + out_bytes) // _STREAMED)
            parts = _parts(kind, m, n, nanoseconds)
            if parts > 1:
                together = _together(table, nanoseconds)
                if together < 0:
                    return 0
                if together == 0 or (algorithm == _BLOCKED and words[_FREE_TEAM_SCRATCH] == 0):
                    parts = 1
        record[FRAME_THREADS], record[FRAME_TEAM] = 1, 0
        if parts > 1:
            record[FRAME_THREADS], record[FRAME_TEAM] = words[_THREADS], words[_TEAM]
            if algorithm == _BLOCKED:
                context[_SCRATCH], words[_FREE_TEAM_SCRATCH] = words[_FREE_TEAM_SCRATCH], 0
        elif algorithm == _BLOCKED:
            left_over = words[_SCRATCHES]
            if left_over == 0:
                return 0
            # returned after the product; the GIL protects it here and there
            context[_SCRATCH] = words[_SCRATCHES + left_over]
            words[_SCRATCHES] = left_over - 1
        for word in range(OPERANDS_AT, DIMS_AT):
            record[word] = ABSENT
        record[KERNEL_WORD] = address
        flags = (_TRANSPOSE_A if transpose_a else 0) | (_TRANSPOSE_B if transpose_b else 0)
        record[FLAGS_WORD] = flags | (parts << PARTS_SHIFT if parts > 1 else 0)
        record[_C], record[_A], record[_B] = c_operand, a_operand, b_operand
        record[_M], record[_N], record[_K] = m, n, k
        context[_DATA], context[_DATA + 1], context[_DATA + 2] = product, left, right
        return 1

    return direct_matmul


@kernel("direct_end", arguments=2)
def direct_end(kit: Kit, variant: str) -> Callable[..., Any]:
    """Return the scratch memory of a product; the caller holds the GIL again."""

    def direct_end(frame, table):
        words, context = int64_pointer(table), int64_pointer(frame + RECORD_WORDS * 8)
        if context[_SCRATCH] == 0:
            return
        if int64_pointer(frame)[FRAME_TEAM] != 0:
            if context[_SCRATCH] == words[_TEAM_SCRATCH]:
                words[_FREE_TEAM_SCRATCH] = context[_SCRATCH]
        else:
            words[_SCRATCHES] += 1
            words[_SCRATCHES + words[_SCRATCHES]] = context[_SCRATCH]

    return direct_end
