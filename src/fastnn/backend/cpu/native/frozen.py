"""A frozen network on the caller's rows: its records, patched for the number of rows, in the caller's memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnn.backend.cpu.codegen.float_mode import enter_kernel_mode, is_plain, restore_plain_mode
from fastnn.backend.cpu.codegen.intrinsics import (
    SOURCE_POINTERS,
    allocate,
    call_note,
    float64_pointer,
    int64_pointer,
    release,
    stack_bytes,
)
from fastnn.backend.cpu.codegen.kernel import Kit, kernel, overlap
from fastnn.backend.cpu.codegen.options import helper, inlined
from fastnn.backend.cpu.layouts.frozen import (
    BLOCK,
    PATCH_WORDS,
    SCALE_WORDS,
    STACK_BYTES,
    UNIT,
    WAY_WORDS,
    Outcome,
    Word,
    workspace_bytes,
)
from fastnn.backend.cpu.native.executor import run_in_turn
from fastnn.backend.cpu.processor.blocking import way_number
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
from fastnn.program.opcodes import OPS

_RECORD_BYTES, _CONTEXT_BYTES = RECORD_WORDS * 8, CONTEXT_WORDS * 8

_PARAMETERS, _ARENA, _SCRATCH, _DATA = (
    int(Buffer.PARAMETERS), int(Buffer.ARENA), int(Buffer.SCRATCH), int(Buffer.DATA),
)  # fmt: skip
_STATUS, _CURSOR = int(Counter.STATUS), int(Counter.CURSOR)
_M, _N, _K = OPS["matmul"].words("m", "n", "k")
_TRANSPOSE_A, _TRANSPOSE_B = int(Flag.TRANSPOSE_A), int(Flag.TRANSPOSE_B)
_INPUT_NDIM, _INPUT_SHAPE, _OUTPUT_NDIM, _OUTPUT_SHAPE = (
    int(Word.INPUT_NDIM), int(Word.INPUT_SHAPE), int(Word.OUTPUT_NDIM), int(Word.OUTPUT_SHAPE),
)  # fmt: skip
_PARAMETER_COUNT, _ITEM_BYTES = int(Word.PARAMETERS), int(Word.ITEM_BYTES)
_INPUT_BYTES, _OUTPUT_BYTES = int(Word.INPUT_BYTES), int(Word.OUTPUT_BYTES)
_ONE_AT, _ONE_COUNT, _ONE_ARENA = int(Word.ONE_AT), int(Word.ONE_COUNT), int(Word.ONE_ARENA)
_MANY_AT, _MANY_COUNT, _MANY_ARENA = int(Word.MANY_AT), int(Word.MANY_COUNT), int(Word.MANY_ARENA)
_PATCHES_AT, _PATCHES_COUNT = int(Word.PATCHES_AT), int(Word.PATCHES_COUNT)
_WAYS_AT, _WAYS_COUNT = int(Word.WAYS_AT), int(Word.WAYS_COUNT)
_SCALES_AT, _SCALES_COUNT, _LOSS_WEIGHT = int(Word.SCALES_AT), int(Word.SCALES_COUNT), int(Word.LOSS_WEIGHT)
# products are never blocked, which would need more memory from the caller; the results are the same bits
_NEVER = 1 << 62

DONE, RAISED, PARAMETERS, INPUT, OUTPUT, WORKSPACE, MEMORY, GRADIENT = (
    int(Outcome[name])
    for name in ("DONE", "RAISED", "PARAMETERS", "INPUT", "OUTPUT", "WORKSPACE", "MEMORY", "GRADIENT")
)

int32_pointer, uint8_pointer = SOURCE_POINTERS["int32"], SOURCE_POINTERS["uint8"]
_way_number = helper(way_number)
_workspace_bytes = helper(workspace_bytes)


@helper
def aligned(address: int) -> int:
    return (address + ALIGNMENT - 1) & -ALIGNMENT


@helper
def patch(code: int, records: int, rows: int) -> None:
    """Write the records for `rows` rows."""
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
    at, weight = words[_SCALES_AT], float64_pointer(code)[_LOSS_WEIGHT]
    for _ in range(words[_SCALES_COUNT]):
        float64_pointer(records)[words[at]] = weight / target[words[at + 1]]
        at += SCALE_WORDS


@helper
def run_records(records: int, count: int, context: int) -> None:
    """Run records until one raises, as a user-defined function may."""
    status = int64_pointer(context)
    for index in range(count):
        if status[_STATUS] == 0:
            run_in_turn(records + index * _RECORD_BYTES, context, 1)


@helper
def rows_in(code: int, ndim: int, shape: int, ndim_word: int, shape_word: int) -> int:
    """Return the number of samples in an array of a shape, -1 if it is not an array of samples."""
    words, sizes = int64_pointer(code), int64_pointer(shape)
    skip = ndim - words[ndim_word]
    if skip != 0 and skip != 1:
        return -1
    for axis in range(words[ndim_word]):
        if sizes[skip + axis] != words[shape_word + axis]:
            return -1
    return sizes[0] if skip == 1 else 1


@helper
def _samples(code: int, count: int, x_shape: int, x_ndim: int, out_shape: int, out_ndim: int) -> int:
    """Return the number of samples in x and out, or an error as the negative of an `Outcome`."""
    words = int64_pointer(code)
    if count != words[_PARAMETER_COUNT]:
        return -PARAMETERS
    n = rows_in(code, x_ndim, x_shape, _INPUT_NDIM, _INPUT_SHAPE)
    if n < 0:
        return -INPUT
    if n != rows_in(code, out_ndim, out_shape, _OUTPUT_NDIM, _OUTPUT_SHAPE):
        return -OUTPUT
    return n if x_ndim - words[_INPUT_NDIM] == out_ndim - words[_OUTPUT_NDIM] else -OUTPUT


@helper
def _compute(code: int, parameters: int, records: int, x: int, y: int, dx: int, n: int, stack: int) -> int:
    """Compute n rows with a workspace that starts at `records`; one row's values may be on the stack."""
    words = int64_pointer(code)
    context = stack_bytes(_CONTEXT_BYTES)
    context_words = int64_pointer(context)
    context_words[_PARAMETERS] = parameters
    context_words[_SCRATCH] = context_words[_STATUS] = context_words[_CURSOR] = 0
    many = words[_MANY_COUNT]
    arena = records + (many * _RECORD_BYTES if n > 1 else 0)
    done, patched = 0, 0
    while done < n:
        rows = min(n - done, BLOCK)
        context_words[_DATA] = x + done * words[_INPUT_BYTES]
        context_words[_DATA + 1] = y + done * words[_OUTPUT_BYTES]
        context_words[_DATA + 2] = dx + done * words[_INPUT_BYTES]
        if rows == 1:
            context_words[_ARENA] = stack if words[_ONE_ARENA] <= STACK_BYTES else arena
            run_records(code + words[_ONE_AT] * 8, words[_ONE_COUNT], context)
        else:
            if rows != patched:
                patch(code, records, rows)
                patched = rows
            context_words[_ARENA] = arena
            run_records(records, many, context)
        done += rows
    return context_words[_STATUS]


