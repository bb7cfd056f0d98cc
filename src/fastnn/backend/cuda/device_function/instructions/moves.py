"""Copies."""

# The functions are compiled for the GPU, where their arguments are typed; annotations would add nothing.
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fastnn.backend.cuda.device_function.encoder import Encoder, Record, encodes
from fastnn.backend.cuda.device_function.instruction import (
    COLS,
    ROWS,
    X_STRIDE,
    Y_STRIDE,
    Elements,
    Tools,
    X,
    Y,
    instruction,
)


@encodes("copy_columns")
def _copy_columns(encoder: Encoder, record: Record) -> None:
    dims, y, x = record.dims, record.spot("y"), record.spot("x")
    y = replace(y, offset=y.offset + dims["target_first"])
    x = replace(x, offset=x.offset + dims["source_first"])
    encoder.draft(
        "copy", y, x, rows=dims["rows"], cols=dims["cols"], y_stride=dims["target_cols"], x_stride=dims["source_cols"]
    )


def _rows(words: Sequence[int], stride: int) -> Elements:
    """Return the elements of a table whose rows are `stride` apart."""
    return (stride * np.arange(words[ROWS])[:, None] + np.arange(words[COLS])).reshape(-1)


@instruction("copy", x=lambda words: _rows(words, words[X_STRIDE]), y=lambda words: _rows(words, words[Y_STRIDE]))
def _copy(tools: Tools) -> Any:
    formula, word, operand = tools.formula, tools.word, tools.operand
    load, store = tools.load, tools.store

    @formula
    def copy(number, code, at, constants, x, out, work):
        to, y_at = operand(word(code, at + Y), x, out, work)
        source, x_at = operand(word(code, at + X), x, out, work)
        cols = word(code, at + COLS)
        y_stride, x_stride = word(code, at + Y_STRIDE), word(code, at + X_STRIDE)
        for _ in range(word(code, at + ROWS)):
            j = np.int64(0)
            while j < cols:
                store(to, y_at + j, load(source, x_at + j))
                j += 1
            y_at += y_stride
            x_at += x_stride

    return copy
