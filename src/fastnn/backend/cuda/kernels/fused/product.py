"""The product of fused layers: rows in shared memory by weights that are loaded in pieces.

Weights are staged in shared memory, not read in place. A block reads each of them once or a few times, so
each first read would miss the multiprocessor's caches, and wait. With staging, whole pieces are loaded
while the previous piece is multiplied. It also makes rows of odd lengths regular, and transposes weights that the
backward pass reads by columns. A piece is a few rows of a wide matrix, or all of a narrow one; threads that a narrow
result does not need divide k.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from fastnn.backend.cuda.codegen.kernel import Kit, ptx
from fastnn.backend.cuda.codegen.options import formula, helper
from fastnn.backend.cuda.codegen.sizes import PACK, SIMULATED
from fastnn.backend.cuda.kernels.fused.plan import DEPTH, PITCH, K, N, Tile, W
from fastnn.backend.cuda.kernels.fused.tiles import THREADS, make_memory, padded

u32 = np.uint32


def make_weights(kit: Kit, tile: Tile, turned: bool) -> SimpleNamespace:
    """Make the transfer of a piece of weights into shared memory, where it is ordered by k and then by n.

    Weights are k x n in memory, or n x k if they have to be transposed.

    Returns
    -------
    types.SimpleNamespace
        `count`: elements that a thread keeps. `fetch(values, table, row, first, thread)`: rows of k from `first` on, of
        the layer of a row of the table. `stash(values, table, row, at, thread)`.
    """
    units, pair, zero = tile.units, tile.pair, kit.real(0.0)
    memory, store = make_memory(kit), ptx.SHARED_STORES[kit.dtype]
    read, put = memory.read, memory.put

    # a pack's first row of k within the piece, and its column of n
    @formula
    def place(unit, n):
        if turned:
            # pairs of threads read 32 neighbouring bytes, and a warp stores 16 columns of two rows: all banks
            far = u32(u32(unit // pair) // n)
            return u32((far * pair + unit % pair) * PACK), u32(unit // pair - far * n)
        packs = u32(u32(n + (PACK - 1)) // PACK)
        line = u32(unit // packs)
        return line, u32((unit - line * packs) * PACK)

    @helper
    def fetch(values, table, row, first, thread):
        address, k, n, depth = (
            table[u32(row + W)],
            u32(table[u32(row + K)]),
            u32(table[u32(row + N)]),
            u32(table[u32(row + DEPTH)]),
        )
        for i in range(units):
            line, column = place(u32(thread + i * THREADS), n)
            v = (zero, zero, zero, zero)
            if line < depth and first + line < k:
                if turned:
                    v = read(address, column, u32(first + line), k)
                else:
                    v = read(address, u32(first + line), column, n)
            for e in range(PACK):
                values[i * PACK + e] = v[e]

    @helper
    def stash(values, table, row, at, thread):
        n, depth = u32(table[u32(row + N)]), u32(table[u32(row + DEPTH)])
        pitch = u32(padded(n) | PACK)
        for i in range(units):
            line, column = place(u32(thread + i * THREADS), n)
            e = i * PACK
            if line < depth:
                if turned:
                    store(at, u32(line * pitch + column), values[e])
                    store(at, u32((line + 1) * pitch + column), values[e + 1])
                    store(at, u32((line + 2) * pitch + column), values[e + 2])
                    store(at, u32((line + 3) * pitch + column), values[e + 3])
                else:
                    put(at, u32(line * pitch + column), (values[e], values[e + 1], values[e + 2], values[e + 3]))

    return SimpleNamespace(count=units * PACK, fetch=fetch, stash=stash)


def make_product(kit: Kit, tile: Tile) -> SimpleNamespace:
    """Make the product of a tile's rows and a piece of weights, and the transfer of its sums to other threads.

    Returns
    -------
    types.SimpleNamespace
        `multiply(sums, left, right, rows, weights, pitch, split, steps, splits)` adds the products of a thread's share
        of k. `leave(sums, at, pitch)` stores them.
    """
    group, tall, groups = 16 // kit.itemsize, tile.tall, tile.groups
    get_group, put = ptx.SHARED_LOAD_PACKS[kit.dtype], make_memory(kit).put
    shared_at = ptx.SHARED_AT[kit.dtype]
    apart = groups * PITCH

    @formula
    def add_one_by_one(sums, left, right, e):
        for i in range(tall):
            for j in range(PACK):
                sums[i * PACK + j] += left[i * group + e] * right[j]

    def add_outer(sums, left, right, e):
        sums += np.outer(left[e::group], right).reshape(-1)

    # in the simulator loops take twenty times as long
    add_products = add_outer if SIMULATED else add_one_by_one

    @helper
    def multiply(sums, left, right, rows, weights, pitch, split, steps, splits):
        step = split
        while step < steps:
            here, there = shared_at(rows, u32(step * group)), shared_at(weights, u32(step * group * pitch))
            for i in range(tall):
                p = get_group(here, i * apart)
                for e in range(group):
                    left[i * group + e] = p[e]
            for e in range(group):
                for j in range(0, PACK, group):
                    p = get_group(there, u32(e * pitch + j))
                    for c in range(group):
                        right[j + c] = p[c]
                add_products(sums, left, right, e)
            step = u32(step + splits)

    @helper
    def leave(sums, at, pitch):
        for i in range(tall):
            e = i * PACK
            put(at, u32(i * groups * pitch), (sums[e], sums[e + 1], sums[e + 2], sums[e + 3]))

    return SimpleNamespace(multiply=multiply, leave=leave)
