"""Protocols of a backend: programs that are ready to run, and devices with memory of their own.

The CPU needs no device: its programs run on the host's memory. A backend for another kind of device writes classes that
fit `Device`, `Memory`, `Graph` and `DeviceExecutable`; `runtime/device` works with these alone. The type checker
compares them with the classes of the CUDA backend and of its simulator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastnn.program.program import Program

#: an address on the device, and a contiguous array of the host
Copy = tuple[int, NDArray[Any]]


class Executable(Protocol):
    """A verified program whose kernels are loaded."""

    @property
    def program(self) -> Program:
        """The program, some of whose values the backend may have moved."""

    @property
    def shared(self) -> float:
        """Nanoseconds of a step that a team of CPU threads could share; 0 on other devices."""


class Memory(Protocol):
    """Bytes of a device; they are returned with the object."""

    @property
    def address(self) -> int:
        """Where they begin."""

    @property
    def nbytes(self) -> int:
        """How many they are."""


class Graph(Protocol):
    """Launches that are replayed together."""

    def launch(self, times: int) -> None:
        """Run all launches `times` times, after earlier work; may return before they have run."""


class KernelHolder(Protocol):
    """A device that kernels are compiled for and loaded on."""

    @property
    def architecture(self) -> str:
        """The architecture that kernels are compiled for."""

    @property
    def warpgroups(self) -> bool:
        """Whether rounded matrix products may use warpgroups."""

    def has(self, key: Any, number: int) -> bool:
        """Return whether a stage of a kernel is loaded."""

    def load(self, key: Any, number: int, stage: Any) -> None:
        """Load a stage of a kernel, from disk or the compiler."""


class Device(KernelHolder, Protocol):
    """A device with memory of its own, on which all work runs in order.

    Launches are the backend's own objects; the rooms above only pass them on.
    """

    @property
    def number(self) -> int:
        """Counts the devices of a kind."""

    def allocate(self, nbytes: int) -> Any:
        """Allocate zeroed memory, as a `Memory`."""

    def memory(self) -> tuple[int, int]:
        """Return the free and all bytes of the device."""

    def empty_pool(self) -> None:
        """Return unused memory to the system."""

    def write(self, address: int, array: NDArray[Any]) -> None:
        """Copy a contiguous array to the device, after earlier work; the array may be changed afterwards."""

    def read(self, address: int, array: NDArray[Any]) -> None:
        """Fill a contiguous array from the device, after earlier work."""

    def pinned(self, nbytes: int) -> NDArray[np.uint8]:
        """Return memory of the host from which copies are fast."""

    def stage(self, address: int, pinned: NDArray[np.uint8]) -> Any:
        """Copy memory from `pinned` to the device while other work runs; what it returns is for `wait`."""

    def wait(self, staged: Any) -> None:
        """Make later work wait for a copy."""

    def synchronize(self) -> None:
        """Wait until all work is finished."""

    def settle(self) -> None:
        """Wait until all work on the device, also of other libraries, is finished."""

    def run(self, launches: Sequence[Any], context: int) -> None:
        """Launch kernels in order, with the address of a context on the device."""

    def capture(
        self, launches: Sequence[Any], context: int, before: Sequence[Copy] = (), after: Sequence[Copy] = ()
    ) -> Any:
        """Make a `Graph` of copies to the device, launches, and copies back."""

    def seconds(self, work: Callable[[], Any]) -> float:
        """Return the device's time for a function's launches."""


class DeviceExecutable(Executable, Protocol):
    """A program whose kernels are loaded on a device."""

    @property
    def scratch_bytes(self) -> int:
        """Scratch memory that a run needs."""

    @property
    def writes(self) -> frozenset[int]:
        """The buffers that the program changes."""

    def launches(self, addresses: Mapping[int, int], scratch: int) -> list[Any]:
        """Return the launches of one step on buffers at these addresses."""
