"""Data that do not fit into a GPU's memory: rows are copied there in chunks, while the steps on earlier rows run.

The host puts the rows of a chunk in order, in memory that is locked for the copy. The copy runs in a separate stream,
into one of two places on the device. There the rows are in the order in which they are used, so programs read them
without an index.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.protocol import Device
from fastnn.data.arrays import Rows
from fastnn.data.feed import Feed
from fastnn.lower.task import Source
from fastnn.program.layout import align

#: bytes of a chunk: enough for fast copies, and for some milliseconds of steps
CHUNK_BYTES = 1 << 26


@dataclass(frozen=True)
class Chunk:
    """Rows [first, first + rows) of a pass in one of the two places.

    Attributes
    ----------
    addresses : mapping of data slot to address
    ready : object
        An event that the device's stream waits for before it reads them.
    """

    index: NDArray[np.int64] | None
    first: int
    rows: int
    addresses: Mapping[int, int]
    ready: Any


class Stream:
    """Copies the rows of a feed to a device, chunk by chunk.

    Parameters
    ----------
    arrays : mapping of data slot to ndarray
        On the host; all have the same number of rows.
    device : Device or SimulatedDevice
    """

    def __init__(self, arrays: Mapping[int, NDArray[Any]], device: Device) -> None:
        self._arrays, self._device = dict(arrays), device
        self.n = len(next(iter(self._arrays.values())))
        self._row_bytes = {slot: array[:1].nbytes for slot, array in self._arrays.items()}
        self._places: list[tuple[Any, Any]] = []
        self._capacity, self._turn = 0, 0
        self._held: Chunk | None = None
        self._next: Chunk | None = None

    def chunk(self, first: int, batch: int, index: NDArray[np.int64] | None) -> Chunk:
        """Return a chunk with the batch that begins at row `first` of a pass over rows in the index's order."""
        for known in (self._held, self._next):
            fits = known is not None and known.first <= first and first + batch <= known.first + known.rows
            if known is not None and fits and known.index is index:
                if known is self._next:
                    self._held, self._next = known, None
                return known
        self._reserve(batch)
        self._next = None
        self._held = self._bring(first, self._whole(batch), index)
        return self._held

    def prefetch(self, chunk: Chunk, batch: int) -> None:
        """Start copying the rows after a chunk, while the device works on it."""
        after = chunk.first + chunk.rows // batch * batch
        if self._next is None and after < self._end(chunk.index) and batch <= self._capacity:
            self._next = self._bring(after, self._whole(batch), chunk.index)

    def _end(self, index: NDArray[np.int64] | None) -> int:
        return self.n if index is None else len(index)

    def _whole(self, batch: int) -> int:
        return self._capacity // batch * batch

    def _reserve(self, batch: int) -> None:
        """Allocate two chunks of at least a batch each."""
        if self._capacity >= batch:
            return
        rows = max(min(CHUNK_BYTES // sum(self._row_bytes.values()), self.n), batch)
        # copies into the old places may still be running, in a separate stream
        self._device.settle()
        self._places.clear()
        nbytes = sum(align(rows * size) for size in self._row_bytes.values())
        self._places = [(self._device.allocate(nbytes), self._device.pinned(nbytes)) for _ in range(2)]
        # memory is zeroed in the main stream, and copies do not wait for that
        self._device.settle()
        self._capacity = rows

    def _bring(self, first: int, rows: int, index: NDArray[np.int64] | None) -> Chunk:
        rows = min(rows, self._end(index) - first)
        memory, pinned = self._places[self._turn]
        self._turn = 1 - self._turn
        addresses, at = {}, 0
        for slot, array in self._arrays.items():
            nbytes = rows * self._row_bytes[slot]
            into = pinned[at : at + nbytes].view(array.dtype).reshape(rows, *array.shape[1:])
            if index is None:
                into[...] = array[first : first + rows]
            else:
                np.take(array, index[first : first + rows], axis=0, out=into, mode="clip")
            addresses[slot] = memory.address + at
            at += align(nbytes)
        return Chunk(index, first, rows, addresses, self._device.stage(memory.address, pinned[:at]))


class _InOrder(Rows):
    """Contiguous rows on the device, in the order in which they are used."""

    def source(self, slot: int, *, indexed: bool, check_finite: bool) -> Source:
        """Describe the rows on the device."""
        found = super().source(slot, indexed=False, check_finite=check_finite)
        return found._replace(row_stride=self.array[:1].nbytes, inner=())


@dataclass(frozen=True)
class StreamedFeed(Feed):
    """A feed whose rows stay on the host until they are needed."""

    stream: Any = None

    @classmethod
    def of_feed(cls, feed: Feed, device: Device) -> StreamedFeed:
        """Make a streamed feed from a feed on the host."""
        stream = Stream({slot: rows.array for slot, rows in feed.slots()}, device)
        return cls(**vars(feed.with_rows(lambda rows: _InOrder(rows.array, rows.inner))), stream=stream)

    def addresses(self) -> Any:
        """Return the addresses of results, and the stream that has all other addresses."""
        return Streaming(self.stream, self.result_addresses())


class Streaming(dict[int, int]):
    """Addresses of a pass whose inputs come from a stream."""

    def __init__(self, stream: Stream, results: Mapping[int, int]) -> None:
        super().__init__(results)
        self.stream = stream
