"""An instruction of the interpreter: its function, and what it touches, for the check of a code.

A factory takes `Tools` and returns `(number, code, at, constants, x, out, work)`, for one sample on one thread: the
instruction with this number is at word `at` of the code; see `layout`. The check of a code has made sure that reads and
writes are within bounds. Inner loops use `while`: numba-cuda's `range` takes ten more instructions. Modules of
instructions import nothing of Numba, because codes are also made and checked where it cannot compile for GPUs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cuda.device_function.layout import InstructionWord

# the words as plain integers: compiled code has no enumerations
OP, Y, X, OTHER, CONSTANTS, ROWS, COLS, DEPTH, Y_STRIDE, X_STRIDE, ACTIVATION, A, B, OTHER_STRIDE, FLAGS = (
    int(word) for word in list(InstructionWord)[:15]
)
MAPS, RESULTS, WINDOW, MOVES, DILATION, PADDING = (int(word) for word in list(InstructionWord)[15:])

#: Elements that an instruction touches, by the word of the operand that they belong to.
Elements = NDArray[np.int64]
Touches = Callable[[Sequence[int]], Elements]


@dataclass(frozen=True)
class Tools:
    """The building blocks of an instruction for a dtype.

    Attributes
    ----------
    real : type
    load, store : device functions
        load(memory, index) and store(memory, index, value) for values of a sample, in memory of any kind.
    integer : device function
        load(memory, index) for a sample's input of integers, as int64.
    constant, constants : device functions
        One constant, and a pack of neighbours.
    word, as_double : device functions
        A word of the code, and the float64 in it.
    operand : device function
        (word, x, out, work) -> memory of an operand, and the number of its first element there.
    formula : callable
        Compiles device functions.
    math : namespace
        Elementary functions.
    activations : list
        Functions (value, a, b) by number.
    choose : callable
        Makes a function that calls the function of a number.
    """

    real: Any
    load: Any
    store: Any
    integer: Any
    constant: Any
    constants: Any
    word: Any
    as_double: Any
    operand: Any
    formula: Callable[[Any], Any]
    math: SimpleNamespace
    activations: Sequence[Any]
    choose: Callable[[Sequence[Any]], Any]


@dataclass(frozen=True)
class Instruction:
    """Description of an instruction.

    Attributes
    ----------
    make : callable
        Returns its function for some tools.
    reads : mapping of word to callable
        The elements that it reads, for its words.
    writes : callable
        The elements of y that it writes.
    constants : callable
        The number of constants that it reads.
    integers : bool
        Whether it reads the sample's input of integers; it reads numbers otherwise.
    """

    make: Callable[[Tools], Any]
    reads: dict[InstructionWord, Touches]
    writes: Touches
    constants: Callable[[Sequence[int]], int]
    integers: bool


INSTRUCTIONS: dict[str, Instruction] = {}


def table(words: Sequence[int]) -> Elements:
    """Return all elements of ROWS x COLS."""
    return np.arange(words[InstructionWord.ROWS] * words[InstructionWord.COLS])


def columns(words: Sequence[int]) -> Elements:
    """Return COLS elements."""
    return np.arange(words[InstructionWord.COLS])


def instruction(
    name: str,
    *,
    x: Touches = table,
    other: Touches | None = None,
    y: Touches = table,
    constants: Callable[[Sequence[int]], int] = lambda words: 0,
    integers: bool = False,
) -> Callable[[Callable[[Tools], Any]], Callable[[Tools], Any]]:
    """Register the factory of an instruction, with the elements of its operands and the number of its constants."""

    def register(make: Callable[[Tools], Any]) -> Callable[[Tools], Any]:
        reads = {InstructionWord.X: x} if other is None else {InstructionWord.X: x, InstructionWord.OTHER: other}
        INSTRUCTIONS[name] = Instruction(make, reads, y, constants, integers)
        return make

    return register
