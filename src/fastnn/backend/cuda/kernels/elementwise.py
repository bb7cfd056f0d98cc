"""Elementwise kernels: four neighbouring elements per thread, in accesses of 16 bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda

from fastnn.backend.cuda.codegen import custom_code
from fastnn.backend.cuda.codegen.kernel import Kit, Stage, elements, kernel, packs, ptx
from fastnn.backend.cuda.codegen.options import formula
from fastnn.backend.cuda.codegen.sizes import PACK, SIZES
from fastnn.backend.cuda.kernels.philox import BLOCKS, GROUP, box_muller, one_per_block, philox
from fastnn.formulas import activations
from fastnn.program.layout import Counter

_SEED, _STEP = int(Counter.SEED), int(Counter.STEP)
_THREADS = SIZES.threads
load_int64, as_double = ptx.LOADS["int64"], ptx.int_as_double


#: activations that divide only by numbers from 1 to 2^126. If quotients are changed randomly by up to 2 units in the
#: last place, the largest error is 4.1 eps (the gradient of gelu_tanh) instead of 2.2; tests allow 8. Only these are
#: fused into products by warpgroups.
DIVIDE_QUICKLY = frozenset({
    "linear", "step", "relu", "relu6", "leaky_relu", "elu", "selu", "sigmoid", "hard_sigmoid", "tanh", "softplus",
    "gelu", "gelu_tanh", "silu", "mish", "exponential",
})  # fmt: skip


def formulas(kit: Kit, name: str) -> tuple[Any, Any]:
    """Return an activation and its gradient as device functions."""
    table: dict[str, tuple[Any, Any]] = activations.define(kit.real, formula, kit.math)
    return custom_code.activation(name, kit.real) or table[name]


@kernel("activation", variants=lambda algorithm: tuple(activations.SAVES))
def activation(kit: Kit) -> list[Stage]:
    """Make y = f(x)."""
    Y, X, N, A, B = kit.words("y x n p0 p1")
    real, load, store, load_pack, store_pack = kit.real, kit.load, kit.store, kit.load_pack, kit.store_pack
    f, _ = formulas(kit, kit.variant)

    def activation(record, context):
        n, i = record[N], PACK * (cuda.blockIdx.x * _THREADS + cuda.threadIdx.x)
        a, b = real(as_double(record[A])), real(as_double(record[B]))
        if i + PACK <= n:
            x = load_pack(record[X], i)
            store_pack(record[Y], i, (f(x[0], a, b), f(x[1], a, b), f(x[2], a, b), f(x[3], a, b)))
        else:
            for e in range(i, n):
                store(record[Y], e, f(load(record[X], e), a, b))

    return [Stage(activation, packs(), _THREADS, quick_division=kit.variant in DIVIDE_QUICKLY)]


@kernel("activation_grad", variants=lambda algorithm: tuple(name for name in activations.SAVES if name != "step"))
def activation_grad(kit: Kit) -> list[Stage]:
    """Make dx = dy f'(saved)."""
    DX, DY, SAVED, N, A, B = kit.words("dx dy saved n p0 p1")
    real, load, store, load_pack, store_pack = kit.real, kit.load, kit.store, kit.load_pack, kit.store_pack
    _, g = formulas(kit, kit.variant)

    def activation_grad(record, context):
        n, i = record[N], PACK * (cuda.blockIdx.x * _THREADS + cuda.threadIdx.x)
        a, b = real(as_double(record[A])), real(as_double(record[B]))
        if i + PACK <= n:
            s, dy = load_pack(record[SAVED], i), load_pack(record[DY], i)
            store_pack(record[DX], i, (
                g(s[0], dy[0], a, b), g(s[1], dy[1], a, b), g(s[2], dy[2], a, b), g(s[3], dy[3], a, b),
            ))  # fmt: skip
        else:
            for e in range(i, n):
                store(record[DX], e, g(load(record[SAVED], e), load(record[DY], e), a, b))

    return [Stage(activation_grad, packs(), _THREADS, quick_division=kit.variant in DIVIDE_QUICKLY)]


def _binary(kit: Kit, combine: Any) -> list[Stage]:
    Y, A, B, N = kit.words("y a b n")
    load, store, load_pack, store_pack = kit.load, kit.store, kit.load_pack, kit.store_pack

    def binary(record, context):
        n, i = record[N], PACK * (cuda.blockIdx.x * _THREADS + cuda.threadIdx.x)
        if i + PACK <= n:
            a, b = load_pack(record[A], i), load_pack(record[B], i)
            store_pack(record[Y], i, (
                combine(a[0], b[0]), combine(a[1], b[1]), combine(a[2], b[2]), combine(a[3], b[3]),
            ))  # fmt: skip
        else:
            for e in range(i, n):
                store(record[Y], e, combine(load(record[A], e), load(record[B], e)))

    return [Stage(binary, packs(), _THREADS)]


