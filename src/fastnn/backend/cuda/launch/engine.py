"""Programs prepared for one device, and their launches at given addresses."""

from __future__ import annotations

from collections.abc import Mapping

from fastnn.backend.cuda.codegen import library
from fastnn.backend.cuda.launch import fusion, launches
from fastnn.backend.cuda.launch.gaps import without_gaps
from fastnn.backend.cuda.launch.loops import launches_of, with_aligned_windows
from fastnn.backend.protocol import KernelHolder
from fastnn.console import compiling, is_interactive
from fastnn.program.layout import SHARED, Buffer
from fastnn.program.program import Program
from fastnn.program.record import operands_of


class CudaProgram:
    """A verified program whose kernels are loaded on a device.

    Parameters
    ----------
    program : Program
        From `fastnn.lower.lower`.
    device : KernelHolder
    precision : {"float32", "tf32", "bf16"}
        Precision of matrix products.

    Attributes
    ----------
    program : Program
        Some of its values may have moved; operands with gaps of products with one matrix are copied, and so are
        windows of loops that are not aligned.
    writes : frozenset of int
        Buffers that the program changes.
    shared : float
        0: no work for a team of CPU threads.

    Raises
    ------
    NotImplementedError, ValueError
        When a record cannot run on a GPU.
    """

    shared = 0.0

    def __init__(self, program: Program, device: KernelHolder, precision: str = "float32") -> None:
        launches.check(program)
        program = with_aligned_windows(without_gaps(program))
        keys = launches.keys_of(program, precision, device.warpgroups)
        program, self._works = fusion.arrange(program, keys, precision)
        self.program, self.device = program, device
        self._made = launches.make([work.key for work in self._works])
        parts = [(key, number, stage) for key, stages in self._made.items() for number, stage in enumerate(stages)]
        new = [part for part in parts if not device.has(part[0], part[1])]
        if is_interactive():
            for key, number, stage in compiling(library.missing(new, device.architecture), "CUDA kernels"):
                device.load(key, number, stage)
        for key, number, stage in new:
            device.load(key, number, stage)
        self.scratch_bytes = max((work.scratch for work in self._works), default=0)
        self.writes = frozenset(
            view.buffer
            for record in program.records
            for view in operands_of(record, program.dtype)
            if view.spec.access != "read" and not Buffer.DATA <= view.buffer < SHARED
        )

    def launches(self, addresses: Mapping[int, int], scratch: int) -> list[launches.Launch]:
        """Return the launches of one step on buffers at these addresses."""
        return list(launches_of(self._works, self._made, addresses, scratch))
