"""One case as a program, run by the CUDA backend: in Numba's simulator, or on a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numba.cuda.simulator import kernel as simulator

from fastnn.backend.cuda.launch.engine import CudaProgram
from fastnn.backend.cuda.simulator.device import Graph, SimulatedDevice
from fastnn.program.layout import BAD_ROW, CONTEXT_WORDS, NO_ROW, Buffer, Counter, Status
from running import COUNTERS, Result, build, fill, filled, outputs_of


class BackwardsDevice(SimulatedDevice):
    """A simulated GPU whose blocks run from the last to the first, to find code that relies on their order."""

    def capture(self, launches: Any, context: int, before: Any = (), after: Any = ()) -> Any:
        """Combine launches."""
        return _Backwards(self, launches, context, before, after)


class _Backwards(Graph):
    def launch(self, times: int) -> None:
        for function, each, words in self._parts * times:
            grid, block = simulator.normalize_kernel_dimensions(each.grid, each.threads)
            module = simulator.FakeCUDAModule(grid, block, each.shared)
            with simulator._push_kernel_context(module), simulator.swapped_cuda_module(function.fn, module):
                for point in reversed(list(np.ndindex(*grid))):
                    manager = simulator.BlockManager(function.fn, grid, block, False)
                    manager.run(point, words, self._context)


class _Placed:
    """Arrays of the host and their copies on a device."""

    def __init__(self, device: Any) -> None:
        self.device, self.held = device, []

    def add(self, array: np.ndarray) -> int:
        """Copy an array's whole memory to the device and return the address of its first element there."""
        whole = array
        # memory may begin before the first element, where a stride is negative
        while isinstance(whole.base, np.ndarray):
            whole = whole.base
        memory = self.device.allocate(whole.nbytes)
        self.device.write(memory.address, whole)
        self.held.append((memory, whole))
        return memory.address + array.ctypes.data - whole.ctypes.data

    def fetch(self) -> None:
        """Copy everything back."""
        for memory, whole in self.held:
            if whole.flags.writeable:
                self.device.read(memory.address, whole)


def run_cuda(
    case: Any, dtype: str, device: Any, changed: Mapping[str, np.ndarray] | None = None, precision: str = "float32"
) -> Result:
    """Run a case by CUDA kernels; every byte outside its outputs has to stay unchanged."""
    program = build(case, dtype)
    bound = CudaProgram(program, device, precision)
    buffers = filled(program, fill(case, dtype, changed), dtype)
    placed = _Placed(device)
    # a buffer's whole memory may be shifted to be aligned: its copy is not
    addresses = {int(buffer): placed.add(np.array(raw)) for buffer, raw in buffers.items()}
    copies = dict(zip(buffers, (whole for _, whole in placed.held), strict=True))
    data = case.arrays(dtype)
    for slot, array in data.items():
        addresses[Buffer.DATA + slot] = placed.add(array)
    if case.index is not None:
        addresses[int(Buffer.INDEX)] = placed.add(case.index)
    context = np.zeros(CONTEXT_WORDS, np.int64)
    context[BAD_ROW] = NO_ROW
    for name, number in case.counters.items():
        context[Counter[name.upper()]] = number
    at = placed.add(context)
    scratch = device.allocate(bound.scratch_bytes)
    launches = bound.launches(addresses, scratch.address)
    steps = 0
    for _ in range(case.steps):
        device.run(launches, at)
        device.read(at, context)
        if context[BAD_ROW] != NO_ROW:
            row = int(context[BAD_ROW]) + int(context[Counter.CURSOR])
            context[Counter.STATUS_DETAIL] = row if case.index is None else case.index[row]
            context[Counter.STATUS] = Status.NOT_FINITE_INPUT
            break
        steps += 1
    status = context.copy()
    placed.fetch()
    outputs = outputs_of(program, buffers, copies, dtype)
    counters = {name: int(status[Counter[name.upper()]]) for name in COUNTERS}
    return Result(outputs, data, counters, steps)
