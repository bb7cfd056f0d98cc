"""Predictions of few rows as one call of compiled code: on the CPU by a code, on a GPU by a captured run.

The code of a model computes any number of rows, of any dtype and strides, on the model's own weights
(`fastnn.backend.cpu.calls.code_call`). A model's second prediction makes it, since making it takes longer than a call.
The first one takes the general path, and so does all that the call does not take: other kinds of data, long runs, and
runs that several threads share.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.addresses import address
from fastnn.backend.cpu.calls.code_call import TAKE_ROWS, Signature, code_call
from fastnn.backend.cpu.frozen.bound_code import BoundCode
from fastnn.backend.cpu.frozen.estimate import rows_within
from fastnn.backend.cpu.layouts.call import Held, Live, Part
from fastnn.backend.cpu.layouts.code import BLOCK, Word, extra_bytes, network_bytes
from fastnn.program.program import aligned_zeros
from fastnn.runtime.code_programs import program
from fastnn.runtime.device.captured import CapturedPredictions
from fastnn.runtime.program_cache import shared, signature
from fastnn.runtime.runtime import Runtime
from fastnn.threads import get_num_threads

#: A call takes at most this many rows, and about this long: Ctrl-C has to wait for its end.
MOST_ROWS, MOST_NANOSECONDS = 4096, 1e7
_LEAST_ROWS = 16
#: The classes of a list of inputs.
LISTS = (list, tuple)


def learn(runtime: Runtime, x: Any) -> None:
    """Prepare the call that predicts rows like x, which the general path has just predicted.

    Parameters
    ----------
    x : array, or list of arrays by input
    """
    if runtime.table.architecture.takes_integers or runtime.owners:
        return  # the range of integers is checked in every call; weights of another model may be on a GPU
    arrays = list(x) if type(x) in LISTS else [x]
    if not all(type(array) is np.ndarray for array in arrays):
        return
    kept = runtime.prediction
    # under the lock: another thread may move the model
    with runtime.lock:
        if runtime.placement is not None:
            captured = kept.call
            if not isinstance(captured, CapturedPredictions):
                captured = kept.call = CapturedPredictions()
            captured.learn(runtime, arrays)
        elif len(arrays[0]) <= MOST_ROWS:
            _learn(runtime, len(arrays[0]))


def _learn(runtime: Runtime, rows: int) -> None:
    """Make the call of the model's code on this many rows, and on fewer, if it does not exist."""
    kept = runtime.prediction
    if kept.call is not None and rows <= kept.rows:
        return
    if kept.code is None:
        if kept.uses < 1 or kept.refused:
            kept.uses += 1
            return
        try:
            kept.code = _code(runtime)
        except (NotImplementedError, ValueError):
            kept.refused = True  # an op that codes do not know, or too many arrays
            return
    code = kept.code
    if code.calls_python:
        return
    limit = _most_rows(code)
    if rows > limit:
        return
    # memory for twice as many whenever it has to grow
    rows = min(limit, max(_LEAST_ROWS, 1 << (rows - 1).bit_length()))
    kept.call, kept.rows = _call(runtime, code, min(rows, BLOCK), limit if rows >= BLOCK else rows), rows


def _code(runtime: Runtime) -> BoundCode:
    """Return the code of a model, from another model or new."""
    table = runtime.table
    described = signature(table.architecture, table.dtype, None, None)
    if described is None:
        return BoundCode(*program(table))
    return shared(("prediction", described), lambda: BoundCode(*program(table)))


def _most_rows(bound: BoundCode) -> int:
    """Return the number of rows up to which a call takes little time, and one thread is as quick as several."""
    if bound.has_users:
        return BLOCK  # the time of a user-defined function is unknown
    limit = rows_within(bound.code, MOST_NANOSECONDS, MOST_ROWS)
    if limit == 0 or get_num_threads() == 1:
        return limit
    at_once = min(limit, BLOCK)
    alone = bound.rows_alone(at_once)
    return limit if alone == at_once else alone


def _call(runtime: Runtime, bound: BoundCode, at_once: int, most: int) -> Callable[..., Any] | None:
    """Make the call of a code on a model's weights, with memory for some rows at once."""
    code, parameters, architecture = bound.code, runtime.parameters, runtime.table.architecture
    held: dict[Held | Live, int] = {
        Held.PARAMETERS: address(parameters),
        Held.PARAMETERS_COUNT: int(code[Word.PARAMETERS]),
    }
    many, arena, one, row_bytes, slots, blocks_from = (
        int(code[word])
        for word in (
            Word.MANY_COUNT, Word.MANY_ARENA, Word.ONE_ARENA, Word.ROW_BYTES, Word.SLOTS_COUNT, Word.BLOCKS_FROM,
        )
    )  # fmt: skip
    work = aligned_zeros(network_bytes(many, arena, one, at_once) + extra_bytes(row_bytes, slots, blocks_from, at_once))
    inputs = len(architecture.inputs)
    return code_call(
        code, held, Signature(inputs, inputs, most, bound.short_rows(most)), take=TAKE_ROWS, kept=(bound, parameters),
        work=work, parts=Part.LIVE, lock=runtime.lock, results=range(inputs, slots),
    )  # fmt: skip
