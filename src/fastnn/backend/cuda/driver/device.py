"""A GPU: its memory, its kernels, one stream in which everything runs in order, and graphs of launches.

The device's primary context is used, which PyTorch, CuPy and Numba share, so their arrays can be read in place.
"""

from __future__ import annotations

import ctypes
import heapq
import os
import threading
import weakref
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cuda.codegen.kernel import ARGUMENTS, Key, Stage
from fastnn.backend.cuda.codegen.library import machine_code
from fastnn.backend.cuda.codegen.sizes import MINIMUM, architecture_of
from fastnn.backend.cuda.driver.driver import Driver
from fastnn.backend.cuda.launch.launches import Launch
from fastnn.errors import DeviceError, DeviceMemoryError

# values of the driver's enumerations
_MAJOR, _MINOR = 75, 76
_MULTIPROCESSORS = 16
_SHARED_OF_A_BLOCK = 97
_MOST_DYNAMIC_SHARED = 8
_NON_BLOCKING = 1
_NO_TIMING = 2
_PLAIN_SHARED = 48 * 1024


def wants_warpgroups(capability: tuple[int, int]) -> bool:
    """Return whether warpgroups make rounded products, which is off by default: see docs/gpu-results.md."""
    asked = os.environ.get("FASTNN_CUDA_WARPGROUPS", "").strip().lower()
    return capability == (9, 0) and asked in ("1", "true", "yes", "on")


class Current:
    """Work in a context. Not a generator, which costs three times as much: this is entered ten times per call."""

    def __init__(self, call: Callable[..., Any], context: Any) -> None:
        self._call, self._context, self._before = call, context, 0

    def __enter__(self) -> None:
        before = self._call("cuCtxGetCurrent")
        if int(before) != int(self._context):
            self._call("cuCtxSetCurrent", self._context)
            # a thread without a context keeps this one, the device's own, for the next time
            self._before = before if int(before) else 0

    def __exit__(self, *error: object) -> None:
        if self._before:
            self._call("cuCtxSetCurrent", self._before)


#: an address on the device, and an array of the host
Copy = tuple[int, NDArray[Any]]


class Memory:
    """Bytes of a device; returned to its pool with the object."""

    def __init__(self, device: Device, nbytes: int, address: int) -> None:
        self._device, self.nbytes, self.address = device, nbytes, address

    def __del__(self) -> None:
        self._device._keep(self.nbytes, self.address)


class Event:
    """A point in a stream."""

    def __init__(self, device: Device, handle: Any) -> None:
        self._device, self.handle = device, handle

    def __del__(self) -> None:
        self._device._forget("cuEventDestroy", self.handle)


class Graph:
    """Launches that the driver replays as one, and the tables that they read."""

    def __init__(self, device: Device, executable: Any, tables: Any) -> None:
        self._device, self._executable, self._tables = device, executable, tables

    def launch(self, times: int) -> None:
        """Run all launches `times` times, after earlier work; returns before they have run."""
        device = self._device
        with device.current():
            for _ in range(times):
                device._call("cuGraphLaunch", self._executable, device.stream)

    def __del__(self) -> None:
        self._device._forget("cuGraphExecDestroy", self._executable)


