"""Quick predictions: a cache of prepared calls, for few rows at a time.

The first prediction of rows of some shape and dtype takes the general path, and then once more on a copy of the rows.
On a GPU, where preparing takes longer than the call, the second prediction does so, and rows are always copied (see
`device/graph.py`). The checked rows, program, context and array of results are kept. They are right for all rows of
that shape and dtype, because the checks of a plain `numpy.ndarray` look at nothing else. So later predictions start the
program on contiguous rows in place, or on a copy in the kept rows, and copy the result out. Only the result is
allocated.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cpu.calls.predict_call import DirectRows, direct_rows
from fastnn.backend.cpu.executor.engine import BoundProgram, Runner
from fastnn.backend.cpu.executor.raised import RAISED
from fastnn.errors import DeviceMemoryError
from fastnn.program.layout import Counter, Status
from fastnn.runtime.bindings import Bindings
from fastnn.runtime.device.graph import locked
from fastnn.runtime.device.interrupts import interrupts_later
from fastnn.runtime.feeds import checked_inputs
from fastnn.runtime.runtime import Runtime
from fastnn.threads import get_num_threads

if TYPE_CHECKING:
    from fastnn.data.feed import Feed

#: it returns False if it is no longer valid, and the general path has to predict
Predict = Callable[[Any], Any]


class Kept(NamedTuple):
    """A prediction of rows of one shape and dtype.

    Attributes
    ----------
    predict : callable
        Predicts such rows.
    test : callable, optional
        Takes any object: predicts it, or returns False if it is not a contiguous array of that shape and dtype.
    """

    predict: Predict
    test: Predict | None


#: The key of the latest prediction's test, which is tried first to avoid a lookup.
LATEST = "latest"

#: Larger arrays are not copied in and out: the general path reads them in place.
MOST_BYTES = 1 << 18


def learn(runtime: Runtime, x: Any, batch: int) -> None:
    """Keep a prediction for rows like x in the model's runtime, if they are few.

    Parameters
    ----------
    x : array, or list of arrays by input
        Rows that the general path has just predicted.
    batch : int
        The largest number of rows of a batch in the general path: more are not predicted at once.
    """
    if runtime.table.architecture.takes_integers or runtime.owners:
        return  # the range of integers is checked in every call; weights of another model may be on a GPU
    parts = x if type(x) is list else [x]
    if not all(type(part) is np.ndarray for part in parts):
        return
    if len(parts[0]) > batch or sum(part.nbytes for part in parts) > MOST_BYTES:
        return
    key = key_of(x)
    # under the lock throughout: another thread may move the model, and an entry is valid on one device only
    with runtime.lock:
        known = runtime.quick.get(key)
        if known is _NEVER or (runtime.placement is None and known is not None):
            # kept already, but its arrays were in use by a call that this one has interrupted
            return
        if runtime.placement is not None and known is None:
            # a shape seen once may never come again, and preparing takes longer than the call
            keep(runtime.quick, key, _SEEN, _MARKERS)
            return
        try:
            with interrupts_later():
                made = _make(runtime, x, parts)
        except DeviceMemoryError:
            made = _NEVER  # the prediction itself has found enough memory
        keep(runtime.quick, key, made, _MARKERS)


def _make(runtime: Runtime, x: Any, parts: list[NDArray[Any]]) -> Kept:
    """Make the prediction for rows like x, or return `_NEVER`."""
    wanted = [(part.shape, part.dtype) for part in parts]
    placement = runtime.placement
    rows = [np.empty(*each) for each in wanted] if placement is None else locked(placement.device, wanted)
    for own, part in zip(rows, parts, strict=True):
        own[...] = part
    feed = checked_inputs(runtime, rows if type(x) is list else rows[0])
    seen = [fed.array for fed in feed.inputs]
    if len(seen) != len(rows) or not all(map(np.may_share_memory, seen, rows)):
        return _NEVER  # converted as a whole, such as half precision, or a list that stands for one array
    shapes, dtype = runtime.table.architecture.output_shapes, runtime.table.dtype
    itemsize = np.dtype(dtype).itemsize
    if sum(feed.n * math.prod(shape) * itemsize for shape in shapes) > MOST_BYTES:
        return _NEVER
    if placement is not None:
        return Kept(_on_device(runtime, feed, rows, type(x) is not list), None)
    feed.results.extend(np.empty((feed.n, *shape), dtype) for shape in shapes)
    bound = runtime.program(feed.request("predict", feed.n))
    if bound.calls_python:
        return _NEVER
    return _freeze(runtime, bound, feed, rows, single=type(x) is not list)


def _refuse(x: Any) -> bool:
    return False


#: markers: for rows that came once, and for rows that the general path has to predict
_SEEN, _NEVER = Kept(_refuse, None), Kept(_refuse, None)
_MARKERS = (_SEEN, _NEVER)


def keep(kept: dict[Any, Any], key: Any, value: Any, markers: Collection[Any], most: int = 64) -> None:
    """Put a value into a dictionary of at most `most`, instead of the oldest marker, or else of the oldest value."""
    kept.pop(key, None)
    while len(kept) >= most:
        # a copy of the dictionary, which other threads may empty
        held = list(kept.items())
        oldest = next((each for each, marker in held if any(marker is one for one in markers)), None)
        kept.pop(held[0][0] if oldest is None and held else oldest, None)
    kept[key] = value


def key_of(x: Any) -> Any:
    """Return the key of an array or a list of arrays in a runtime's quick predictions, or None if it has none."""
    if type(x) is np.ndarray:
        return x.shape, x.dtype
    if type(x) is list:
        return tuple([(part.shape, part.dtype) if type(part) is np.ndarray else None for part in x])
    return None


