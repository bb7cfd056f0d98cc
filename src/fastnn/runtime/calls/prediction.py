"""Predictions of few rows as one call of compiled code: on the CPU by a code, on a GPU by a captured run.

The code of a model computes any number of rows, of any dtype and strides, on the model's own weights
(`fastnn.backend.cpu.calls.code_call`). A model's second prediction makes it, since making it takes longer than a call.
The first one takes the general path, and so does all that the call does not take: other kinds of data, and long runs;
and predictions while another process compiles functions of the code, which the disk does not have yet.
Records that are worth sharing are shared by the team of threads, which a second call gathers first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.addresses import address
from fastnn.backend.cpu.calls.code_call import TAKE_ROWS, Signature, buffers_table, code_call
from fastnn.backend.cpu.calls.team_call import TeamCall, shared_words
from fastnn.backend.cpu.frozen.bound_code import BoundCode, StillCompiling, compiling
from fastnn.backend.cpu.layouts.call import Held, Part
from fastnn.backend.cpu.layouts.code import BLOCK, CodeWord
from fastnn.interrupts import interrupts_later
from fastnn.runtime.calls.kept_call import KeptCall, grown, owners_words
from fastnn.runtime.device.captured import CapturedPredictions
from fastnn.runtime.parameters import ParameterTable
from fastnn.runtime.programs.cache import shared, signature
from fastnn.runtime.programs.codes import network
from fastnn.runtime.programs.independence import traits
from fastnn.runtime.runtime import Runtime
from fastnn.threads import get_num_threads

#: A call takes at most this many rows, and about this long: Ctrl-C has to wait for its end.
MOST_ROWS, MOST_NANOSECONDS = 4096, 1e7
_LEAST_ROWS = 16
# the classes of a list of inputs
_LISTS = (list, tuple)


def otherwise(kept: KeptCall, x: Any) -> Any:
    """Return the prediction of what a call has not taken as it is: lists of inputs, work for a team; else False."""
    arrays = x if type(x) in _LISTS else (x,)
    result: Any = False
    if arrays is x and kept.call is not None:
        result = kept.call(*arrays)
    if result is False and kept.together is not None:
        result = kept.together(*arrays)
    return result


def learn(runtime: Runtime, x: Any) -> None:
    """Prepare the calls that predict rows like x, which the general path has just predicted.

    Parameters
    ----------
    x : array, or list of arrays by input
    """
    arrays = list(x) if type(x) in _LISTS else [x]
    if runtime.table.architecture.is_open and runtime.placement is None:
        return  # a code has one shape
    if not all(type(array) is np.ndarray and array.ndim > 0 for array in arrays):
        return
    kept = runtime.prediction
    # under the lock: another thread may move the model
    with runtime.lock:
        if runtime.placement is not None:
            if runtime.table.architecture.takes_integers or runtime.owners:
                return  # the range of integers is checked in every call; weights of another model may move
            captured = kept.call
            if not isinstance(captured, CapturedPredictions):
                captured = kept.call = CapturedPredictions()
            captured.learn(runtime, arrays)
        elif runtime.on_host and arrays and 0 < len(arrays[0]) <= MOST_ROWS:
            _learn(runtime, len(arrays[0]))


def _learn(runtime: Runtime, rows: int) -> None:
    """Make the calls of the model's code on this many rows, and on fewer, if they do not exist."""
    kept = runtime.prediction
    if kept.refused or (kept.call is not None and rows <= kept.rows):
        return
    if kept.code is None:
        if kept.uses < 1:
            kept.uses += 1
            return
        if compiling():
            return
        try:
            kept.code = code_of(runtime.table)
        except StillCompiling:
            return
        except (NotImplementedError, ValueError):
            kept.refused = True  # an op that codes do not know, or too many arrays
            return
    limit = 0 if kept.code.calls_python else _most_rows(kept.code)
    limit = min(limit, runtime.suited_rows or limit)
    if rows > limit:
        return
    rows = grown(rows, _LEAST_ROWS, limit)
    try:
        with interrupts_later():
            _prepare(runtime, kept.code, limit if rows >= BLOCK else rows)
    except MemoryError:
        kept.refused = True  # the prediction itself has found enough


def code_of(table: ParameterTable, *, wait: bool = False) -> BoundCode:
    """Return the code of a network, which models of equal layers share.

    Raises
    ------
    NotImplementedError, ValueError
        When there is none, as for random numbers.
    StillCompiling
        See `BoundCode`, as for `wait`.
    """

    def make() -> BoundCode:
        if traits(table, training=False).random:
            raise NotImplementedError("codes of networks have no counters for random numbers")
        return BoundCode(network(table), wait=wait)

    described = signature(table.architecture, table.dtype, None, None)
    return make() if described is None else shared(("prediction", described), make)


def _most_rows(bound: BoundCode) -> int:
    """Return the number of rows up to which a call takes little time, on one thread."""
    if bound.has_users:
        return BLOCK  # the time of a user-defined function is unknown
    limit = bound.rows_within(MOST_NANOSECONDS, MOST_ROWS)
    # each thread packs blocks of matrices; there the general path costs little in comparison
    return bound.unpacked_rows(limit) if get_num_threads() > 1 else limit


def _prepare(runtime: Runtime, bound: BoundCode, most: int) -> None:
    """Keep the calls of a code on a model's weights, of at most `most` rows."""
    kept, inputs = runtime.prediction, len(runtime.table.architecture.inputs)
    call, together = prepared(runtime, bound, most, inputs)
    if call is None:
        kept.refused = True  # array objects have an unknown layout
        return
    kept.call, kept.together, kept.rows = call, together, most


def prepared(
    runtime: Runtime, bound: BoundCode, most: int, inputs: int
) -> tuple[Callable[..., Any] | None, Callable[..., Any] | None]:
    """Make the calls of a code on a model's weights: by this thread, and by a team where there is work for one.

    Parameters
    ----------
    most : int
        They take no more rows.
    inputs : int
        Arrays that a call takes; it makes those of the code's other slots, and returns them.

    Returns
    -------
    tuple of callables or None
        None first where array objects have an unknown layout.
    """
    code, parameters = bound.code, runtime.parameters
    slots, lock = int(code[CodeWord.SLOTS_COUNT]), runtime.lock
    work = bound.workspace(most)
    # the memory for packed blocks is that of one thread
    shares = get_num_threads() > 1 and most <= bound.unpacked_rows(most)
    sharing = bound.sharing(most) if shares else None
    words, owners = owners_words(runtime)
    held = {Held.PARAMETERS: address(parameters), Held.PARAMETERS_COUNT: int(code[CodeWord.PARAMETERS]), **words}
    buffers = buffers_table(held if sharing is None else held | shared_words(sharing.table))

    def make(most_rows: int) -> Callable[..., Any] | None:
        return code_call(
            code, buffers, Signature(inputs, inputs, most_rows, bound.short_rows), take=TAKE_ROWS,
            kept=(bound, parameters, owners), work=work, parts=Part.LIVE, lock=lock,
            results=range(inputs, slots),
        )  # fmt: skip

    alone = most if sharing is None else sharing.alone
    call, together = make(alone), None
    if call is not None and sharing is not None and alone < most:
        every = make(most)
        assert every is not None
        together = TeamCall(every, buffers, lock, alone + 1, sharing.nanoseconds)
    return call, together
