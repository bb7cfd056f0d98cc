"""Convolutions, and pooling, of maps that a window slides over."""

# The functions are compiled for the GPU, where their arguments are typed; annotations would add nothing.
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from types import SimpleNamespace
from typing import Any

import numpy as np

from fastnn.backend.cuda.codegen import windows
from fastnn.backend.cuda.device_function.encoder import Encoder, Record, encodes
from fastnn.backend.cuda.device_function.instruction import (
    ACTIVATION,
    COLS,
    CONSTANTS,
    DEPTH,
    DILATION,
    FLAGS,
    MAPS,
    MOVES,
    PADDING,
    RESULTS,
    ROWS,
    WINDOW,
    X_STRIDE,
    Y_STRIDE,
    Elements,
    Tools,
    X,
    Y,
    instruction,
)
from fastnn.backend.cuda.device_function.instructions.dense import RELU, before_activation, tile_elements, tiles_of
from fastnn.backend.cuda.device_function.layout import NARROW, NONE, WIDE
from fastnn.program.window import MOST, packed, unpacked

_AVERAGE = 1


def _sliding(record: Record) -> dict[str, int]:
    """Return the words that say how a window slides over the maps of the only sample."""
    dims = record.dims
    maps = [dims[name] for name in ("depth", "height", "width")]
    results = [dims[name] for name in ("out_depth", "rows", "cols")]
    if max(*maps, *results) > MOST:
        raise NotImplementedError(f"maps of more than {MOST} entries along an axis run on the CPU only")
    moves = {name: dims[name] for name in ("window", "dilation", "padding")}
    return {**moves, "moves": dims["stride"], "maps": packed(maps), "results": packed(results), "rows": dims["batch"]}