def find(kept: dict[Any, Any], x: Any) -> Predict | None:
    """Return the prediction of such rows, and make it the latest; None if there is none."""
    found = kept.get(key_of(x))
    if found is None:
        return None
    if found.test is not None:
        kept[LATEST] = found.test
    predict: Predict = found.predict
    return predict


def _on_device(runtime: Runtime, feed: Feed, rows: list[NDArray[Any]], single: bool) -> Predict:
    """Make the prediction by a captured run on the GPU; it returns False if that has to be captured again."""
    placement = runtime.placement
    assert placement is not None
    there = placement.bring(feed)
    shapes = [(feed.n, *shape) for shape in runtime.table.architecture.output_shapes]
    there.results.extend(runtime.empty(shape) for shape in shapes)
    results = locked(placement.device, [(shape, runtime.table.dtype) for shape in shapes])
    bound = runtime.program(there.request("predict", feed.n))
    run = runtime.prepared(bound, Bindings(there.addresses()), there, list(enumerate(rows)), results)
    copies, lock = [result.copy for result in results], runtime.lock
    busy = False

    def predict(x: Any) -> Any:
        nonlocal busy
        with lock:
            if busy:
                raise RuntimeError("the model is in the middle of a run on the GPU, which this call has interrupted")
            try:
                busy = True
                for own, part in zip(rows, (x,) if single else x, strict=True):
                    own[...] = part
                if run() is None:
                    return False
                return copies[0]() if len(copies) == 1 else [copy() for copy in copies]
            finally:
                busy = False

    return predict


def _freeze(runtime: Runtime, bound: BoundProgram, feed: Feed, rows: list[NDArray[Any]], *, single: bool) -> Kept:
    """Make the prediction (variables of a closure are the fastest to read)."""
    context, kept = runtime.context_of(bound, Bindings(feed.addresses()))
    made = None
    if single and len(feed.results) == 1:
        made = direct_rows(bound, context, rows[0], feed.results[0], get_num_threads())
    if made is None:
        predict = _by_copies(runtime.lock, bound, context, rows, feed.results, single=single)
        found = Kept(predict, None)
    else:
        predict, test = _directly(runtime.lock, made[0], rows[0], context, bound)
        found = Kept(predict, test)
        test.kept = predict  # type: ignore[attr-defined]
    # the memory that the context and the entry point to lives as long as the function
    predict.kept = (bound, context, kept, made)  # type: ignore[attr-defined]
    return found


def _directly(
    lock: threading.RLock, direct: DirectRows, rows: NDArray[Any], context: NDArray[np.int64], bound: BoundProgram
) -> tuple[Predict, Predict]:
    """Make the prediction that reads rows in place, or else from a copy in `rows`, and its test."""
    # costs half of `with`; the child of a fork, whose locks are new, drops these functions
    acquire, release, runner = lock.acquire, lock.release, Runner(context)

    def test(x: Any) -> Any:
        acquire()
        try:
            return direct(x)
        finally:
            release()

    busy = False

    def predict(x: Any) -> Any:
        nonlocal busy
        with lock:
            if busy:
                return False  # the rows are in use: a signal handler or a finalizer has interrupted this function
            try:
                busy = True
                result = direct(x)
                if result is False:
                    # also after an exception in `test`
                    context[Counter.STATUS] = Status.RUNNING
                    rows[...] = x
                    result = direct(rows)
                if result is False:
                    runner.check(bound)
                    raise RuntimeError(RAISED)
                return result
            finally:
                busy = False

    return predict, test


def _by_copies(
    lock: threading.RLock, bound: BoundProgram, context: NDArray[np.int64], rows: list[NDArray[Any]],
    results: list[NDArray[Any]], *, single: bool,
) -> Predict:  # fmt: skip
    """Make the prediction that copies its rows in."""
    runner, counters, cursor = Runner(context), memoryview(context.data), int(Counter.CURSOR)
    start = runner.prepared(bound, 1, get_num_threads())
    copies = [result.copy for result in results]

    busy = False

    def predict(x: Any) -> Any:
        nonlocal busy
        with lock:
            if busy:
                return False  # see `_directly`
            try:
                busy = True
                for own, part in zip(rows, (x,) if single else x, strict=True):
                    own[...] = part
                counters[cursor] = 0
                if start() != 1:
                    runner.check(bound)
                return copies[0]() if len(copies) == 1 else [copy() for copy in copies]
            finally:
                busy = False

    return predict
