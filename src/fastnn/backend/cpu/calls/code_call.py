"""A call of a code as a builtin: Python's arrays go straight to compiled code, which checks and reads them.

`call(*arrays)` describes the arrays in a frame on the stack (`native/arguments.py`), makes arrays for the results,
calls the code on buffers that stay where they are, and returns the results. It does nothing if an argument is not a
plain array that compiled code can read; then a path in Python decides what to do with it. The code must not call
Python.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, auto
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cpu.layouts import array_object
from fastnn.backend.cpu.layouts.arguments import ArgumentWord, frame_bytes
from fastnn.backend.cpu.layouts.call import NDIM_MASK, Given, Live, Outcome
from fastnn.backend.cpu.layouts.code import DTYPES, CodeWord, Slot
from fastnn.backend.cpu.loading import builtin, library
from fastnn.backend.cpu.loading.builtin import METH_FASTCALL, Python
from fastnn.backend.cpu.loading.store import ObjectCode
from fastnn.program.record import KernelKey

#: What describes the arguments: any arrays; or those of a network, which are batches of the same number of rows.
TAKE_ARRAYS, TAKE_ROWS = KernelKey("take_arrays", "int64"), KernelKey("take_rows", "int64")
FUNCTIONS = (TAKE_ARRAYS, TAKE_ROWS)
#: What a call without results returns instead of an outcome if its arguments were not taken.
NOT_TAKEN = -1

_SYMBOL = "fastnn_code_call"
_GIVEN_BYTES = int(Given.WORDS) * 8


class _Word(IntEnum):
    """Words of the builtin's block; after them, NumPy's numbers of the results' types."""

    @staticmethod
    def _generate_next_value_(name: str, start: int, count: int, last_values: list[Any]) -> int:
        return count

    TAKE = auto()  # address of the function that describes the arguments, and of its table
    TABLE = auto()
    CODE = auto()
    CALL = auto()  # address of the code's function
    HELD = auto()
    PARTS = auto()
    WORK = auto()
    WORK_BYTES = auto()
    FRAME_BYTES = auto()
    RESULTS_AT = auto()  # bytes from the frame's start to the `Given` of the first result
    HOLDING = auto()  # calls of more rows release the GIL
    ACQUIRE = auto()  # methods of a lock, 0 where the caller holds it
    RELEASE = auto()
    NEW = auto()  # address of PyArray_New
    NDARRAY = auto()
    DATA_AT = auto()
    RESULTS = auto()


@dataclass(frozen=True)
class Signature:
    """The arrays that a call takes.

    Attributes
    ----------
    count, required : int
        Arguments, and those of them that come first and may not be None.
    most_rows : int
        A call with more rows is not taken.
    holding : int
        Calls of more rows release the GIL: it takes 60 ns, and another thread could not use a short time.
    """

    count: int
    required: int
    most_rows: int
    holding: int


class _Block(bytearray):
    """The words of a builtin, and the objects that they point to."""

    kept: Any