@encodes("conv")
def _encode(encoder: Encoder, record: Record) -> None:
    if record.has("pre"):
        raise NotImplementedError("a convolution that occurs only in training")
    dims, y, x = record.dims, record.spot("y"), record.spot("x")
    groups, filters, channels = dims["groups"], dims["filters"], dims["channels"]
    weights = record.weights("w").reshape(-1, filters)
    bias = record.weights("bias") if record.has("bias") else np.zeros(filters)
    sliding, count = _sliding(record), filters // groups
    elements = dims["batch"] * dims["out_depth"] * dims["rows"] * dims["cols"] * filters
    to, number = before_activation(encoder, record, y, elements)
    # one instruction for each group
    for group in range(groups):
        part = slice(group * count, (group + 1) * count)
        tiles = encoder.constant(*tiles_of(weights[:, part], bias[part]))
        encoder.draft(
            "conv", replace(to, offset=to.offset + part.start),
            replace(x, offset=x.offset + group * (channels // groups)), None, constants=tiles, cols=count,
            depth=channels // groups, y_stride=filters, x_stride=channels, activation=number, **sliding,
        )  # fmt: skip
    if record.formula and number == NONE:
        encoder.activate(y, to, elements, record.formula, record.params)


@encodes("pool")
def _encode_pool(encoder: Encoder, record: Record) -> None:
    channels = record.dims["channels"]
    encoder.draft(
        "pool", record.spot("y"), record.spot("x"), None, cols=channels, depth=channels, y_stride=channels,
        x_stride=channels, flags=_AVERAGE if record.variant == "average" else 0, **_sliding(record),
    )  # fmt: skip


def _read(words: Sequence[int]) -> Elements:
    pixels = np.arange(words[ROWS] * prod(unpacked(words[MAPS])))
    return (words[X_STRIDE] * pixels[:, None] + np.arange(words[DEPTH])).reshape(-1)


def _written(words: Sequence[int]) -> Elements:
    pixels = np.arange(words[ROWS] * prod(unpacked(words[RESULTS])))
    return (words[Y_STRIDE] * pixels[:, None] + np.arange(words[COLS])).reshape(-1)


def _count(words: Sequence[int]) -> int:
    return tile_elements(words[COLS], prod(unpacked(words[WINDOW])) * words[DEPTH])


def _along(tools: Tools) -> SimpleNamespace:
    """Make `three(word)`, `split(number, by)`, and `covers(code, at, number)`.

    The last one says what window `number` of all images covers. Its results: the number of its first pixel, of the tap
    that reads that, and how many entries it covers along each axis.
    """
    word, three, covered = tools.word, tools.formula(unpacked), tools.formula(windows.covered)
    split = tools.formula(windows.split)

    @tools.formula
    def covers(code, at, number):
        depth, height, width = three(word(code, at + MAPS))
        out_depth, rows, cols = three(word(code, at + RESULTS))
        window_d, window_h, window_w = three(word(code, at + WINDOW))
        stride_d, stride_h, stride_w = three(word(code, at + MOVES))
        dil_d, dil_h, dil_w = three(word(code, at + DILATION))
        pad_d, pad_h, pad_w = three(word(code, at + PADDING))
        number, column = split(number, cols)
        number, row = split(number, rows)
        image, slice_ = split(number, out_depth)
        x, tap_w, columns = covered(column, width, window_w, stride_w, dil_w, pad_w)
        y, tap_h, lines = covered(row, height, window_h, stride_h, dil_h, pad_h)
        z, tap_d, slices = covered(slice_, depth, window_d, stride_d, dil_d, pad_d)
        pixel = ((image * depth + z) * height + y) * width + x
        return pixel, (tap_d * window_h + tap_h) * window_w + tap_w, slices, lines, columns

    return SimpleNamespace(three=three, split=split, covers=covers)


@instruction("conv", x=_read, y=_written, constants=_count)
def _conv(tools: Tools) -> Any:
    """Make y = x * w + bias for every window, in tiles of filters whose sums stay in registers.

    Words are read again where they are needed: registers are scarce while sums are in them.
    """
    formula, word, operand = tools.formula, tools.word, tools.operand
    load, store, weights_of, zero = tools.load, tools.store, tools.constants, tools.real(0.0)
    along = _along(tools)
    three, split, covers = along.three, along.split, along.covers

    @formula
    def put(memory, at, j, cols, rectified, value):
        if j < cols:
            store(memory, at + j, zero if rectified and value < zero else value)

    @formula
    def tile(code, at, constants, x, out, work, w, j, number):
        """Make a tile of the filters of one window."""
        wide = word(code, at + COLS) - j > NARROW
        width = WIDE if wide else NARROW
        a, b, c, d = weights_of(constants, w)
        e, f, g, h = zero, zero, zero, zero
        if wide:
            e, f, g, h = weights_of(constants, w + NARROW)
        first, first_tap, slices, lines, columns = covers(code, at, number)
        u, entries = np.int64(0), slices * lines * columns
        if slices <= 0 or lines <= 0 or columns <= 0:
            entries = np.int64(0)
        while u < entries:
            _, height, maps_width = three(word(code, at + MAPS))
            _, window_h, window_w = three(word(code, at + WINDOW))
            dil_d, dil_h, dil_w = three(word(code, at + DILATION))
            line, column = split(u, columns)
            slice_, line = split(line, lines)
            pixel = first + (slice_ * dil_d * height + line * dil_h) * maps_width + column * dil_w
            tap = first_tap + (slice_ * window_h + line) * window_w + column
            source, i = operand(word(code, at + X), x, out, work)
            depth = word(code, at + DEPTH)
            i, k = i + pixel * word(code, at + X_STRIDE), w + width * (1 + tap * depth)
            end = i + depth
            while i < end:
                value, left = load(source, i), weights_of(constants, k)
                a, b, c, d = a + value * left[0], b + value * left[1], c + value * left[2], d + value * left[3]
                if wide:
                    right = weights_of(constants, k + NARROW)
                    e, f, g, h = (
                        e + value * right[0], f + value * right[1], g + value * right[2], h + value * right[3],
                    )  # fmt: skip
                i += 1
                k += width
            u += 1
        to, y_at = operand(word(code, at + Y), x, out, work)
        y_at += number * word(code, at + Y_STRIDE)
        cols, rectified = word(code, at + COLS), word(code, at + ACTIVATION) == RELU
        put(to, y_at, j, cols, rectified, a)
        put(to, y_at, j + 1, cols, rectified, b)
        put(to, y_at, j + 2, cols, rectified, c)
        put(to, y_at, j + 3, cols, rectified, d)
        put(to, y_at, j + 4, cols, rectified, e)
        put(to, y_at, j + 5, cols, rectified, f)
        put(to, y_at, j + 6, cols, rectified, g)
        put(to, y_at, j + 7, cols, rectified, h)

    @formula
    def results(code, at):
        out_depth, rows, columns = three(word(code, at + RESULTS))
        return word(code, at + ROWS) * out_depth * rows * columns

    @formula
    def conv(number, code, at, constants, x, out, work):
        result = np.int64(0)
        while result < results(code, at):
            w, j = word(code, at + CONSTANTS), np.int64(0)
            while j < word(code, at + COLS):
                tile(code, at, constants, x, out, work, w, j, result)
                window_d, window_h, window_w = three(word(code, at + WINDOW))
                w += (1 + window_d * window_h * window_w * word(code, at + DEPTH)) * WIDE
                j += WIDE
            result += 1

    return conv


@instruction("pool", x=_read, y=_written)
def _pool(tools: Tools) -> Any:
    """Make the maximum or the average of every window and channel."""
    formula, word, operand, real = tools.formula, tools.word, tools.operand, tools.real
    load, store, zero, lowest = tools.load, tools.store, real(0.0), real(-np.inf)
    along = _along(tools)
    three, split, covers = along.three, along.split, along.covers

    @formula
    def pool(number, code, at, constants, x, out, work):
        to, y_at = operand(word(code, at + Y), x, out, work)
        source, x_at = operand(word(code, at + X), x, out, work)
        out_depth, rows, columns = three(word(code, at + RESULTS))
        cols, average = word(code, at + COLS), word(code, at + FLAGS) == _AVERAGE
        result, results = np.int64(0), word(code, at + ROWS) * out_depth * rows * columns
        while result < results:
            first, _, slices, lines, across = covers(code, at, result)
            _, height, width = three(word(code, at + MAPS))
            dil_d, dil_h, dil_w = three(word(code, at + DILATION))
            j = np.int64(0)
            while j < cols:
                found, u = zero if average else lowest, np.int64(0)
                while u < slices * lines * across:
                    line, column = split(u, across)
                    slice_, line = split(line, lines)
                    pixel = first + (slice_ * dil_d * height + line * dil_h) * width + column * dil_w
                    value = load(source, x_at + pixel * cols + j)
                    if average:
                        found = found + value
                    elif value > found or value != value:
                        found = value
                    u += 1
                store(to, y_at + j, found / real(slices * lines * across) if average else found)
                j += 1
            y_at += cols
            result += 1

    return pool
