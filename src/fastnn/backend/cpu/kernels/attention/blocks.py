"""Blocks of scores, transposed: a row for each key, a lane for each query.

So the largest scores and the sums of weights are vectors, whose lanes are queries: softmax needs no sums across lanes.
Queries alone have to be packed, once for all keys. Products of weights and values read a block of weights as a left
operand, with its own strides.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from fastnn.backend.cpu.codegen.intrinsics import int64_pointer, smaller
from fastnn.backend.cpu.codegen.kernel import Kit
from fastnn.backend.cpu.codegen.options import helper
from fastnn.backend.cpu.codegen.shared import shared
from fastnn.backend.cpu.kernels.panels import PANEL_ARGUMENTS, copy_and_transpose
from fastnn.backend.cpu.kernels.philox import GROUP, fill_group, uint32_pointer
from fastnn.backend.cpu.processor.blocking import Blocking
from fastnn.program.layout import Counter
from fastnn.program.record import KernelKey

_SEED, _STEP = int(Counter.SEED), int(Counter.STEP)
# Queries of a block; and keys, which decide in which order scores are added up.
_QUERIES = {"forward": 128, "gradient": 128}
KEYS = 128


@dataclass(frozen=True)
class Sizes:
    """Sizes of the blocks of a dtype.

    Attributes
    ----------
    queries, keys : int
        Of a block: queries are a multiple of a panel's columns and of `GROUP`, keys one of a panel's.
    row : int
        Bytes from a key's scores to those of the next, which is no power of two: powers share few lines of a cache.
    panel_bytes : int
        Memory for a panel of an operand on the right.
    """

    queries: int
    keys: int
    row: int
    panel_bytes: int

    @classmethod
    def of(cls, kit: Kit, direction: str) -> Sizes:
        """Return the sizes for a dtype, "forward" or of the "gradient"."""
        shape = Blocking.of(kit.dtype)
        queries = max(_QUERIES[direction] * 4 // kit.itemsize, GROUP)
        row = queries * kit.itemsize + 64
        return cls(queries, KEYS, row, max(queries, KEYS) * shape.width * kit.itemsize)


def block_functions(kit: Kit, sizes: Sizes) -> SimpleNamespace:
    """Make the building blocks of both kernels.

    Returns
    -------
    types.SimpleNamespace
        pack : jitted function
            `pack(x, x_row, count, size, scale, to)`: rows as the panels of a right operand, transposed and scaled.
        score : jitted function
            `score(a, a_row, keys, panels, size, count, to, init, init_row, bound)`: the products of keys and packed
            queries; the panel that begins with query p needs the keys before bound + p alone.
        times : jitted function
            `times(rows, a, a_row, a_k, b, b_row, depth, size, c, c_row, fresh, memory)`: c = a b, or c += a b unless
            fresh.
        load_mask : jitted function
            `load_mask(mask, row, keys, count, start, to)`: the mask plus a number for each query.
        hide : jitted function
            `hide(to, first, keys, count, value)`: overwrite the scores of keys after a query, whose places differ by
            `first`.
        drop : jitted function
            `drop(context, node, number, rate, factors, count, words)`: dropout's factors of a row, whose first random
            word has a number; `words` is memory.
        nothing : number
            The score of a key that is left out.
    """
    shape, size, reals, real = Blocking.of(kit.dtype), kit.itemsize, kit.reals, kit.real
    lanes, width, few = shape.lanes, shape.width, shape.few_rows
    wide, narrow = (shared(KernelKey("panel", kit.dtype, kind), PANEL_ARGUMENTS) for kind in ("wide", "narrow"))
    copy_panel, transpose_panel = copy_and_transpose(kit, shape, whole_panels=True)
    packed_row, row = width * size, sizes.row
    zero, one, nothing = real(0.0), real(1.0), real(-np.inf)

    @helper
    def pack(x, x_row, count, depth, scale, to):
        for first in range(0, count, width):
            panel = to + first * depth * size
            transpose_panel(x + first * x_row, x_row, depth, smaller(width, count - first), panel)
            if scale != one:
                y = reals(panel)
                for j in range(depth * width):
                    y[j] *= scale

    @helper
    def score(a, a_row, keys, panels, depth, count, to, init, init_row, bound):
        for first in range(0, count, width):
            rows = smaller(keys, bound + first + width)
            if rows <= 0:
                continue
            panel, target = panels + first * depth * size, to + first * size
            start = init + first * size if init != 0 else 0
            if count - first > lanes:
                wide(rows, a, a_row, a_row, size, 0, panel, packed_row, depth, target, row, start, init_row, 0, width,
                     0, 0, 0, 0)  # fmt: skip
            else:
                narrow(rows, a, a_row, a_row, size, 0, panel, packed_row, depth, target, row, start, init_row, 0, lanes,
                       0, 0, 0, 0)  # fmt: skip

    @helper
    def times(rows, a, a_row, a_k, b, b_row, depth, columns, c, c_row, fresh, memory):
        for j in range(0, columns, width):
            left, panel, panel_row, copy = smaller(width, columns - j), b + j * size, b_row, 0
            if left == width and rows >= few:
                copy = memory
            elif left % lanes != 0:
                copy_panel(panel, b_row, depth, left, memory, packed_row)
                panel, panel_row = memory, packed_row
            target = c + j * size
            init, init_row, late = (0, 0, 0) if fresh else (target, c_row, 1)
            if left > lanes:
                wide(rows, a, a_row, a_row, a_k, 0, panel, panel_row, depth, target, c_row, init, init_row, late, left,
                     copy, 0, 0, 0)  # fmt: skip
            else:
                narrow(rows, a, a_row, a_row, a_k, 0, panel, panel_row, depth, target, c_row, init, init_row, late,
                       left, 0, 0, 0, 0)  # fmt: skip

    @helper
    def load_mask(mask, mask_row, keys, count, start, to):
        x, n = reals(start), (count + lanes - 1) // lanes * lanes
        if mask_row == 0:
            found = reals(mask)
            for j in range(keys):
                y = reals(to + j * row)
                for lane in range(n):
                    y[lane] = found[j] + x[lane]
            return
        for first in range(0, count, lanes):
            for lane in range(first, first + lanes):
                found = reals(mask + smaller(lane, count - 1) * mask_row)
                for j in range(keys):
                    reals(to + j * row)[lane] = found[j] + x[lane]

    @helper
    def hide(to, first, keys, count, value):
        n = (count + lanes - 1) // lanes * lanes
        for j in range(keys):
            y = reals(to + j * row)
            for lane in range(smaller(n, first + j)):
                y[lane] = value

    @helper
    def drop(context, node, number, rate, factors, count, words_at):
        counters, words = int64_pointer(context), uint32_pointer(words_at)
        threshold, scale, y = np.uint32(rate * 4294967296.0), real(1.0 / (1.0 - rate)), reals(factors)
        for first in range(0, count, GROUP):
            fill_group((number + first) // GROUP, node, counters[_STEP], counters[_SEED], words_at)
            for e in range(GROUP):
                y[first + e] = scale if words[e] >= threshold else zero

    return SimpleNamespace(
        pack=pack, score=score, times=times, load_mask=load_mask, hide=hide, drop=drop, nothing=nothing
    )  # fmt: skip
