"""The flat buffers of a model: on the host, and on a GPU if the model is there."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastnn.program.layout import SHARED, Buffer
from fastnn.runtime.device.mirror import Held
from fastnn.runtime.joint_lock import JointLock
from fastnn.runtime.parameters import ParameterTable, WeightEntry

if TYPE_CHECKING:
    from fastnn.runtime.device.placement import Placement

# Plain integers: an enumeration's member costs 0.15 µs as an index.
_PARAMETERS, _GRADIENTS, _OPTIMIZER = int(Buffer.PARAMETERS), int(Buffer.GRADIENTS), int(Buffer.OPTIMIZER)


class Unaveraged(NamedTuple):
    """The weights that averages have replaced, in the layout of gradients, and the step after which they did."""

    step: int
    weights: NDArray[np.uint8]


class Buffers:
    """Parameters, gradients and optimizer state; what a GPU has changed is copied to the host before it is read.

    Parameters
    ----------
    table : ParameterTable
    owners : sequence of Buffers
        Of the models that hold weights of this one: a program's buffers from `SHARED` on. The lock holds theirs.
    """

    def __init__(self, table: ParameterTable, owners: Sequence[Buffers] = ()) -> None:
        self.table = table
        self.owners = tuple(owners)
        self.make_locks()
        #: the model's buffers on a GPU, if it is on one
        self.placement: Placement | None = None
        #: weights that moving averages have replaced at the end of a training, which may be resumed
        self.unaveraged: Unaveraged | None = None
        self._flat = [table.allocate_own(), table.allocate(0), table.allocate(0)]

    @property
    def on_host(self) -> bool:
        """Whether all weights are on the CPU, also those that other models hold."""
        return self.placement is None and all(owner.placement is None for owner in self.owners)

    def make_locks(self) -> None:
        """Make new locks, which are free. Those of the models that hold weights of this one are made before."""
        #: held by runs of the models that have weights from this one, too
        self.own_lock = threading.RLock()
        own = self.own_lock
        self.lock: Any = JointLock([own, *(owner.own_lock for owner in self.owners)]) if self.owners else own

    @property
    def parameters(self) -> NDArray[np.uint8]:
        """The model's own buffer of weights."""
        return self.fetched(_PARAMETERS)

    @property
    def stored_parameters(self) -> NDArray[np.uint8]:
        """That buffer on the host, which may be older than on a GPU."""
        return self._flat[_PARAMETERS]

    def weight(self, entry: WeightEntry) -> NDArray[np.floating]:
        """Return one weight as an array of its shape, without a copy."""
        buffer = entry.place.buffer
        holder = self if buffer == _PARAMETERS else self.owners[buffer - SHARED]
        return self.table.weight(holder.parameters, entry)

    def held(self) -> list[Held]:
        """Return the weights that other models hold, for a run on a GPU."""
        return [
            Held(
                None if owner.placement is None else owner.placement.mirror(Buffer.PARAMETERS), owner.stored_parameters
            )
            for owner in self.owners
        ]

    def note_written(self) -> None:
        """Note, where a run on the CPU ends, that copies on GPUs of weights that others hold are older.

        The beginning of the run has noted it, too, but a call that interrupted the run may have updated a copy since.
        """
        if self.placement is None:
            for owner in self.owners:
                owner.fetched(_PARAMETERS)

    def gathered(self) -> NDArray[np.uint8]:
        """Return all weights in the layout of gradients: the model's own buffer, or a copy if others hold some."""
        if not self.owners:
            return self.parameters
        made = self.table.allocate()
        for entry in self.table:
            self.table.view(made, entry)[...] = self.weight(entry)
        return made

    def scatter(self, weights: NDArray[np.uint8]) -> None:
        """Set all weights from a buffer in the layout of gradients."""
        if not self.owners:
            self.parameters[...] = weights
            return
        for entry in self.table:
            self.weight(entry)[...] = self.table.view(weights, entry)

    @property
    def gradients(self) -> NDArray[np.uint8]:
        """Gradients of the weights; empty until a program needs them."""
        return self.fetched(_GRADIENTS)

    @gradients.setter
    def gradients(self, buffer: NDArray[np.uint8]) -> None:
        self._replace(_GRADIENTS, buffer)

    @property
    def optimizer_state(self) -> NDArray[np.uint8]:
        """The optimizer's slots, concatenated."""
        return self.fetched(_OPTIMIZER)

    @optimizer_state.setter
    def optimizer_state(self, buffer: NDArray[np.uint8]) -> None:
        self._replace(_OPTIMIZER, buffer)

    def fetched(self, buffer: int) -> NDArray[np.uint8]:
        """Return one of the flat buffers on the host, as new as on the device."""
        if self.placement is not None:
            with self.lock:
                self.placement.mirror(Buffer(buffer)).fetch(self._flat[buffer])
        return self._flat[buffer]

    def _replace(self, buffer: int, array: NDArray[np.uint8]) -> None:
        self._flat[buffer] = array
        if self.placement is not None:
            self.placement.mirror(Buffer(buffer)).replaced()

    def place(self, placement: Placement | None) -> None:
        """Bring the buffers to a GPU, or back to the CPU."""
        for buffer in (_PARAMETERS, _GRADIENTS, _OPTIMIZER):
            self.fetched(buffer)
        self.placement = placement

    def empty(self, shape: tuple[int, ...]) -> Any:
        """Make an array for results, on the model's device."""
        if self.placement is not None:
            return self.placement.empty(shape, self.table.dtype)
        return np.empty(shape, self.table.dtype)
