"""A device in Numba's simulator: NumPy memory, kernels as Python functions, synchronous launches."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import cuda
from numpy.typing import NDArray

from fastnn.backend.cuda.codegen.kernel import Stage
from fastnn.backend.cuda.launch.launches import Launch
from fastnn.backend.cuda.simulator import memory
from fastnn.program.program import aligned_zeros

#: the limits of Numba's simulator
ONE_AT_A_TIME = threading.Lock()


class Memory:
    """Bytes of the device; they are returned with the object."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self._bytes = aligned_zeros(nbytes)
        self.address = memory.register(self._bytes)

    def __del__(self) -> None:
        memory.release(self.address)


class Graph:
    """Launches that are replayed together."""

    def __init__(
        self, device: Any, launches: Sequence[Launch], context: int, before: Sequence[Any] = (), after: Any = ()
    ) -> None:
        self._device, self._before, self._after, functions = device, before, after, device._functions
        self._tables = {each.table: np.array(each.table, np.int64) for each in launches if each.table}
        self._places = {table: memory.register(words.view(np.uint8)) for table, words in self._tables.items()}
        self._parts = [(functions[each.key, each.stage], each, each.words(self._places)) for each in launches]
        self._context = context

    def __del__(self) -> None:
        for address in self._places.values():
            memory.release(address)

    def launch(self, times: int) -> None:
        """Run all launches `times` times."""
        for _ in range(times):
            for address, array in self._before:
                self._device.write(address, array)
            with ONE_AT_A_TIME:
                for function, each, words in self._parts:
                    function[each.grid, each.threads](words, self._context)
            for address, array in self._after:
                self._device.read(address, array)


class SimulatedDevice:
    """The counterpart of `device.Device`."""

    def __init__(self, number: int = 0) -> None:
        self.number = number
        self.name = "Numba's CUDA simulator"
        self.architecture = "simulated"
        self.capability, self.multiprocessors = (0, 0), 1
        self.warpgroups = False
        self._functions: dict[Any, Any] = {}

    def allocate(self, nbytes: int) -> Memory:
        """Allocate zeroed memory."""
        return Memory(max(nbytes, 16))

    def write(self, address: int, array: NDArray[Any]) -> None:
        """Copy a contiguous array to the device."""
        source = array.reshape(-1).view(np.uint8)
        if source.nbytes:
            held, offset = memory.place(address, 0, source.nbytes)
            held[offset : offset + source.nbytes] = source

    def read(self, address: int, array: NDArray[Any]) -> None:
        """Fill a contiguous array from the device, after all launches."""
        target = array.reshape(-1).view(np.uint8)
        if target.nbytes:
            held, offset = memory.place(address, 0, target.nbytes)
            target[:] = held[offset : offset + target.nbytes]

    def has(self, key: Any, number: int) -> bool:
        """Return whether a stage of a kernel is loaded."""
        return (key, number) in self._functions

    def load(self, key: Any, number: int, stage: Stage) -> None:
        """Load a stage of a kernel."""
        if (key, number) not in self._functions:
            self._functions[key, number] = cuda.jit(stage.function)

    def capture(
        self, launches: Sequence[Launch], context: int, before: Sequence[Any] = (), after: Sequence[Any] = ()
    ) -> Graph:
        """Combine launches, and copies before and after them, to be replayed."""
        return Graph(self, launches, context, before, after)

    def run(self, launches: Sequence[Launch], context: int) -> None:
        """Launch kernels in order."""
        self.capture(launches, context).launch(1)

    def memory(self) -> tuple[int, int]:
        """Return free and total bytes, of a small GPU."""
        return 2**30, 2**30

    def pinned(self, nbytes: int) -> NDArray[np.uint8]:
        """Return memory of the host from which copies are fast."""
        return aligned_zeros(nbytes)

    def stage(self, address: int, pinned: NDArray[np.uint8]) -> None:
        """Copy memory of the host to the device."""
        self.write(address, pinned)

    def wait(self, staged: None) -> None:
        """Make later launches wait for a copy."""

    def empty_pool(self) -> None:
        """Return unused memory; there is none."""

    def settle(self) -> None:
        """Wait until all work on the device is finished."""

    def synchronize(self) -> None:
        """Wait until all launches are finished."""

    def seconds(self, work: Callable[[], Any]) -> float:
        """Return a function's time by the host's clock, since its launches are synchronous."""
        begin = time.perf_counter()
        work()
        return time.perf_counter() - begin
