"""The encoder of a program for one sample: a network's code and constants on a GPU (see `frozen_layout`).

Weights are stored in the order in which the interpreter reads them, and values that are the same for all samples are
computed here. Values in the workspace get new places, without the gaps that the CPU's vector loops need.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cuda.device_function.layout import (
    ACTIVATIONS,
    HEAD,
    MAGIC,
    NONE,
    STRIDE,
    Head,
    Op,
    Place,
    Word,
    operand,
    tile_width,
)
from fastnn.formulas import custom
from fastnn.program.layout import FLAGS_WORD, Buffer, Flag
from fastnn.program.program import ITEM_SIZES, OperandView, Program, Value, dims_of, operands_of, params_of


@dataclass(frozen=True)
class _Spot:
    """An operand: its place and its first element there. A value of the workspace is identified by its number."""

    place: Place
    value: int
    offset: int


@dataclass(frozen=True)
class _Draft:
    """An instruction whose operands have no places yet."""

    op: Op
    y: _Spot
    x: _Spot
    other: _Spot | None = None
    words: dict[Word, int] = field(default_factory=dict)

    def spots(self) -> list[_Spot]:
        return [spot for spot in (self.y, self.x, self.other) if spot is not None]


_OUT = _Spot(Place.OUTPUT, 0, 0)


def encode(
    program: Program, parameters: NDArray[Any], sizes: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Make a network's code and constants.

    Parameters
    ----------
    program : Program
        For one sample, which it reads from the first data slot; it fills the second.
    parameters : ndarray of float32 or float64
        The model's weights.
    sizes : (int, int)
        Elements of a sample's input and output.

    Raises
    ------
    NotImplementedError
        When a record runs on the CPU only, such as a user-defined function.
    """
    encoder = _Encoder(program, parameters)
    for index in range(len(program)):
        encoder.add(index)
    if not encoder.constants:
        # an array on a device must not be empty
        encoder.constant(np.zeros(1))
    drafts, values = _keep_output_apart(encoder.drafts, encoder.values, sizes[1])
    offsets, workspace = _plan(drafts, values)
    constants = np.concatenate(encoder.constants)
    code = np.zeros(HEAD + STRIDE * len(drafts), np.int64)
    code[[Head.MAGIC, Head.ITEM_BYTES, Head.COUNT]] = MAGIC, parameters.dtype.itemsize, len(drafts)
    code[[Head.INPUTS, Head.OUTPUTS, Head.WORKSPACE, Head.CONSTANTS]] = *sizes, workspace, constants.size
    for draft, words in zip(drafts, code[HEAD:].reshape(-1, STRIDE), strict=True):
        words[Word.OP] = draft.op
        for word, spot in ((Word.Y, draft.y), (Word.X, draft.x), (Word.OTHER, draft.other)):
            if spot is not None:
                start = offsets[spot.value] if spot.place is Place.WORKSPACE else 0
                words[word] = operand(spot.place, start + spot.offset)
        for word, number in draft.words.items():
            words[word] = number
    verify(code)
    return code, constants


