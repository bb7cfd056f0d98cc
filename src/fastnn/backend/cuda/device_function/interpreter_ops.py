"""The instructions of a network's interpreter, for one sample on one thread.

Every function is `(number, code, at, constants, x, out, work)`: the instruction of an op or activation with this number
is at word `at` of the code; see `frozen_layout`. The encoder has checked that reads and writes are within bounds.
Inner loops use `while`: numba-cuda's `range` takes ten more instructions.
"""

# The functions are compiled for the GPU, where their arguments are typed; annotations would add nothing.
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn.backend.cuda.codegen.kernel import functions, ptx
from fastnn.backend.cuda.codegen.options import formula
from fastnn.backend.cuda.device_function.layout import ACTIVATIONS, NARROW, PLACE_BITS, WIDE, Op, Place, Word
from fastnn.formulas import activations

_load_word, _as_double = ptx.LOADS["int64"], ptx.int_as_double
# plain integers: compiled code has no enumerations
_Y, _X, _OTHER, _CONSTANTS = (int(word) for word in (Word.Y, Word.X, Word.OTHER, Word.CONSTANTS))
_ROWS, _COLS, _DEPTH = int(Word.ROWS), int(Word.COLS), int(Word.DEPTH)
_Y_STRIDE, _X_STRIDE = int(Word.Y_STRIDE), int(Word.X_STRIDE)
_ACTIVATION, _A, _B = int(Word.ACTIVATION), int(Word.A), int(Word.B)
_INPUT, _OUTPUT, _PLACES = int(Place.INPUT), int(Place.OUTPUT), (1 << PLACE_BITS) - 1
_RELU = ACTIVATIONS.index("relu")


