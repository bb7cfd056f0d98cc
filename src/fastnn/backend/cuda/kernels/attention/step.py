"""One step of causal attention: keys and values of the steps so far are in rows of the caller's.

A block of threads goes through the keys of one query, a tile at a time, as `forward.py` does. Every thread sums all
weights of a tile, in the same order, so that none has to wait for another one's sum.
"""

from __future__ import annotations

import numpy as np
from numba import cuda

from fastnn.backend.cuda.codegen.kernel import Kit, Stage, elements, kernel, ptx
from fastnn.backend.cuda.codegen.options import formula
from fastnn.backend.cuda.codegen.sizes import SIZES
from fastnn.backend.cuda.codegen.windows import split as split_number

_THREADS = SIZES.threads
as_double = ptx.int_as_double
split = formula(split_number)


@kernel("attention_step")
def attention_step(kit: Kit) -> list[Stage]:
    """Append keys and values, and make y = softmax(scale q k^T) v in every head."""
    Y, KEYS, VALUES, Q, K, V = kit.words("y keys values q k v")
    SEQUENCES, STEPS, HEADS, KV_HEADS, SIZE, MOST, ROW, FIRST = kit.words(
        "sequences steps heads kv_heads size most row first"
    )
    (SCALE,) = kit.words("scale")
    load, store, real, exp = kit.load, kit.store, kit.real, kit.math.exp_weight
    zero, one, nothing, threads = real(0.0), real(1.0), real(-np.inf), _THREADS

    def append(record, context):
        i, depth, steps = cuda.blockIdx.x * threads + cuda.threadIdx.x, record[SIZE], record[STEPS]
        if i < record[SEQUENCES] * steps * record[KV_HEADS] * depth:
            rest, element = split(i, depth)
            rest, head = split(rest, record[KV_HEADS])
            sequence, step = split(rest, steps)
            row = sequence * record[ROW]
            place = np.int64(load(record[KEYS], row)) + step
            own = row + record[FIRST] + head * depth * record[MOST]
            store(record[KEYS], own + element * record[MOST] + place, load(record[K], i))
            store(record[VALUES], own + place * depth + element, load(record[V], i))

    def attend(record, context):
        depth, most, thread = record[SIZE], record[MOST], np.int64(cuda.threadIdx.x)
        rest, head = split(np.int64(cuda.blockIdx.x), record[HEADS])
        sequence, step = split(rest, record[STEPS])
        row, query = sequence * record[ROW], (rest * record[HEADS] + head) * depth
        own = row + record[FIRST] + head // (record[HEADS] // record[KV_HEADS]) * depth * most
        count = np.int64(load(record[KEYS], row)) + step + 1
        scale, largest, total = real(as_double(record[SCALE])), nothing, zero
        # the simulator tells shared arrays apart by their lines
        weights = cuda.shared.array(threads, real)
        start = 0
        while start < count:
            cols, score = min(threads, count - start), zero
            if thread < cols:
                for i in range(depth):
                    score += load(record[Q], query + i) * load(record[KEYS], own + i * most + start + thread)
            weights[thread] = scale * score
            cuda.syncthreads()
            peak = largest
            for j in range(cols):
                peak = weights[j] if weights[j] > peak else peak
            less = zero if peak == nothing else peak
            mine, factor = exp(weights[thread] - less), exp(largest - less)
            cuda.syncthreads()
            weights[thread] = mine
            cuda.syncthreads()
            total *= factor
            for j in range(cols):
                total += weights[j]
            largest, element = peak, thread
            while element < depth:
                added = zero
                for j in range(cols):
                    added += weights[j] * load(record[VALUES], own + (start + j) * depth + element)
                before = zero if start == 0 else factor * load(record[Y], query + element)
                store(record[Y], query + element, before + added)
                element += threads
            cuda.syncthreads()
            start += threads
        factor, element = one / total if total != zero else zero, thread
        while element < depth:
            store(record[Y], query + element, factor * load(record[Y], query + element))
            element += threads

    def blocks(dims):
        return dims["sequences"] * dims["steps"] * dims["heads"], 1

    append_grid = elements("sequences", "steps", "kv_heads", "size")
    return [Stage(append, append_grid, threads), Stage(attend, blocks, threads)]