@helper
def _copy(target: int, source: int, nbytes: int) -> None:
    to, given = uint8_pointer(target), uint8_pointer(source)
    for index in range(nbytes):
        to[index] = given[index]


@helper
def _any_subnormal(values: int, nbytes: int, itemsize: int) -> bool:
    """Return whether there are subnormal numbers: the register does not report exact results."""
    found = 0
    if itemsize == 4:
        singles = int32_pointer(values)
        for index in range(nbytes // 4):
            magnitude = singles[index] & 0x7FFFFFFF
            found += 1 if magnitude > 0 and magnitude < 0x800000 else 0
    else:
        doubles = int64_pointer(values)
        for index in range(nbytes // 8):
            magnitude = doubles[index] & 0x7FFFFFFFFFFFFFFF
            found += 1 if magnitude > 0 and magnitude < 0x10000000000000 else 0
    return found > 0


# inlined: as a call of its own it took 1 to 2 of 100 ns, once what notes failures had made it longer
@inlined
def _settle(
    code: int, parameters: int, work: int, work_bytes: int, x: int, y: int, dx: int, n: int, out: int, out_bytes: int
) -> int:
    """Compute n checked rows; inputs that share memory with the results at `out` are copied first."""
    words = int64_pointer(code)
    needed = _workspace_bytes(words[_MANY_COUNT], words[_MANY_ARENA], words[_ONE_ARENA], n)
    if work != 0 and work_bytes < needed:
        return call_note(code, WORKSPACE, n, needed, work_bytes, 0, 0, -1, 0, -1, 0, -1)
    x_bytes, y_bytes = n * words[_INPUT_BYTES], n * words[_OUTPUT_BYTES]
    x_copied = x_bytes if overlap(x, x_bytes, out, out_bytes) else 0
    y_copied = y_bytes if dx != 0 and overlap(y, y_bytes, out, out_bytes) else 0
    memory = 0
    wanted = x_copied + y_copied + (needed if work == 0 else 0)
    if wanted > 0:
        memory = allocate(wanted)
        if memory == 0:
            return call_note(code, MEMORY, n, wanted, 0, 0, 0, -1, 0, -1, 0, -1)
        if x_copied > 0:
            _copy(memory, x, x_bytes)
            x = memory
        if y_copied > 0:
            _copy(memory + x_copied, y, y_bytes)
            y = memory + x_copied
        if work == 0:
            work = memory + x_copied + y_copied
    stack, records = stack_bytes(STACK_BYTES), aligned(work)
    # one row takes little longer than switching the mode
    plain = n == 1 and is_plain()
    status = _compute(code, parameters, records, x, y, dx, n, stack) if plain else 0
    if not (plain and is_plain()) or _any_subnormal(out, out_bytes, words[_ITEM_BYTES]):
        mode = enter_kernel_mode()
        status = _compute(code, parameters, records, x, y, dx, n, stack)
        restore_plain_mode(mode)
    if memory != 0:
        release(memory)
    return DONE if status == 0 else RAISED


@kernel("run_frozen", arguments=11, returns=True)
def run_frozen(kit: Kit, variant: str) -> Callable[..., Any]:
    """Check a call of a frozen network, and compute it; return an `Outcome`.

    The arguments: address of the code; of the parameters, and their number; of a workspace, and its bytes (both 0
    without one: then memory is allocated); of x, of its shape, and its number of dimensions; and those of
    out. Both arrays are contiguous and of the network's dtype; the code belongs to this process.
    """

    def run_frozen(code, parameters, count, work, work_bytes, x, x_shape, x_ndim, out, out_shape, out_ndim):
        n = _samples(code, count, x_shape, x_ndim, out_shape, out_ndim)
        if n < 0:
            return call_note(code, -n, count, 0, 0, 0, x_shape, x_ndim, out_shape, out_ndim, 0, -1)
        out_bytes = n * int64_pointer(code)[_OUTPUT_BYTES]
        return _settle(code, parameters, work, work_bytes, x, out, 0, n, out, out_bytes)

    return run_frozen


@kernel("run_frozen_gradient", arguments=14, returns=True)
def run_frozen_gradient(kit: Kit, variant: str) -> Callable[..., Any]:
    """Check a call of a frozen network's gradient, and compute dx = seed dy/dx; return an `Outcome`.

    The arguments are those of `run_frozen`, with the seed instead of out, and then dx, its shape and its number
    of dimensions.
    """

    def run_frozen_gradient(
        code, parameters, count, work, work_bytes, x, x_shape, x_ndim, seed, seed_shape, seed_ndim, dx, dx_shape,
        dx_ndim,
    ):  # fmt: skip
        n = _samples(code, count, x_shape, x_ndim, seed_shape, seed_ndim)
        if n >= 0 and (dx_ndim != x_ndim or rows_in(code, dx_ndim, dx_shape, _INPUT_NDIM, _INPUT_SHAPE) != n):
            n = -GRADIENT
        if n < 0:
            return call_note(code, -n, count, 0, 0, 0, x_shape, x_ndim, seed_shape, seed_ndim, dx_shape, dx_ndim)
        dx_bytes = n * int64_pointer(code)[_INPUT_BYTES]
        return _settle(code, parameters, work, work_bytes, x, seed, dx, n, dx, dx_bytes)

    return run_frozen_gradient
