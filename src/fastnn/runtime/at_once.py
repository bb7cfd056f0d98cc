"""Runs of all rows at once, for functions whose rows may depend on each other; results of any shape."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.addresses import address
from fastnn.data.feed import Feed
from fastnn.graph.extent import at
from fastnn.program.layout import Counter
from fastnn.program.program import aligned_zeros
from fastnn.runtime.bindings import Bindings
from fastnn.runtime.device.kept import keep
from fastnn.runtime.feeds import architecture_for, checked_inputs
from fastnn.runtime.programs.independence import Traits
from fastnn.runtime.runtime import Runtime

_STEP = int(Counter.STEP)
# shapes of arrays whose programs are kept
_KEPT = 32


def compute(runtime: Runtime, feed: Feed, traits: Traits, *, training: bool) -> list[Any]:
    """Return the outputs for all rows.

    No weight changes: batch normalisation in training mode moves averages of a copy. Where outputs depend on random
    numbers, the next call has others.
    """
    with runtime.lock:
        # uninitialised: the program stores every element
        feed.results.extend(map(runtime.empty, _shapes(runtime, feed)))
        bound = runtime.program(feed.request("predict", feed.n, training=training))
        parameters, shared = copies(runtime) if traits.moves_averages else (None, None)
        runtime.run(bound, Bindings(feed.addresses(), parameters=parameters, shared=shared), 1, cursor=0)
        if traits.random:
            runtime.training[_STEP] += 1
    return [
        _value(result, integers) for result, integers in zip(feed.fetched(), _integers(runtime), strict=True)
    ]  # fmt: skip


def _shapes(runtime: Runtime, feed: Feed) -> list[tuple[int, ...]]:
    """Return the whole shapes of the outputs for the rows of a feed."""
    architecture, n = architecture_for(runtime, feed), feed.n
    calls = [architecture.calls[output] for output in architecture.outputs]
    found = [tuple([at(size, n) for size in call.shape]) for call in calls]
    return [(n, *shape) if call.batched else shape for call, shape in zip(calls, found, strict=True)]


def _integers(runtime: Runtime) -> list[bool]:
    architecture = runtime.table.architecture
    return [architecture.calls[output].kind == "int64" for output in architecture.outputs]


def _value(result: Any, integers: bool) -> Any:
    """Return a result as users get it: integers as such, a number instead of an array without axes."""
    if not isinstance(result, np.ndarray):
        return result
    if integers:
        result = result.astype(np.int64)
    return result[()] if result.ndim == 0 else result


class Known:
    """Calls with arrays of shapes, dtypes and strides that have come before: a third of the time of `compute`."""

    def __init__(self) -> None:
        self._known: dict[Any, Callable[..., Any]] = {}

    def __call__(self, *arrays: Any) -> Any:
        """Return the outputs, as a list if there are several, or False if the arrays are not known."""
        known = self._known.get(_key(arrays))
        return False if known is None else known(*arrays)

    def learn(self, runtime: Runtime, arrays: Sequence[Any], traits: Traits, *, training: bool) -> None:
        """Keep what it takes to compute arrays like these, which `compute` has just taken."""
        key = _key(arrays)
        if key is not None and runtime.on_host and not runtime.table.architecture.takes_integers:
            made = _prepared(runtime, arrays, traits, training=training)
            if made is not None:
                keep(self._known, key, made, (), _KEPT)


def learn(runtime: Runtime, arrays: Sequence[Any], feed: Feed, traits: Traits, *, training: bool) -> None:
    """Prepare calls with arrays like these, which `compute` has taken as `feed`, if it has read them in place."""
    if (
        traits.moves_averages
        or len(arrays) != len(feed.inputs)
        or not all(
            type(array) is np.ndarray and np.may_share_memory(array, rows.array)
            for array, rows in zip(arrays, feed.inputs, strict=True)
        )
    ):
        return
    with runtime.lock:
        kept = runtime.prediction
        if not isinstance(kept.call, Known):
            kept.call = Known()
        kept.call.learn(runtime, arrays, traits, training=training)


def _key(arrays: Sequence[Any]) -> Any:
    """Return all that a program depends on, and the checks of arrays; None if they are not plain ones."""
    for array in arrays:
        if type(array) is not np.ndarray or not array.flags.aligned:
            return None
    return tuple([(array.shape, array.dtype, array.strides) for array in arrays])


def _prepared(
    runtime: Runtime, arrays: Sequence[NDArray[Any]], traits: Traits, *, training: bool
) -> Callable[..., Any] | None:
    """Return a function that computes arrays of these shapes, dtypes and strides; None if there can be none.

    It does not keep the runtime, which keeps it.
    """
    n, dtype, reference = len(arrays[0]), runtime.table.dtype, weakref.ref(runtime)
    feed = checked_inputs(runtime, arrays if len(arrays) > 1 else arrays[0])
    shapes, integers = _shapes(runtime, feed), _integers(runtime)
    feed.results.extend(np.empty(shape, dtype) for shape in shapes)
    bound, first = runtime.program(feed.request("predict", n, training=training)), min(feed.result_addresses())
    fixed = runtime.fixed(bound, Bindings({}))
    if fixed is None:
        return None

    def known(*arrays: NDArray[Any]) -> Any:
        runtime = reference()
        assert runtime is not None
        results = [np.empty(shape, dtype) for shape in shapes]
        places = [*enumerate(map(address, arrays)), *enumerate(map(address, results), first)]
        with runtime.lock:
            if not runtime.run_fixed(fixed, places):
                return False  # in the middle of another run; or another thread has moved the model
            if traits.random:
                runtime.training[_STEP] += 1
        found = [_value(result, each) for result, each in zip(results, integers, strict=True)]
        return found[0] if len(found) == 1 else found

    return known


def copies(runtime: Runtime) -> tuple[NDArray[np.uint8], Sequence[NDArray[np.uint8]]]:
    """Return copies of a model's own weights and of those that others hold, for a run that may not change them."""
    return _copied(runtime.parameters), [_copied(owner.parameters) for owner in runtime.owners]


def _copied(buffer: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Copy a buffer, with its alignment."""
    made = aligned_zeros(buffer.nbytes)
    made[:] = buffer
    return made
