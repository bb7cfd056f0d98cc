"""Entries from Python: a compiled function and its arguments as a builtin that takes no argument.

ctypes took 1.1 µs to convert seven arguments, 0.4 µs with arguments made once. A builtin that reads them from a block
which it owns takes 0.12 µs, of which the release of the GIL is half. It is an ordinary builtin (`PyCFunction_NewEx`,
METH_NOARGS) whose C function is compiled by LLVM, as kernels are, and calls four functions of Python's stable ABI.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm

from fastnn.backend.cpu import library
from fastnn.backend.cpu.store import ObjectCode

# Words of a block: the function's address, its result, its error, its arguments.
_FUNCTION, _RESULT, _ERROR, _ARGUMENTS = range(4)
_SYMBOL = "fastnn_entry"
_METH_NOARGS = 4


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
        self.start: Callable[[], int] = _new()(_definition(len(arguments)), block, None)


class _MethodDef(ctypes.Structure):
    """PyMethodDef of Python's stable ABI."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


@functools.cache
def _new() -> Any:
    prototype = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.POINTER(_MethodDef), ctypes.py_object, ctypes.c_void_p)
    return prototype(("PyCFunction_NewEx", ctypes.pythonapi))


@functools.cache
def _definition(arguments: int) -> Any:
    """Return the method of functions of so many arguments; builtins point to it for the rest of the process."""
    for name in ("PyByteArray_AsString", "PyEval_SaveThread", "PyEval_RestoreThread", "PyLong_FromLongLong"):
        llvm.add_symbol(name, ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value)
    address = library.load(f"entry-{arguments}", functools.partial(_compile, arguments))
    return ctypes.pointer(_MethodDef(b"start", address, _METH_NOARGS, None))


def _compile(arguments: int) -> ObjectCode:
    """Compile `PyObject *entry(PyObject *block, PyObject *unused)` for functions of so many arguments."""
    from llvmlite import ir

    word, status, nothing = ir.IntType(64), ir.IntType(32), ir.VoidType()
    pointer = ir.IntType(8).as_pointer()
    module = ir.Module(_SYMBOL)

    def foreign(name: str, result: ir.Type, *parameters: ir.Type) -> ir.Function:
        return ir.Function(module, ir.FunctionType(result, parameters), name)

    entry = foreign(_SYMBOL, pointer, pointer, pointer)
    builder = ir.IRBuilder(entry.append_basic_block())
    address = builder.call(foreign("PyByteArray_AsString", pointer, pointer), [entry.args[0]])
    block = builder.bitcast(address, word.as_pointer())

    def at(index: int) -> ir.Value:
        return builder.gep(block, [word(index)])

    native = ir.FunctionType(status, [word.as_pointer(), word.as_pointer(), *[word] * arguments])
    function = builder.inttoptr(builder.load(at(_FUNCTION)), native.as_pointer())
    given = [builder.load(at(_ARGUMENTS + index)) for index in range(arguments)]
    state = builder.call(foreign("PyEval_SaveThread", pointer), [])
    raised = builder.icmp_signed("!=", builder.call(function, [at(_RESULT), at(_ERROR), *given]), status(0))
    builder.call(foreign("PyEval_RestoreThread", nothing, pointer), [state])
    result = builder.select(raised, word(-1), builder.load(at(_RESULT)))
    builder.ret(builder.call(foreign("PyLong_FromLongLong", pointer, word), [result]))
    parsed = llvm.parse_assembly(str(module))
    return ObjectCode(_SYMBOL, library.machine().emit_object(parsed))
