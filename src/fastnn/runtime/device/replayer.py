"""Runs on a device that come again are replayed as graphs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from fastnn.backend.protocol import Device, DeviceExecutable

# A graph of a usual step is some tens of kilobytes in the driver; one of a loop has the launches of all its rounds.
_KEPT_GRAPHS, _KEPT_LAUNCHES = 32, 1 << 17


class Replayer:
    """Runs programs on one device; a run that is repeated at the same addresses becomes a graph."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._graphs: OrderedDict[Any, Any] = OrderedDict()
        self._sizes: dict[Any, int] = {}

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
            self._graphs[key], self._sizes[key] = None, len(made)
            while len(self._graphs) > _KEPT_GRAPHS or (
                len(self._graphs) > 1 and sum(self._sizes.values()) > _KEPT_LAUNCHES
            ):
                oldest, _ = self._graphs.popitem(last=False)
                del self._sizes[oldest]
            if steps == 1:
                # most runs are never repeated, and making a graph takes longer than launching
                self._device.run(made, context)
                return
            self._graphs[key] = self._device.capture(made, context)
        elif self._graphs[key] is None:
            self._graphs[key] = self._device.capture(bound.launches(addresses, scratch), context)
        self._graphs.move_to_end(key)
        self._graphs[key].launch(steps)
