"""Copies, values in another order, and numbers."""

# The functions are compiled for the GPU, where their arguments are typed; annotations would add nothing.
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cuda.device_function.encoder import Encoder, Record, Spot, bits, encodes
from fastnn.backend.cuda.device_function.instruction import (
    COLS,
    CONSTANTS,
    DEPTH,
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
from fastnn.backend.cuda.device_function.layout import Place

# places are constants of the program's dtype, which a float32 holds exactly up to here
_MOST_PLACES = 2**24


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


@encodes("strided")
def _strided(encoder: Encoder, record: Record) -> None:
    dims = record.dims
    rows, cols, size = dims["rows"], dims["cols"], dims["size"]
    sizes = (rows // (dims["n1"] * dims["n2"] * dims["n3"] * dims["n4"]), *(dims[f"n{i}"] for i in range(1, 5)))
    strides = [*(dims[f"stride{axis}"] for axis in range(5)), dims["stride"]]
    x = record.spot("x")
    several = [stride for count, stride in zip(sizes, strides, strict=False) if count > 1]
    if len(several) <= 1 and (strides[-1] == 1 or cols == 1):
        x = replace(x, offset=x.offset + dims["first"])
        encoder.draft("copy", record.spot("y"), x, rows=rows, cols=cols, y_stride=cols, x_stride=(several or [cols])[0])
        return
    take_places(encoder, record.spot("y"), x, dims["first"] + places_of((*sizes, cols), strides), size)


def places_of(sizes: Sequence[int], strides: Sequence[int]) -> NDArray[np.int64]:
    """Return the places of the elements of a view of a sample, in order."""
    along = zip(np.indices(sizes), strides, strict=True)
    return np.asarray(sum(each * stride for each, stride in along)).reshape(-1)


def take_places(encoder: Encoder, y: Spot, x: Spot, places: NDArray[np.int64], size: int) -> None:
    """Fill y with the elements of x at places, of which there are `size`.

    Raises
    ------
    NotImplementedError
        When a place may not be exact as a constant of the program's dtype.
    """
    if max(places.size, size) > _MOST_PLACES:
        raise NotImplementedError(f"a view of {size} elements, more than {_MOST_PLACES}: use freeze() without a device")
    encoder.draft("take", y, x, cols=places.size, depth=size, constants=encoder.constant(places))


@encodes("place")
def _place(encoder: Encoder, record: Record) -> None:
    dims, y, x = record.dims, record.spot("y"), record.spot("x")
    outer, count, inner, size = (dims[name] for name in ("outer", "count", "inner", "size"))
    encoder.draft("fill", y, y, cols=outer * size * inner, a=bits(record.params["fill"]))
    rows, cols, stride = count, inner, dims["step"] * inner
    if dims["step"] == 1:
        rows, cols, stride = 1, count * inner, count * inner
    for number in range(outer):
        to = replace(y, offset=y.offset + (number * size + dims["first"]) * inner)
        source = replace(x, offset=x.offset + number * count * inner)
        encoder.draft("copy", to, source, rows=rows, cols=cols, y_stride=stride, x_stride=cols)


def _none(words: Sequence[int]) -> Elements:
    """Return no elements, of an operand that is not read."""
    return np.arange(0)


@instruction("fill", x=_none, y=columns)
def _fill(tools: Tools) -> Any:
    """Fill y with a number."""
    formula, word, operand, store = tools.formula, tools.word, tools.operand, tools.store
    real, as_double = tools.real, tools.as_double

    @formula
    def fill(number, code, at, constants, x, out, work):
        to, y_at = operand(word(code, at + Y), x, out, work)
        j, cols, value = np.int64(0), word(code, at + COLS), real(as_double(word(code, at + A)))
        while j < cols:
            store(to, y_at + j, value)
            j += 1

    return fill


@instruction("constant", x=_none, y=columns, constants=lambda words: words[COLS])
def _constant(tools: Tools) -> Any:
    """Fill y with constants."""
    formula, word, operand, store, constant = tools.formula, tools.word, tools.operand, tools.store, tools.constant

    @formula
    def copy_constants(number, code, at, constants, x, out, work):
        to, y_at = operand(word(code, at + Y), x, out, work)
        j, cols, first = np.int64(0), word(code, at + COLS), word(code, at + CONSTANTS)
        while j < cols:
            store(to, y_at + j, constant(constants, first + j))
            j += 1

    return copy_constants


@encodes("angles")
def _angles(encoder: Encoder, record: Record) -> None:
    if record.has("position"):
        raise NotImplementedError(
            "angles of given positions have no code for GPUs, and run on the CPU only: use freeze() without a device"
        )
    rows, half, params = record.dims["rows"], record.dims["half"], record.params
    turns = np.outer(np.arange(rows), params["scale"] * np.exp(-params["decay"] * np.arange(half)))
    values = np.stack([np.cos(turns), np.sin(turns)], axis=1)
    y = record.spot("y")
    encoder.draft("constant", y, y, cols=values.size, constants=encoder.constant(values))


@instruction("take", x=lambda words: np.arange(words[DEPTH]), y=columns, constants=lambda words: words[COLS])
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


@encodes("take")
def _encode_take(encoder: Encoder, record: Record) -> None:
    dims, index = record.dims, record.spot("index")
    if index.place is not Place.INPUT or dims["outer"] != 1 or dims["index_count"] != 1 or dims["index_inner"]:
        raise NotImplementedError(
            "entries by computed numbers have no code for GPUs, and run on the CPU only: use freeze() without a device"
        )
    if not record.is_weight("x"):
        raise NotImplementedError(
            "entries of computed values have no code for GPUs, and run on the CPU only: use freeze() without a device"
        )
    encoder.draft(
        "entries", record.spot("y"), index, rows=dims["count"], cols=dims["inner"], depth=dims["size"],
        constants=encoder.constant(record.weights("x")),
    )  # fmt: skip


@instruction(
    "entries",
    x=lambda words: np.arange(words[ROWS]),
    constants=lambda words: words[DEPTH] * words[COLS],
    integers=True,
)
def _entries(tools: Tools) -> Any:
    """Fill rows of y with those rows of constants whose numbers the integers x are, or with NaN."""
    formula, word, operand, integer, store = tools.formula, tools.word, tools.operand, tools.integer, tools.store
    constant, nan = tools.constant, tools.real(np.nan)

    @formula
    def entries(number, code, at, constants, x, out, work):
        to, y_at = operand(word(code, at + Y), x, out, work)
        source, x_at = operand(word(code, at + X), x, out, work)
        cols, size, first = word(code, at + COLS), word(code, at + DEPTH), word(code, at + CONSTANTS)
        for _ in range(word(code, at + ROWS)):
            place, j = integer(source, x_at), np.int64(0)
            place = place + size if place < 0 else place
            known = place >= 0 and place < size
            while j < cols:
                store(to, y_at + j, constant(constants, first + place * cols + j) if known else nan)
                j += 1
            x_at += 1
            y_at += cols

    return entries
