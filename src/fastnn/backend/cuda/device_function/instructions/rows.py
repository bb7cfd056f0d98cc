"""Functions of whole rows."""

# The functions are compiled for the GPU, where their arguments are typed; annotations would add nothing.
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.backend.cuda.device_function.encoder import Encoder, Record, encodes
from fastnn.backend.cuda.device_function.instruction import COLS, ROWS, Tools, X, Y, instruction


@encodes("softmax", "log_softmax")
def _encode(encoder: Encoder, record: Record) -> None:
    encoder.draft(record.op, record.spot("y"), record.spot("x"), rows=record.dims["rows"], cols=record.dims["cols"])


def _peak(tools: Tools) -> Any:
    """Find the largest number of a row; NaN is skipped, and reaches the sum of exponentials."""
    formula, load, lowest = tools.formula, tools.load, tools.real(-np.inf)

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


@instruction("softmax")
def _softmax(tools: Tools) -> Any:
    """Make every row exp(x - max) / sum."""
    formula, word, operand = tools.formula, tools.word, tools.operand
    load, store, zero, one = tools.load, tools.store, tools.real(0.0), tools.real(1.0)
    peak, exp_weight = _peak(tools), tools.math.exp_weight

    @formula
    def softmax(number, code, at, constants, x, out, work):
        to, y_at = operand(word(code, at + Y), x, out, work)
        source, x_at = operand(word(code, at + X), x, out, work)
        cols = word(code, at + COLS)
        for _ in range(word(code, at + ROWS)):
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


@instruction("log_softmax")
def _log_softmax(tools: Tools) -> Any:
    """Make every row x - max - log(sum(exp(x - max)))."""
    formula, word, operand = tools.formula, tools.word, tools.operand
    load, store, zero = tools.load, tools.store, tools.real(0.0)
    peak, exp_weight, log = _peak(tools), tools.math.exp_weight, tools.math.log

    @formula
    def log_softmax(number, code, at, constants, x, out, work):
        to, y_at = operand(word(code, at + Y), x, out, work)
        source, x_at = operand(word(code, at + X), x, out, work)
        cols = word(code, at + COLS)
        for _ in range(word(code, at + ROWS)):
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
