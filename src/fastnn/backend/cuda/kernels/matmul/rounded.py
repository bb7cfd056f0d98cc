"""Operands for warpgroups: rounded once, and laid out so that a tile is one block of memory.

A tile is some lines (rows of a, columns of b) and 128 bytes of each: 32 numbers in tf32, 64 in bfloat16. Tiles of the
same lines follow each other by k, and each has the layout in memory that it will have in shared memory. Elements past
an operand's edges are zeros, so the kernel that multiplies handles no edges and no storage orders.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda

from fastnn.backend.cuda.codegen import fragments
from fastnn.backend.cuda.codegen.kernel import SCRATCH_WORD, Kit, Stage, ceil_div, ptx
from fastnn.backend.cuda.codegen.options import formula
from fastnn.backend.cuda.codegen.sizes import PACK, PRODUCTS, SIZES, TENSOR_CORES, WarpgroupTile
from fastnn.backend.cuda.kernels.matmul.plan import Algorithm, depth_of, rounded_bytes

u32 = np.uint32
place_along = formula(fragments.place_along)
store_words, to_tf32, to_bf16 = ptx.STORE_PACKS["uint32"], ptx.to_tf32, ptx.to_bf16

#: threads that share a line of a tile: each makes 32 bytes, the unit of memory transactions
QUARTERS = 4


def _round(kit: Kit, precision: str, lines: int, along_k: bool, width: int) -> Any:
    """Make round_part(address, target, extent, k, row, unit): thread `unit` rounds its part of an operand's tile."""
    depth, load, load_pack = depth_of(precision), kit.load, kit.load_pack
    count, units, tf32, zero = depth // QUARTERS, lines * QUARTERS, precision == "tf32", np.float32(0.0)
    per_word = count // 8

    @formula
    def round_part(address, target, extent, k, row, unit):
        tile, within, tiles = u32(unit // units), u32(unit % units), u32((k + depth - 1) // depth)
        line = u32(within // QUARTERS) if along_k else u32(within % lines)
        quarter = u32(within % QUARTERS) if along_k else u32(within // lines)
        here, first = u32(tile // tiles * lines + line), u32(tile % tiles * depth + quarter * count)
        values = cuda.local.array(count, np.float32)
        for e in range(0, count, width):
            at = u32(here * row + first + e) if along_k else u32((first + e) * row + here)
            inside = here < extent and first + e < k
            if width == 1:
                values[e] = load(address, at) if inside else zero
            else:
                v = load_pack(address, at) if inside else (zero, zero, zero, zero)
                values[e], values[e + 1], values[e + 2], values[e + 3] = v[0], v[1], v[2], v[3]
        target += np.int64(tile) * (lines * fragments.DEPTH * 4)
        for half in range(2):
            e, place = 4 * per_word * half, place_along(line, u32(8 * quarter + 4 * half))
            if tf32:
                words = (to_tf32(values[e]), to_tf32(values[e + 1]), to_tf32(values[e + 2]), to_tf32(values[e + 3]))
            else:
                words = (
                    to_bf16(values[e], values[e + 1]), to_bf16(values[e + 2], values[e + 3]),
                    to_bf16(values[e + 4], values[e + 5]), to_bf16(values[e + 6], values[e + 7]),
                )  # fmt: skip
            store_words(target, place, words)

    return round_part


def rounding(kit: Kit, algorithm: Algorithm) -> Stage:
    """Make the stage that rounds both operands."""
    A, B, M, N, K = kit.words("a b m n k")
    tile: WarpgroupTile = PRODUCTS.warpgroup_tiles[algorithm.shape]
    transpose_a, transpose_b, threads = algorithm.transpose_a, algorithm.transpose_b, SIZES.threads
    rows, cols, depth = tile.rows, tile.cols, depth_of(algorithm.precision)
    # neighbours are loaded together if they go to the same line
    width_a, width_b = (PACK if along_k and not algorithm.scalar else 1 for along_k in (not transpose_a, transpose_b))
    round_a = _round(kit, algorithm.precision, rows, not transpose_a, width_a)
    round_b = _round(kit, algorithm.precision, cols, transpose_b, width_b)

    def rounding(record, context):
        m, n, k = u32(record[M]), u32(record[N]), u32(record[K])
        tiles, down = u32((k + depth - 1) // depth), u32((m + rows - 1) // rows)
        of_a = u32(down * tiles * (rows * QUARTERS))
        unit = u32(cuda.blockIdx.x * threads + cuda.threadIdx.x)
        if unit < of_a:
            round_a(record[A], record[SCRATCH_WORD], m, k, m if transpose_a else k, unit)
        else:
            after_a = np.int64(down) * np.int64(tiles) * (rows * fragments.DEPTH * 4)
            round_b(record[B], record[SCRATCH_WORD] + after_a, n, k, k if transpose_b else n, u32(unit - of_a))

    def grid(dims):
        # every thread writes 32 bytes, and tiles are whole blocks of threads
        return ceil_div(rounded_bytes(dims, algorithm), 32 * threads), 1

    return Stage(rounding, grid, threads, minimum=TENSOR_CORES)
