"""Runs of all rows at once, for functions whose rows may depend on each other; results of any shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.data.feed import Feed
from fastnn.graph.extent import at
from fastnn.program.layout import Counter
from fastnn.program.program import aligned_zeros
from fastnn.runtime.bindings import Bindings
from fastnn.runtime.programs.independence import Traits
from fastnn.runtime.runtime import Runtime

_STEP = int(Counter.STEP)


def compute(runtime: Runtime, feed: Feed, traits: Traits, *, training: bool) -> list[Any]:
    """Return the outputs for all rows.

    No weight changes: batch normalisation in training mode moves averages of a copy. Where outputs depend on random
    numbers, the next call has others.
    """
    architecture = runtime.table.architecture
    calls = [architecture.calls[output] for output in architecture.outputs]
    shapes = [tuple([at(size, feed.n) for size in call.shape]) for call in calls]
    with runtime.lock:
        # uninitialised: the program stores every element
        feed.results.extend(
            runtime.empty((feed.n, *shape) if call.batched else shape)
            for call, shape in zip(calls, shapes, strict=True)
        )
        bound = runtime.program(feed.request("predict", feed.n, training=training))
        parameters, shared = copies(runtime) if traits.moves_averages else (None, None)
        work = Bindings(feed.addresses(), parameters=parameters, shared=shared)
        runtime.run(bound, work, 1, cursor=0)
        if traits.random:
            runtime.training[_STEP] += 1
    return feed.fetched()


def copies(runtime: Runtime) -> tuple[NDArray[np.uint8], Sequence[NDArray[np.uint8]]]:
    """Return copies of a model's own weights and of those that others hold, for a run that may not change them."""
    return _copied(runtime.parameters), [_copied(owner.parameters) for owner in runtime.owners]


def _copied(buffer: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Copy a buffer, with its alignment."""
    made = aligned_zeros(buffer.nbytes)
    made[:] = buffer
    return made
