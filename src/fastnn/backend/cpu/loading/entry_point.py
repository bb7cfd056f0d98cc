"""Native entry points for Python: a compiled function and its arguments as a builtin without arguments.

ctypes took 1.1 µs to convert seven arguments, 0.4 µs with arguments made once. A builtin that reads them from its
block takes 0.12 µs, half of it for releasing the GIL.

When several threads train small networks (`taking_turns`), each needs some 0.1 ms of Python a few thousand
times per second. A thread that finds the GIL taken sleeps, and waking took 55 µs on a virtual machine: two threads were
no faster than one. So they spin for their turn before they ask for the GIL, and find it free: 32 networks 64-32-10 with
validation and early stopping then took 0.24 instead of 0.29 s on two threads, 0.34 on one.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from fastnn.backend.cpu.layouts.team import LINE, LINE_BYTES
from fastnn.backend.cpu.loading import builtin, library
from fastnn.backend.cpu.loading.builtin import METH_NOARGS, Python
from fastnn.backend.cpu.loading.store import ObjectCode
from fastnn.locks import ForkSafeLock
from fastnn.program.program import aligned_zeros

# Words of a block: the function's address, its result, its error, the address of the turn, its arguments.
_FUNCTION, _RESULT, _ERROR, _TURN, _ARGUMENTS = range(5)
_SYMBOL = "fastnn_entry"

# Words of the turn, in separate cache lines: how often a thread polls before it takes the turn from its owner, 0
# if no threads take turns; and the owner, a thread's state in Python. An owner that never comes back, because it has
# ended or does something else, is waited for only once.
_LOOKS, _OWNER = 0, LINE
#: some 0.3 ms, several times the duration of Python between two calls of compiled code
LOOKS = 10_000
_turn = aligned_zeros(2 * LINE_BYTES, LINE_BYTES).view(np.int64)
library.keep_for_good(_turn)
_guard = ForkSafeLock()
_takers = 0


@contextmanager
def taking_turns() -> Iterator[None]:
    """Make the threads of the process spin for the GIL when they return from compiled code."""
    _count(1)
    try:
        yield
    finally:
        _count(-1)


def _count(change: int) -> None:
    global _takers
    with _guard:
        _takers += change
        _turn[_LOOKS] = LOOKS if _takers > 0 else 0


def _start_anew() -> None:
    """Take no turns in a child process, which does not have the other threads."""
    global _takers
    _takers, _turn[_LOOKS] = 0, 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)


class EntryPoint:
    """A compiled function that returns an int64, and its arguments.

    Attributes
    ----------
    arguments : memoryview of int64
        May be assigned between calls. Two threads must not share an entry.
    start : callable
        `start()` calls the function with the GIL released and returns its result, -1 if it raised. Exceptions of
        Python code that it called are raised.

    Parameters
    ----------
    address : int
        Address of a function in Numba's native convention, with one int64 parameter for each argument.
    arguments : int
        Initial values. The caller keeps the memory that they point to alive.
    """

    __slots__ = ("arguments", "start")

    def __init__(self, address: int, *arguments: int) -> None:
        # the builtin keeps the block alive, and the view keeps it from being resized
        block = bytearray(8 * (_ARGUMENTS + len(arguments)))
        words = memoryview(block).cast("q")
        words[_FUNCTION], words[_TURN] = address, int(_turn.ctypes.data)
        self.arguments = words[_ARGUMENTS:]
        for index, value in enumerate(arguments):
            self.arguments[index] = value
        code = functools.partial(_compile, len(arguments))
        self.start: Callable[[], int] = builtin.make(f"entry-{len(arguments)}", METH_NOARGS, block, code)


def _compile(arguments: int) -> ObjectCode:
    """Compile `PyObject *entry(PyObject *block, PyObject *unused)` for functions of `arguments` arguments."""
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
    turn = builder.inttoptr(builder.load(at(_TURN)), word.as_pointer())
    with python.without_gil(builder) as state:
        thread = builder.ptrtoint(state, word)
        _give_turn(builder, turn, thread)
        status = builder.call(function, [at(_RESULT), at(_ERROR), *given])
        _take_turn(builder, turn, thread)
    # in object mode a user-defined function or a signal handler may have raised
    with builder.if_then(python.is_set(builder), likely=False):
        builder.ret(pointer(None))
    raised = builder.icmp_signed("!=", status, python.status(0))
    result = builder.select(raised, word(-1), builder.load(at(_RESULT)))
    builder.ret(builder.call(python.function("PyLong_FromLongLong", pointer, word), [result]))
    return python.compiled()


def _give_turn(builder: Any, turn: Any, thread: Any) -> None:
    """Emit the release of the turn, if this thread has it."""
    owner = builder.gep(turn, [thread.type(_OWNER)])
    with builder.if_then(builder.icmp_unsigned("==", builder.load_atomic(owner, "monotonic", 8), thread)):
        builder.store_atomic(thread.type(0), owner, "release", 8)


def _take_turn(builder: Any, turn: Any, thread: Any) -> None:
    """Emit: if turns are taken, wait until the turn is free or patience is used up, and take it."""
    import llvmlite.binding as llvm

    from fastnn.backend.cpu.codegen.atomics import emit_pause

    word = thread.type
    owner = builder.gep(turn, [word(_OWNER)])
    looks = builder.load_atomic(turn, "monotonic", 8)
    before = builder.block
    look, free, wait, seize, done = (builder.append_basic_block() for _ in range(5))
    builder.cbranch(builder.icmp_signed(">", looks, word(0)), look, done)
    builder.position_at_end(look)
    left = builder.phi(word)
    left.add_incoming(looks, before)
    builder.cbranch(builder.icmp_unsigned("==", builder.load_atomic(owner, "monotonic", 8), word(0)), free, wait)
    builder.position_at_end(free)
    taken = builder.extract_value(builder.cmpxchg(owner, word(0), thread, "acquire", "monotonic"), 1)
    builder.cbranch(taken, done, wait)
    builder.position_at_end(wait)
    emit_pause(builder, llvm.get_default_triple())
    fewer = builder.sub(left, word(1))
    left.add_incoming(fewer, wait)
    builder.cbranch(builder.icmp_signed(">", fewer, word(0)), look, seize)
    builder.position_at_end(seize)
    builder.store_atomic(thread, owner, "monotonic", 8)
    builder.branch(done)
    builder.position_at_end(done)
