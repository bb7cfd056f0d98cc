"""The memory of a call: the caller's workspace, and what is allocated where it has no room."""

from __future__ import annotations

from fastnn.backend.cpu.codegen.intrinsics import allocate
from fastnn.backend.cpu.codegen.options import helper
from fastnn.backend.cpu.native.patch import aligned
from fastnn.program.layout import ALIGNMENT


@helper
def reserve(
    work: int, work_bytes: int, needed: int, copies: int, blocks: int, packs: int
) -> tuple[int, int, int, int, int]:
    """Find memory for a call.

    Parameters
    ----------
    work, work_bytes : int
        The caller's workspace, of at least `needed` bytes, or zeros.
    needed, copies, blocks, packs : int
        Bytes for records and values; for arrays that are copied as a whole; for those that are converted; and for
        packed blocks of matrices, which are left out where a workspace has no room for them.

    Returns
    -------
    memory : int
        Address of what has been allocated, to be released; 0 if that is nothing, -1 if there is no memory.
    records, copies, blocks, packs : int
        Addresses; `packs` is 0 if there is no memory for them.
    """
    inside, room = aligned(work + needed), work_bytes - needed - 2 * ALIGNMENT if work != 0 else 0
    blocks_inside = blocks <= room
    packs_inside = packs <= room - (blocks if blocks_inside else 0)
    wanted = copies + (0 if blocks_inside else blocks)
    if work == 0:
        wanted += aligned(needed) + packs
    memory = allocate(wanted + ALIGNMENT) if wanted > 0 else 0
    if wanted > 0 and memory == 0:
        return -1, 0, 0, 0, 0
    free, records = aligned(memory), aligned(work)
    if work == 0:
        records = free
        free += aligned(needed)
    copies_at = free
    free += copies
    blocks_at = free
    if blocks_inside and work != 0:
        blocks_at = inside
        inside += blocks
    else:
        free += blocks
    packs_at = 0
    if packs > 0:
        packs_at = free if work == 0 else (inside if packs_inside else 0)
    return memory, records, copies_at, blocks_at, packs_at