def code_call(
    code: NDArray[np.int64], held: Mapping[int, int] | NDArray[np.int64], signature: Signature, *, take: KernelKey,
    kept: Any, work: NDArray[Any] | None = None, parts: int = 0, lock: Any = None, results: Sequence[int] = (),
) -> Callable[..., Any] | None:  # fmt: skip
    """Make the builtin; None where array objects have an unknown layout.

    Parameters
    ----------
    held : mapping, or ndarray of int64
        Words of the table of buffers (`Held`, `Live`), which must not move while the builtin is in use; or the table,
        if the caller changes it between calls.
    take : KernelKey
        TAKE_ARRAYS or TAKE_ROWS.
    kept : object
        Kept alive with the builtin: the buffers.
    work : ndarray, optional
        The workspace: two threads must not use the builtin at the same time, unless `lock` is given. Without one, calls
        allocate their memory.
    parts : int
        What to do, as in `Part`; 0 is all of a network.
    lock : lock, optional
        Held during the call of the code.
    results : sequence of int
        The last slots of the code, which are results.

    Returns
    -------
    callable
        With results, it returns one array or a list of arrays, or False if the arguments were not taken or the outcome
        was not DONE. Without, it returns the `Outcome`, or NOT_TAKEN.
    """
    (kind, data), new = array_object.layout(), array_object.new_array()
    if not data or not new:
        return None
    table = arguments_table(kind, data, signature)
    buffers = held if isinstance(held, np.ndarray) else buffers_table(held)
    acquire, release = (None, None) if lock is None else (lock.acquire, lock.release)
    slots = int(code[CodeWord.SLOTS_COUNT])
    values = {
        _Word.TAKE: library.address(take),
        _Word.TABLE: table.ctypes.data,
        _Word.CODE: code.ctypes.data,
        _Word.CALL: int(code[CodeWord.CALL]),
        _Word.HELD: buffers.ctypes.data,
        _Word.PARTS: parts,
        _Word.WORK: 0 if work is None else work.ctypes.data,
        _Word.WORK_BYTES: 0 if work is None else work.nbytes,
        _Word.FRAME_BYTES: frame_bytes(slots),
        _Word.RESULTS_AT: (slots - len(results)) * _GIVEN_BYTES,
        _Word.HOLDING: signature.holding,
        _Word.ACQUIRE: 0 if lock is None else id(acquire),
        _Word.RELEASE: 0 if lock is None else id(release),
        _Word.NEW: new,
        _Word.NDARRAY: id(np.ndarray),
        _Word.DATA_AT: data,
    }
    first = int(code[CodeWord.SLOTS_AT])
    described = code[first : first + slots * Slot.WORDS].reshape(slots, Slot.WORDS)
    numbers = [np.dtype(DTYPES[described[slot, Slot.DTYPE]]).num for slot in results]
    block = _Block(np.array([*(values[word] for word in list(_Word)[:-1]), *numbers], np.int64).tobytes())
    block.kept = kept, code, buffers, table, work, acquire, release
    name = f"code-call-{len(results)}"
    made: Callable[..., Any] = builtin.make(name, METH_FASTCALL, block, functools.partial(_compile, len(results)))
    return made


def buffers_table(held: Mapping[int, int]) -> NDArray[np.int64]:
    """Return the table of buffers with some of its words."""
    table = np.zeros(Live.WORDS, np.int64)
    for word, value in held.items():
        table[word] = value
    return table


def arguments_table(kind: int, data: int, signature: Signature) -> NDArray[np.int64]:
    """Return the table of `take_arrays`, given what `array_object.layout` returns."""
    table = np.zeros(ArgumentWord.WORDS, np.int64)
    table[: ArgumentWord.DTYPES] = (
        kind, data, id(np.ndarray), id(None), signature.count, signature.required, signature.most_rows,
    )  # fmt: skip
    for character in np.typecodes["AllInteger"] + "?fd":
        dtype = np.dtype(character)
        table[ArgumentWord.DTYPES + dtype.num] = 1 + DTYPES.index(dtype.name)
    return table


def _compile(results: int) -> ObjectCode:
    """Compile `PyObject *code_call(PyObject *block, PyObject *const *arguments, Py_ssize_t count)`."""
    return _Emitted(results).code()


