"""Kernels that clip gradients, by value and by norm."""

from __future__ import annotations

import math

import numpy as np
from numba import cuda

from fastnn.backend.cuda.codegen.kernel import (
    Kit,
    Stage,
    kernel,
    packs,
    ptx,
)
from fastnn.backend.cuda.codegen.options import formula
from fastnn.backend.cuda.codegen.sizes import PACK, SIZES

_THREADS = SIZES.threads
as_double, load_double = ptx.int_as_double, ptx.LOADS["float64"]


@kernel("clip_by_value")
def clip_by_value(kit: Kit) -> list[Stage]:
    """Clip a gradient to [-limit, limit]; NaN stays."""
    G, N, LIMIT = kit.words("g n limit")
    real, load, store, load_pack, store_pack = kit.real, kit.load, kit.store, kit.load_pack, kit.store_pack

    @formula
    def clip(g, limit):
        low = -limit if g < -limit else g
        return limit if low > limit else low

    def clip_by_value(record, context):
        n, i = record[N], PACK * (np.int64(_THREADS) * cuda.blockIdx.x + cuda.threadIdx.x)
        limit = real(as_double(record[LIMIT]))
        if i + PACK <= n:
            g = load_pack(record[G], i)
            store_pack(record[G], i, (clip(g[0], limit), clip(g[1], limit), clip(g[2], limit), clip(g[3], limit)))
        else:
            for e in range(i, n):
                store(record[G], e, clip(load(record[G], e), limit))

    return [Stage(clip_by_value, packs(), _THREADS)]


@kernel("clip_by_norm")
def clip_by_norm(kit: Kit) -> list[Stage]:
    """Scale a gradient by limit / norm if its norm, the root of the total, exceeds the limit."""
    G, TOTAL, N, LIMIT = kit.words("g total n limit")
    real, load, store, load_pack, store_pack = kit.real, kit.load, kit.store, kit.load_pack, kit.store_pack
    one, tiny, up, down = real(1.0), float(np.finfo(real).tiny), 2.0**100, real(2.0**-100)

    def clip_by_norm(record, context):
        # one root and one quotient per block: GPUs for graphics take 64 times as long for float64
        shared = cuda.shared.array(2, real)
        if cuda.threadIdx.x == 0:
            limit, norm = as_double(record[LIMIT]), math.sqrt(load_double(record[TOTAL], 0))
            scale = 1.0 if norm <= limit else limit / norm
            # a scale that underflows the dtype is split into two factors
            shared[0], shared[1] = (real(scale * up), down) if scale < tiny else (real(scale), one)
        cuda.syncthreads()
        scale, rest = shared[0], shared[1]
        if scale == one:
            return
        n, i = record[N], PACK * (np.int64(_THREADS) * cuda.blockIdx.x + cuda.threadIdx.x)
        if i + PACK <= n:
            g = load_pack(record[G], i)
            store_pack(record[G], i, (
                g[0] * scale * rest, g[1] * scale * rest, g[2] * scale * rest, g[3] * scale * rest,
            ))  # fmt: skip
        else:
            for e in range(i, n):
                store(record[G], e, load(record[G], e) * scale * rest)

    return [Stage(clip_by_norm, packs(), _THREADS)]
