"""A frozen network, or its gradient, on the caller's rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from fastnn.backend.cpu.codegen.float_mode import enter_kernel_mode, is_plain, restore_plain_mode
from fastnn.backend.cpu.codegen.intrinsics import (
    SOURCE_POINTERS,
    call_convert,
    call_note,
    int64_pointer,
    release,
    smaller,
    stack_bytes,
)
from fastnn.backend.cpu.codegen.kernel import Kit, kernel, overlap
from fastnn.backend.cpu.codegen.options import helper, inlined
from fastnn.backend.cpu.layouts.call import DTYPE_SHIFT, NDIM_MASK, Held, Outcome, Part
from fastnn.backend.cpu.layouts.code import BLOCK, MOST_SLOTS, REAL_DTYPES, STACK_BYTES, CodeWord, Slot, network_bytes
from fastnn.backend.cpu.native.convert import dtype_of
from fastnn.backend.cpu.native.live import is_shared, patch_once, place_owners, run_call
from fastnn.backend.cpu.native.memory import reserve
from fastnn.backend.cpu.native.patch import RECORD_BYTES, aligned, patch
from fastnn.backend.cpu.native.slots import (
    ADDRESS,
    GIVEN_BYTES,
    KIND,
    SHAPE,
    SLOT_BYTES,
    bits_of,
    description,
    first_outside,
    is_unsigned,
    real_at,
    span,
)
from fastnn.backend.cpu.processor.blocking import SCRATCH_BYTES
from fastnn.program.layout import CONTEXT_WORDS, Buffer, Counter

_CONTEXT_BYTES, _PLACES_BYTES = CONTEXT_WORDS * 8, MOST_SLOTS * 8
_PARAMETERS, _ARENA, _SCRATCH, _DATA = (
    int(Buffer.PARAMETERS), int(Buffer.ARENA), int(Buffer.SCRATCH), int(Buffer.DATA),
)  # fmt: skip
_STATUS, _CURSOR, _STEP, _SEED = (
    int(Counter.STATUS), int(Counter.CURSOR), int(Counter.STEP), int(Counter.SEED),
)  # fmt: skip
_SLOTS_COUNT, _INPUTS, _INTEGERS, _ITEM_BYTES, _COUNT = (
    int(CodeWord[name]) for name in ("SLOTS_COUNT", "INPUTS", "INTEGERS", "ITEM_BYTES", "PARAMETERS")
)
_ONE_AT, _ONE_COUNT, _ONE_ARENA = int(CodeWord.ONE_AT), int(CodeWord.ONE_COUNT), int(CodeWord.ONE_ARENA)
_ROWS, _MOST_SO_FAR = int(CodeWord.ROWS), int(CodeWord.MOST_SO_FAR)
_MANY_COUNT, _MANY_RUN, _MANY_ARENA, _BLOCKS_FROM = (
    int(CodeWord[name]) for name in ("MANY_COUNT", "MANY_RUN", "MANY_ARENA", "BLOCKS_FROM")
)
_SLOT_DTYPE, _BYTES, _ELEMENTS, _NDIM, _SHAPE = (
    int(Slot[name]) for name in ("DTYPE", "BYTES", "ELEMENTS", "NDIM", "SHAPE")
)
_HELD_PARAMETERS, _HELD_COUNT = int(Held.PARAMETERS), int(Held.PARAMETERS_COUNT)
_DONE, _RAISED, _WRONG_PARAMETERS, _WRONG_SHAPE, _WORKSPACE, _MEMORY, _NO_INTEGERS, _OUT_OF_RANGE, _FULL = (
    int(Outcome[name])
    for name in ("DONE", "RAISED", "PARAMETERS", "SHAPE", "WORKSPACE", "MEMORY", "INTEGERS", "RANGE", "FULL")
)

_CHECK, _LIVE = int(Part.CHECK), int(Part.LIVE)

int32_pointer = SOURCE_POINTERS["int32"]
_network_bytes = helper(network_bytes)


@inlined
def _look(code: int, slots: int, places: int, steps: int) -> tuple[int, bool]:
    """Check the arrays' shapes, and write where each begins and how far its rows are apart.

    Returns
    -------
    n : int
        The number of samples, or -1 - i where array i does not fit.
    in_place : bool
        Whether the program can read all inputs as they are.
    """
    words, at, apart = int64_pointer(code), int64_pointer(places), int64_pointer(steps)
    inputs, slot_at, in_place = words[_INPUTS], description(code, 0), True
    n, batched = 1, 0
    for index in range(words[_SLOTS_COUNT]):
        slot, given = int64_pointer(slot_at), int64_pointer(slots + index * GIVEN_BYTES)
        axes, sizes = slot[_NDIM], int64_pointer(given[SHAPE])
        skip = (given[KIND] & NDIM_MASK) - axes
        if index == 0:
            batched = skip
            if skip == 1 and words[_ROWS] == 0:
                n = sizes[0]
            elif skip != 0:
                return -1, False
        bad = 0 if skip == batched else 1
        if bad == 0:
            bad += 1 if skip == 1 and sizes[0] != n else 0
            for axis in range(axes):
                bad += 1 if sizes[skip + axis] != slot[_SHAPE + axis] else 0
        if bad != 0:
            return -1 - index, False
        if index < inputs and given[KIND] >> DTYPE_SHIFT != slot[_SLOT_DTYPE]:
            in_place = False
        at[index], apart[index] = given[ADDRESS], slot[_BYTES]
        slot_at += SLOT_BYTES
    return n, in_place


@helper
def _is_read_in_place(code: int, slots: int, index: int) -> bool:
    """Return whether the program can read an array as it is."""
    slot, given = int64_pointer(description(code, index)), int64_pointer(slots + index * GIVEN_BYTES)
    return given[KIND] >> DTYPE_SHIFT == slot[_SLOT_DTYPE]


@inlined
def _any_overwritten(code: int, places: int, steps: int, n: int) -> bool:
    """Return whether an input that is contiguous shares memory with a result."""
    words, at, apart = int64_pointer(code), int64_pointer(places), int64_pointer(steps)
    inputs, count = words[_INPUTS], words[_SLOTS_COUNT]
    for index in range(inputs):
        for result in range(inputs, count):
            if overlap(at[index], n * apart[index], at[result], n * apart[result]):
                return True
    return False


@helper
def _is_overwritten(code: int, slots: int, index: int, n: int) -> bool:
    """Return whether an input shares memory with a result."""
    words = int64_pointer(code)
    start, nbytes = span(slots + index * GIVEN_BYTES)
    for result in range(words[_INPUTS], words[_SLOTS_COUNT]):
        out = int64_pointer(slots + result * GIVEN_BYTES)[ADDRESS]
        if overlap(start, nbytes, out, n * int64_pointer(description(code, result))[_BYTES]):
            return True
    return False


@helper
def _rows_to_convert(code: int, slots: int, n: int) -> tuple[int, int]:
    """Return the bytes of inputs that have to be copied as a whole, and of those that are converted in blocks."""
    whole, blocks = 0, 0
    for index in range(int64_pointer(code)[_INPUTS]):
        nbytes = int64_pointer(description(code, index))[_BYTES]
        if _is_overwritten(code, slots, index, n):
            whole += aligned(n * nbytes)
        elif not _is_read_in_place(code, slots, index):
            blocks += aligned(smaller(n, BLOCK) * nbytes)
    return whole, blocks


@helper
def _place_converted(code: int, slots: int, n: int, places: int, steps: int, whole: int, blocks: int) -> None:
    """Convert inputs that results overwrite, and give the others that are converted a place: blocks, 0 bytes apart."""
    words, at, apart = int64_pointer(code), int64_pointer(places), int64_pointer(steps)
    for index in range(words[_INPUTS]):
        if _is_overwritten(code, slots, index, n):
            slot_at = description(code, index)
            call_convert(code, whole, slot_at, slots + index * GIVEN_BYTES, 0, n * int64_pointer(slot_at)[_ELEMENTS])
            at[index] = whole
            whole += aligned(n * apart[index])
        elif not _is_read_in_place(code, slots, index):
            at[index] = blocks
            blocks += aligned(smaller(n, BLOCK) * apart[index])
            apart[index] = 0


@helper
def _convert_block(code: int, slots: int, index: int, target: int, first: int, rows: int) -> None:
    slot_at = description(code, index)
    count = rows * int64_pointer(slot_at)[_ELEMENTS]
    call_convert(code, target, slot_at, slots + index * GIVEN_BYTES, first, count)


@helper
def _first_of_reals(code: int, slots: int) -> int:
    """Return the number of the first input that holds real numbers instead of integers, -1 if there is none."""
    for index in range(int64_pointer(code)[_INPUTS]):
        kind = int64_pointer(slots + index * GIVEN_BYTES)[KIND]
        if int64_pointer(description(code, index))[_SLOT_DTYPE] >= REAL_DTYPES and dtype_of(kind) < REAL_DTYPES:
            return index
    return -1


@helper
def _check_integers(code: int, slots: int, places: int, steps: int, n: int) -> int:
    """Check the range of all integers, before any row is computed, and return an `Outcome`."""
    words, at, apart = int64_pointer(code), int64_pointer(places), int64_pointer(steps)
    for index in range(words[_INPUTS]):
        slot_at, given_at, values = description(code, index), slots + index * GIVEN_BYTES, at[index]
        if int64_pointer(slot_at)[_SLOT_DTYPE] >= REAL_DTYPES:
            elements, done = int64_pointer(slot_at)[_ELEMENTS], 0
            while done < n:
                rows = n
                if apart[index] == 0:
                    rows = smaller(n - done, BLOCK)
                    _convert_block(code, slots, index, values, done, rows)
                found = first_outside(slot_at, given_at, values, rows * elements)
                if found >= 0:
                    place, value = done * elements + found, int64_pointer(values)[found]
                    return call_note(
                        code, _OUT_OF_RANGE, place, value, 1 if is_unsigned(given_at) else 0, 0, slots, index
                    )
                done += rows
    return _DONE


@helper
def _first_full(code: int, places: int, steps: int, n: int) -> int:
    """Return the first row of a state without a number of steps so far that leaves room for more, -1 if there is none.

    Kernels write behind these steps. The state is the array after x, and has the dtype of the program.
    """
    words, most = int64_pointer(code), float(int64_pointer(code)[_MOST_SO_FAR])
    at, apart, itemsize = int64_pointer(places)[1], int64_pointer(steps)[1], words[_ITEM_BYTES]
    for row in range(n):
        so_far = real_at(at + row * apart, 0, itemsize)
        if not (so_far >= 0.0 and so_far <= most and so_far == math.floor(so_far)):
            return row
    return -1


@helper
def _compute(
    code: int, held: int, records: int, slots: int, places: int, steps: int, n: int, parts: int, stack: int,
    scratch: int,
) -> int:  # fmt: skip
    """Compute n rows with a workspace that starts at `records`; one row's values may be on the stack."""
    words, at, apart = int64_pointer(code), int64_pointer(places), int64_pointer(steps)
    context = stack_bytes(_CONTEXT_BYTES)
    context_words = int64_pointer(context)
    context_words[_PARAMETERS], context_words[_SCRATCH] = int64_pointer(held)[_HELD_PARAMETERS], scratch
    context_words[_STATUS] = context_words[_CURSOR] = context_words[_STEP] = context_words[_SEED] = 0
    if parts & _LIVE != 0:
        place_owners(held, context)
    count, many = words[_SLOTS_COUNT], words[_MANY_COUNT]
    only = words[_ROWS] > 0
    arena = records + (many * RECORD_BYTES if n > 1 or only or parts & _LIVE != 0 else 0)
    done, patched = 0, 0
    while done < n:
        rows = smaller(n - done, BLOCK)
        for index in range(count):
            if apart[index] == 0:
                _convert_block(code, slots, index, at[index], done, rows)
            context_words[_DATA + index] = at[index] + done * apart[index]
        if rows == 1 and not only:
            context_words[_ARENA] = stack if words[_ONE_ARENA] <= STACK_BYTES else arena
            run_call(held, parts, code + words[_ONE_AT] * 8, words[_ONE_COUNT], context)
        else:
            if parts & _LIVE != 0:
                patch_once(code, held, records, rows, scratch != 0)
            elif rows != patched:
                patch(code, records, rows, scratch != 0)
                patched = rows
            context_words[_ARENA] = arena
            run_call(held, parts, records, words[_MANY_RUN], context)
        if context_words[_STATUS] != 0:
            break
        done += rows
    return context_words[_STATUS]


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


