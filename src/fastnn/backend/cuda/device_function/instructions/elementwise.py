"""Activations, sums and products, element by element."""

# The functions are compiled for the GPU, where their arguments are typed; annotations would add nothing.
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.backend.cuda.device_function.encoder import Encoder, Record, encodes
from fastnn.backend.cuda.device_function.instruction import (
    ACTIVATION,
    COLS,
    OTHER,
    ROWS,
    A,
    B,
    Tools,
    X,
    Y,
    columns,
    instruction,
)


@encodes("activation")
def _encode_activation(encoder: Encoder, record: Record) -> None:
    encoder.activate(record.spot("y"), record.spot("x"), record.dims["n"], record.formula, record.params)


@instruction("activation", x=columns, y=columns)
def _activation(tools: Tools) -> Any:
    """Make y = f(x), with a separate loop for each f."""
    formula, word = tools.formula, tools.word
    among = tools.choose([_loop(tools, f) for f in tools.activations])

    @formula
    def activation(number, code, at, constants, x, out, work):
        among(word(code, at + ACTIVATION), code, at, constants, x, out, work)

    return activation


def _loop(tools: Tools, f: Any) -> Any:
    formula, word, operand, as_double = tools.formula, tools.word, tools.operand, tools.as_double
    real, load, store = tools.real, tools.load, tools.store

    @formula
    def loop(number, code, at, constants, x, out, work):
        to, y_at = operand(word(code, at + Y), x, out, work)
        source, x_at = operand(word(code, at + X), x, out, work)
        a, b = real(as_double(word(code, at + A))), real(as_double(word(code, at + B)))
        j, cols = np.int64(0), word(code, at + COLS)
        while j < cols:
            store(to, y_at + j, f(load(source, x_at + j), a, b))
            j += 1

    return loop


def _binary(tools: Tools, combine: Any) -> Any:
    formula, word, operand = tools.formula, tools.word, tools.operand
    load, store = tools.load, tools.store

    @formula
    def binary(number, code, at, constants, x, out, work):
        to, y_at = operand(word(code, at + Y), x, out, work)
        source, x_at = operand(word(code, at + X), x, out, work)
        other, other_at = operand(word(code, at + OTHER), x, out, work)
        j, cols = np.int64(0), word(code, at + COLS)
        while j < cols:
            store(to, y_at + j, combine(load(source, x_at + j), load(other, other_at + j)))
            j += 1

    return binary


@encodes("add", "multiply")
def _encode_binary(encoder: Encoder, record: Record) -> None:
    encoder.draft(record.op, record.spot("y"), record.spot("a"), record.spot("b"), cols=record.dims["n"])


@instruction("add", x=columns, other=columns, y=columns)
def _add(tools: Tools) -> Any:
    return _binary(tools, tools.formula(lambda a, b: a + b))


@instruction("multiply", x=columns, other=columns, y=columns)
def _multiply(tools: Tools) -> Any:
    return _binary(tools, tools.formula(lambda a, b: a * b))


@encodes("broadcast_add", "broadcast_multiply")
def _encode_broadcast(encoder: Encoder, record: Record) -> None:
    # a sample is one group of repeats
    rows = record.dims["outer"] * record.dims["repeat"]
    encoder.draft(record.op, record.spot("y"), record.spot("a"), record.spot("b"), rows=rows, cols=record.dims["inner"])


def _broadcast(tools: Tools, combine: Any) -> Any:
    formula, word, operand = tools.formula, tools.word, tools.operand
    load, store = tools.load, tools.store

    @formula
    def broadcast(number, code, at, constants, x, out, work):
        to, y_at = operand(word(code, at + Y), x, out, work)
        source, x_at = operand(word(code, at + X), x, out, work)
        other, other_at = operand(word(code, at + OTHER), x, out, work)
        cols = word(code, at + COLS)
        for _ in range(word(code, at + ROWS)):
            j = np.int64(0)
            while j < cols:
                store(to, y_at + j, combine(load(source, x_at + j), load(other, other_at + j)))
                j += 1
            y_at += cols
            x_at += cols

    return broadcast


@instruction("broadcast_add", other=columns)
def _broadcast_add(tools: Tools) -> Any:
    return _broadcast(tools, tools.formula(lambda a, b: a + b))


@instruction("broadcast_multiply", other=columns)
def _broadcast_multiply(tools: Tools) -> Any:
    return _broadcast(tools, tools.formula(lambda a, b: a * b))
