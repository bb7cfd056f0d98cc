"""One record of a program on the device, on several sets of buffers in turn, more than any cache holds."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cuda.driver.arrays import DeviceArray
from fastnn.backend.cuda.launch.engine import CudaProgram
from fastnn.program.layout import BAD_ROW, CONTEXT_WORDS, NO_ROW, Counter
from gpu.oracle import running
from gpu.settings import Settings

# Random numbers are made once and repeated; no width divides the length, so that rows differ.
POOL = 4_194_301
MOST_SETS = 64
LEAST_LAUNCHES = 8
COPIED_BYTES = 512 * 2**20
POISON = 0xFF  # NaN in every floating type


class Rotation:
    """A case of one record, its operands filled with random numbers and its outputs with NaN, in several copies.

    Attributes
    ----------
    nbytes : int
        Bytes that the record has to read and write: every operand once, updated ones twice.
    host : dict of str to ndarray
        The initial operands.
    launches : int
        Launches in one replay of the graph.
    """

    def __init__(self, device: Any, case: Any, precision: str, settings: Settings, salt: int) -> None:
        self.device, self.case = device, case
        program = running.build(case, "float32")
        bound = CudaProgram(program, device, precision)
        self._views = running.views(program)
        self.host = {
            name: _random(case, name, salt) for name, view in self._views.items() if view.spec.access != "write"
        }
        self.nbytes = sum(view.nbytes * (1 + (view.spec.access == "update")) for view in self._views.values())
        self.sets = min(-(-settings.rotated_bytes // self.nbytes), MOST_SETS)
        self._scratch = device.allocate(bound.scratch_bytes)
        context = np.zeros(CONTEXT_WORDS, np.int64)
        context[BAD_ROW] = NO_ROW
        for name, number in case.counters.items():
            context[Counter[name.upper()]] = number
        self._context = device.allocate(context.nbytes)
        device.write(self._context.address, context)
        self._memory: list[dict[int, Any]] = []
        self._launches = []
        for _ in range(self.sets):
            memory = {buffer: device.allocate(nbytes) for buffer, nbytes in program.sizes.items()}
            self._memory.append(memory)
            self.fill(len(self._memory) - 1)
            addresses = {buffer: one.address for buffer, one in memory.items()}
            self._launches.append(bound.launches(addresses, self._scratch.address))
        repeats = 1 if settings.simulated else -(-LEAST_LAUNCHES // self.sets)
        turns = [launch for launches in self._launches * repeats for launch in launches]
        self.launches = self.sets * repeats
        self._graph = device.capture(turns, self._context.address)

    def fill(self, number: int) -> None:
        """Write the operands of a set, and poison its outputs."""
        for name in self._views:
            array = self.operand(name, number)
            host = self.host.get(name)
            raw = np.full(array.nbytes, POISON, np.uint8) if host is None else host.reshape(-1).view(np.uint8)
            self.device.write(array.device_address, raw)

    def once(self) -> None:
        """Run the record on the first set."""
        self.device.run(self._launches[0], self._context.address)

    def seconds(self, count: int) -> float:
        """Replay the graph `count` times, and return the device's time."""
        return float(self.device.seconds(lambda: self._graph.launch(count)))

    def operand(self, name: str, number: int = 0) -> DeviceArray:
        """Return an operand of a set, on the device."""
        view, memory = self._views[name], self._memory[number]
        dtype = {"real": "float32"}.get(view.spec.kind, view.spec.kind)
        address = memory[view.buffer].address + view.offset
        return DeviceArray(self.device, address, tuple(view.shape), dtype, memory[view.buffer])

    def untouched(self) -> list[str]:
        """Return outputs of the last set that still contain poison."""
        return [
            name
            for name, view in self._views.items()
            if view.spec.access != "read" and np.isnan(self.operand(name, self.sets - 1).copy_to_host()).any()
        ]


def _random(case: Any, name: str, salt: int) -> NDArray[Any]:
    """Return an operand: random numbers of the case's kind, repeated if it is very large."""
    shape = case.shape(name)
    count = int(np.prod(shape, dtype=np.int64))
    rng = np.random.default_rng((salt, len(name), *name.encode()))
    make = case.special.get(name, lambda rng, shape: rng.standard_normal(shape, np.float32))
    kind = case.kind(name)
    values = np.asarray(make(rng, (min(count, POOL),))).astype("float32" if kind == "real" else kind)
    return np.resize(values, shape)


class Copy:
    """A copy within the device's memory, with which bandwidths are compared."""

    def __init__(self, device: Any, settings: Settings) -> None:
        nbytes = settings.rotated_bytes if settings.simulated else COPIED_BYTES
        self.device, self.half, self._simulated = device, nbytes, settings.simulated
        self.nbytes = 2 * nbytes
        self._source, self._target = device.allocate(nbytes), device.allocate(nbytes)
        device.write(self._source.address, np.resize(np.random.default_rng(0).integers(0, 256, POOL, np.uint8), nbytes))

    def seconds(self, count: int) -> float:
        """Copy `count` times, and return the device's time."""
        return float(self.device.seconds(lambda: self._copy(count)))

    def _copy(self, count: int) -> None:
        source, target = self._source.address, self._target.address
        for _ in range(count):
            if self._simulated:
                passing = np.empty(self.half, np.uint8)
                self.device.read(source, passing)
                self.device.write(target, passing)
            else:
                self.device._call("cuMemcpyDtoDAsync", target, source, self.half, self.device.stream)
