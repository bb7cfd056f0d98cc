"""Elementwise kernels: activations through mapped functions, sums and products, dropout and noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.backend.cpu.codegen.elementary import functions
from fastnn.backend.cpu.codegen.intrinsics import address, float64_pointer, int64_pointer, smaller, stack_bytes
from fastnn.backend.cpu.codegen.kernel import Kit, apply_map, kernel, part, rows_part
from fastnn.backend.cpu.codegen.options import around_users, formula, helper
from fastnn.backend.cpu.codegen.options import users as users_double
from fastnn.backend.cpu.kernels.philox import GROUP, WORDS_BYTES, box_muller, fill_group, uint32_pointer
from fastnn.formulas import activations, custom, custom_formulas
from fastnn.program.layout import Counter

_SEED, _STEP = int(Counter.SEED), int(Counter.STEP)


def _formulas(kit: Kit, variant: str) -> tuple[Any, Any]:
    users = custom.find(variant)
    if users is not None:
        return custom_formulas.activation(users, kit.real, around_users, kit.users, users_double)
    table: dict[str, tuple[Any, Any]] = activations.define(kit.real, formula, functions(kit.dtype))
    return table[variant]


def _block(kit: Kit, variant: str) -> tuple[int, int]:
    """Return the number of elements to copy at a time if a formula works in place (0: none), and their bytes.

    If a loop stores a select of values loaded from the same place, LLVM uses masked stores, which are slow on AMD's
    processors: relu took 0.52 ns per element on Zen 3, with the copy 0.14. Other formulas are slower with the copy
    (tanh 0.95 to 1.28 ns).
    """
    block = 256 if variant in ("relu", "relu6", "leaky_relu", "elu") else 0
    return block, max(block, 1) * kit.itemsize


@kernel("map", arguments=5)
def map_forward(kit: Kit, variant: str) -> Callable[..., Any]:
    """Make y = f(x) over n elements; y may be x."""
    real, reals = kit.real, kit.reals
    forward, _ = _formulas(kit, variant)
    block, buffer_bytes = _block(kit, variant)

    def map_forward(y_at, x_at, saved_at, n, params_at):
        y, x, params = reals(y_at), reals(x_at), float64_pointer(params_at)
        a, b = real(params[0]), real(params[1])
        # a separate loop for in-place calls: with two equal pointers the vector body is skipped (10x slower)
        if y_at == x_at and block == 0:
            for i in range(n):
                y[i] = forward(y[i], a, b)
        elif y_at == x_at:
            buffer = reals(stack_bytes(buffer_bytes))
            for start in range(0, n, block):
                count = smaller(block, n - start)
                for i in range(count):
                    buffer[i] = x[start + i]
                for i in range(count):
                    y[start + i] = forward(buffer[i], a, b)
        else:
            for i in range(n):
                y[i] = forward(x[i], a, b)

    return map_forward


@kernel("map_grad", arguments=5)
def map_gradient(kit: Kit, variant: str) -> Callable[..., Any]:
    """Make dx = dy f'(saved) over n elements; dx may be dy."""
    real, reals = kit.real, kit.reals
    _, gradient = _formulas(kit, variant)
    block, buffer_bytes = _block(kit, variant)

    def map_gradient(dx_at, dy_at, saved_at, n, params_at):
        dx, dy, saved, params = reals(dx_at), reals(dy_at), reals(saved_at), float64_pointer(params_at)
        a, b = real(params[0]), real(params[1])
        if dx_at == dy_at and block == 0:
            for i in range(n):
                dx[i] = gradient(saved[i], dx[i], a, b)
        elif dx_at == dy_at:
            buffer = reals(stack_bytes(buffer_bytes))
            for start in range(0, n, block):
                count = smaller(block, n - start)
                for i in range(count):
                    buffer[i] = dy[start + i]
                for i in range(count):
                    dx[start + i] = gradient(saved[start + i], buffer[i], a, b)
        else:
            for i in range(n):
                dx[i] = gradient(saved[i], dy[i], a, b)

    return map_gradient


@kernel("activation")
def activation(kit: Kit, variant: str) -> Callable[..., Any]:
    """Apply the record's mapped function to a slice."""
    Y, X, N = kit.words("y x n")
    itemsize = kit.itemsize

    def activation(record, context, ith, nth):
        r = int64_pointer(record)
        first, last = part(r[N], ith, nth)
        skip = first * itemsize
        y, x = address(record, context, Y) + skip, address(record, context, X) + skip
        apply_map(record, context, y, x, 0, last - first)

    return activation


@kernel("activation_grad")
def activation_grad(kit: Kit, variant: str) -> Callable[..., Any]:
    """Apply the record's mapped gradient to a slice."""
    DX, DY, SAVED, N = kit.words("dx dy saved n")
    itemsize = kit.itemsize

    def activation_grad(record, context, ith, nth):
        r = int64_pointer(record)
        first, last = part(r[N], ith, nth)
        skip = first * itemsize
        dx, dy = address(record, context, DX) + skip, address(record, context, DY) + skip
        saved = address(record, context, SAVED) + skip
        apply_map(record, context, dx, dy, saved, last - first)

    return activation_grad