@formula
def _sum(a, b):
    return a + b


@formula
def _product(a, b):
    return a * b


@kernel("add")
def add(kit: Kit) -> list[Stage]:
    """Add two tensors."""
    return _binary(kit, _sum)


@kernel("multiply")
def multiply(kit: Kit) -> list[Stage]:
    """Multiply two tensors."""
    return _binary(kit, _product)


@kernel("bias_add")
def bias_add(kit: Kit) -> list[Stage]:
    """Add a bias to every row."""
    Y, X, BIAS, ROWS, COLS = kit.words("y x bias rows cols")
    load, store, load_pack, store_pack = kit.load, kit.store, kit.load_pack, kit.store_pack

    def bias_add(record, context):
        cols = record[COLS]
        n, i = record[ROWS] * cols, PACK * (cuda.blockIdx.x * _THREADS + cuda.threadIdx.x)
        if i + PACK <= n:
            x, j = load_pack(record[X], i), np.uint32(i) % np.uint32(cols)
            if j + PACK <= cols:
                store_pack(record[Y], i, (
                    x[0] + load(record[BIAS], j), x[1] + load(record[BIAS], j + 1),
                    x[2] + load(record[BIAS], j + 2), x[3] + load(record[BIAS], j + 3),
                ))  # fmt: skip
                return
        for e in range(i, min(i + PACK, n)):
            column = np.uint32(e) % np.uint32(cols)
            store(record[Y], e, load(record[X], e) + load(record[BIAS], column))

    return [Stage(bias_add, lambda dims: packs()({"n": dims["rows"] * dims["cols"]}), _THREADS)]


@kernel("dropout")
def dropout(kit: Kit) -> list[Stage]:
    """Drop elements whose random word is below rate * 2^32; the same words drop the same gradients."""
    Y, X, N, NODE, RATE = kit.words("y x n node rate")
    real, load, store = kit.real, kit.load, kit.store
    zero = real(0.0)

    def dropout(record, context):
        block = cuda.blockIdx.x * _THREADS + cuda.threadIdx.x
        n, i = record[N], block // BLOCKS * GROUP + block % BLOCKS
        if i < n:
            rate = as_double(record[RATE])
            threshold, scale = np.uint64(rate * 4294967296.0), real(1.0 / (1.0 - rate))
            words = philox(block, record[NODE], load_int64(context, _STEP), load_int64(context, _SEED))
            for word in words:
                if i < n:
                    store(record[Y], i, load(record[X], i) * scale if word >= threshold else zero)
                i += BLOCKS

    return [Stage(dropout, one_per_block, _THREADS)]


@kernel("gaussian_noise")
def gaussian_noise(kit: Kit) -> list[Stage]:
    """Add normal noise."""
    Y, X, N, NODE, STDDEV = kit.words("y x n node stddev")
    real, load, store, normals = kit.real, kit.load, kit.store, box_muller(kit)

    def gaussian_noise(record, context):
        block = cuda.blockIdx.x * _THREADS + cuda.threadIdx.x
        n, i = record[N], block // BLOCKS * GROUP + block % BLOCKS
        if i < n:
            stddev = real(as_double(record[STDDEV]))
            words = philox(block, record[NODE], load_int64(context, _STEP), load_int64(context, _SEED))
            for noise in normals(words):
                if i < n:
                    store(record[Y], i, load(record[X], i) + stddev * noise)
                i += BLOCKS

    return [Stage(gaussian_noise, one_per_block, _THREADS)]


@kernel("broadcast_add", "broadcast_multiply")
def broadcast(kit: Kit) -> list[Stage]:
    """Make y = a + b or y = a b, with the same b for `repeat` neighbours: one thread per element."""
    Y, A, B, OUTER, REPEAT, INNER = kit.words("y a b outer repeat inner")
    load, store, adds = kit.load, kit.store, kit.op == "broadcast_add"

    def broadcast(record, context):
        i, inner = cuda.blockIdx.x * _THREADS + cuda.threadIdx.x, record[INNER]
        if i < record[OUTER] * record[REPEAT] * inner:
            row = np.int64(np.uint32(i) // np.uint32(inner))
            outer = np.int64(np.uint32(row) // np.uint32(record[REPEAT]))
            a, b = load(record[A], i), load(record[B], i - (row - outer) * inner)
            store(record[Y], i, a + b if adds else a * b)

    return [Stage(broadcast, elements("outer", "repeat", "inner"), _THREADS)]
