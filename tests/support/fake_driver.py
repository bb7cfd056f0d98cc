"""A CUDA driver in Python: it uses the host's memory, and kernels run in Numba's simulator.

It replaces `cuda.bindings.driver`, function by function, and is stricter than a driver: addresses have to be in
allocated memory, a context has to be current, only launches and copies of locked memory may be captured.
"""

from __future__ import annotations

import ctypes
import threading
import time

from numba import cuda

from fastnn.backend.cuda.codegen.kernel import ARGUMENTS
from fastnn.backend.cuda.simulator import memory
from fastnn.backend.cuda.simulator.device import ONE_AT_A_TIME
from fastnn.program.program import aligned_zeros

OUT_OF_MEMORY, INVALID_VALUE, INVALID_CONTEXT, CAPTURING = 2, 1, 201, 900


class FakeDriver:
    """One GPU; `total` bytes of memory."""

    def __init__(self, capability=(9, 0), total=2**26, count=1, version=13000):
        self.capability, self.total, self.count, self.version = capability, total, count, version
        self.stages = {}  # machine code -> (function, threads)
        self.memory = {}
        self.used = 0
        self._local = threading.local()
        self.capturing = {}  # by stream
        self.graphs = {}
        self.destroyed = []
        self.calls = []
        self.shared_limits = {}
        self.events = 0
        self.locked = {}
        self.streams = 6

    @property
    def current(self):
        """The context of the calling thread."""
        return getattr(self._local, "context", 0)

    @current.setter
    def current(self, context):
        self._local.context = context

    def __getattribute__(self, name):
        if not name.startswith("cu") or name == "current":
            return object.__getattribute__(self, name)

        def call(*arguments):
            # looked up at each call: a test may have put another function there
            self.calls.append(name)
            return object.__getattribute__(self, name)(*arguments)

        return call

    # --- devices and contexts ---
    def cuInit(self, flags):
        return (0,)

    def cuDriverGetVersion(self):
        return 0, self.version

    def cuDeviceGetCount(self):
        return 0, self.count

    def cuDeviceGet(self, number):
        return (0, number + 100) if number < self.count else (INVALID_VALUE, None)

    def cuDeviceGetName(self, length, handle):
        return 0, b"Fake GPU" + bytes(length - 8)

    def cuDeviceGetAttribute(self, attribute, handle):
        known = {75: self.capability[0], 76: self.capability[1], 16: 4, 97: 100_000}
        return 0, known[attribute]

    def cuDevicePrimaryCtxRetain(self, handle):
        return 0, handle + 1000

    def cuCtxGetCurrent(self):
        return 0, self.current

    def cuCtxSetCurrent(self, context):
        self.current = context
        return (0,)

    def cuGetErrorString(self, result):
        return 0, f"error number {int(result)}".encode()

    def cuPointerGetAttribute(self, attribute, address):
        return (0, 0) if self._holds(address, 1) else (INVALID_VALUE, None)

    # --- memory ---
    def _holds(self, address, nbytes):
        return any(start <= address and address + nbytes <= start + len(raw) for start, raw in self.memory.items())

    def _ready(self):
        return 0 if self.current else INVALID_CONTEXT

    def cuMemAlloc(self, nbytes):
        if self._ready():
            return self._ready(), None
        if self.used + nbytes > self.total:
            return OUT_OF_MEMORY, None
        raw = aligned_zeros(nbytes)
        raw[:] = 0xFF
        self.used += nbytes
        address = memory.register(raw)
        self.memory[address] = raw
        return 0, address

    def cuMemFree(self, address):
        raw = self.memory.pop(address)
        memory.release(address)
        self.used -= len(raw)
        return (0,)

    def cuMemHostAlloc(self, nbytes, flags):
        raw = aligned_zeros(nbytes)
        raw[:] = 0xFF
        self.locked[raw.ctypes.data] = raw
        return 0, raw.ctypes.data

    def cuMemFreeHost(self, address):
        del self.locked[address]
        return (0,)

    def cuMemGetInfo(self):
        return 0, self.total - self.used, self.total

    def cuMemsetD8Async(self, address, value, nbytes, stream):
        if self._ready() or not self._holds(address, nbytes):
            return (self._ready() or INVALID_VALUE,)
        ctypes.memset(address, value, nbytes)
        return (0,)

    def _locks(self, address, nbytes):
        return any(start <= address and address + nbytes <= start + len(raw) for start, raw in self.locked.items())

    def cuMemcpyHtoDAsync(self, target, source, nbytes, stream):
        if stream in self.capturing:
            if not self._locks(source, nbytes) or not self._holds(target, nbytes):
                return (CAPTURING,)
            self.capturing[stream].append((ctypes.memmove, target, source, nbytes))
            return (0,)
        if self._ready() or not self._holds(target, nbytes):
            return (self._ready() or INVALID_VALUE,)
        ctypes.memmove(target, source, nbytes)
        return (0,)

    def cuMemcpyDtoHAsync(self, target, source, nbytes, stream):
        if stream in self.capturing:
            if not self._locks(target, nbytes) or not self._holds(source, nbytes):
                return (CAPTURING,)
            self.capturing[stream].append((ctypes.memmove, target, source, nbytes))
            return (0,)
        if self._ready() or not self._holds(source, nbytes):
            return (self._ready() or INVALID_VALUE,)
        ctypes.memmove(target, source, nbytes)
        return (0,)

    # --- kernels, streams, graphs ---
    def cuStreamCreate(self, flags):
        self.streams += 1
        return (0, self.streams) if self.current else (INVALID_CONTEXT, None)

    def cuStreamWaitEvent(self, stream, event, flags):
        return (0,) if event[0] > 0.0 else (INVALID_VALUE,)

    def cuStreamSynchronize(self, stream):
        return (CAPTURING if stream in self.capturing else self._ready(),)

    def cuEventCreate(self, flags):
        self.events += 1
        return 0, [0.0]

    def cuEventRecord(self, event, stream):
        event[0] = time.perf_counter()
        return (0,)

    def cuEventSynchronize(self, event):
        return (0,)

    def cuEventElapsedTime(self, begin, end):
        return 0, 1e3 * (end[0] - begin[0])

    def cuEventDestroy(self, event):
        self.events -= 1
        return (0,)

    def cuCtxSynchronize(self):
        return (self._ready(),)

    def cuModuleLoadData(self, code):
        return (0, code) if code in self.stages else (INVALID_VALUE, None)

    def cuModuleGetFunction(self, module, symbol):
        return (0, module) if symbol == b"symbol" else (INVALID_VALUE, None)

    def cuFuncSetAttribute(self, function, attribute, value):
        self.shared_limits[function] = (attribute, value)
        return (0,)

    def cuLaunchKernel(self, function, gx, gy, gz, bx, by, bz, shared, stream, parameters, extra):
        if not self.current or (gz, by, bz, extra) != (1, 1, 1, 0) or not 6 < stream <= self.streams:
            return (INVALID_VALUE,)
        pointers = (ctypes.c_uint64 * ARGUMENTS).from_address(parameters)
        values = [ctypes.c_int64.from_address(pointer).value for pointer in pointers]
        launch = (self._launch, function, (gx, gy), bx, tuple(values[:-1]), values[-1])
        if stream in self.capturing:
            self.capturing[stream].append(launch)
        else:
            launch[0](*launch[1:])
        return (0,)

    def _launch(self, function, grid, threads, record, context):
        python, expected = self.stages[function]
        assert threads == expected
        with ONE_AT_A_TIME:
            cuda.jit(python)[grid, threads](record, context)

    def cuStreamBeginCapture(self, stream, mode):
        if stream in self.capturing:
            return (CAPTURING,)
        self.capturing[stream] = []
        return (0,)

    def cuStreamEndCapture(self, stream):
        return 0, self.capturing.pop(stream)

    def cuGraphInstantiate(self, graph, flags):
        handle = len(self.graphs) + 1
        self.graphs[handle] = graph
        return 0, handle

    def cuGraphDestroy(self, graph):
        return (0,)

    def cuGraphExecDestroy(self, handle):
        self.destroyed.append(handle)
        return (0,)

    def cuGraphLaunch(self, handle, stream):
        if not self.current or stream in self.capturing:
            return (CAPTURING if self.current else INVALID_CONTEXT,)
        for call, *arguments in self.graphs[handle]:
            call(*arguments)
        return (0,)

    def code(self, key, number, stage, architecture):
        """Replace `machine_code`: the code of a stage is its name."""
        from fastnn.backend.store import ObjectCode

        name = f"{key} {number} {architecture}".encode()
        self.stages[name] = (stage.function, stage.threads)
        return ObjectCode("symbol", name)
