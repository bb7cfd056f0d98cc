"""Python builtins (`PyCFunction_NewEx`) that LLVM compiles.

Their C function is an object file, like kernels, and calls functions of Python's stable ABI.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
from collections.abc import Callable, Iterator
from typing import Any

import llvmlite.binding as llvm

from fastnn.backend.cpu.loading import library
from fastnn.backend.cpu.loading.store import ObjectCode

#: How a builtin receives its arguments: none, or as an array and its length.
METH_NOARGS, METH_FASTCALL = 0x4, 0x80

_CALLED = (
    "PyByteArray_AsString", "PyEval_SaveThread", "PyEval_RestoreThread", "PyLong_FromLongLong", "PyBool_FromLong",
    "PyObject_CallNoArgs", "PyErr_Occurred", "PyErr_Clear", "Py_DecRef", "PyList_New", "PyList_SetItem",
)  # fmt: skip


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
def _method(name: bytes, address: int, flags: int) -> Any:
    """Return a method definition; builtins point to it for the rest of the process."""
    return ctypes.pointer(_MethodDef(name, address, flags, None))


@functools.cache
def _announce() -> None:
    """Register the addresses of Python's functions with LLVM's linker."""
    for name in _CALLED:
        llvm.add_symbol(name, ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value)


def make(name: str, flags: int, block: bytearray, compile_code: Callable[[], ObjectCode]) -> Any:
    """Make a builtin whose C function gets the block as its `self`, and keeps it alive.

    Parameters
    ----------
    name : str
        Name of the C function in the library.
    flags : int
        `METH_NOARGS` or `METH_FASTCALL`.
    compile_code : callable
        Compiles the C function if neither memory nor disk has it.
    """
    _announce()
    return _new()(_method(name.encode(), library.load(name, compile_code), flags), block, None)


class Python:
    """A module in LLVM IR whose functions call Python's stable ABI.

    Attributes
    ----------
    word, status, byte, pointer, nothing : llvmlite types
        int64; int32, which Numba's native functions return; int8; any pointer; void.
    """

    def __init__(self, name: str) -> None:
        from llvmlite import ir

        self._ir, self._symbol = ir, name
        self.word, self.status, self.nothing = ir.IntType(64), ir.IntType(32), ir.VoidType()
        self.byte = ir.IntType(8)
        self.pointer = self.byte.as_pointer()
        self.module = ir.Module(name)

    def function(self, name: str, result: Any, *parameters: Any) -> Any:
        """Declare a function, once."""
        found = self.module.globals.get(name)
        return found or self._ir.Function(self.module, self._ir.FunctionType(result, parameters), name)

    def block_of(self, builder: Any, block: Any) -> Any:
        """Return a pointer to the words of the block that a builtin was made with."""
        address = builder.call(self.function("PyByteArray_AsString", self.pointer, self.pointer), [block])
        return builder.bitcast(address, self.word.as_pointer())

    def words_of(self, builder: Any, block: Any, count: int) -> list[Any]:
        """Load the first words of a block."""
        words = self.block_of(builder, block)
        return [builder.load(builder.gep(words, [self.word(index)])) for index in range(count)]

    def succeeds(self, builder: Any, address: Any, *values: Any) -> Any:
        """Emit the call of a function in Numba's native convention, and whether it returned 1 without raising."""
        from fastnn.backend.cpu.codegen.vectors import emit_call

        status, result = emit_call(builder, address, list(values))
        fine = builder.icmp_signed("==", status, self.status(0))
        return builder.and_(fine, builder.icmp_signed("==", result, self.word(1)))

    def pointer_to_function(self, builder: Any, address: Any, result: Any, *parameters: Any) -> Any:
        """Emit the conversion of an address to a pointer to a C function."""
        return builder.inttoptr(address, self._ir.FunctionType(result, parameters).as_pointer())

    def returned(self, builder: Any, address: Any, *values: Any, failed: int = 0) -> Any:
        """Emit the call of a function in Numba's native convention, and what it returned, `failed` where it raised."""
        from fastnn.backend.cpu.codegen.vectors import emit_call

        status, result = emit_call(builder, address, list(values))
        return builder.select(builder.icmp_signed("==", status, self.status(0)), result, self.word(failed))

    def is_set(self, builder: Any) -> Any:
        """Emit a test for a pending Python exception."""
        found = builder.call(self.function("PyErr_Occurred", self.pointer), [])
        return builder.icmp_unsigned("!=", found, self.pointer(None))

    def give_bool(self, builder: Any, answer: int) -> None:
        """Emit the return of True or False."""
        builder.ret(builder.call(self.function("PyBool_FromLong", self.pointer, self.word), [self.word(answer)]))

    @contextlib.contextmanager
    def without_gil(self, builder: Any) -> Iterator[Any]:
        """Release the GIL around the code emitted within, which gets the pointer to the thread's state."""
        state = builder.call(self.function("PyEval_SaveThread", self.pointer), [])
        yield state
        builder.call(self.function("PyEval_RestoreThread", self.nothing, self.pointer), [state])

    def compiled(self) -> ObjectCode:
        """Compile the module; its function has the module's name."""
        return ObjectCode(self._symbol, library.machine().emit_object(llvm.parse_assembly(str(self.module))))