@inlined
def _any_result_subnormal(code: int, places: int, steps: int, n: int) -> bool:
    words, at, apart = int64_pointer(code), int64_pointer(places), int64_pointer(steps)
    for index in range(words[_INPUTS], words[_SLOTS_COUNT]):
        if _any_subnormal(at[index], n * apart[index], words[_ITEM_BYTES]):
            return True
    return False


# inlined: as a call of its own it took 1 to 2 of 100 ns, once what notes failures had made it longer
@inlined
def _settle(
    code: int, held: int, slots: int, places: int, steps: int, n: int, in_place: bool, plain: bool, parts: int,
    work: int, work_bytes: int,
) -> int:  # fmt: skip
    """Compute n rows of the right shapes."""
    words = int64_pointer(code)
    needed = _network_bytes(words[_MANY_COUNT], words[_MANY_ARENA], words[_ONE_ARENA], words[_ROWS], n)
    if n == 1 and parts & _LIVE != 0:
        needed += words[_MANY_COUNT] * RECORD_BYTES  # those of a call of more rows stay where they are
    if work != 0 and work_bytes < needed:
        return call_note(code, _WORKSPACE, n, needed, work_bytes, 0, 0, -1)
    if words[_INTEGERS] != 0:
        wrong = _first_of_reals(code, slots)
        if wrong >= 0:
            return call_note(code, _NO_INTEGERS, 0, 0, 0, 0, slots, wrong)
    elif parts & _CHECK != 0:
        return _DONE
    if words[_MOST_SO_FAR] >= 0:
        row = _first_full(code, places, steps, n)
        if row >= 0:
            so_far = real_at(int64_pointer(places)[1] + row * int64_pointer(steps)[1], 0, words[_ITEM_BYTES])
            return call_note(code, _FULL, row, bits_of(so_far), 0, 0, slots, 1)
    stack = stack_bytes(STACK_BYTES)
    whole, blocks = 0, 0
    if not in_place or _any_overwritten(code, places, steps, n):
        whole, blocks = _rows_to_convert(code, slots, n)
    packs = SCRATCH_BYTES if words[_BLOCKS_FROM] > 0 and words[_BLOCKS_FROM] <= smaller(n, BLOCK) else 0
    memory, records, whole_at, blocks_at, scratch = 0, aligned(work), 0, 0, 0
    if whole + blocks + packs > 0 or (work == 0 and needed > 0):
        memory, records, whole_at, blocks_at, scratch = reserve(work, work_bytes, needed, whole, blocks, packs)
        if memory < 0:
            return call_note(code, _MEMORY, n, needed + whole + blocks, 0, 0, 0, -1)
    if whole + blocks > 0:
        _place_converted(code, slots, n, places, steps, whole_at, blocks_at)
    outcome = _DONE
    if words[_INTEGERS] != 0:
        outcome = _check_integers(code, slots, places, steps, n)
    if outcome == _DONE and parts & _CHECK == 0:
        # one row takes little longer than switching the mode; the processors of a team note subnormal numbers apart
        plain = n == 1 and plain and words[_ROWS] == 0 and not is_shared(held, parts)
        status = _compute(code, held, records, slots, places, steps, n, parts, stack, 0) if plain else 0
        if not (plain and is_plain()) or _any_result_subnormal(code, places, steps, n):
            mode = enter_kernel_mode()
            status = _compute(code, held, records, slots, places, steps, n, parts, stack, scratch)
            restore_plain_mode(mode)
        outcome = _DONE if status == 0 else _RAISED
    if memory != 0:
        release(memory)
    return outcome