class Device:
    """A GPU in its primary context.

    Parameters
    ----------
    number : int
    driver : Driver
        Initialised.

    Raises
    ------
    DeviceError
        When the GPU is older than fastnn's kernels.
    """

    def __init__(self, number: int, driver: Driver) -> None:
        self.number = number
        self._driver = driver
        self._call = driver.call
        self._lock = threading.RLock()
        handle = self._call("cuDeviceGet", number)
        name = self._call("cuDeviceGetName", 256, handle)
        self.name = (name.decode() if isinstance(name, bytes) else str(name)).partition("\0")[0]
        self.capability = (self._attribute(_MAJOR, handle), self._attribute(_MINOR, handle))
        self.multiprocessors = self._attribute(_MULTIPROCESSORS, handle)
        self.most_shared = self._attribute(_SHARED_OF_A_BLOCK, handle)
        if self.capability < MINIMUM:
            raise DeviceError(
                f"device 'cuda:{number}': {self.name} has compute capability {_spell(self.capability)}, fastnn needs "
                f"{_spell(MINIMUM)} or newer"
            )
        self.warpgroups = wants_warpgroups(self.capability)
        self.architecture = architecture_of(self.capability)
        self._context = self._call("cuDevicePrimaryCtxRetain", handle)
        self._free: dict[int, list[int]] = defaultdict(list)
        self._functions: dict[tuple[Key, int], Any] = {}
        self._copies: Any = None
        with self.current():
            self.stream = self._call("cuStreamCreate", _NON_BLOCKING)
            # launches of other threads in the meantime must not become part of the graph
            self._captures = self._call("cuStreamCreate", _NON_BLOCKING)

    def _attribute(self, number: int, handle: Any) -> int:
        kind = getattr(self._driver.bindings, "CUdevice_attribute", int)
        return int(self._call("cuDeviceGetAttribute", kind(number), handle))

    def current(self) -> Current:
        """Make the device's context current in the calling thread; restores another one afterwards, if it had one."""
        return Current(self._call, self._context)

    # --- memory -------------------------------------------------------------------------------------------

    def allocate(self, nbytes: int) -> Memory:
        """Allocate memory: zeroed, or with arbitrary contents if memory of the same size was returned before.

        Raises
        ------
        DeviceMemoryError
            Says how much was requested and how much is free.
        """
        nbytes = -(-max(nbytes, 1) // 512) * 512
        with self._lock, self.current():
            kept = self._free.get(nbytes)
            # the lowest address first: then calls with equal allocations get the same addresses, and so their graphs
            if kept:
                return Memory(self, nbytes, heapq.heappop(kept))
            memory = Memory(self, nbytes, self._take(nbytes))
            self._call("cuMemsetD8Async", memory.address, 0, nbytes, self.stream)
            return memory

    def _take(self, nbytes: int) -> int:
        try:
            return int(self._call("cuMemAlloc", nbytes))
        except DeviceMemoryError:
            self.empty_pool()
        try:
            return int(self._call("cuMemAlloc", nbytes))
        except DeviceMemoryError:
            free, total = self._call("cuMemGetInfo")
            raise DeviceMemoryError(
                f"device 'cuda:{self.number}' ({self.name}) has {free / 2**20:.0f} of {total / 2**20:.0f} MiB left, "
                f"and {nbytes / 2**20:.1f} MiB are needed: use a smaller batch_size, or fewer models at the same time"
            ) from None

    def empty_pool(self) -> None:
        """Return unused memory to the driver."""
        with self._lock, self.current():
            self._call("cuStreamSynchronize", self.stream)
            # a copy: objects that other threads release return memory meanwhile
            for addresses in list(self._free.values()):
                while addresses:
                    self._call("cuMemFree", addresses.pop())

    def memory(self) -> tuple[int, int]:
        """Return free and total bytes."""
        with self.current():
            free, total = self._call("cuMemGetInfo")
        return int(free), int(total)

    def _keep(self, nbytes: int, address: int) -> None:
        heapq.heappush(self._free[nbytes], address)

    def _forget(self, destroy: str, handle: Any) -> None:
        """Destroy an object's handle; at the interpreter's exit the driver may be gone before the object."""
        try:
            with self.current():
                self._call(destroy, handle)
        except Exception:
            return

    def write(self, address: int, array: NDArray[Any]) -> None:
        """Copy a contiguous array to the device, after earlier work; the array may be changed afterwards.

        Nothing is waited for: when the driver returns, it has copied memory that is not locked into its own.
        """
        if array.nbytes:
            with self.current():
                self._call("cuMemcpyHtoDAsync", address, array.ctypes.data, array.nbytes, self.stream)

    def read(self, address: int, array: NDArray[Any]) -> None:
        """Fill a contiguous array from the device, after all launches."""
        if array.nbytes:
            with self.current():
                self._call("cuMemcpyDtoHAsync", array.ctypes.data, address, array.nbytes, self.stream)
                self._call("cuStreamSynchronize", self.stream)

    def pinned(self, nbytes: int) -> NDArray[np.uint8]:
        """Return locked memory of the host, which the GPU copies by itself."""
        with self.current():
            address = int(self._call("cuMemHostAlloc", max(nbytes, 1), 0))
        block = (ctypes.c_uint8 * nbytes).from_address(address)
        # freed when the last view of the array is gone
        weakref.finalize(block, self._forget, "cuMemFreeHost", address)
        return np.ctypeslib.as_array(block)

    def stage(self, address: int, pinned: NDArray[np.uint8]) -> Event:
        """Copy locked memory to the device while other work runs; `wait` orders later work after it."""
        with self._lock, self.current():
            if self._copies is None:
                self._copies = self._call("cuStreamCreate", _NON_BLOCKING)
            event = Event(self, self._call("cuEventCreate", _NO_TIMING))
            self._call("cuMemcpyHtoDAsync", address, pinned.ctypes.data, pinned.nbytes, self._copies)
            self._call("cuEventRecord", event.handle, self._copies)
        return event

    def wait(self, staged: Event) -> None:
        """Make later launches wait for a copy."""
        with self.current():
            self._call("cuStreamWaitEvent", self.stream, staged.handle, 0)

    def synchronize(self) -> None:
        """Wait until all launches are finished."""
        with self.current():
            self._call("cuStreamSynchronize", self.stream)

    def settle(self) -> None:
        """Wait until all work on the GPU, also of other libraries, is finished."""
        with self.current():
            self._call("cuCtxSynchronize")

    # --- kernels ------------------------------------------------------------------------------------------

    def has(self, key: Key, number: int) -> bool:
        """Return whether a stage of a kernel is loaded."""
        return (key, number) in self._functions

    def load(self, key: Key, number: int, stage: Stage) -> None:
        """Load a stage of a kernel, from disk or the compiler."""
        with self._lock:
            if (key, number) in self._functions:
                return
            if stage.shared > self.most_shared:
                raise DeviceError(
                    f"{key} needs {stage.shared} bytes of shared memory per block, {self.name} has {self.most_shared}"
                )
            found = machine_code(key, number, stage, self.architecture)
            with self.current():
                # the module is never unloaded: its functions live as long as the process
                module = self._call("cuModuleLoadData", found.code)
                function = self._call("cuModuleGetFunction", module, found.symbol.encode())
                if stage.shared > _PLAIN_SHARED:
                    kind = getattr(self._driver.bindings, "CUfunction_attribute", int)
                    self._call("cuFuncSetAttribute", function, kind(_MOST_DYNAMIC_SHARED), stage.shared)
            self._functions[key, number] = function

    def run(self, launches: Sequence[Launch], context: int) -> None:
        """Launch kernels in order."""
        # returned memory is reused only by later work
        self._launch(launches, context, self._tables(launches), self.stream)

    def _tables(self, launches: Sequence[Launch]) -> dict[tuple[int, ...], Memory]:
        """Copy the launches' tables to the device."""
        tables = {}
        for words in dict.fromkeys(each.table for each in launches if each.table):
            tables[words] = self.allocate(8 * len(words))
            self.write(tables[words].address, np.array(words, np.int64))
        return tables

    def _launch(
        self, launches: Sequence[Launch], context: int, tables: Mapping[tuple[int, ...], Memory], stream: Any
    ) -> None:
        places = {words: memory.address for words, memory in tables.items()}
        with self._lock, self.current():
            for each in launches:
                values = np.array((*each.words(places), context), np.int64)
                pointers = values.ctypes.data + 8 * np.arange(ARGUMENTS, dtype=np.uint64)
                self._call(
                    "cuLaunchKernel", self._functions[each.key, each.stage], each.grid[0], each.grid[1], 1,
                    each.threads, 1, 1, each.shared, stream, int(pointers.ctypes.data), 0,
                )  # fmt: skip

    def capture(
        self, launches: Sequence[Launch], context: int, before: Sequence[Copy] = (), after: Sequence[Copy] = ()
    ) -> Graph:
        """Capture launches in a graph, to be replayed with little overhead.

        Parameters
        ----------
        before, after : sequence of (address, ndarray)
            Locked memory of the host that is copied to the device before the launches, or from there after them; it
            has to live as long as the graph.
        """
        kind = getattr(self._driver.bindings, "CUstreamCaptureMode", int)
        tables, stream = self._tables(launches), self._captures
        with self._lock, self.current():
            # relaxed: other threads of the process do not disturb the capture
            self._call("cuStreamBeginCapture", stream, kind(2))
            try:
                for address, array in before:
                    self._call("cuMemcpyHtoDAsync", address, array.ctypes.data, array.nbytes, stream)
                self._launch(launches, context, tables, stream)
                for address, array in after:
                    self._call("cuMemcpyDtoHAsync", array.ctypes.data, address, array.nbytes, stream)
            finally:
                graph = self._call("cuStreamEndCapture", stream)
            try:
                executable = self._call("cuGraphInstantiate", graph, 0)
            finally:
                self._call("cuGraphDestroy", graph)
        return Graph(self, executable, tables)

    def seconds(self, work: Callable[[], Any]) -> float:
        """Return the device's time for a function's launches, by two events around it."""
        with self._lock, self.current():
            begin, end = self._call("cuEventCreate", 0), self._call("cuEventCreate", 0)
            try:
                self._call("cuEventRecord", begin, self.stream)
                work()
                self._call("cuEventRecord", end, self.stream)
                self._call("cuEventSynchronize", end)
                return float(self._call("cuEventElapsedTime", begin, end)) * 1e-3
            finally:
                # not by `_call`: a failure of these would hide the earlier failure
                self._forget("cuEventDestroy", begin)
                self._forget("cuEventDestroy", end)


def _spell(capability: tuple[int, int]) -> str:
    return "{}.{}".format(*capability)
