"""The interpreter of a network's code in one thread of a user's kernel: one function for all networks.

All threads of a warp are at the same instruction and read the same weights, so each weight is a single access.
"""

# The functions are compiled for the GPU, where their arguments are typed; annotations would add nothing.
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from fastnn.backend.cuda.codegen.kernel import functions, ptx
from fastnn.backend.cuda.codegen.options import formula
from fastnn.backend.cuda.device_function.instruction import Tools
from fastnn.backend.cuda.device_function.instructions import BY_NUMBER, MAGIC
from fastnn.backend.cuda.device_function.layout import ACTIVATIONS, HEAD, PLACE_BITS, STRIDE, Head, Place
from fastnn.formulas import activations

_load_word = ptx.LOADS["int64"]
# plain integers: compiled code has no enumerations
_MAGIC, _ITEM_BYTES, _COUNT = int(Head.MAGIC), int(Head.ITEM_BYTES), int(Head.COUNT)
_INPUTS, _OUTPUTS, _WORKSPACE, _CONSTANTS = (
    int(word) for word in (Head.INPUTS, Head.OUTPUTS, Head.WORKSPACE, Head.CONSTANTS)
)
_INTEGERS, _LOWEST, _HIGHEST = int(Head.INTEGERS), int(Head.LOWEST), int(Head.HIGHEST)
_INPUT, _OUTPUT, _PLACES = int(Place.INPUT), int(Place.OUTPUT), (1 << PLACE_BITS) - 1


def choose(among: Sequence[Any], first: int = 0) -> Any:
    """Make a function that calls the function of a number, with the same arguments.

    It is a tree with four branches per node: each node is a function to compile, and each branch takes time.
    """
    if len(among) == 1:
        return among[0]
    size = -(-len(among) // 4)
    starts = [*range(0, len(among), size)]
    parts = [choose(among[start : start + size], first + start) for start in starts]
    missing = 4 - len(parts)
    one, two, three, four = parts + parts[-1:] * missing
    second, third, fourth = (first + start for start in starts[1:] + starts[-1:] * missing)

    @formula
    def choice(number, code, at, constants, x, out, work):
        if number < second:
            one(number, code, at, constants, x, out, work)
        elif number < third:
            two(number, code, at, constants, x, out, work)
        elif number < fourth:
            three(number, code, at, constants, x, out, work)
        else:
            four(number, code, at, constants, x, out, work)

    return choice


@formula
def _operand(word, x, out, work):
    """Return the memory of an operand, and the number of its first element there."""
    place = word & _PLACES
    return x if place == _INPUT else (out if place == _OUTPUT else work), word >> PLACE_BITS


def _integers(given: str) -> Any:
    """Make load(memory, index) for a sample's input of a dtype, as int64; one of numbers is never read by it."""
    if not is_integer(given):

        @formula
        def absent(memory, index):
            return np.int64(0)

        return absent
    load = ptx.ANY_LOADS[given]

    @formula
    def integer(memory, index):
        return np.int64(load(memory, index))

    return integer


def is_integer(dtype: str) -> bool:
    """Return whether a dtype is that of integers."""
    return np.dtype(dtype).kind in "iu"


def tools(dtype: str, given: str) -> Tools:
    """Return the building blocks of instructions, for a sample's input of the dtype `given`."""
    real = np.dtype(dtype).type
    table = activations.define(real, formula, functions(dtype))
    return Tools(
        real=real,
        load=ptx.ANY_LOADS[dtype],
        store=ptx.ANY_STORES[dtype],
        integer=_integers(given),
        constant=ptx.LOADS[dtype],
        constants=ptx.LOAD_PACKS[dtype],
        word=_load_word,
        as_double=ptx.int_as_double,
        operand=_operand,
        formula=formula,
        math=functions(dtype),
        activations=[table[name][0] for name in ACTIVATIONS],
        choose=choose,
    )


@cache
def define(dtype: str, given: str) -> Any:
    """Make `predict(code, words, constants, elements, x, inputs, out, outputs, work, size)` for a dtype, and one of x.

    `code` and `constants` are addresses in global memory, with `words` words and `elements` elements; x, out and work
    are memory of any kind, followed by their sizes. If sizes or the dtype of x do not fit, or an integer is out of
    range, it fills out with NaN and does nothing else.
    """
    real, store = np.dtype(dtype).type, ptx.ANY_STORES[dtype]
    item_bytes, nan = np.dtype(dtype).itemsize, real(np.nan)
    made = tools(dtype, given)
    step, integer = choose([each.make(made) for each in BY_NUMBER]), made.integer
    integers, unsigned = is_integer(given), np.dtype(given).kind == "u"

    @formula
    def fits(code, words, elements, inputs, outputs, size):
        if words < HEAD:
            return False
        return (
            _load_word(code, _MAGIC) == MAGIC
            and _load_word(code, _ITEM_BYTES) == item_bytes
            and _load_word(code, _COUNT) * STRIDE + HEAD == words
            and _load_word(code, _CONSTANTS) == elements
            and _load_word(code, _INPUTS) == inputs
            and _load_word(code, _OUTPUTS) == outputs
            and _load_word(code, _WORKSPACE) <= size
            and (_load_word(code, _INTEGERS) != 0) == integers
        )

    @formula
    def in_range(code, x, inputs):
        lowest, highest = _load_word(code, _LOWEST), _load_word(code, _HIGHEST)
        i = np.int64(0)
        while i < inputs:
            held = integer(x, i)
            # an integer of 64 bits without a sign may be above all that have one
            if held < lowest or held > highest or (unsigned and held < 0):
                return False
            i += 1
        return True

    @formula
    def predict(code, words, constants, elements, x, inputs, out, outputs, work, size):
        if fits(code, words, elements, inputs, outputs, size) and (not integers or in_range(code, x, inputs)):
            at = np.int64(HEAD)
            while at < words:
                step(_load_word(code, at), code, at, constants, x, out, work)
                at += STRIDE
        else:
            for j in range(outputs):
                store(out, j, nan)

    return predict
