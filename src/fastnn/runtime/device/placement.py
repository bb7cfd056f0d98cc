"""A model on a GPU: copies of its buffers, data copied to the device, and runs of its programs.

The buffers of a `Runtime` stay on the host. Each has a copy on the device, and a `Mirror` knows which of the two is
newer. The other one is updated when it is needed: Python always reads and writes the current weights, at the cost
of a copy if a run has changed them.

Weights that other models hold are in these models' copies, if they are on the same device. Otherwise each run has a
copy of its own, which is read back at once if the run has changed it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastnn.backend import devices
from fastnn.backend.devices import DeviceArray
from fastnn.backend.protocol import Device, DeviceExecutable
from fastnn.interrupts import interrupts_later
from fastnn.lower.task import STATES
from fastnn.program.layout import SHARED, Buffer, Counter
from fastnn.program.program import Program
from fastnn.runtime.bindings import Bindings
from fastnn.runtime.device.context import DeviceContext
from fastnn.runtime.device.mirror import Held, Mirror
from fastnn.runtime.device.replayer import Replayer
from fastnn.runtime.device.streaming import StreamedFeed, Streaming

if TYPE_CHECKING:
    from fastnn.data.arrays import Rows
    from fastnn.data.feed import Feed

# asking the driver how much memory is free takes longer than a small prediction
_ALWAYS_FITS = 1 << 24
# data that take a larger share of the device's free memory are streamed
_SHARE_OF_MEMORY = 0.5
# if this block of context, accumulators and hyper rows grew in small steps, each would need new graphs
_LEAST_CONTROL = 1 << 17
_MIRRORED = (Buffer.PARAMETERS, Buffer.GRADIENTS, Buffer.OPTIMIZER)


class _Loan:
    """The weights that other models hold, on a device for one run."""

    def __init__(self, placement: Placement, held: Sequence[Held], shared: Sequence[NDArray[np.uint8]] | None) -> None:
        self.addresses: dict[int, int] = {}
        self._device = placement.device
        self._mirrors: dict[int, Mirror] = {}
        # with the host's buffers, unless they are for this run alone
        self._copies: dict[int, tuple[DeviceArray, NDArray[np.uint8] | None]] = {}
        for number, (mirror, host) in enumerate(held):
            buffer = SHARED + number
            if shared is None and mirror is not None and mirror.device is self._device:
                self._mirrors[buffer] = mirror
                self.addresses[buffer] = mirror.place(host)
                continue
            if shared is None and mirror is not None:
                mirror.fetch(host)
            copy = placement.upload(host if shared is None else shared[number])
            self._copies[buffer] = copy, host if shared is None else None
            self.addresses[buffer] = copy.device_address

    def end(self, writes: Set[int]) -> None:
        """Note what the run has changed, after its end."""
        for buffer, mirror in self._mirrors.items():
            if buffer in writes:
                mirror.changed()
        for buffer, (copy, host) in self._copies.items():
            if buffer in writes and host is not None:
                self._device.read(copy.device_address, host)


class Placement:
    """A model's buffers and programs on one GPU.

    Parameters
    ----------
    device : Device or SimulatedDevice
    precision : {"float32", "tf32", "bf16"}
        Precision of matrix products.
    """

    def __init__(self, device: Device, precision: str) -> None:
        self.device, self.precision = device, precision
        self._mirrors = {buffer: Mirror(device) for buffer in _MIRRORED}
        self._replayer = Replayer(device)
        self._memory: dict[str, Any] = {}
        self._index: NDArray[np.int64] | None = None
        #: grows whenever memory that is kept between runs is replaced
        self.generation = 0

    @property
    def name(self) -> str:
        """The device's name, such as "cuda:0"."""
        return devices.name_of(self.device)

    def is_like(self, other: Placement) -> bool:
        """Return whether another placement is on the same device, with the same precision."""
        return self.name == other.name and self.precision == other.precision

    def bind(self, program: Program) -> DeviceExecutable:
        """Prepare a program for the device."""
        return devices.executable(program, self.device, self.precision)

    def mirror(self, buffer: Buffer) -> Mirror:
        """Return the copy of one of the model's flat buffers."""
        return self._mirrors[buffer]

    # --- data ---------------------------------------------------------------------------------------------

    def empty(self, shape: tuple[int, ...], dtype: str) -> DeviceArray:
        """Allocate an array on the device."""
        nbytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        memory = self.device.allocate(nbytes)
        return DeviceArray(self.device, memory.address, shape, dtype, memory)

    def upload(self, array: NDArray[Any]) -> DeviceArray:
        """Copy an array to the device, with contiguous rows."""
        made = self.empty(array.shape, array.dtype.name)
        self.device.write(made.device_address, np.ascontiguousarray(array))
        return made

    def place(self, feed: Feed) -> Feed:
        """Return a feed whose arrays are on the device or, if they are too large, are copied there as needed."""
        arrays = [rows.array for _, rows in feed.slots()]
        on_host = not any(isinstance(array, DeviceArray) for array in arrays)
        nbytes = sum(array.nbytes for array in arrays)
        if on_host and nbytes > _ALWAYS_FITS and nbytes > self._room():
            return StreamedFeed.of_feed(feed, self.device)
        return self.bring(feed)

    def bring(self, feed: Feed) -> Feed:
        """Return a feed whose arrays are on the device."""
        return feed.with_rows(self._rows)

    def _room(self) -> int:
        """Return how many bytes of data may stay on the device."""
        return int(_SHARE_OF_MEMORY * self.device.memory()[0])

    def _rows(self, rows: Rows) -> Rows:
        if isinstance(rows.array, DeviceArray):
            return rows
        return type(rows)(self.upload(rows.array), ())

    # --- runs ---------------------------------------------------------------------------------------------

    def run(
        self,
        bound: DeviceExecutable,
        work: Bindings,
        steps: int,
        context: NDArray[np.int64],
        flat: Sequence[NDArray[np.uint8]],
        held: Sequence[Held] = (),
    ) -> int:
        """Run a program `steps` times and return how many steps were finished.

        Parameters
        ----------
        context : ndarray, int64, shape (CONTEXT_WORDS,)
            On the host; its counters are read, and written after the run.
        flat : sequence of ndarray
            The host's parameters, gradients and optimizer state; empty ones are skipped.
        held : sequence of Held
            The weights that other models hold.
        """
        if not isinstance(work.addresses, Streaming):
            with interrupts_later():
                control = DeviceContext(work)
                finish = self._start(bound, work, control, steps, context, flat, held)
                return finish()
        stream, batch, done = work.addresses.stream, bound.program.batch, 0
        while done < steps:
            with interrupts_later():
                chunk = stream.chunk(int(context[Counter.CURSOR]), batch, work.index)
                self.device.wait(chunk.ready)
                at = int(context[Counter.CURSOR]) - chunk.first
                count = min(steps - done, (chunk.rows - at) // batch)
                hyper = None if work.hyper is None else work.hyper[done : done + count]
                addresses = {**work.addresses, **chunk.addresses}
                part = replace(work, addresses=addresses, index=None, hyper=hyper)
                control = DeviceContext(part, chunk.first, work.index)
                finish = self._start(bound, part, control, count, context, flat, held)
                stream.prefetch(chunk, batch)
                finished = finish()
            done += finished
            if finished < count:
                break
        return done

    def _start(
        self,
        bound: DeviceExecutable,
        work: Bindings,
        control: DeviceContext,
        steps: int,
        context: NDArray[np.int64],
        flat: Sequence[NDArray[np.uint8]],
        held: Sequence[Held],
    ) -> Callable[[], int]:
        """Launch a program; returns a function that waits for its end and returns the number of finished steps."""
        # weights for this run alone are kept until it ends
        given = work.parameters
        temporary = None if given is None or not given.nbytes else self.upload(given)
        loan = _Loan(self, held, work.shared)
        addresses = self.addresses(bound, work, flat) | loan.addresses
        if temporary is not None:
            addresses[Buffer.PARAMETERS] = temporary.device_address
        control.fill(context)
        address = self._grown("control", max(control.block.nbytes, _LEAST_CONTROL))
        self.device.write(address, control.block)
        scratch = self.scratch(bound)
        self._replayer.run(bound, addresses | control.places(address), scratch, address, steps)
        changes = self.changed_by(bound, () if temporary is None else (Buffer.PARAMETERS,))

        def finish(kept: object = temporary) -> int:
            self.device.read(address, control.block[: control.answered])
            # not earlier: if the GPU has failed, the host's copies are still valid
            for mirror in changes:
                mirror.changed()
            loan.end(bound.writes)
            return control.take(context, steps)

        return finish

    def changed_by(self, bound: DeviceExecutable, but: Sequence[Buffer] = ()) -> list[Mirror]:
        """Return the copies of the model's buffers that a program changes, except some."""
        return [mirror for buffer, mirror in self._mirrors.items() if buffer in bound.writes and buffer not in but]

    def scratch(self, bound: DeviceExecutable) -> int:
        """Return the address of scratch memory for a program."""
        return self._grown("scratch", bound.scratch_bytes)

    def addresses(self, bound: DeviceExecutable, work: Bindings, flat: Sequence[NDArray[np.uint8]]) -> dict[int, int]:
        """Update the model's buffers on the device, and return the address of every buffer."""
        found: dict[int, int] = {}
        for buffer, host in zip(_MIRRORED, flat, strict=True):
            if host.nbytes:
                found[buffer] = self._mirrors[buffer].place(host)
        found[Buffer.ARENA] = self._grown("arena", bound.program.arena_bytes)
        if work.index is not None:
            if work.index is not self._index:
                self.device.write(self._grown("index", work.index.nbytes), work.index)
                self._index = work.index
            found[Buffer.INDEX] = int(self._memory["index"].address)
        for slot, place in work.addresses.items():
            found[Buffer.DATA + slot] = place
        if work.states:
            found[STATES] = work.states
        return found

    def _grown(self, name: str, nbytes: int) -> int:
        """Return the address of memory that is kept between runs, of at least `nbytes` bytes."""
        held = self._memory.get(name)
        if held is None or held.nbytes < nbytes:
            self._memory.pop(name, None)
            self.generation += 1
            held = self._memory[name] = self.device.allocate(nbytes)
        return int(held.address)
