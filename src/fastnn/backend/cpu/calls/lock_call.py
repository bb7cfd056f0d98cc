"""Several reentrant locks as one: builtins that take all of them, and give all of them back.

Both run to their end: signal handlers run between instructions of Python alone, and in the middle of waiting, where
nothing is held. So a handler that raises never leaves some of the locks taken.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastnn.backend.cpu.loading import builtin
from fastnn.backend.cpu.loading.builtin import METH_FASTCALL, METH_NOARGS, Python
from fastnn.backend.cpu.loading.store import ObjectCode

_ACQUIRE, _RELEASE = "fastnn_acquire_all", "fastnn_release_all"
# words of the block: the number of locks and the address of True, then for each lock the addresses of three methods
_COUNT, _TRUE, _METHODS = 0, 1, 2
_WAITING, _TRYING, _RELEASING = 0, 1, 2


class _Block(bytearray):
    """The words of a builtin, and the objects that they point to."""

    kept: Any


def joint_calls(locks: Sequence[Any]) -> tuple[Callable[[], bool], Callable[..., bool]]:
    """Make the functions that take and release all locks.

    Parameters
    ----------
    locks : sequence of threading.RLock

    Returns
    -------
    acquire : callable
        Waits for all locks, but for none while it holds another, and returns True.
    release : callable
        Releases each lock once, and returns False. It takes any arguments, as ``__exit__``. RuntimeError if the calling
        thread does not hold them.
    """
    methods = [(lock.acquire, functools.partial(lock.acquire, False), lock.release) for lock in locks]
    words = [len(locks), id(True), *(id(method) for each in methods for method in each)]
    block = _Block(np.array(words, np.int64).tobytes())
    block.kept = methods
    acquire: Callable[[], bool] = builtin.make("acquire-all", METH_NOARGS, block, _compile_acquire)
    release: Callable[..., bool] = builtin.make("release-all", METH_FASTCALL, block, _compile_release)
    return acquire, release


class _Locks:
    """The locks of a block, in a function that is being emitted."""

    def __init__(self, symbol: str, *parameters: str) -> None:
        from llvmlite import ir

        self.python = python = Python(symbol)
        kinds = [getattr(python, name) for name in parameters]
        self.function = python.function(symbol, python.pointer, python.pointer, *kinds)
        self.builder = ir.IRBuilder(self.function.append_basic_block())
        self._words = python.block_of(self.builder, self.function.args[0])
        self.count, self._true = self._word(python.word(_COUNT)), self._word(python.word(_TRUE))
        self._index = self.builder.alloca(python.word)

    def _word(self, index: Any) -> Any:
        return self.builder.load(self.builder.gep(self._words, [index]))

    def call(self, index: Any, method: int) -> Any:
        """Emit the call of a method of the lock at an index; gives the new reference that it returned, or NULL."""
        python, builder = self.python, self.builder
        at = builder.add(builder.mul(index, python.word(3)), python.word(_METHODS + method))
        found = builder.inttoptr(self._word(at), python.pointer)
        return builder.call(python.function("PyObject_CallNoArgs", python.pointer, python.pointer), [found])

    def drop(self, answer: Any) -> None:
        """Emit the release of a reference."""
        self.builder.call(self.python.function("Py_DecRef", self.python.nothing, self.python.pointer), [answer])

    def is_null(self, answer: Any) -> Any:
        return self.builder.icmp_unsigned("==", answer, self.python.pointer(None))

    def is_true(self, answer: Any) -> Any:
        return self.builder.icmp_unsigned("==", self.builder.ptrtoint(answer, self.python.word), self._true)

    def release(self, end: Any, first: Any = None) -> None:
        """Emit the release of the locks before an index, and of one more, which may be among them."""
        python, builder = self.python, self.builder
        head, body, after = (self.function.append_basic_block(name) for name in ("each", "release", "released"))
        if first is not None:
            self.drop(self.call(first, _RELEASING))
        builder.store(python.word(0), self._index)
        builder.branch(head)
        builder.position_at_end(head)
        index = builder.load(self._index)
        builder.store(builder.add(index, python.word(1)), self._index)
        builder.cbranch(builder.icmp_signed("<", index, end), body, after)
        builder.position_at_end(body)
        if first is None:
            answer = self.call(index, _RELEASING)
            with builder.if_then(self.is_null(answer), likely=False):
                builder.ret(python.pointer(None))  # this thread does not hold it
            self.drop(answer)
        else:
            with builder.if_then(builder.icmp_signed("!=", index, first)):
                self.drop(self.call(index, _RELEASING))
        builder.branch(head)
        builder.position_at_end(after)


def _compile_release() -> ObjectCode:
    """Compile `PyObject *release_all(PyObject *block, PyObject *const *arguments, Py_ssize_t count)`."""
    locks = _Locks(_RELEASE, "pointer", "word")
    locks.release(locks.count)
    locks.python.give_bool(locks.builder, 0)
    return locks.python.compiled()


def _compile_acquire() -> ObjectCode:
    """Compile `PyObject *acquire_all(PyObject *block, PyObject *unused)`.

    It waits for one lock, and tries the others. Where one is not free, it releases what it has, and waits for that one.
    """
    locks = _Locks(_ACQUIRE, "pointer")
    python, builder, word = locks.python, locks.builder, locks.python.word
    begin, look, attempt, following, back = (
        locks.function.append_basic_block(name) for name in ("begin", "look", "attempt", "following", "back")
    )
    first_at, index_at = builder.alloca(word), builder.alloca(word)
    builder.store(word(0), first_at)
    builder.branch(begin)

    builder.position_at_end(begin)
    first = builder.load(first_at)
    answer = locks.call(first, _WAITING)
    with builder.if_then(locks.is_null(answer), likely=False):
        builder.ret(python.pointer(None))  # a signal handler has raised; nothing is held
    locks.drop(answer)
    builder.store(word(0), index_at)
    builder.branch(look)

    builder.position_at_end(look)
    index = builder.load(index_at)
    with builder.if_then(builder.icmp_signed("==", index, locks.count)):
        python.give_bool(builder, 1)
    builder.cbranch(builder.icmp_signed("==", index, first), following, attempt)

    builder.position_at_end(attempt)
    answer = locks.call(index, _TRYING)
    with builder.if_then(locks.is_null(answer), likely=False):
        builder.call(python.function("PyErr_Clear", python.nothing), [])
        builder.branch(back)  # waiting raises it again
    fine = locks.is_true(answer)
    locks.drop(answer)
    builder.cbranch(fine, following, back)

    builder.position_at_end(following)
    builder.store(builder.add(index, word(1)), index_at)
    builder.branch(look)

    builder.position_at_end(back)
    locks.release(index, first)
    builder.store(index, first_at)
    builder.branch(begin)
    return python.compiled()
