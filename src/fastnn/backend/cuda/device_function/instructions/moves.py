"""Copies, and values in another order."""

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
    CONSTANTS,
    ROWS,
    X_STRIDE,
    Y_STRIDE,
    Elements,
    Tools,
    X,
    Y,
    columns,
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


@encodes("permute")
def _permute(encoder: Encoder, record: Record) -> None:
    dims = record.dims
    sizes = (dims["rows"] // (dims["n1"] * dims["n2"] * dims["n3"] * dims["n4"]), *(dims[f"n{i}"] for i in range(1, 5)))
    strides = [*(dims[f"stride{axis}"] for axis in range(5)), dims["stride"]]
    # for one sample: the place of every element, which is exact also as a float32
    places = sum(each * stride for each, stride in zip(np.indices((*sizes, dims["cols"])), strides, strict=True))
    count = dims["rows"] * dims["cols"]
    if count > 2**24:
        raise NotImplementedError(
            f"a permutation of {count} elements, more than {2**24}: use freeze() without a device"
        )
    encoder.draft("take", record.spot("y"), record.spot("x"), cols=count, constants=encoder.constant(places))


@instruction("take", x=columns, y=columns, constants=lambda words: words[COLS])
def _take(tools: Tools) -> Any:
    """Fill y with the elements of x whose numbers are constants."""
    formula, word, operand = tools.formula, tools.word, tools.operand
    load, store, constant = tools.load, tools.store, tools.constant

    @formula
    def take(number, code, at, constants, x, out, work):
        to, y_at = operand(word(code, at + Y), x, out, work)
        source, x_at = operand(word(code, at + X), x, out, work)
        cols, places = word(code, at + COLS), word(code, at + CONSTANTS)
        j = np.int64(0)
        while j < cols:
            store(to, y_at + j, load(source, x_at + np.int64(constant(constants, places + j))))
            j += 1

    return take


@encodes("one_hot")
def _one_hot(encoder: Encoder, record: Record) -> None:
    encoder.draft("one_hot", record.spot("y"), record.spot("index"), rows=record.dims["rows"], cols=record.dims["cols"])


@instruction("one_hot", x=lambda words: np.arange(words[ROWS]), integers=True)
def _hot(tools: Tools) -> Any:
    """Fill rows of y with zeros, but a one at the place of each integer of x."""
    formula, word, operand, integer, store = tools.formula, tools.word, tools.operand, tools.integer, tools.store
    zero, one = tools.real(0.0), tools.real(1.0)

    @formula
    def one_hot(number, code, at, constants, x, out, work):
        to, y_at = operand(word(code, at + Y), x, out, work)
        source, x_at = operand(word(code, at + X), x, out, work)
        cols = word(code, at + COLS)
        for _ in range(word(code, at + ROWS)):
            place, j = integer(source, x_at), np.int64(0)
            while j < cols:
                store(to, y_at + j, one if j == place else zero)
                j += 1
            x_at += 1
            y_at += cols

    return one_hot
