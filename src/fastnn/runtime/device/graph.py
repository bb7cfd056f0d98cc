"""A run on a GPU that is captured once and then replayed, for few rows at a time.

Its data go through locked memory of the host that is kept, and the copies are part of the graph that the driver
replays: a run is one call of the driver, and one that waits. If the memory that it was captured for has changed
(grown or replaced buffers), it returns None instead of running.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.protocol import Device, DeviceExecutable
from fastnn.program.layout import Buffer
from fastnn.runtime.bindings import Bindings

if TYPE_CHECKING:
    from fastnn.data.feed import Feed
    from fastnn.runtime.device.placement import Placement

Flat = Sequence[NDArray[np.uint8]]


def locked(device: Device, shapes: Sequence[tuple[tuple[int, ...], Any]]) -> list[NDArray[Any]]:
    """Return arrays of some shapes and dtypes in locked memory of the host."""
    return [
        device.pinned(int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize).view(dtype).reshape(shape)
        for shape, dtype in shapes
    ]


class CapturedStep:
    """One step of a program.

    Parameters
    ----------
    placement : Placement
    bound : DeviceExecutable
    work : Bindings
        Its arrays are written by the caller before a run, and hold the results after it.
    flat : sequence of ndarray
        The host's parameters, gradients and optimizer state.
    feed : Feed
        On the device.
    data : sequence of (int, ndarray)
        Data slots, and the arrays in locked memory that are copied to them.
    results : sequence of ndarray
        Arrays in locked memory, for all results of the feed.
    """

    def __init__(
        self, placement: Placement, bound: DeviceExecutable, work: Bindings, flat: Flat, feed: Feed,
        data: Sequence[tuple[int, NDArray[Any]]], results: Sequence[NDArray[Any]],
    ) -> None:  # fmt: skip
        # not at the top: a model on the CPU does not import Numba
        from fastnn.runtime.device.context import DeviceContext

        device = placement.device
        self._placement = placement
        # the graph has their addresses
        self._kept = bound, work, feed, data, results
        self._control = control = DeviceContext(work, allocate=device.pinned)
        self._memory = device.allocate(control.block.nbytes)
        address = self._memory.address
        places = {**placement.addresses(bound, work, flat), **control.places(address)}
        # where the copies of the model's buffers are, which are numbered as `flat` is
        self._mirrors = [
            (placement.mirror(Buffer(number)), number, places[number])
            for number in range(len(flat))
            if number in places
        ]
        scratch = placement.scratch(bound)
        self._generation = placement.generation
        before = [(address, control.block), *((work.addresses[slot], array) for slot, array in data)]
        after = [(address, control.block[: control.answered])]
        after += [(made.device_address, array) for made, array in zip(feed.results, results, strict=True)]
        self._graph = device.capture(bound.launches(places, scratch), address, before, after)
        self._changes = placement.changed_by(bound)

    def run(self, context: NDArray[np.int64], flat: Flat) -> int | None:
        """Run the step and return the number of finished steps, or None if it has to be captured again."""
        placement = self._placement
        if placement.generation != self._generation:
            return None
        for mirror, at, address in self._mirrors:
            if not flat[at].nbytes or mirror.place(flat[at]) != address:
                return None
        self._control.fill(context)
        try:
            self._graph.launch(1)
        finally:
            # also after a Ctrl-C: the next run writes where this one still copies
            placement.device.synchronize()
        for mirror in self._changes:
            mirror.changed()
        return self._control.take(context, 1)