def _binary(kit: Kit, combine: Any) -> Callable[..., Any]:
    Y, A, B, N = kit.words("y a b n")
    at = kit.at

    def binary(record, context, ith, nth):
        first, last = part(int64_pointer(record)[N], ith, nth)
        y, a, b = at(record, context, Y), at(record, context, A), at(record, context, B)
        for i in range(first, last):
            y[i] = combine(a[i], b[i])

    return binary


@kernel("add")
def add(kit: Kit, variant: str) -> Callable[..., Any]:
    """Add two tensors."""

    @helper
    def combine(a, b):
        return a + b

    return _binary(kit, combine)


@kernel("multiply")
def multiply(kit: Kit, variant: str) -> Callable[..., Any]:
    """Multiply two tensors."""

    @helper
    def combine(a, b):
        return a * b

    return _binary(kit, combine)


@kernel("bias_add")
def bias_add(kit: Kit, variant: str) -> Callable[..., Any]:
    """Add a bias to every row."""
    Y, X, BIAS, ROWS, COLS = kit.words("y x bias rows cols")
    at = kit.at

    def bias_add(record, context, ith, nth):
        r = int64_pointer(record)
        cols = r[COLS]
        first, last = rows_part(r[ROWS], ith, nth)
        y, x, bias = at(record, context, Y), at(record, context, X), at(record, context, BIAS)
        for i in range(first, last):
            for j in range(cols):
                y[i * cols + j] = x[i * cols + j] + bias[j]

    return bias_add


@kernel("dropout")
def dropout(kit: Kit, variant: str) -> Callable[..., Any]:
    """Drop elements whose random word is below rate * 2^32; the same words drop the same gradients."""
    Y, X, N, NODE, RATE = kit.words("y x n node rate")
    at, real = kit.at, kit.real
    zero = real(0.0)

    def dropout(record, context, ith, nth):
        r, counters = int64_pointer(record), int64_pointer(context)
        rate = float64_pointer(record)[RATE]
        threshold, scale = np.uint32(rate * 4294967296.0), real(1.0 / (1.0 - rate))
        first, last = part(r[N], ith, nth)
        y, x = at(record, context, Y), at(record, context, X)
        buffer = stack_bytes(WORDS_BYTES)
        words = uint32_pointer(buffer)
        for i in range(first, last, GROUP):
            fill_group(i // GROUP, r[NODE], counters[_STEP], counters[_SEED], buffer)
            for e in range(smaller(GROUP, last - i)):
                y[i + e] = x[i + e] * scale if words[e] >= threshold else zero

    return dropout


@kernel("gaussian_noise")
def gaussian_noise(kit: Kit, variant: str) -> Callable[..., Any]:
    """Add normal noise."""
    Y, X, N, NODE, STDDEV = kit.words("y x n node stddev")
    at, real, reals, normal = kit.at, kit.real, kit.reals, box_muller(kit)
    noise_bytes = GROUP * kit.itemsize

    def gaussian_noise(record, context, ith, nth):
        r, counters = int64_pointer(record), int64_pointer(context)
        stddev = real(float64_pointer(record)[STDDEV])
        first, last = part(r[N], ith, nth)
        y, x = at(record, context, Y), at(record, context, X)
        words_at, noise_at = stack_bytes(WORDS_BYTES), stack_bytes(noise_bytes)
        noise = reals(noise_at)
        for i in range(first, last, GROUP):
            fill_group(i // GROUP, r[NODE], counters[_STEP], counters[_SEED], words_at)
            normal(words_at, noise_at, 0.0, 1.0)
            for e in range(smaller(GROUP, last - i)):
                y[i + e] = x[i + e] + stddev * noise[e]

    return gaussian_noise


@kernel("broadcast_add", "broadcast_multiply")
def broadcast(kit: Kit, variant: str) -> Callable[..., Any]:
    """Make y = a + b or y = a b, with the same b for `repeat` neighbours."""
    Y, A, B, OUTER, REPEAT, INNER = kit.words("y a b outer repeat inner")
    at, adds = kit.at, kit.op == "broadcast_add"

    def broadcast(record, context, ith, nth):
        r = int64_pointer(record)
        repeat, inner = r[REPEAT], r[INNER]
        first, last = rows_part(r[OUTER] * repeat, ith, nth)
        y, a, b = at(record, context, Y), at(record, context, A), at(record, context, B)
        for row in range(first, last):
            i, k = row * inner, row // repeat * inner
            for j in range(inner):
                y[i + j] = a[i + j] + b[k + j] if adds else a[i + j] * b[k + j]

    return broadcast