class _Emitted:
    """The C function of a builtin with some number of results."""

    def __init__(self, results: int) -> None:
        from llvmlite import ir

        self._python = python = Python(_SYMBOL)
        self._word, self._pointer = python.word, python.pointer
        function = python.function(_SYMBOL, python.pointer, python.pointer, python.pointer, python.word)
        self._builder = ir.IRBuilder(function.append_basic_block())
        self._arguments = function.args[1:]
        self._block = python.words_of(self._builder, function.args[0], _Word.RESULTS + results)
        self._count = results

    def code(self) -> ObjectCode:
        """Emit and compile the function."""
        builder, word, pointer = self._builder, self._word, self._pointer
        array = builder.alloca(self._python.byte, size=self._block[_Word.FRAME_BYTES])
        array.align = 64
        frame = builder.ptrtoint(array, word)
        block = self._block
        arguments = builder.ptrtoint(self._arguments[0], word)
        rows = self._python.returned(
            builder, block[_Word.TAKE], arguments, self._arguments[1], block[_Word.TABLE], block[_Word.CODE], frame
        )
        with builder.if_then(builder.icmp_signed("<", rows, word(1)), likely=False):
            self._refuse(NOT_TAKEN)
        made = self._arrays(frame)
        self._method(_Word.ACQUIRE, made)
        outcome = self._outcome(frame, rows)
        self._method(_Word.RELEASE, made)
        if not made:
            builder.ret(builder.call(self._python.function("PyLong_FromLongLong", pointer, word), [outcome]))
            return self._python.compiled()
        with builder.if_then(builder.icmp_signed("!=", outcome, word(int(Outcome.DONE))), likely=False):
            self._drop(made)
            self._refuse(NOT_TAKEN)
        if len(made) == 1:
            builder.ret(made[0])
            return self._python.compiled()
        listed = builder.call(self._python.function("PyList_New", pointer, word), [word(len(made))])
        with builder.if_then(builder.icmp_unsigned("==", listed, pointer(None)), likely=False):
            self._drop(made)
            builder.ret(pointer(None))
        put = self._python.function("PyList_SetItem", self._python.status, pointer, word, pointer)
        for index, each in enumerate(made):
            builder.call(put, [listed, word(index), each])
        builder.ret(listed)
        return self._python.compiled()

    def _refuse(self, outcome: int) -> None:
        if self._count:
            self._python.give_bool(self._builder, 0)
        else:
            number = self._python.function("PyLong_FromLongLong", self._pointer, self._word)
            self._builder.ret(self._builder.call(number, [self._word(outcome)]))

    def _drop(self, made: Sequence[Any]) -> None:
        for each in made:
            self._builder.call(self._python.function("Py_DecRef", self._python.nothing, self._pointer), [each])

    def _arrays(self, frame: Any) -> list[Any]:
        """Emit new arrays of the results' shapes, which `take_rows` has written to the frame."""
        builder, word, status = self._builder, self._word, self._python.status
        made: list[Any] = []
        new = self._python.pointer_to_function(
            builder, self._block[_Word.NEW], self._pointer, self._pointer, status, word, status, word, word, status,
            status, word,
        )  # fmt: skip
        kind = builder.inttoptr(self._block[_Word.NDARRAY], self._pointer)
        for index in range(self._count):
            at = builder.add(frame, builder.add(self._block[_Word.RESULTS_AT], word(index * _GIVEN_BYTES)))
            given = builder.inttoptr(at, word.as_pointer())
            described = builder.load(builder.gep(given, [word(int(Given.KIND))]))
            ndim = builder.trunc(builder.and_(described, word(NDIM_MASK)), status)
            sizes = builder.load(builder.gep(given, [word(int(Given.SHAPE))]))
            number = builder.trunc(self._block[_Word.RESULTS + index], status)
            array = builder.call(new, [kind, ndim, sizes, number, word(0), word(0), status(0), status(0), word(0)])
            with builder.if_then(builder.icmp_unsigned("==", array, self._pointer(None)), likely=False):
                self._drop(made)
                builder.ret(self._pointer(None))
            data = builder.add(builder.ptrtoint(array, word), self._block[_Word.DATA_AT])
            address = builder.load(builder.inttoptr(data, word.as_pointer()))
            builder.store(address, builder.gep(given, [word(int(Given.ADDRESS))]))
            made.append(array)
        return made

    def _method(self, at: _Word, made: Sequence[Any]) -> None:
        """Emit the call of a method without arguments, if there is one; an exception of it is raised."""
        builder, pointer = self._builder, self._pointer
        with builder.if_then(builder.icmp_signed("!=", self._block[at], self._word(0))):
            method = builder.inttoptr(self._block[at], pointer)
            answer = builder.call(self._python.function("PyObject_CallNoArgs", pointer, pointer), [method])
            with builder.if_then(builder.icmp_unsigned("==", answer, pointer(None)), likely=False):
                self._drop(made)
                builder.ret(pointer(None))
            self._drop([answer])

    def _outcome(self, frame: Any, rows: Any) -> Any:
        """Emit the call of the code, with the GIL released if it takes long."""
        builder, block, word = self._builder, self._block, self._word

        def run() -> Any:
            return self._python.returned(
                builder, block[_Word.CALL], block[_Word.CODE], block[_Word.HELD], frame, block[_Word.PARTS],
                block[_Word.WORK], block[_Word.WORK_BYTES], failed=int(Outcome.RAISED),
            )  # fmt: skip

        with builder.if_else(builder.icmp_signed("<=", rows, block[_Word.HOLDING])) as (holding, releasing):
            with holding:
                held, held_at = run(), builder.block
            with releasing:
                with self._python.without_gil(builder):
                    released = run()
                released_at = builder.block
        outcome = builder.phi(word)
        outcome.add_incoming(held, held_at)
        outcome.add_incoming(released, released_at)
        return outcome
