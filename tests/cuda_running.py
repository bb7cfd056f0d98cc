"""One case as a program, run by the CUDA backend: in Numba's simulator, or on a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numba.cuda.simulator import kernel as simulator

from fastnn.backend.cuda.kit import BAD_ROW, NO_ROW
from fastnn.backend.cuda.launches import check, keys_of, launches_of, make, scratch_bytes
from fastnn.backend.cuda.simulated import Graph, SimulatedDevice
from fastnn.program.layout import CONTEXT_WORDS, Buffer, Counter, Status
from fastnn.program.program import aligned_zeros
from running import COUNTERS, GUARD, Result, _within, build, fill, views


class BackwardsDevice(SimulatedDevice):
    """A simulated GPU whose blocks run from the last to the first: what relies on their order is found out."""

    def capture(self, launches: Any, context: int) -> Any:
        """Put launches together."""
        return _Backwards(self._functions, launches, context)


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
    """Run a case by CUDA kernels; every byte outside of its outputs has to stay as it was."""
    program = build(case, dtype)
    check(program)
    values = fill(case, dtype, changed)
    buffers = {buffer: aligned_zeros(nbytes + GUARD) for buffer, nbytes in program.sizes.items()}
    for raw in buffers.values():
        raw[:] = 0xFF  # NaN in both dtypes
    found = views(program)
    for name, value in values.items():
        if name == "hyper":
            buffers[Buffer.HYPER] = aligned_zeros(value.nbytes)
            buffers[Buffer.HYPER][:] = value.reshape(-1).view(np.uint8)
        else:
            _within(buffers, found[name], dtype)[...] = value.reshape(found[name].shape)
    before = {buffer: raw.copy() for buffer, raw in buffers.items()}
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
    scratch = device.allocate(scratch_bytes(program))
    keys = keys_of(program, precision)
    made = make(keys)
    for key, parts in made.items():
        for number, stage in enumerate(parts):
            device.load(key, number, stage)
    launches = launches_of(program, keys, made, addresses, scratch.address)
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
    outputs = {}
    for name, view in found.items():
        if view.spec.access != "read" and view.spec.kind != "any":
            outputs[name] = _within(copies, view, dtype).copy()
            _within(before, view, dtype)[...] = outputs[name]
    for buffer, raw in copies.items():
        changed_at = np.flatnonzero(raw != before[buffer])
        assert len(changed_at) == 0, f"{case.id} wrote to bytes {changed_at[:4]} of {Buffer(buffer).name}"
    counters = {name: int(status[Counter[name.upper()]]) for name in COUNTERS}
    return Result(outputs, data, counters, steps)