class _Encoder:
    """Makes drafts of records, and the constants that they read."""

    def __init__(self, program: Program, parameters: NDArray[Any]) -> None:
        self.program, self.parameters = program, parameters
        self.item = ITEM_SIZES[program.dtype]
        self.drafts: list[_Draft] = []
        self.constants: list[NDArray[Any]] = []
        self._elements = 0
        #: elements of the workspace's values by number: those of the program's arena, and new ones
        self.values = {index: value.nbytes // self.item for index, value in enumerate(program.values)}

    def add(self, index: int) -> None:
        """Make the drafts of a record."""
        program = self.program
        key, mapped, label = program.kernels[index], program.maps[index], program.labels[index]
        users = custom.first(key.variant, "" if mapped is None else mapped.variant)
        if users is not None or key.op not in _MAKERS:
            what = f"{users.name!r} is user-defined" if users is not None else f"{key.op} has no code for GPUs"
            raise NotImplementedError(f"{label}: {what}, and runs on the CPU only: use freeze() without a device")
        record = _Record(self, index)
        _MAKERS[key.op](self, record)

    def draft(self, op: Op, y: _Spot, x: _Spot, other: _Spot | None = None, **words: int) -> None:
        """Add an instruction; words are given by their names in lower case."""
        self.drafts.append(_Draft(op, y, x, other, {Word[name.upper()]: word for name, word in words.items()}))

    def constant(self, *arrays: NDArray[Any]) -> int:
        """Add constants, concatenated, and return the number of their first element, a multiple of four."""
        first = self._elements
        for array in arrays:
            self.constants.append(np.ascontiguousarray(array, self.parameters.dtype).reshape(-1))
            self._elements += array.size
        rest = -self._elements % 4
        self.constants.append(np.zeros(rest, self.parameters.dtype))
        self._elements += rest
        return first

    def temporary(self, elements: int) -> _Spot:
        """Make a value that the program does not have."""
        number = len(self.values)
        self.values[number] = elements
        return _Spot(Place.WORKSPACE, number, 0)

    def activate(self, y: _Spot, x: _Spot, count: int, formula: str, params: dict[str, float]) -> None:
        """Add an activation of `count` elements."""
        a, b = (_bits(params.get(name, 0.0)) for name in ("p0", "p1"))
        self.draft(Op.ACTIVATION, y, x, cols=count, activation=ACTIVATIONS.index(formula), a=a, b=b)


class _Record:
    """A record's contents, by name."""

    def __init__(self, encoder: _Encoder, index: int) -> None:
        record = encoder.program.records[index]
        self.formula = "" if (mapped := encoder.program.maps[index]) is None else mapped.variant
        self.dims, self.params = dims_of(record), params_of(record)
        self.flags = Flag(int(record[FLAGS_WORD]))
        self._views = {view.spec.name: view for view in operands_of(record, encoder.program.dtype)}
        self._encoder, self._index = encoder, index

    def has(self, name: str) -> bool:
        """Return whether the record has an operand."""
        return name in self._views

    def spot(self, name: str) -> _Spot:
        """Return the place of a value."""
        view = self._views[name]
        element = view.offset // self._encoder.item
        if view.buffer == Buffer.ARENA:
            number, value = self._value(view)
            return _Spot(Place.WORKSPACE, number, element - value.offset // self._encoder.item)
        places = {int(Buffer.DATA): Place.INPUT, Buffer.DATA + 1: Place.OUTPUT}
        return _Spot(places[view.buffer], 0, element)

    def weights(self, name: str, missing: float = 0.0) -> NDArray[Any]:
        """Return weights in float64; absent ones are all `missing`."""
        if not self.has(name):
            return np.full(self.dims["cols"], missing)
        view = self._views[name]
        if view.buffer != Buffer.PARAMETERS:
            raise NotImplementedError(f"{name} of {self._encoder.program.labels[self._index]} is not a weight")
        first = view.offset // self._encoder.item
        count = view.nbytes // self._encoder.item
        return self._encoder.parameters[first : first + count].astype(np.float64).reshape(view.shape)

    def _value(self, view: OperandView) -> tuple[int, Value]:
        """Return the arena's value that contains an operand."""
        for number, value in enumerate(self._encoder.program.values):
            inside = value.offset <= view.offset and view.offset + view.nbytes <= value.offset + value.nbytes
            if inside and value.first <= self._index <= value.last:
                return number, value
        raise ValueError(f"an operand of {self._encoder.program.labels[self._index]} is in no value of the arena")


def _bits(number: float) -> int:
    return int(np.float64(number).view(np.int64))


def _matmul(encoder: _Encoder, record: _Record) -> None:
    rows, cols, depth = (record.dims[name] for name in "mnk")
    if record.flags & (Flag.TRANSPOSE_A | Flag.TRANSPOSE_B | Flag.ACCUMULATE) or record.has("pre"):
        raise NotImplementedError("a matrix product that occurs only in training")
    weights = record.weights("b")
    bias = record.weights("bias") if record.has("bias") else np.zeros(cols)
    tiles, j = [], 0
    while j < cols:
        width = tile_width(cols - j)
        tile = np.zeros((1 + depth, width))
        part = slice(j, min(j + width, cols))
        tile[0, : part.stop - j], tile[1:, : part.stop - j] = bias[part], weights[:, part]
        tiles.append(tile)
        j += width
    y, x = record.spot("c"), record.spot("a")
    relu = record.formula == "relu"
    activated = record.formula and not relu
    # an activation in place, except in the output, which only the last instruction may write
    to = encoder.temporary(rows * cols) if activated and y.place is Place.OUTPUT else y
    number = ACTIVATIONS.index("relu") if relu else NONE
    encoder.draft(
        Op.MATMUL, to, x, constants=encoder.constant(*tiles), rows=rows, cols=cols, depth=depth, activation=number
    )
    if activated:
        encoder.activate(y, to, rows * cols, record.formula, record.params)


def _activation(encoder: _Encoder, record: _Record) -> None:
    encoder.activate(record.spot("y"), record.spot("x"), record.dims["n"], record.formula, record.params)


def _binary(op: Op) -> Callable[[_Encoder, _Record], None]:
    def binary(encoder: _Encoder, record: _Record) -> None:
        encoder.draft(op, record.spot("y"), record.spot("a"), record.spot("b"), cols=record.dims["n"])

    return binary


def _rows(op: Op) -> Callable[[_Encoder, _Record], None]:
    def rows(encoder: _Encoder, record: _Record) -> None:
        encoder.draft(op, record.spot("y"), record.spot("x"), rows=record.dims["rows"], cols=record.dims["cols"])

    return rows


def _affine(encoder: _Encoder, record: _Record, *vectors: NDArray[Any]) -> None:
    encoder.draft(
        Op.AFFINE, record.spot("y"), record.spot("x"), constants=encoder.constant(*vectors), rows=record.dims["rows"],
        cols=record.dims["cols"],
    )  # fmt: skip


def _bias_add(encoder: _Encoder, record: _Record) -> None:
    bias = record.weights("bias")
    _affine(encoder, record, np.zeros_like(bias), np.ones_like(bias), bias)


def _batch_norm(encoder: _Encoder, record: _Record) -> None:
    rstd = 1.0 / np.sqrt(record.weights("moving_variance") + record.params["epsilon"])
    scale = record.weights("gamma", 1.0) * rstd
    _affine(encoder, record, record.weights("moving_mean"), scale, record.weights("beta"))


def _layer_norm(encoder: _Encoder, record: _Record) -> None:
    constants = encoder.constant(record.weights("gamma", 1.0), record.weights("beta"))
    encoder.draft(
        Op.LAYER_NORM, record.spot("y"), record.spot("x"), constants=constants, rows=record.dims["rows"],
        cols=record.dims["cols"], a=_bits(record.params["epsilon"]),
    )  # fmt: skip


def _copy_columns(encoder: _Encoder, record: _Record) -> None:
    dims, y, x = record.dims, record.spot("y"), record.spot("x")
    y = replace(y, offset=y.offset + dims["target_first"])
    x = replace(x, offset=x.offset + dims["source_first"])
    encoder.draft(
        Op.COPY, y, x, rows=dims["rows"], cols=dims["cols"], y_stride=dims["target_cols"], x_stride=dims["source_cols"]
    )


_MAKERS: dict[str, Callable[[_Encoder, _Record], None]] = {
    "matmul": _matmul,
    "activation": _activation,
    "add": _binary(Op.ADD),
    "multiply": _binary(Op.MULTIPLY),
    "bias_add": _bias_add,
    "batch_norm_inference": _batch_norm,
    "layer_norm": _layer_norm,
    "softmax": _rows(Op.SOFTMAX),
    "log_softmax": _rows(Op.LOG_SOFTMAX),
    "copy_columns": _copy_columns,
}


# --- places -----------------------------------------------------------------------------------------------------


def _keep_output_apart(
    drafts: list[_Draft], values: dict[int, int], outputs: int
) -> tuple[list[_Draft], dict[int, int]]:
    """Make only the last instruction touch the output, and not the input, so that the two may share memory."""
    *others, last = drafts
    touched = any(spot.place is Place.OUTPUT for draft in others for spot in draft.spots())
    reads = [spot.place for spot in last.spots()[1:]]
    if not touched and not {Place.INPUT, Place.OUTPUT} & set(reads):
        return drafts, values
    number = len(values)

    def moved(spot: _Spot) -> _Spot:
        return replace(spot, place=Place.WORKSPACE, value=number) if spot.place is Place.OUTPUT else spot

    made = [
        replace(draft, y=moved(draft.y), x=moved(draft.x), other=None if draft.other is None else moved(draft.other))
        for draft in drafts
    ]
    words = {Word.ROWS: 1, Word.COLS: outputs, Word.Y_STRIDE: outputs, Word.X_STRIDE: outputs}
    copy = _Draft(Op.COPY, _OUT, _Spot(Place.WORKSPACE, number, 0), None, words)
    return [*made, copy], {**values, number: outputs}


def _plan(drafts: list[_Draft], values: dict[int, int]) -> tuple[dict[int, int], int]:
    """Give values their first elements in the workspace: the largest first, each in the lowest gap."""
    lives: dict[int, list[int]] = {}
    for index, draft in enumerate(drafts):
        for spot in draft.spots():
            if spot.place is Place.WORKSPACE:
                lives.setdefault(spot.value, []).append(index)
    offsets: dict[int, int] = {}
    placed: list[tuple[int, int, int, int]] = []
    for value in sorted(lives, key=lambda value: (-values[value], lives[value][0], value)):
        first, last, offset = lives[value][0], lives[value][-1], 0
        for start, end, begins, ends in sorted(placed):
            if begins <= last and first <= ends:
                if offset + values[value] <= start:
                    break
                offset = max(offset, end)
        offsets[value] = offset
        placed.append((offset, offset + values[value], first, last))
    return offsets, max((end for _, end, _, _ in placed), default=0)


# --- the interpreter's assumptions ------------------------------------------------------------------------------


def verify(code: NDArray[np.int64]) -> None:
    """Raise if an instruction would access memory out of bounds, or read a value before it is written.

    Raises
    ------
    ValueError
        Names the instruction; a bug in the encoder.
    """
    sizes = (int(code[Head.INPUTS]), int(code[Head.OUTPUTS]), int(code[Head.WORKSPACE]))
    written = [np.full(size, place == Place.INPUT) for place, size in zip(Place, sizes, strict=True)]
    for index, words in enumerate(code[HEAD:].reshape(-1, STRIDE).tolist()):
        for word, elements in _reads(words):
            place, within = _elements(words[word], elements, sizes, index)
            if not written[place][within].all():
                raise ValueError(f"instruction {index} reads a value before it is written")
        first, count = words[Word.CONSTANTS], _constants(words)
        if not 0 <= first <= first + count <= code[Head.CONSTANTS] or first % 4:
            raise ValueError(f"instruction {index} reads constants out of bounds")
        place, within = _elements(words[Word.Y], _written(words), sizes, index)
        if place is Place.INPUT:
            raise ValueError(f"instruction {index} writes to the input")
        written[place][within] = True
    if not written[Place.OUTPUT].all():
        raise ValueError("outputs are not all written")


def _elements(word: int, elements: NDArray[np.int64], sizes: tuple[int, ...], index: int) -> tuple[Place, Any]:
    place, first = Place(word % 4), word // 4
    within = first + elements
    if within.size and not 0 <= within.min() <= within.max() < sizes[place]:
        raise ValueError(f"instruction {index} touches {place.name} out of bounds")
    return place, within


def _table(rows: int, cols: int, stride: int) -> NDArray[np.int64]:
    """Return the elements of a table whose rows are `stride` apart."""
    return (stride * np.arange(rows)[:, None] + np.arange(cols)).reshape(-1)


def _reads(words: list[int]) -> list[tuple[Word, NDArray[np.int64]]]:
    rows, cols = words[Word.ROWS], words[Word.COLS]
    match Op(words[Word.OP]):
        case Op.MATMUL:
            return [(Word.X, np.arange(rows * words[Word.DEPTH]))]
        case Op.ACTIVATION:
            return [(Word.X, np.arange(cols))]
        case Op.ADD | Op.MULTIPLY:
            return [(Word.X, np.arange(cols)), (Word.OTHER, np.arange(cols))]
        case Op.COPY:
            return [(Word.X, _table(rows, cols, words[Word.X_STRIDE]))]
        case _:
            return [(Word.X, np.arange(rows * cols))]


def _written(words: list[int]) -> NDArray[np.int64]:
    rows, cols = words[Word.ROWS], words[Word.COLS]
    match Op(words[Word.OP]):
        case Op.ACTIVATION | Op.ADD | Op.MULTIPLY:
            return np.arange(cols)
        case Op.COPY:
            return _table(rows, cols, words[Word.Y_STRIDE])
        case _:
            return np.arange(rows * cols)


def _constants(words: list[int]) -> int:
    cols = words[Word.COLS]
    match Op(words[Word.OP]):
        case Op.MATMUL:
            left, count = cols, 0
            while left > 0:
                width = tile_width(left)
                count += (1 + words[Word.DEPTH]) * width
                left -= width
            return count
        case Op.AFFINE:
            return 3 * cols
        case Op.LAYER_NORM:
            return 2 * cols
        case _:
            return 0
