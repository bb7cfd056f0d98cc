"""Sums, extrema and products over an axis, and recurrences along it."""

# The functions are compiled for the GPU, where their arguments are typed; annotations would add nothing.
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fastnn.backend.cuda.device_function.encoder import Encoder, Record, bits, encodes
from fastnn.backend.cuda.device_function.instruction import (
    COLS,
    DEPTH,
    FLAGS,
    OTHER,
    ROWS,
    X_STRIDE,
    Y_STRIDE,
    A,
    Elements,
    Tools,
    X,
    Y,
    columns,
    instruction,
)

_KINDS = ("sum", "max", "min", "prod")
_REVERSE, _EXCLUSIVE, _FACTORS, _SUMMANDS = 1, 2, 4, 8


@encodes("reduce")
def _encode(encoder: Encoder, record: Record) -> None:
    dims, y, x = record.dims, record.spot("y"), record.spot("x")
    outer, parts, repeat, inner = (dims[name] for name in ("outer", "parts", "repeat", "inner"))
    for part in range(parts):
        begin, end = repeat * part // parts, repeat * (part + 1) // parts
        encoder.draft(
            "reduce", replace(y, offset=y.offset + part * inner), replace(x, offset=x.offset + begin * inner),
            rows=outer, cols=inner, depth=end - begin, x_stride=repeat * inner, y_stride=parts * inner,
            a=bits(dims["divisor"]), flags=_KINDS.index(record.variant),
        )  # fmt: skip


def _read(words: Sequence[int]) -> Elements:
    rows, within = np.arange(words[ROWS])[:, None], np.arange(words[DEPTH] * words[COLS])
    return (words[X_STRIDE] * rows + within).reshape(-1)


def _written(words: Sequence[int]) -> Elements:
    return (words[Y_STRIDE] * np.arange(words[ROWS])[:, None] + np.arange(words[COLS])).reshape(-1)


@instruction("reduce", x=_read, y=_written)
def _reduce(tools: Tools) -> Any:
    """Reduce the middle one of three axes; the result of no numbers is that of NumPy with an initial value."""
    formula, word, operand, as_double = tools.formula, tools.word, tools.operand, tools.as_double
    load, store, real = tools.load, tools.store, tools.real
    zero, one, infinity = real(0.0), real(1.0), real(np.inf)
    add, largest, least, multiply = 0, 1, 2, 3

    @formula
    def combine(kind, a, b):
        if kind == add:
            return a + b
        if kind == multiply:
            return a * b
        # NaN is kept
        return a if (a > b if kind == largest else a < b) or a != a else b

    @formula
    def reduce(number, code, at, constants, x, out, work):
        to, y_at = operand(word(code, at + Y), x, out, work)
        source, x_at = operand(word(code, at + X), x, out, work)
        cols, depth, kind = word(code, at + COLS), word(code, at + DEPTH), word(code, at + FLAGS)
        divisor = real(as_double(word(code, at + A)))
        initial = infinity if kind == least else (-infinity if kind == largest else (one if kind == multiply else zero))
        for _ in range(word(code, at + ROWS)):
            j = np.int64(0)
            while j < cols:
                total, k, i = initial, np.int64(0), x_at + j
                while k < depth:
                    total = combine(kind, load(source, i), total)
                    i += cols
                    k += 1
                store(to, y_at + j, total / divisor)
                j += 1
            x_at += word(code, at + X_STRIDE)
            y_at += word(code, at + Y_STRIDE)

    return reduce


@encodes("divide_by")
def _encode_divide(encoder: Encoder, record: Record) -> None:
    dims = record.dims
    encoder.draft("divide", record.spot("y"), record.spot("x"), cols=dims["n"], a=bits(dims["divisor"]))


@instruction("divide", x=columns, y=columns)
def _divide(tools: Tools) -> Any:
    formula, word, operand, as_double = tools.formula, tools.word, tools.operand, tools.as_double
    load, store, real = tools.load, tools.store, tools.real

    @formula
    def divide(number, code, at, constants, x, out, work):
        to, y_at = operand(word(code, at + Y), x, out, work)
        source, x_at = operand(word(code, at + X), x, out, work)
        j, cols, divisor = np.int64(0), word(code, at + COLS), real(as_double(word(code, at + A)))
        while j < cols:
            store(to, y_at + j, load(source, x_at + j) / divisor)
            j += 1

    return divide


@encodes("recurrence")
def _encode_recurrence(encoder: Encoder, record: Record) -> None:
    dims = record.dims
    flags = _REVERSE * dims["reverse"] + _EXCLUSIVE * dims["exclusive"]
    flags += _FACTORS * record.has("a") + _SUMMANDS * record.has("b")
    given = record.spot("a" if record.has("a") else "b")
    encoder.draft(
        "recurrence", record.spot("y"), given, record.spot("b") if record.has("b") else given, rows=dims["outer"],
        cols=dims["inner"], depth=dims["size"], a=bits(record.params["initial"]), flags=flags,
    )  # fmt: skip


def _whole(words: Sequence[int]) -> Elements:
    return np.arange(words[ROWS] * words[DEPTH] * words[COLS])


@instruction("recurrence", x=_whole, other=_whole, y=_whole)
def _recurrence(tools: Tools) -> Any:
    """Make y_t = x_t y_(t-1) + other_t along the middle one of three axes; flags say which of them there are."""
    formula, word, operand, as_double = tools.formula, tools.word, tools.operand, tools.as_double
    load, store, real = tools.load, tools.store, tools.real

    @formula
    def recurrence(number, code, at, constants, x, out, work):
        to, y_at = operand(word(code, at + Y), x, out, work)
        factors, a_at = operand(word(code, at + X), x, out, work)
        summands, b_at = operand(word(code, at + OTHER), x, out, work)
        cols, depth, flags = word(code, at + COLS), word(code, at + DEPTH), word(code, at + FLAGS)
        initial = real(as_double(word(code, at + A)))
        step = cols if flags & _REVERSE == 0 else -cols
        start = np.int64(0) if flags & _REVERSE == 0 else (depth - 1) * cols
        for _ in range(word(code, at + ROWS)):
            j = np.int64(0)
            while j < cols:
                state, k, i = initial, np.int64(0), start + j
                while k < depth:
                    before = state
                    if flags & _FACTORS != 0:
                        state = load(factors, a_at + i) * state
                    if flags & _SUMMANDS != 0:
                        state = state + load(summands, b_at + i)
                    store(to, y_at + i, before if flags & _EXCLUSIVE != 0 else state)
                    i += step
                    k += 1
                j += 1
            y_at += depth * cols
            a_at += depth * cols
            b_at += depth * cols

    return recurrence
