"""A frozen network on rows of the caller's: its records, patched for their number, on memory of the caller's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnn.backend.cpu.blocking import way_number
from fastnn.backend.cpu.float_mode import enter_kernel_mode, restore_mode
from fastnn.backend.cpu.frozen_layout import BLOCK, PATCH_WORDS, STACK_BYTES, UNIT, WAY_WORDS, Word
from fastnn.backend.cpu.intrinsics import call_kernel, int64_pointer, stack_bytes
from fastnn.backend.cpu.kernels.kit import Kit, kernel
from fastnn.backend.cpu.options import helper
from fastnn.program.layout import (
    ALIGNMENT,
    CONTEXT_WORDS,
    FLAGS_WORD,
    KERNEL_WORD,
    RECORD_WORDS,
    Buffer,
    Counter,
    Flag,
)
from fastnn.program.ops import OPS

_RECORD_BYTES, _CONTEXT_BYTES = RECORD_WORDS * 8, CONTEXT_WORDS * 8

_PARAMETERS, _ARENA, _SCRATCH, _DATA = (
    int(Buffer.PARAMETERS), int(Buffer.ARENA), int(Buffer.SCRATCH), int(Buffer.DATA),
)  # fmt: skip
_STATUS, _CURSOR = int(Counter.STATUS), int(Counter.CURSOR)
_M, _N, _K = OPS["matmul"].words("m", "n", "k")
_TRANSPOSE_A, _TRANSPOSE_B = int(Flag.TRANSPOSE_A), int(Flag.TRANSPOSE_B)
_INPUT_BYTES, _OUTPUT_BYTES = int(Word.INPUT_BYTES), int(Word.OUTPUT_BYTES)
_ONE_AT, _ONE_COUNT = int(Word.ONE_AT), int(Word.ONE_COUNT)
_MANY_AT, _MANY_COUNT = int(Word.MANY_AT), int(Word.MANY_COUNT)
_PATCHES_AT, _PATCHES_COUNT = int(Word.PATCHES_AT), int(Word.PATCHES_COUNT)
_WAYS_AT, _WAYS_COUNT = int(Word.WAYS_AT), int(Word.WAYS_COUNT)
# products are never blocked, which needs more memory than a caller would give: the results are the same bits
_NEVER = 1 << 62

_way_number = helper(way_number)


@helper
def _aligned(address: int) -> int:
    return (address + ALIGNMENT - 1) & -ALIGNMENT


@helper
def patch(code: int, records: int, rows: int) -> None:
    """Write the records for so many rows."""
    words, target = int64_pointer(code), int64_pointer(records)
    source = int64_pointer(code + words[_MANY_AT] * 8)
    for index in range(words[_MANY_COUNT] * RECORD_WORDS):
        target[index] = source[index]
    units = (rows + UNIT - 1) // UNIT
    at = words[_PATCHES_AT]
    for _ in range(words[_PATCHES_COUNT]):
        target[words[at]] = words[at + 1] + words[at + 2] * rows + words[at + 3] * units
        at += PATCH_WORDS
    at = words[_WAYS_AT]
    for _ in range(words[_WAYS_COUNT]):
        record = int64_pointer(records + words[at] * _RECORD_BYTES)
        flags = record[FLAGS_WORD]
        way = _way_number(record[_M], record[_N], record[_K], flags & _TRANSPOSE_A != 0, flags & _TRANSPOSE_B != 0,
                          0, 0, 0, _NEVER)  # fmt: skip
        record[KERNEL_WORD] = words[at + 1 + way]
        at += WAY_WORDS


@helper
def _run(records: int, count: int, context: int) -> None:
    for index in range(count):
        record = records + index * _RECORD_BYTES
        if call_kernel(int64_pointer(record)[KERNEL_WORD], record, context, 0, 1) != 0:
            int64_pointer(context)[_STATUS] = 1


@kernel("run_frozen", arguments=6, returns=True)
def run_frozen(kit: Kit, variant: str) -> Callable[..., Any]:
    """Compute the outputs of n rows, and return 1, or 0 where a kernel raised.

    The arguments: addresses of the code, of the parameters, of a workspace as large as `frozen_code.workspace_bytes`
    says (0: one row's values are on the stack), of the rows and of the outputs, both contiguous and apart from each
    other; and n.
    """

    def run_frozen(code, parameters, work, x, out, n):
        words = int64_pointer(code)
        context = stack_bytes(_CONTEXT_BYTES)
        own = stack_bytes(STACK_BYTES)
        context_words = int64_pointer(context)
        many = words[_MANY_COUNT]
        records = _aligned(work)
        context_words[_PARAMETERS] = parameters
        context_words[_SCRATCH] = context_words[_STATUS] = context_words[_CURSOR] = 0
        mode = enter_kernel_mode()
        done, patched = 0, 0
        while done < n:
            rows = min(n - done, BLOCK)
            context_words[_DATA] = x + done * words[_INPUT_BYTES]
            context_words[_DATA + 1] = out + done * words[_OUTPUT_BYTES]
            if rows == 1:
                context_words[_ARENA] = own if work == 0 else records + (many * _RECORD_BYTES if n > 1 else 0)
                _run(code + words[_ONE_AT] * 8, words[_ONE_COUNT], context)
            else:
                if rows != patched:
                    patch(code, records, rows)
                    patched = rows
                context_words[_ARENA] = records + many * _RECORD_BYTES
                _run(records, many, context)
            done += rows
        restore_mode(mode)
        return 1 if context_words[_STATUS] == 0 else 0

    return run_frozen
