"""Functions of one to three broadcast values, element by element."""

# The functions are compiled for the GPU, where their arguments are typed; annotations would add nothing.
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn.backend.cuda.device_function.encoder import Encoder, Record, Spot, bits, encodes
from fastnn.backend.cuda.device_function.instruction import (
    ACTIVATION,
    COLS,
    OTHER,
    OTHER_STRIDE,
    X_STRIDE,
    Elements,
    Tools,
    X,
    Y,
    columns,
    instruction,
)
from fastnn.backend.cuda.device_function.instructions.moves import places_of, take_places
from fastnn.formulas.pointwise import ARITY, define

# those of one or two arguments, by number
_FUNCTIONS = tuple(name for name, arity in ARITY.items() if arity < 3)


@encodes("pointwise")
def _encode_pointwise(encoder: Encoder, record: Record) -> None:
    y, n = record.spot("y"), record.dims["n"]
    if record.formula == "where":
        # y is the last argument, but where the condition is true the one before
        (condition, condition_step), (a, a_step), (b, b_step) = (_argument(encoder, record, k) for k in range(3))
        _apply(encoder, "identity", n, y, (b, b_step), (b, b_step))
        encoder.draft("choose", y, condition, a, cols=n, x_stride=condition_step, other_stride=a_step)
        return
    arguments = [_argument(encoder, record, k) for k in range(ARITY[record.formula])]
    _apply(encoder, record.formula, n, y, arguments[0], arguments[-1])


def _apply(encoder: Encoder, function: str, n: int, y: Spot, x: tuple[Spot, int], other: tuple[Spot, int]) -> None:
    number = _FUNCTIONS.index(function)
    encoder.draft("pointwise", y, x[0], other[0], cols=n, activation=number, x_stride=x[1], other_stride=other[1])


def _argument(encoder: Encoder, record: Record, number: int) -> tuple[Spot, int]:
    """Return a place of an argument, and how many elements apart neighbours are there: 0 or 1."""
    dims, name = record.dims, "abc"[number]
    if not record.has(name):
        made = encoder.temporary(1)
        encoder.draft("fill", made, made, cols=1, a=bits(record.params[f"p{number}"]))
        return made, 0
    spot, n = record.spot(name), dims["n"]
    sizes = [dims[f"n{axis}"] for axis in range(1, 4)]
    sizes = [n // int(np.prod(sizes)), *sizes]
    strides = [dims[f"{name}{axis}"] for axis in range(4)]
    if not any(strides):
        return spot, 0
    places = places_of(sizes, strides)
    if (places == np.arange(n)).all():
        return spot, 1
    made = encoder.temporary(n)
    take_places(encoder, made, spot, places, int(places.max()) + 1)
    return made, 1


def _stepped(word: int) -> Any:
    """Return what an argument reads: COLS elements, or one for all if the stride in this word is 0."""

    def touched(words: Sequence[int]) -> Elements:
        return np.arange(words[COLS]) * words[word]

    return touched


@instruction("pointwise", x=_stepped(X_STRIDE), other=_stepped(OTHER_STRIDE), y=columns)
def _pointwise(tools: Tools) -> Any:
    """Make y = f(x, other); a function of one argument ignores the other."""
    formula, word, operand, load, store = tools.formula, tools.word, tools.operand, tools.load, tools.store
    table = define(tools.real, formula, tools.math)
    value = _tree(formula, [_of_two(formula, table[name], ARITY[name]) for name in _FUNCTIONS])

    @formula
    def pointwise(number, code, at, constants, x, out, work):
        to, y_at = operand(word(code, at + Y), x, out, work)
        source, x_at = operand(word(code, at + X), x, out, work)
        other, other_at = operand(word(code, at + OTHER), x, out, work)
        x_step, other_step = word(code, at + X_STRIDE), word(code, at + OTHER_STRIDE)
        function = word(code, at + ACTIVATION)
        j, cols = np.int64(0), word(code, at + COLS)
        while j < cols:
            store(to, y_at + j, value(function, load(source, x_at), load(other, other_at)))
            x_at += x_step
            other_at += other_step
            j += 1

    return pointwise


def _of_two(formula: Any, function: Any, arity: int) -> Any:
    if arity == 2:
        return function

    @formula
    def of_two(a, b):
        return function(a)

    return of_two


def _tree(formula: Any, among: Sequence[Any], first: int = 0) -> Any:
    """Make a function that calls the function of a number; it has four branches per node, as `tools.choose`."""
    if len(among) == 1:
        only = among[0]

        @formula
        def leaf(number, a, b):
            return only(a, b)

        return leaf
    size = -(-len(among) // 4)
    starts = [*range(0, len(among), size)]
    parts = [_tree(formula, among[start : start + size], first + start) for start in starts]
    missing = 4 - len(parts)
    one, two, three, four = parts + parts[-1:] * missing
    second, third, fourth = (first + start for start in starts[1:] + starts[-1:] * missing)

    @formula
    def choice(number, a, b):
        if number < second:
            return one(number, a, b)
        if number < third:
            return two(number, a, b)
        if number < fourth:
            return three(number, a, b)
        return four(number, a, b)

    return choice


@instruction("choose", x=_stepped(X_STRIDE), other=_stepped(OTHER_STRIDE), y=columns)
def _choose(tools: Tools) -> Any:
    """Make y = other where x is not zero."""
    formula, word, operand, load, store = tools.formula, tools.word, tools.operand, tools.load, tools.store
    zero = tools.real(0.0)

    @formula
    def choose(number, code, at, constants, x, out, work):
        to, y_at = operand(word(code, at + Y), x, out, work)
        source, x_at = operand(word(code, at + X), x, out, work)
        other, other_at = operand(word(code, at + OTHER), x, out, work)
        x_step, other_step = word(code, at + X_STRIDE), word(code, at + OTHER_STRIDE)
        j, cols = np.int64(0), word(code, at + COLS)
        while j < cols:
            if load(source, x_at) != zero:
                store(to, y_at + j, load(other, other_at))
            x_at += x_step
            other_at += other_step
            j += 1

    return choose


@encodes("to_real")
def _encode_to_real(encoder: Encoder, record: Record) -> None:
    encoder.draft("to_real", record.spot("y"), record.spot("x"), cols=record.dims["n"])


@instruction("to_real", x=columns, y=columns, integers=True)
def _to_real(tools: Tools) -> Any:
    """Make numbers of integers."""
    formula, word, operand, integer, store = tools.formula, tools.word, tools.operand, tools.integer, tools.store
    real = tools.real

    @formula
    def to_real(number, code, at, constants, x, out, work):
        to, y_at = operand(word(code, at + Y), x, out, work)
        source, x_at = operand(word(code, at + X), x, out, work)
        j, cols = np.int64(0), word(code, at + COLS)
        while j < cols:
            store(to, y_at + j, real(integer(source, x_at + j)))
            j += 1

    return to_real
