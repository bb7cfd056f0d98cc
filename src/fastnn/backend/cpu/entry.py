"""Entries from Python: a compiled function and its arguments as a builtin that takes no argument.

ctypes took 1.1 µs to convert seven arguments, 0.4 µs with arguments made once. A builtin that reads them from a block
which it owns takes 0.12 µs, of which the release of the GIL is half.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from fastnn.backend.cpu import builtin
from fastnn.backend.cpu.builtin import METH_NOARGS, Python
from fastnn.backend.cpu.store import ObjectCode

# Words of a block: the function's address, its result, its error, its arguments.
_FUNCTION, _RESULT, _ERROR, _ARGUMENTS = range(4)
_SYMBOL = "fastnn_entry"


class Entry:
    """A compiled function that returns an int64, and the arguments that it is called with.

    Attributes
    ----------
    arguments : memoryview of int64
        May be assigned between calls. Two threads must not share an entry.
    start : callable
        `start()` calls the function with the GIL released and returns its result, -1 where it raised.

    Parameters
    ----------
    address : int
        Of a function in Numba's native convention, with as many int64 parameters as there are arguments.
    arguments : int
        Values at the start. The caller keeps alive what they point to.
    """

    __slots__ = ("arguments", "start")

    def __init__(self, address: int, *arguments: int) -> None:
        # the builtin keeps the block alive, and the view keeps it from being resized
        block = bytearray(8 * (_ARGUMENTS + len(arguments)))
        words = memoryview(block).cast("q")
        words[_FUNCTION] = address
        self.arguments = words[_ARGUMENTS:]
        for index, value in enumerate(arguments):
            self.arguments[index] = value
        code = functools.partial(_compile, len(arguments))
        self.start: Callable[[], int] = builtin.make(f"entry-{len(arguments)}", METH_NOARGS, block, code)


def _compile(arguments: int) -> ObjectCode:
    """Compile `PyObject *entry(PyObject *block, PyObject *unused)` for functions of so many arguments."""
    from llvmlite import ir

    python = Python(_SYMBOL)
    word, pointer = python.word, python.pointer
    entry = python.function(_SYMBOL, pointer, pointer, pointer)
    builder = ir.IRBuilder(entry.append_basic_block())
    block = python.block_of(builder, entry.args[0])

    def at(index: int) -> Any:
        return builder.gep(block, [word(index)])

    native = ir.FunctionType(python.status, [word.as_pointer(), word.as_pointer(), *[word] * arguments])
    function = builder.inttoptr(builder.load(at(_FUNCTION)), native.as_pointer())
    given = [builder.load(at(_ARGUMENTS + index)) for index in range(arguments)]
    with python.without_gil(builder):
        status = builder.call(function, [at(_RESULT), at(_ERROR), *given])
    raised = builder.icmp_signed("!=", status, python.status(0))
    result = builder.select(raised, word(-1), builder.load(at(_RESULT)))
    builder.ret(builder.call(python.function("PyLong_FromLongLong", pointer, word), [result]))
    return python.compiled()