@kernel("call_network", arguments=6, returns=True)
def call_network(kit: Kit, variant: str) -> Callable[..., Any]:
    """Check a call of a frozen network or of its gradient, and compute it; return an `Outcome`.

    The arguments, as of all calls: addresses of the code, of the table of buffers (`Held`), and of the arrays (`Given`,
    one for each slot of the code); what to do (`Part`, 0: all); a workspace's address and bytes (both 0 without
    one: then memory is allocated). Results are contiguous and of the dtype that the code says. With `Part.LIVE` the
    workspace is kept between calls, and holds records.
    """

    def call_network(code, held, slots, parts, work, work_bytes):
        # here, because the processor takes 5 ns to read its register, and does the following meanwhile
        plain = is_plain()
        words, buffers = int64_pointer(code), int64_pointer(held)
        if buffers[_HELD_COUNT] != words[_COUNT]:
            return call_note(code, _WRONG_PARAMETERS, buffers[_HELD_COUNT], 0, 0, 0, 0, -1)
        places, steps = stack_bytes(_PLACES_BYTES), stack_bytes(_PLACES_BYTES)
        n, in_place = _look(code, slots, places, steps)
        if n < 0:
            return call_note(code, _WRONG_SHAPE, 0, 0, 0, 0, slots, -1 - n)
        return _settle(code, held, slots, places, steps, n, in_place, plain, parts, work, work_bytes)

    return call_network
