"""Products with weights, and biases."""

# The functions are compiled for the GPU, where their arguments are typed; annotations would add nothing.
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cuda.device_function.encoder import Encoder, Record, Spot, encodes
from fastnn.backend.cuda.device_function.instruction import (
    ACTIVATION,
    COLS,
    CONSTANTS,
    DEPTH,
    ROWS,
    Elements,
    Tools,
    X,
    Y,
    instruction,
)
from fastnn.backend.cuda.device_function.layout import ACTIVATIONS, NARROW, NONE, WIDE, Place, tile_width
from fastnn.program.layout import Flag

RELU = ACTIVATIONS.index("relu")


@encodes("matmul")
def _encode(encoder: Encoder, record: Record) -> None:
    rows, cols, depth = (record.dims[name] for name in "mnk")
    if record.flags & (Flag.TRANSPOSE_A | Flag.TRANSPOSE_B | Flag.ACCUMULATE) or record.has("pre"):
        raise NotImplementedError("a matrix product that occurs only in training")
    tiles = tiles_of(record.weights("b"), record.weights("bias") if record.has("bias") else np.zeros(cols))
    y, x = record.spot("c"), record.spot("a")
    to, number = before_activation(encoder, record, y, rows * cols)
    encoder.draft(
        "matmul", to, x, constants=encoder.constant(*tiles), rows=rows, cols=cols, depth=depth, activation=number
    )
    if record.formula and number == NONE:
        encoder.activate(y, to, rows * cols, record.formula, record.params)


def tiles_of(weights: NDArray[Any], bias: NDArray[Any]) -> list[NDArray[Any]]:
    """Cut a matrix into tiles of columns, each with its part of the bias in front."""
    (depth, cols), tiles, j = weights.shape, list[NDArray[Any]](), 0
    while j < cols:
        width = tile_width(cols - j)
        tile = np.zeros((1 + depth, width))
        part = slice(j, min(j + width, cols))
        tile[0, : part.stop - j], tile[1:, : part.stop - j] = bias[part], weights[:, part]
        tiles.append(tile)
        j += width
    return tiles


def before_activation(encoder: Encoder, record: Record, y: Spot, count: int) -> tuple[Spot, int]:
    """Return where a product goes before an activation, and the activation that the product's instruction applies.

    An activation is in place, except in the output, which only the last instruction may write.
    """
    relu = record.formula == "relu"
    activated = record.formula and not relu
    return encoder.temporary(count) if activated and y.place is Place.OUTPUT else y, RELU if relu else NONE


def tile_elements(cols: int, depth: int) -> int:
    """Return the elements of all tiles of a matrix."""
    left, count = cols, 0
    while left > 0:
        width = tile_width(left)
        count += (1 + depth) * width
        left -= width
    return count


def _inputs(words: Sequence[int]) -> Elements:
    return np.arange(words[ROWS] * words[DEPTH])


@instruction("matmul", x=_inputs, constants=lambda words: tile_elements(words[COLS], words[DEPTH]))
def _matmul(tools: Tools) -> Any:
    """Make y = x w + bias in every row, in tiles of columns whose sums stay in registers."""
    formula, word, operand = tools.formula, tools.word, tools.operand
    load, store, weights_of, zero = tools.load, tools.store, tools.constants, tools.real(0.0)

    @formula
    def put(memory, at, j, cols, rectified, value):
        if j < cols:
            store(memory, at + j, zero if rectified and value < zero else value)

    @formula
    def matmul(number, code, at, constants, x, out, work):
        to, y_at = operand(word(code, at + Y), x, out, work)
        source, x_at = operand(word(code, at + X), x, out, work)
        cols, depth = word(code, at + COLS), word(code, at + DEPTH)
        rectified = word(code, at + ACTIVATION) == RELU
        for _ in range(word(code, at + ROWS)):
            w, j = word(code, at + CONSTANTS), np.int64(0)
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
