"""Predictions of few rows on a GPU: captured runs, by shapes and dtypes.

The second prediction of rows of some shape and dtype captures a run (`graph.py`), because capturing takes longer than a
call. The checked rows, in locked memory, the program and the arrays of results are kept. They are right for all rows of
that shape and dtype, because the checks of a plain `numpy.ndarray` look at nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.errors import DeviceMemoryError
from fastnn.interrupts import interrupts_later
from fastnn.runtime.bindings import Bindings
from fastnn.runtime.device.graph import locked
from fastnn.runtime.device.kept import MOST_BYTES, keep
from fastnn.runtime.feeds import architecture_for, checked_inputs
from fastnn.runtime.runtime import Runtime

Predict = Callable[..., Any]


def _seen(*arrays: Any) -> bool:
    """Mark rows that came once."""
    return False


def _never(*arrays: Any) -> bool:
    """Mark rows that the general path has to predict."""
    return False


class CapturedPredictions:
    """The captured runs of a model: called on arrays, it returns the results, or False if the general path has to."""

    def __init__(self) -> None:
        self._kept: dict[Any, Predict] = {}

    def __call__(self, *arrays: Any) -> Any:
        """Predict plain arrays of known shapes and dtypes."""
        predict = self._kept.get(_key(arrays))
        return False if predict is None else predict(*arrays)

    def learn(self, runtime: Runtime, arrays: list[NDArray[Any]]) -> None:
        """Keep the prediction of plain arrays like these, which the general path has just predicted, if it is small.

        The caller holds the runtime's lock.
        """
        key = _key(arrays)
        known = self._kept.get(key)
        if known is _never or sum(array.nbytes for array in arrays) > MOST_BYTES:
            return
        made: Predict = _seen
        if known is not None:
            try:
                with interrupts_later():
                    made = _captured(runtime, arrays)
            except DeviceMemoryError:
                made = _never  # the prediction itself has found enough memory
        keep(self._kept, key, made, (_seen, _never))


def _key(arrays: Any) -> Any:
    return tuple([(array.shape, array.dtype) if type(array) is np.ndarray else None for array in arrays])


def _captured(runtime: Runtime, arrays: list[NDArray[Any]]) -> Predict:
    """Make the prediction of arrays like these by a captured run; it returns False if that has to be captured again."""
    placement = runtime.placement
    assert placement is not None
    rows = locked(placement.device, [(array.shape, array.dtype) for array in arrays])
    for own, array in zip(rows, arrays, strict=True):
        own[...] = array
    feed = checked_inputs(runtime, rows if len(rows) > 1 else rows[0])
    seen = [fed.array for fed in feed.inputs]
    if len(seen) != len(rows) or not all(map(np.may_share_memory, seen, rows)):
        return _never  # converted as a whole, such as half precision
    shapes = [(feed.n, *shape) for shape in architecture_for(runtime, feed).output_shapes]
    if sum(math.prod(shape) for shape in shapes) * np.dtype(runtime.table.dtype).itemsize > MOST_BYTES:
        return _never
    there = placement.bring(feed)
    there.results.extend(runtime.empty(shape) for shape in shapes)
    results = locked(placement.device, [(shape, runtime.table.dtype) for shape in shapes])
    bound = runtime.program(there.request("predict", feed.n))
    run = runtime.prepared(bound, Bindings(there.addresses()), there, list(enumerate(rows)), results)
    copies, lock = [result.copy for result in results], runtime.lock
    busy = False

    def predict(*arrays: Any) -> Any:
        nonlocal busy
        with lock:
            if busy:
                raise RuntimeError("the model is in the middle of a run on the GPU, which this call has interrupted")
            try:
                busy = True
                for own, array in zip(rows, arrays, strict=True):
                    own[...] = array
                if run() is None:
                    return False
                return copies[0]() if len(copies) == 1 else [copy() for copy in copies]
            finally:
                busy = False

    return predict
