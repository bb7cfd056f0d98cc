"""Weights of a model, of which other models may hold some, and the locks that go with them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.program.layout import SHARED, Buffer
from fastnn.runtime.joint_lock import JointLock
from fastnn.runtime.parameters import Entry, ParameterTable


class SharedWeights:
    """The part of a runtime that finds weights where they are.

    Attributes
    ----------
    owners : sequence of runtimes
        Of the models that hold weights of this one.
    """

    table: ParameterTable
    owners: Sequence[SharedWeights]

    @property
    def parameters(self) -> NDArray[np.uint8]:
        """The model's own buffer of weights."""
        raise NotImplementedError

    def _make_locks(self) -> None:
        #: held by runs of the models that have weights from this one, too
        self.own_lock = threading.RLock()
        self.lock: Any = JointLock(id(self), self.own_lock, self.owners) if self.owners else self.own_lock

    def weight(self, entry: Entry) -> NDArray[np.floating]:
        """Return one weight as an array of its shape, without a copy."""
        table, place = self.table, entry.place
        if place.buffer == Buffer.PARAMETERS:
            return table.view(self.parameters, entry)
        holder = self.owners[place.buffer - SHARED].parameters
        return table.view(holder, replace(entry, offset=place.offset))

    def gathered(self) -> NDArray[np.uint8]:
        """Return all weights in the layout of the table: the model's own buffer, or a copy if others hold some."""
        if not self.owners:
            return self.parameters
        made = self.table.allocate()
        for entry in self.table:
            self.table.view(made, entry)[...] = self.weight(entry)
        return made

    def scatter(self, weights: NDArray[np.uint8]) -> None:
        """Set all weights from a buffer in the layout of the table."""
        if not self.owners:
            self.parameters[...] = weights
            return
        for entry in self.table:
            self.weight(entry)[...] = self.table.view(weights, entry)