def choose(among: Sequence[Any], first: int = 0) -> Any:
    """Make a function that calls the function of a number, with the same arguments.

    It is a tree with four branches per node: each node is a function to compile, and each branch takes time.
    """
    if len(among) == 1:
        return among[0]
    size = -(-len(among) // 4)
    starts = [*range(0, len(among), size)]
    parts = [choose(among[start : start + size], first + start) for start in starts]
    missing = 4 - len(parts)
    one, two, three, four = parts + parts[-1:] * missing
    second, third, fourth = (first + start for start in starts[1:] + starts[-1:] * missing)

    @formula
    def choice(number, code, at, constants, x, out, work):
        if number < second:
            one(number, code, at, constants, x, out, work)
        elif number < third:
            two(number, code, at, constants, x, out, work)
        elif number < fourth:
            three(number, code, at, constants, x, out, work)
        else:
            four(number, code, at, constants, x, out, work)

    return choice


@formula
def _operand(word, x, out, work):
    """Return the memory of an operand, and the number of its first element there."""
    place = word & _PLACES
    return x if place == _INPUT else (out if place == _OUTPUT else work), word >> PLACE_BITS


def ops(dtype: str) -> list[Any]:
    """Return the functions of all instructions, by number."""
    made = {
        Op.MATMUL: _matmul(dtype),
        Op.ACTIVATION: _activation(dtype),
        Op.ADD: _binary(dtype, _sum),
        Op.MULTIPLY: _binary(dtype, _product),
        Op.AFFINE: _affine(dtype),
        Op.SOFTMAX: _softmax(dtype),
        Op.LOG_SOFTMAX: _log_softmax(dtype),
        Op.LAYER_NORM: _layer_norm(dtype),
        Op.COPY: _copy(dtype),
    }
    return [made[op] for op in Op]


def _matmul(dtype: str) -> Any:
    """Make y = x w + bias in every row, in tiles of columns whose sums stay in registers."""
    load, store = ptx.ANY_LOADS[dtype], ptx.ANY_STORES[dtype]
    weights_of = ptx.LOAD_PACKS[dtype]
    zero = np.dtype(dtype).type(0.0)

    @formula
    def put(memory, at, j, cols, rectified, value):
        if j < cols:
            store(memory, at + j, zero if rectified and value < zero else value)

    @formula
    def matmul(number, code, at, constants, x, out, work):
        to, y_at = _operand(_load_word(code, at + _Y), x, out, work)
        source, x_at = _operand(_load_word(code, at + _X), x, out, work)
        cols, depth = _load_word(code, at + _COLS), _load_word(code, at + _DEPTH)
        rectified = _load_word(code, at + _ACTIVATION) == _RELU
        for _ in range(_load_word(code, at + _ROWS)):
            w, j = _load_word(code, at + _CONSTANTS), np.int64(0)
            while j < cols:
                i, end = x_at, x_at + depth
                a, b, c, d = weights_of(constants, w)
                if cols - j > NARROW:
                    e, f, g, h = weights_of(constants, w + NARROW)
                    while i < end:
                        w += WIDE
                        value = load(source, i)
                        left, right = weights_of(constants, w), weights_of(constants, w + NARROW)
                        a, b, c, d = a + value * left[0], b + value * left[1], c + value * left[2], d + value * left[3]
                        e, f, g, h = (
                            e + value * right[0], f + value * right[1], g + value * right[2], h + value * right[3],
                        )  # fmt: skip
                        i += 1
                    w += WIDE
                    put(to, y_at, j + 4, cols, rectified, e)
                    put(to, y_at, j + 5, cols, rectified, f)
                    put(to, y_at, j + 6, cols, rectified, g)
                    put(to, y_at, j + 7, cols, rectified, h)
                else:
                    while i < end:
                        w += NARROW
                        value, left = load(source, i), weights_of(constants, w)
                        a, b, c, d = a + value * left[0], b + value * left[1], c + value * left[2], d + value * left[3]
                        i += 1
                    w += NARROW
                put(to, y_at, j, cols, rectified, a)
                put(to, y_at, j + 1, cols, rectified, b)
                put(to, y_at, j + 2, cols, rectified, c)
                put(to, y_at, j + 3, cols, rectified, d)
                j += WIDE
            x_at += depth
            y_at += cols

    return matmul


def _activation(dtype: str) -> Any:
    """Make y = f(x), with a separate loop for each f."""
    real = np.dtype(dtype).type
    table = activations.define(real, formula, functions(dtype))
    among = choose([_loop(dtype, table[name][0]) for name in ACTIVATIONS])

    @formula
    def activation(number, code, at, constants, x, out, work):
        among(_load_word(code, at + _ACTIVATION), code, at, constants, x, out, work)

    return activation


def _loop(dtype: str, f: Any) -> Any:
    real, load, store = np.dtype(dtype).type, ptx.ANY_LOADS[dtype], ptx.ANY_STORES[dtype]

    @formula
    def loop(number, code, at, constants, x, out, work):
        to, y_at = _operand(_load_word(code, at + _Y), x, out, work)
        source, x_at = _operand(_load_word(code, at + _X), x, out, work)
        a, b = real(_as_double(_load_word(code, at + _A))), real(_as_double(_load_word(code, at + _B)))
        j, cols = np.int64(0), _load_word(code, at + _COLS)
        while j < cols:
            store(to, y_at + j, f(load(source, x_at + j), a, b))
            j += 1

    return loop


@formula
def _sum(a, b):
    return a + b


@formula
def _product(a, b):
    return a * b


def _binary(dtype: str, combine: Any) -> Any:
    load, store = ptx.ANY_LOADS[dtype], ptx.ANY_STORES[dtype]

    @formula
    def binary(number, code, at, constants, x, out, work):
        to, y_at = _operand(_load_word(code, at + _Y), x, out, work)
        source, x_at = _operand(_load_word(code, at + _X), x, out, work)
        other, other_at = _operand(_load_word(code, at + _OTHER), x, out, work)
        j, cols = np.int64(0), _load_word(code, at + _COLS)
        while j < cols:
            store(to, y_at + j, combine(load(source, x_at + j), load(other, other_at + j)))
            j += 1

    return binary


def _copy(dtype: str) -> Any:
    load, store = ptx.ANY_LOADS[dtype], ptx.ANY_STORES[dtype]

    @formula
    def copy(number, code, at, constants, x, out, work):
        to, y_at = _operand(_load_word(code, at + _Y), x, out, work)
        source, x_at = _operand(_load_word(code, at + _X), x, out, work)
        cols = _load_word(code, at + _COLS)
        y_stride, x_stride = _load_word(code, at + _Y_STRIDE), _load_word(code, at + _X_STRIDE)
        for _ in range(_load_word(code, at + _ROWS)):
            j = np.int64(0)
            while j < cols:
                store(to, y_at + j, load(source, x_at + j))
                j += 1
            y_at += y_stride
            x_at += x_stride

    return copy


def _affine(dtype: str) -> Any:
    """Make y = (x - mean) scale + shift by columns."""
    load, store, constant = ptx.ANY_LOADS[dtype], ptx.ANY_STORES[dtype], ptx.LOADS[dtype]

    @formula
    def affine(number, code, at, constants, x, out, work):
        to, y_at = _operand(_load_word(code, at + _Y), x, out, work)
        source, x_at = _operand(_load_word(code, at + _X), x, out, work)
        cols, mean = _load_word(code, at + _COLS), _load_word(code, at + _CONSTANTS)
        scale = mean + cols
        shift = scale + cols
        for _ in range(_load_word(code, at + _ROWS)):
            j = np.int64(0)
            while j < cols:
                centred = load(source, x_at + j) - constant(constants, mean + j)
                store(to, y_at + j, centred * constant(constants, scale + j) + constant(constants, shift + j))
                j += 1
            x_at += cols
            y_at += cols

    return affine


def _peak(dtype: str) -> Any:
    """Find the largest number of a row; NaN is skipped, and reaches the sum of exponentials."""
    load, lowest = ptx.ANY_LOADS[dtype], np.dtype(dtype).type(-np.inf)

    @formula
    def peak(source, x_at, cols):
        found = lowest
        j = np.int64(0)
        while j < cols:
            value = load(source, x_at + j)
            found = value if value > found else found
            j += 1
        return found

    return peak


def _softmax(dtype: str) -> Any:
    """Make every row exp(x - max) / sum."""
    real, load, store = np.dtype(dtype).type, ptx.ANY_LOADS[dtype], ptx.ANY_STORES[dtype]
    peak, exp_weight, zero, one = _peak(dtype), functions(dtype).exp_weight, real(0.0), real(1.0)

    @formula
    def softmax(number, code, at, constants, x, out, work):
        to, y_at = _operand(_load_word(code, at + _Y), x, out, work)
        source, x_at = _operand(_load_word(code, at + _X), x, out, work)
        cols = _load_word(code, at + _COLS)
        for _ in range(_load_word(code, at + _ROWS)):
            largest, total = peak(source, x_at, cols), zero
            j = np.int64(0)
            while j < cols:
                weight = exp_weight(load(source, x_at + j) - largest)
                store(to, y_at + j, weight)
                total += weight
                j += 1
            scale = one / total
            j = np.int64(0)
            while j < cols:
                store(to, y_at + j, load(to, y_at + j) * scale)
                j += 1
            x_at += cols
            y_at += cols

    return softmax


def _log_softmax(dtype: str) -> Any:
    """Make every row x - max - log(sum(exp(x - max)))."""
    load, store = ptx.ANY_LOADS[dtype], ptx.ANY_STORES[dtype]
    peak, exp_weight, log = _peak(dtype), functions(dtype).exp_weight, functions(dtype).log
    zero = np.dtype(dtype).type(0.0)

    @formula
    def log_softmax(number, code, at, constants, x, out, work):
        to, y_at = _operand(_load_word(code, at + _Y), x, out, work)
        source, x_at = _operand(_load_word(code, at + _X), x, out, work)
        cols = _load_word(code, at + _COLS)
        for _ in range(_load_word(code, at + _ROWS)):
            largest, total = peak(source, x_at, cols), zero
            j = np.int64(0)
            while j < cols:
                total += exp_weight(load(source, x_at + j) - largest)
                j += 1
            total = log(total)
            j = np.int64(0)
            while j < cols:
                store(to, y_at + j, load(source, x_at + j) - largest - total)
                j += 1
            x_at += cols
            y_at += cols

    return log_softmax


def _layer_norm(dtype: str) -> Any:
    """Make y = (x - mean) rstd gamma + beta in every row, without float64, which many GPUs compute 64 times as slowly.

    The second pass sums distances from the rough mean of the first, and their squares, so an offset costs no digits;
    where squares would overflow, distances are divided by the largest element.
    """
    real, sqrt = np.dtype(dtype).type, functions(dtype).sqrt
    load, store, constant = ptx.ANY_LOADS[dtype], ptx.ANY_STORES[dtype], ptx.LOADS[dtype]
    zero, one, safe = real(0.0), real(1.0), real(np.sqrt(np.finfo(real).max)) * real(2.0**-20)

    @formula
    def layer_norm(number, code, at, constants, x, out, work):
        to, y_at = _operand(_load_word(code, at + _Y), x, out, work)
        source, x_at = _operand(_load_word(code, at + _X), x, out, work)
        cols, gamma = _load_word(code, at + _COLS), _load_word(code, at + _CONSTANTS)
        beta, epsilon = gamma + cols, real(_as_double(_load_word(code, at + _A)))
        share = one / real(cols)
        for _ in range(_load_word(code, at + _ROWS)):
            mean, largest = zero, zero
            j = np.int64(0)
            while j < cols:
                value = load(source, x_at + j)
                mean += value * share
                size = abs(value)
                largest = size if size > largest else largest
                j += 1
            scale = one if largest < safe else one / largest
            lack, variance = zero, zero
            j = np.int64(0)
            while j < cols:
                distance = (load(source, x_at + j) - mean) * scale
                lack += distance
                variance += distance * distance
                j += 1
            lack *= share
            variance = variance * share - lack * lack
            # rounding may give a negative variance of a constant row
            variance = zero if variance < zero else variance
            rstd = scale / sqrt(variance + epsilon * scale * scale)
            lack /= scale
            j = np.int64(0)
            while j < cols:
                value = (load(source, x_at + j) - mean - lack) * rstd
                store(to, y_at + j, value * constant(constants, gamma + j) + constant(constants, beta + j))
                j += 1
            x_at += cols
            y_at += cols

    return layer_norm
