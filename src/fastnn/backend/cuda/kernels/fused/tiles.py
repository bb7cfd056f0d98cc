"""Shared parts of fused layers: the table of layers, activations by number, and tiles of rows in shared memory."""

from __future__ import annotations

from functools import reduce
from types import SimpleNamespace
from typing import Any

import numpy as np

from fastnn.backend.cuda.codegen.kernel import TABLE_WORD, Kit, ceil_div, ptx
from fastnn.backend.cuda.codegen.options import formula, helper
from fastnn.backend.cuda.codegen.sizes import FUSED, PACK, SIZES
from fastnn.backend.cuda.kernels.elementwise import formulas
from fastnn.backend.cuda.kernels.fused.plan import PITCH, ROW, Tile

u32 = np.uint32
THREADS, WARP = FUSED.threads, SIZES.warp
WARPS = THREADS // WARP
load_int64 = ptx.LOADS["int64"]


@helper
def read_table(table, record, count, thread):
    """Copy the first rows of a launch's table to shared memory."""
    i = thread
    while i < count * ROW:
        table[i] = load_int64(record[TABLE_WORD], i)
        i = u32(i + THREADS)


@formula
def padded(count):
    """Round up to whole packs."""
    return u32(u32(count + (PACK - 1)) // PACK * PACK)


def make_dispatch(kit: Kit, gradient: bool) -> Any:
    """Make the choice among the activations of a variant such as "linear+relu", which layers number.

    Of (which, values, a, b), or of (which, saved, values, a, b) for gradients; values are packs.
    """

    def pack(f):
        @formula
        def forward(which, v, a, b):
            return f(v[0], a, b), f(v[1], a, b), f(v[2], a, b), f(v[3], a, b)

        @formula
        def backward(which, s, v, a, b):
            return f(s[0], v[0], a, b), f(s[1], v[1], a, b), f(s[2], v[2], a, b), f(s[3], v[3], a, b)

        return backward if gradient else forward

    def either(rest, numbered):
        number, f = numbered

        @formula
        def forward(which, v, a, b):
            return f(which, v, a, b) if which == number else rest(which, v, a, b)

        @formula
        def backward(which, s, v, a, b):
            return f(which, s, v, a, b) if which == number else rest(which, s, v, a, b)

        return backward if gradient else forward

    packs = [pack(formulas(kit, name)[gradient]) for name in kit.variant.split("+")]
    return reduce(either, list(enumerate(packs))[1:], packs[0])


def make_memory(kit: Kit) -> SimpleNamespace:
    """Make accesses to packs: of shared memory, and of rows in global memory, which may have any length.

    Returns
    -------
    types.SimpleNamespace
        `get(at, place)` and `put(at, place, values)`: a pack of shared memory. `read(address, row, column, cols)`: a
        pack of a row, with zeros after its end. `write(address, row, column, cols, values)`.
    """
    group, zero = 16 // kit.itemsize, kit.real(0.0)
    load, store, load_pack, store_pack = kit.load, kit.store, kit.load_pack, kit.store_pack
    get_group, put_group = ptx.SHARED_LOAD_PACKS[kit.dtype], ptx.SHARED_STORE_PACKS[kit.dtype]

    @formula
    def get(at, place):
        if group == PACK:
            return get_group(at, place)
        p, q = get_group(at, place), get_group(at, u32(place + group))
        return p[0], p[1], q[0], q[1]

    @formula
    def put(at, place, v):
        if group == PACK:
            put_group(at, place, v)
        else:
            put_group(at, place, (v[0], v[1]))
            put_group(at, u32(place + group), (v[2], v[3]))

    @formula
    def read(address, row, column, cols):
        place = u32(row * cols + column)
        if cols % PACK == 0:
            return load_pack(address, place)
        return (
            load(address, place),
            load(address, u32(place + 1)) if column + 1 < cols else zero,
            load(address, u32(place + 2)) if column + 2 < cols else zero,
            load(address, u32(place + 3)) if column + 3 < cols else zero,
        )

    @formula
    def write(address, row, column, cols, v):
        place = u32(row * cols + column)
        if cols % PACK == 0:
            store_pack(address, place, v)
        else:
            store(address, place, v[0])
            if column + 1 < cols:
                store(address, u32(place + 1), v[1])
            if column + 2 < cols:
                store(address, u32(place + 2), v[2])
            if column + 3 < cols:
                store(address, u32(place + 3), v[3])

    @formula
    def within(v, column, cols):
        """Replace elements after the end of a row by zeros."""
        return (
            v[0],
            v[1] if column + 1 < cols else zero,
            v[2] if column + 2 < cols else zero,
            v[3] if column + 3 < cols else zero,
        )

    return SimpleNamespace(get=get, put=put, read=read, write=write, within=within)


def make_rows(kit: Kit, tile: Tile) -> SimpleNamespace:
    """Make accesses to a tile: a warp has a row at a time, a thread a pack of it.

    Returns
    -------
    types.SimpleNamespace
        `count`: rows of a thread. `read(values, address, first, m, cols, thread)` fetches rows from `first` on, and
        `stash(values, at, cols, thread)` stores them in shared memory, with zeros for elements outside.
    """
    count, rows, zero = ceil_div(tile.rows, WARPS), tile.rows, kit.real(0.0)
    memory = make_memory(kit)
    read_pack, put = memory.read, memory.put

    @helper
    def read(values, address, first, m, cols, thread):
        column = u32(thread % WARP * PACK)
        for i in range(count):
            row = u32(thread // WARP + i * WARPS)
            v = (zero, zero, zero, zero)
            if row < rows and first + row < m and column < cols:
                v = read_pack(address, u32(first + row), column, cols)
            for e in range(PACK):
                values[i * PACK + e] = v[e]

    @helper
    def stash(values, at, cols, thread):
        column = u32(thread % WARP * PACK)
        for i in range(count):
            row, e = u32(thread // WARP + i * WARPS), i * PACK
            if row < rows and column < cols:
                put(at, u32(row * PITCH + column), (values[e], values[e + 1], values[e + 2], values[e + 3]))

    return SimpleNamespace(count=count, read=read, stash=stash)
