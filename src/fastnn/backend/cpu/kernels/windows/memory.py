"""Working memory of a thread for bands, packed weights and sums."""

from __future__ import annotations

from fastnn.backend.cpu.codegen.intrinsics import allocate, int64_pointer
from fastnn.backend.cpu.codegen.options import helper
from fastnn.backend.cpu.processor.blocking import SCRATCH_BYTES
from fastnn.program.layout import Buffer

_SCRATCH = int(Buffer.SCRATCH)
#: Bytes of memory on a kernel's stack, for small networks in users' functions, which have no scratch memory.
STACK_BYTES = 48 * 1024


@helper
def working_memory(context: int, ith: int, stack: int, needed: int, wanted: int) -> tuple[int, int, int]:
    """Return memory, its size in bytes, and what the caller has to release, or 0.

    It is the scratch memory if there is any, or else `STACK_BYTES` at `stack`. If fewer than `needed` bytes are there,
    `wanted` bytes are allocated; without success, memory is 0.
    """
    memory, room = stack, STACK_BYTES
    if int64_pointer(context)[_SCRATCH] != 0:
        memory, room = int64_pointer(context)[_SCRATCH] + ith * SCRATCH_BYTES, SCRATCH_BYTES
    if needed <= room:
        return memory, room, 0
    allocated = allocate(wanted + 64)
    return (allocated + 63) // 64 * 64, wanted, allocated
