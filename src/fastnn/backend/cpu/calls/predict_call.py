"""A program on the rows of an array as a builtin: a prediction without a copy of its rows and without Python.

`direct(x)` runs the program on x and returns a copy of its result. If x is not a plain array of the right shape and
dtype, it does nothing and returns False.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cpu.executor.engine import RUN, BoundProgram
from fastnn.backend.cpu.layouts import array_object
from fastnn.backend.cpu.loading import builtin, library
from fastnn.backend.cpu.loading.builtin import METH_FASTCALL, Python
from fastnn.backend.cpu.loading.store import ObjectCode
from fastnn.backend.cpu.processor import cost
from fastnn.program.record import KernelKey

_TAKE = KernelKey("direct_rows", "int64")
_SYMBOL = "fastnn_direct_rows"
# Shorter programs keep the GIL: releasing it takes 60 ns, and another thread could not use so short a time.
_SHORT_NANOSECONDS = 5000.0

DirectRows = Callable[[Any], Any]


def direct_rows(
    bound: BoundProgram, context: NDArray[np.int64], rows: NDArray[Any], result: NDArray[Any], threads: int
) -> tuple[DirectRows, Any] | None:
    """Make the builtin, and the objects to keep alive with it; None if it is not possible.

    Parameters
    ----------
    bound : BoundProgram
        Reads its rows from the first data slot, with C-contiguous strides.
    context : ndarray of int64
        Two threads must not run the program on it at the same time.
    rows : ndarray
        Has the accepted shape and dtype; its contents do not matter.
    result : ndarray
        The array that the program fills.
    threads : int
        Maximum number of threads: if the program could use several, no builtin is made.
    """
    kind, data = array_object.layout()
    if not data or bound.scratches or (threads > 1 and bound.shared > 0.0):
        return None
    table = np.array([kind, data, id(np.ndarray), id(rows.dtype), rows.ndim, context.ctypes.data, *rows.shape])
    copy = result.copy
    nanoseconds = sum(cost.nanoseconds(record, bound.program.dtype) for record in bound.program.records)
    words = (library.address(_TAKE), table.ctypes.data, library.address(RUN), bound.address, len(bound.program),
             context.ctypes.data, id(copy), nanoseconds < _SHORT_NANOSECONDS)  # fmt: skip
    block = bytearray(np.array(words, np.int64).tobytes())
    made: DirectRows = builtin.make("direct_rows", METH_FASTCALL, block, _compile)
    return made, (bound, context, rows, table, copy)


def _compile() -> ObjectCode:
    """Compile `PyObject *direct_rows(PyObject *block, PyObject *const *arguments, Py_ssize_t count)`."""
    from llvmlite import ir

    python = Python(_SYMBOL)
    word, pointer = python.word, python.pointer
    function = python.function(_SYMBOL, pointer, pointer, pointer, word)
    builder = ir.IRBuilder(function.append_basic_block())
    take, table, run, records, count, context, copy, short = python.words_of(builder, function.args[0], 8)
    arguments = builder.ptrtoint(function.args[1], word)
    with builder.if_then(builder.not_(python.succeeds(builder, take, arguments, function.args[2], table))):
        python.give_bool(builder, 0)

    def run_program() -> Any:
        return python.succeeds(builder, run, records, count, context, word(1), word(1), word(0))

    with builder.if_else(builder.icmp_signed("!=", short, word(0))) as (holding, releasing):
        with holding:
            done_holding, held = run_program(), builder.block
        with releasing:
            with python.without_gil(builder):
                done_releasing = run_program()
            released = builder.block
    done = builder.phi(done_holding.type)
    done.add_incoming(done_holding, held)
    done.add_incoming(done_releasing, released)
    with builder.if_then(builder.not_(done)):
        python.give_bool(builder, 0)
    method = builder.inttoptr(copy, pointer)
    builder.ret(builder.call(python.function("PyObject_CallNoArgs", pointer, pointer), [method]))
    return python.compiled()
