"""A network's code and constants on a GPU, from a program for one sample (see `layout`).

Values in the workspace get new places, without the gaps that the CPU's vector loops need.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cuda.device_function.encoder import Draft, Encoder, Spot
from fastnn.backend.cuda.device_function.instruction import Elements
from fastnn.backend.cuda.device_function.instructions import BY_NUMBER, MAGIC, NUMBERS
from fastnn.backend.cuda.device_function.layout import HEAD, STRIDE, Head, InstructionWord, Place, operand
from fastnn.program.program import Program

_OUT = Spot(Place.OUTPUT, 0, 0)


def encode(
    program: Program, parameters: NDArray[Any], sizes: tuple[int, int], integers: tuple[int, int] | None = None
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
    integers : (int, int), optional
        The range of the input, if it is of integers.

    Raises
    ------
    NotImplementedError
        When a record runs on the CPU only, such as a user-defined function.
    """
    encoder = Encoder(program, parameters)
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
    if integers is not None:
        code[[Head.INTEGERS, Head.LOWEST, Head.HIGHEST]] = 1, *integers
    for draft, words in zip(drafts, code[HEAD:].reshape(-1, STRIDE), strict=True):
        words[InstructionWord.OP] = NUMBERS[draft.op]
        for word, spot in (
            (InstructionWord.Y, draft.y),
            (InstructionWord.X, draft.x),
            (InstructionWord.OTHER, draft.other),
        ):
            if spot is not None:
                start = offsets[spot.value] if spot.place is Place.WORKSPACE else 0
                words[word] = operand(spot.place, start + spot.offset)
        for word, number in draft.words.items():
            words[word] = number
    verify(code)
    return code, constants


# --- places -----------------------------------------------------------------------------------------------------


def _keep_output_apart(drafts: list[Draft], values: dict[int, int], outputs: int) -> tuple[list[Draft], dict[int, int]]:
    """Make only the last instruction touch the output, and not the input, so that the two may share memory."""
    *others, last = drafts
    touched = any(spot.place is Place.OUTPUT for draft in others for spot in draft.spots())
    reads = [spot.place for spot in last.spots()[1:]]
    if not touched and not {Place.INPUT, Place.OUTPUT} & set(reads):
        return drafts, values
    number = len(values)

    def moved(spot: Spot) -> Spot:
        return replace(spot, place=Place.WORKSPACE, value=number) if spot.place is Place.OUTPUT else spot

    made = [
        replace(draft, y=moved(draft.y), x=moved(draft.x), other=None if draft.other is None else moved(draft.other))
        for draft in drafts
    ]
    words = {
        InstructionWord.ROWS: 1,
        InstructionWord.COLS: outputs,
        InstructionWord.Y_STRIDE: outputs,
        InstructionWord.X_STRIDE: outputs,
    }
    copy = Draft("copy", _OUT, Spot(Place.WORKSPACE, number, 0), None, words)
    return [*made, copy], {**values, number: outputs}


def _plan(drafts: list[Draft], values: dict[int, int]) -> tuple[dict[int, int], int]:
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
        instruction = BY_NUMBER[words[InstructionWord.OP]]
        for word, reads in instruction.reads.items():
            place, within = _elements(words[word], reads(words), sizes, index)
            if instruction.integers != (place is Place.INPUT and bool(code[Head.INTEGERS])):
                raise ValueError(f"instruction {index} reads integers as numbers, or numbers as integers")
            if not written[place][within].all():
                raise ValueError(f"instruction {index} reads a value before it is written")
        first, count = words[InstructionWord.CONSTANTS], instruction.constants(words)
        if not 0 <= first <= first + count <= code[Head.CONSTANTS] or first % 4:
            raise ValueError(f"instruction {index} reads constants out of bounds")
        place, within = _elements(words[InstructionWord.Y], instruction.writes(words), sizes, index)
        if place is Place.INPUT:
            raise ValueError(f"instruction {index} writes to the input")
        written[place][within] = True
    if not written[Place.OUTPUT].all():
        raise ValueError("outputs are not all written")


def _elements(word: int, elements: Elements, sizes: tuple[int, ...], index: int) -> tuple[Place, Any]:
    place, first = Place(word % 4), word // 4
    within = first + elements
    if within.size and not 0 <= within.min() <= within.max() < sizes[place]:
        raise ValueError(f"instruction {index} touches {place.name} out of bounds")
    return place, within
