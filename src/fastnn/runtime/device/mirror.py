"""A flat buffer on the host and its copy on a GPU."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.protocol import Device


class Mirror:
    """The copy of one flat buffer of the host, and which of the two is newer."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self._memory: Any = None
        self._host_newer, self._device_newer = True, False

    def fetch(self, host: NDArray[np.uint8]) -> None:
        """Update the host's buffer if the device's is newer; the caller may then write to it."""
        if self._device_newer:
            self.device.read(self._memory.address, host)
            self._device_newer = False
        self._host_newer = True

    def replaced(self) -> None:
        """Note that the host has another buffer now."""
        self._host_newer, self._device_newer = True, False

    def place(self, host: NDArray[np.uint8]) -> int:
        """Update the device's buffer if the host's is newer, and return its address."""
        if self._memory is None or self._memory.nbytes < host.nbytes:
            self._memory = self.device.allocate(host.nbytes)
            self._host_newer = True
        if self._host_newer:
            self.device.write(self._memory.address, host)
            self._host_newer = False
        return int(self._memory.address)

    def changed(self) -> None:
        """Note that a run has changed the device's buffer."""
        self._device_newer = True


class Held(NamedTuple):
    """Weights that another model holds: its buffer on the host, and the copy, if that model is on a GPU."""

    mirror: Mirror | None
    host: NDArray[np.uint8]
