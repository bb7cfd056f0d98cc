"""Products of a block's states with the recurrent kernel, and of its gradients with the transposed kernel.

A number of the kernel serves all samples of a block. A sum is shared by threads of a warp: `strips` of them where
neighbours in the kernel belong to different sums, `along` where they belong to the same one. They add their parts by
shuffles in a fixed order, which does not depend on the batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda

from fastnn.backend.cuda.codegen.kernel import Kit, ptx
from fastnn.backend.cuda.codegen.options import helper
from fastnn.backend.cuda.codegen.sizes import RECURRENT, SIZES
from fastnn.backend.cuda.kernels.recurrent.plan import Block

keep, stay_rolled = ptx.keep, ptx.stay_rolled
_THREADS, _STRIPS, _ALONG = RECURRENT.threads, RECURRENT.strips, RECURRENT.along


def _ahead(kit: Kit, block: Block) -> int:
    """Return how many loads of a thread are under way: half of them for several samples, and for float64."""
    return max(1, RECURRENT.ahead // (1 if block.samples == 1 else 2) * 4 // kit.itemsize)


def make_product(kit: Kit, block: Block) -> Any:
    """Make `product(memory, source, gap, depth, w, row, column, columns, target)`, for all threads of a block.

    For each sample s and column c, element `target + s gap + column + c` becomes the sum over k of element
    `source + s gap + k` times w[k, column + c], where w has rows of `row` numbers.
    """
    samples, width, get, put, load_some = block.samples, block.width, block.get, block.put, block.load_some
    warp, real, zero, shuffle, move = SIZES.warp, kit.real, kit.real(0.0), ptx.SHUFFLES[kit.dtype], block.move
    lanes, size, many = warp // _STRIPS, kit.itemsize, _ahead(kit, block)
    span, sums_count, ahead_count = _THREADS // _STRIPS * width, samples * width, many * width
    step, last_ahead = many * _STRIPS, (many - 1) * _STRIPS

    @helper
    def product(memory, source, gap, depth, w, row, column, columns, target):
        thread, row = np.int64(cuda.threadIdx.x), keep(row)
        lane, strip = thread % lanes, thread % warp // lanes
        c, jump = (thread // warp * lanes + lane) * width, _STRIPS * row
        sums, ahead = cuda.local.array(sums_count, real), cuda.local.array(ahead_count, real)
        for _ in range((columns + span - 1) // span):
            for i in range(sums_count):
                sums[i] = zero
            k, address = strip, w + (strip * row + column + min(c, columns - width)) * size
            while k + last_ahead < depth:
                for e in range(many):
                    load_some(ahead, e * width, address, 0)
                    address += jump * size
                states = move(memory, source + k)
                for e in range(many):
                    for s in range(samples):
                        state = get(states, s * gap + e * _STRIPS)
                        for i in range(width):
                            sums[s * width + i] += state * ahead[e * width + i]
                k += step
            while k < depth:
                stay_rolled()
                load_some(ahead, 0, address, 0)
                states = move(memory, source + k)
                for s in range(samples):
                    state = get(states, s * gap)
                    for i in range(width):
                        sums[s * width + i] += state * ahead[i]
                k += _STRIPS
                address += jump * size
            to = move(memory, target + column + c)
            for s in range(samples):
                for i in range(width):
                    total, mask = sums[s * width + i], lanes
                    while mask < warp:
                        total += shuffle(total, np.int32(mask))
                        mask *= 2
                    if c < columns and strip == i % _STRIPS:
                        put(to, s * gap + i, total)
            c += span

    return product


def make_transposed(kit: Kit, block: Block, finish: Any) -> Any:
    """Make `transposed(record, memory, place, source, gap, depth, w, row, column, units)`, for all threads of a block.

    For each sample s and unit j the sum over k of element `source + s gap + k` times w[j, column + k] goes to
    `finish(record, memory, place, s, j, total)`; w has rows of `row` numbers. `place` is passed on.
    """
    samples, width, get_some, load_some = block.samples, block.width, block.get_some, block.load_some
    real, zero, shuffle, size, move = kit.real, kit.real(0.0), ptx.SHUFFLES[kit.dtype], kit.itemsize, block.move
    many, rows_at_once, span = _ahead(kit, block), _THREADS // _ALONG, _ALONG * width
    ahead_count, step, last_ahead = many * width, many * span, (many - 1) * span

    @helper
    def transposed(record, memory, place, source, gap, depth, w, row, column, units):
        thread, row = np.int64(cuda.threadIdx.x), keep(row)
        part, j = thread % _ALONG, thread // _ALONG
        sums, ahead = cuda.local.array(samples, real), cuda.local.array(ahead_count, real)
        given = cuda.local.array(width, real)
        for _ in range((units + rows_at_once - 1) // rows_at_once):
            for s in range(samples):
                sums[s] = zero
            k = part * width
            address = w + (min(j, units - 1) * row + column + k) * size
            while k + last_ahead < depth:
                for e in range(many):
                    load_some(ahead, e * width, address, e * span)
                gradients = move(memory, source + k)
                for e in range(many):
                    for s in range(samples):
                        get_some(given, 0, gradients, s * gap + e * span)
                        for i in range(width):
                            sums[s] += given[i] * ahead[e * width + i]
                k += step
                address += step * size
            while k < depth:
                stay_rolled()
                load_some(ahead, 0, address, 0)
                gradients = move(memory, source + k)
                for s in range(samples):
                    get_some(given, 0, gradients, s * gap)
                    for i in range(width):
                        sums[s] += given[i] * ahead[i]
                k += span
                address += span * size
            mine = zero
            for s in range(samples):
                total, mask = sums[s], _ALONG // 2
                while mask > 0:
                    total += shuffle(total, np.int32(mask))
                    mask //= 2
                mine = total if part == s else mine
            if part < samples and j < units:
                finish(record, memory, place, part, j, mine)
            j += rows_at_once

    return transposed
