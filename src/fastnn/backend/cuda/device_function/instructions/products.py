"""Products of matrices that are both computed."""

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
    OTHER_STRIDE,
    ROWS,
    X_STRIDE,
    Y_STRIDE,
    A,
    Elements,
    Tools,
    X,
    Y,
    instruction,
)
from fastnn.program.layout import Flag

_TRANSPOSE_A, _TRANSPOSE_B = int(Flag.TRANSPOSE_A), int(Flag.TRANSPOSE_B)


@encodes("batched_matmul")
def _encode(encoder: Encoder, record: Record) -> None:
    dims, spots = record.dims, [record.spot(name) for name in ("c", "a", "b")]
    starts = 0, dims["a_first"], dims["b_first"]
    between = [dims[f"{name}_between"] for name in ("c", "a", "b")]
    repeated, cycled = (Flag(0), Flag.REPEAT_A, Flag.REPEAT_B), (Flag(0), Flag.CYCLE_A, Flag.CYCLE_B)
    # one instruction for each matrix of the sample
    for number in range(dims["count"]):
        group, within = divmod(number, dims["inner"])
        numbers = [
            group if record.flags & repeat else within if record.flags & cycle else number
            for repeat, cycle in zip(repeated, cycled, strict=True)
        ]
        places = zip(spots, starts, numbers, between, strict=True)
        y, x, other = (replace(spot, offset=spot.offset + start + each * gap) for spot, start, each, gap in places)
        encoder.draft(
            "product", y, x, other, rows=dims["m"], cols=dims["n"], depth=dims["k"], flags=int(record.flags),
            y_stride=dims["c_row"], x_stride=dims["a_row"], other_stride=dims["b_row"], a=bits(record.params["scale"]),
        )  # fmt: skip


def _table(rows: int, cols: int, stride: int) -> Elements:
    return (stride * np.arange(rows)[:, None] + np.arange(cols)).reshape(-1)


def _left(words: Sequence[int]) -> Elements:
    turned = words[FLAGS] & _TRANSPOSE_A
    return _table(*((words[DEPTH], words[ROWS]) if turned else (words[ROWS], words[DEPTH])), words[X_STRIDE])


def _right(words: Sequence[int]) -> Elements:
    turned = words[FLAGS] & _TRANSPOSE_B
    return _table(*((words[COLS], words[DEPTH]) if turned else (words[DEPTH], words[COLS])), words[OTHER_STRIDE])


@instruction(
    "product", x=_left, other=_right, y=lambda words: _table(words[ROWS], words[COLS], words[Y_STRIDE])
)  # fmt: skip
def _product(tools: Tools) -> Any:
    """Make y = scale op(x) op(other), element by element."""
    formula, word, operand, as_double = tools.formula, tools.word, tools.operand, tools.as_double
    real, load, store, zero = tools.real, tools.load, tools.store, tools.real(0.0)

    @formula
    def product(number, code, at, constants, x, out, work):
        to, y_at = operand(word(code, at + Y), x, out, work)
        left, x_at = operand(word(code, at + X), x, out, work)
        right, other_at = operand(word(code, at + OTHER), x, out, work)
        cols, depth, flags = word(code, at + COLS), word(code, at + DEPTH), word(code, at + FLAGS)
        scale, y_row = real(as_double(word(code, at + A))), word(code, at + Y_STRIDE)
        left_row, left_step = word(code, at + X_STRIDE), np.int64(1)
        if flags & _TRANSPOSE_A != 0:
            left_row, left_step = left_step, left_row
        right_step, right_col = word(code, at + OTHER_STRIDE), np.int64(1)
        if flags & _TRANSPOSE_B != 0:
            right_step, right_col = right_col, right_step
        for _ in range(word(code, at + ROWS)):
            j = np.int64(0)
            while j < cols:
                total, i, here, there = zero, np.int64(0), x_at, other_at + j * right_col
                while i < depth:
                    total += load(left, here) * load(right, there)
                    here += left_step
                    there += right_step
                    i += 1
                store(to, y_at + j, scale * total)
                j += 1
            x_at += left_row
            y_at += y_row

    return product
