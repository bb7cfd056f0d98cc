"""Runs on a device that come again are replayed as graphs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from fastnn.backend.protocol import Device, DeviceExecutable

# A graph is some tens of kilobytes in the driver.
_KEPT_GRAPHS = 32


class Replayer:
    """Runs programs on one device; a run that is repeated at the same addresses becomes a graph."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._graphs: OrderedDict[Any, Any] = OrderedDict()

    def run(
        self, bound: DeviceExecutable, addresses: Mapping[int, int], scratch: int, context: int, steps: int
    ) -> None:
        """Launch a program `steps` times, and return before it has run.

        Parameters
        ----------
        addresses : mapping of buffer to address
            The caller keeps the memory alive and large enough until it has waited for the device.
        """
        key = (bound, tuple(sorted(addresses.items())), scratch, context)
        if key not in self._graphs:
            made = bound.launches(addresses, scratch)
            self._graphs[key] = None
            while len(self._graphs) > _KEPT_GRAPHS:
                self._graphs.popitem(last=False)
            if steps == 1:
                # most runs are never repeated, and making a graph takes longer than launching
                self._device.run(made, context)
                return
            self._graphs[key] = self._device.capture(made, context)
        elif self._graphs[key] is None:
            self._graphs[key] = self._device.capture(bound.launches(addresses, scratch), context)
        self._graphs.move_to_end(key)
        self._graphs[key].launch(steps)
