"""The encoder of records: drafts of instructions, whose operands have no places yet, and the constants they read.

Weights are stored in the order in which the interpreter reads them, and values that are the same for all samples are
computed here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cuda.device_function.layout import ACTIVATIONS, InstructionWord, Place
from fastnn.formulas import custom
from fastnn.modules import entering
from fastnn.program.layout import FLAGS_WORD, Buffer, Flag
from fastnn.program.program import Program, Value
from fastnn.program.record import ITEM_SIZES, OperandView, dims_of, operands_of, params_of


@dataclass(frozen=True)
class Spot:
    """An operand: its place and its first element there. A value of the workspace is identified by its number."""

    place: Place
    value: int
    offset: int


@dataclass(frozen=True)
class Draft:
    """An instruction whose operands have no places yet."""

    op: str
    y: Spot
    x: Spot
    other: Spot | None = None
    words: dict[InstructionWord, int] = field(default_factory=dict)

    def spots(self) -> list[Spot]:
        return [spot for spot in (self.y, self.x, self.other) if spot is not None]


class Encoder:
    """Makes drafts of records, and the constants that they read."""

    def __init__(self, program: Program, parameters: NDArray[Any]) -> None:
        self.program, self.parameters = program, parameters
        self.item = ITEM_SIZES[program.dtype]
        self.drafts: list[Draft] = []
        self.constants: list[NDArray[Any]] = []
        self._elements = 0
        #: elements of the workspace's values by number: those of the program's arena, and new ones
        self.values = {index: value.nbytes // self.item for index, value in enumerate(program.values)}

    def add(self, index: int) -> None:
        """Make the drafts of a record."""
        program = self.program
        key, mapped, label = program.kernels[index], program.maps[index], program.labels[index]
        users = custom.first(key.variant, "" if mapped is None else mapped.variant)
        if users is not None or key.op not in ENCODERS:
            what = f"{users.name!r} is user-defined" if users is not None else f"{key.op} has no code for GPUs"
            raise NotImplementedError(f"{label}: {what}, and runs on the CPU only: use freeze() without a device")
        ENCODERS[key.op](self, Record(self, index))

    def draft(self, op: str, y: Spot, x: Spot, other: Spot | None = None, **words: int) -> None:
        """Add an instruction; words are given by their names in lower case."""
        self.drafts.append(
            Draft(op, y, x, other, {InstructionWord[name.upper()]: word for name, word in words.items()})
        )

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

    def temporary(self, elements: int) -> Spot:
        """Make a value that the program does not have."""
        number = len(self.values)
        self.values[number] = elements
        return Spot(Place.WORKSPACE, number, 0)

    def activate(self, y: Spot, x: Spot, count: int, formula: str, params: dict[str, float]) -> None:
        """Add an activation of `count` elements."""
        a, b = (bits(params.get(name, 0.0)) for name in ("p0", "p1"))
        self.draft("activation", y, x, cols=count, activation=ACTIVATIONS.index(formula), a=a, b=b)


class Record:
    """A record's contents, by name."""

    def __init__(self, encoder: Encoder, index: int) -> None:
        record = encoder.program.records[index]
        self.op, self.variant = encoder.program.kernels[index].op, encoder.program.kernels[index].variant
        self.formula = "" if (mapped := encoder.program.maps[index]) is None else mapped.variant
        self.dims, self.params = dims_of(record), params_of(record)
        self.flags = Flag(int(record[FLAGS_WORD]))
        self._views = {view.spec.name: view for view in operands_of(record, encoder.program.dtype)}
        self._encoder, self._index = encoder, index

    def has(self, name: str) -> bool:
        """Return whether the record has an operand."""
        return name in self._views

    def spot(self, name: str) -> Spot:
        """Return the place of a value."""
        view = self._views[name]
        element = view.offset // self._encoder.item
        if view.buffer == Buffer.ARENA:
            number, value = self._value(view)
            return Spot(Place.WORKSPACE, number, element - value.offset // self._encoder.item)
        if view.buffer == Buffer.PARAMETERS and view.spec.access == "read":
            # weights where values are expected are copied to the workspace
            encoder, count = self._encoder, view.nbytes // self._encoder.item
            made = encoder.temporary(count)
            encoder.draft("constant", made, made, cols=count, constants=encoder.constant(self.weights(name)))
            return made
        places = {int(Buffer.DATA): Place.INPUT, Buffer.DATA + 1: Place.OUTPUT}
        return Spot(places[view.buffer], 0, element)

    def is_weight(self, name: str) -> bool:
        """Return whether an operand is a weight."""
        return self._views[name].buffer == Buffer.PARAMETERS

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


def bits(number: float) -> int:
    """Return the word of a float64."""
    return int(np.float64(number).view(np.int64))


Encode = Callable[[Encoder, Record], None]
ENCODERS: dict[str, Encode] = {}


def encodes(*ops: str) -> Callable[[Encode], Encode]:
    """Register what makes the instructions of the records of some ops."""
    return entering(ENCODERS, ops)
