"""The states of a model's stateful layers: what a batch leaves to the next one, sample by sample."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastnn.addresses import address
from fastnn.layers.architecture import Architecture
from fastnn.program.layout import align
from fastnn.program.program import aligned_zeros
from fastnn.program.record import ITEM_SIZES

if TYPE_CHECKING:
    from fastnn.runtime.device.placement import Placement


def places_of(shapes: Sequence[tuple[int, ...]], rows: int, dtype: str) -> tuple[list[int], int]:
    """Return where the states of a batch begin in their buffer, in bytes, and the size of the buffer."""
    offsets, end = [], 0
    for shape in shapes:
        offsets.append(end)
        end += align(rows * prod(shape) * ITEM_SIZES[dtype])
    return offsets, end


class States:
    """The states that a model's stateful layers begin the next batch with; a model has its own.

    Parameters
    ----------
    architecture : Architecture
    dtype : {"float32", "float64"}

    Attributes
    ----------
    rows : int or None
        The samples of a batch; None until there has been one, and after `reset`.
    shapes : list of shape
        Of a sample's states.
    """

    def __init__(self, architecture: Architecture, dtype: str) -> None:
        carries = architecture.carries()
        self._layers = [architecture.layers[number] for number, _ in carries]
        self._names = [architecture.labels[number] for number, _ in carries]
        self.shapes, self._dtype = [shape for _, shape in carries], dtype
        self.rows: int | None = None
        # on the host, or on a GPU
        self._flat: Any = aligned_zeros(0)
        self._seen = self._resets()

    def __bool__(self) -> bool:
        """Return whether the model has stateful layers."""
        return bool(self._layers)

    def _resets(self) -> list[int]:
        return [layer.times_reset for layer in self._layers]

    def reset(self) -> None:
        """Forget all states: the next batch begins with zeros, and may have any size."""
        self.rows, self._seen = None, self._resets()

    def settle(self) -> None:
        """Set the states of layers to zero that have been reset since the last batch."""
        now = self._resets()
        if now == self._seen:
            return
        stale = [one != other for one, other in zip(now, self._seen, strict=True)]
        self._seen = now
        if all(stale):
            self.reset()
        for array, is_stale in zip(self.arrays(), stale, strict=self.rows is not None):
            if is_stale:
                array[...] = 0.0

    @property
    def said(self) -> str:
        """A stateful layer, and what that means, for errors."""
        return f"layer {self._names[0]!r} is stateful: sample i of a batch goes on from sample i of the batch before"

    def refuse(self, what: str, instead: str) -> None:
        """Raise ValueError if the model has stateful layers, for which something else is done instead."""
        if self:
            raise ValueError(f"{what}: {self.said}; {instead}")

    def check_whole(self, rows: int, batch: int, what: str) -> None:
        """Check that rows are whole batches, if the model has stateful layers.

        Raises
        ------
        ValueError
            When the last batch has fewer rows.
        """
        if self and rows % batch:
            raise ValueError(
                f"{what}: {self.said}, so all batches have the same size: expected a multiple of {batch} rows, got "
                f"{rows}: leave out the last {rows % batch}, or give another batch_size"
            )

    def check(self, rows: int, batch: int, what: str) -> None:
        """Check that rows are whole batches of the states' size, if the model has stateful layers.

        Raises
        ------
        ValueError
            When the last batch has fewer rows, or all have another number of them than the states.
        """
        if not self:
            return
        self.settle()
        if self.rows not in (None, batch):
            raise ValueError(
                f"{what}: {self.said}; there are states of {self.rows} samples: expected batches of {self.rows} rows, "
                f"got {batch}: give batch_size={self.rows}, or call reset_states() first, after which batches may have "
                "any size"
            )
        self.check_whole(rows, batch, what)

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Begin with zeros, and put the states back at the end."""
        kept = self.rows, self._flat, self._seen
        try:
            self.reset()
            yield
        finally:
            self.rows, self._flat, self._seen = kept

    def address(self, rows: int, placement: Placement | None, *, keep: bool = True) -> int:
        """Return the address of the states for a batch; raises as `check`.

        Without `keep`, a batch that only reads states does not decide their number of samples.
        """
        self.check(rows, rows, "batch")
        if self.rows is None:
            self.begin(rows)
            self.rows = rows if keep else None
        if placement is None:
            return address(self._flat)
        if isinstance(self._flat, np.ndarray):
            self._flat = placement.upload(self._flat)
        found: int = self._flat.device_address
        return found

    def fetch(self) -> None:
        """Bring the states to the host."""
        if not isinstance(self._flat, np.ndarray):
            host = aligned_zeros(self._flat.nbytes)
            host[...] = self._flat.copy_to_host()
            self._flat = host

    def begin(self, rows: int) -> list[NDArray[Any]]:
        """Make states of zeros for batches of `rows` rows; returns them as `arrays` does."""
        self._flat = aligned_zeros(places_of(self.shapes, rows, self._dtype)[1])
        self.rows, self._seen = rows, self._resets()
        return self.arrays()

    def arrays(self) -> list[NDArray[Any]]:
        """Return the states as arrays (rows, *shape), views of their buffer on the host; none if there are no rows."""
        self.settle()
        if self.rows is None:
            return []
        self.fetch()
        offsets, _ = places_of(self.shapes, self.rows, self._dtype)
        found = []
        for at, shape in zip(offsets, self.shapes, strict=True):
            nbytes = self.rows * prod(shape) * ITEM_SIZES[self._dtype]
            found.append(self._flat[at : at + nbytes].view(self._dtype).reshape(self.rows, *shape))
        return found
