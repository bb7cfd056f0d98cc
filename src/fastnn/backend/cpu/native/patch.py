"""The records of a code, written for a number of rows into the caller's memory."""

from __future__ import annotations

from fastnn.backend.cpu.codegen.intrinsics import float64_pointer, int64_pointer
from fastnn.backend.cpu.codegen.options import helper
from fastnn.backend.cpu.layouts.code import PATCH_WORDS, PRODUCT_WORDS, SCALE_WORDS, UNIT, CodeWord
from fastnn.backend.cpu.processor.blocking import algorithm_number
from fastnn.program.layout import ALIGNMENT, FLAGS_WORD, KERNEL_WORD, RECORD_WORDS, Flag
from fastnn.program.opcodes import OPS

RECORD_BYTES = RECORD_WORDS * 8
_M, _N, _K = OPS["matmul"].words("m", "n", "k")
_TRANSPOSE_A, _TRANSPOSE_B = int(Flag.TRANSPOSE_A), int(Flag.TRANSPOSE_B)
_MANY_AT, _MANY_COUNT = int(CodeWord.MANY_AT), int(CodeWord.MANY_COUNT)
_PATCHES_AT, _PATCHES_COUNT = int(CodeWord.PATCHES_AT), int(CodeWord.PATCHES_COUNT)
_PRODUCTS_AT, _PRODUCTS_COUNT = int(CodeWord.PRODUCTS_AT), int(CodeWord.PRODUCTS_COUNT)
_LEAST_M, _LEAST_N, _LEAST_K, _LEAST_WORK = (
    int(CodeWord[name]) for name in ("LEAST_M", "LEAST_N", "LEAST_K", "LEAST_WORK")
)
_SCALES_AT, _SCALES_COUNT = int(CodeWord.SCALES_AT), int(CodeWord.SCALES_COUNT)
# without memory for packed blocks a product never is of that kind; the results are the same bits
_NEVER = 1 << 62

_algorithm_number = helper(algorithm_number)


@helper
def aligned(address: int) -> int:
    return (address + ALIGNMENT - 1) & -ALIGNMENT


@helper
def patch(code: int, records: int, rows: int, blocks: bool) -> None:
    """Write the records for `rows` rows; `blocks` says whether there is memory for packed blocks."""
    words, target = int64_pointer(code), int64_pointer(records)
    source = int64_pointer(code + words[_MANY_AT] * 8)
    for index in range(words[_MANY_COUNT] * RECORD_WORDS):
        target[index] = source[index]
    units = (rows + UNIT - 1) // UNIT
    at = words[_PATCHES_AT]
    for _ in range(words[_PATCHES_COUNT]):
        target[words[at]] = words[at + 1] + words[at + 2] * rows + words[at + 3] * units
        at += PATCH_WORDS
    work = words[_LEAST_WORK] if blocks else _NEVER
    at = words[_PRODUCTS_AT]
    for _ in range(words[_PRODUCTS_COUNT]):
        record = int64_pointer(records + words[at] * RECORD_BYTES)
        flags = record[FLAGS_WORD]
        algorithm = _algorithm_number(
            record[_M], record[_N], record[_K], flags & _TRANSPOSE_A != 0, flags & _TRANSPOSE_B != 0,
            words[_LEAST_M], words[_LEAST_N], words[_LEAST_K], work,
        )  # fmt: skip
        record[KERNEL_WORD] = words[at + 1 + algorithm]
        at += PRODUCT_WORDS
    at = words[_SCALES_AT]
    for _ in range(words[_SCALES_COUNT]):
        float64_pointer(records)[words[at]] = float64_pointer(code)[at + 2] / target[words[at + 1]]
        at += SCALE_WORDS
