"""The executor: float64 buffers, whatever the program's dtype, and the loop over decoded records."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.reference.instruction import Array, Counters, Instruction
from fastnn.backend.reference.ops import EXECUTE
from fastnn.program.layout import FLAGS_WORD, SHARED, WINDOWS, Buffer, Flag, is_window
from fastnn.program.loop_rules import Loop, loops_of
from fastnn.program.program import Program
from fastnn.program.record import ITEM_SIZES, OperandView, dims_of, op_of, operands_of, params_of

# These two hold float64 in every program, so their offsets are kept.
_FLOAT64_BUFFERS = frozenset({Buffer.ACCUMULATORS, Buffer.HYPER})


class ReferenceBackend:
    """A program on separate float64 buffers.

    An operand keeps its place counted in elements of the program's dtype, so a buffer of a float32 program has as
    many float64 elements here as it has float32 elements there. Everything starts as 0 except the arena, which
    starts as NaN, to show reads before writes.

    Parameters
    ----------
    program : Program
        Of either dtype; its arithmetic is float64 in any case.
    data : mapping of int to ndarray, optional
        The arrays of the data slots (0 for the first). Sources have the dtype that their record names; targets
        of "store" are contiguous.
    index : ndarray of int64, optional
        Row numbers for indexed gathers.
    hyper : ndarray of float64, shape (n_steps, 8), optional
        Hyper rows of the optimizer.
    counters : Counters, optional
        The initial seed, step and cursor.
    """

    def __init__(
        self,
        program: Program,
        *,
        data: Mapping[int, Array] | None = None,
        index: NDArray[np.int64] | None = None,
        hyper: NDArray[np.float64] | None = None,
        counters: Counters | None = None,
    ) -> None:
        self.program = program
        self.data = dict(data or {})
        self.index = index
        self.counters = counters if counters is not None else Counters()
        self._buffers: dict[int, NDArray[np.float64]] = {}
        for buffer, nbytes in program.sizes.items():
            initial = np.nan if buffer == Buffer.ARENA else 0.0
            self._buffers[buffer] = np.full(-(-nbytes // self._unit(buffer)), initial)
        self._windows: dict[int, Array] = {}  # the arrays of the present round
        if hyper is not None:
            self._buffers[Buffer.HYPER] = np.array(hyper, np.float64).reshape(-1)

    def _unit(self, buffer: int) -> int:
        """Return the bytes of the program that one float64 element of this backend stands for."""
        return 8 if buffer in _FLOAT64_BUFFERS else ITEM_SIZES[self.program.dtype]

    def buffer(self, buffer: int) -> NDArray[np.float64]:
        """Return a buffer, to be read or filled.

        Parameters
        ----------
        buffer : Buffer
            One that the program has a size for.
        """
        return self._buffers[buffer]

    def operand(self, view: OperandView) -> Array:
        """Return a decoded operand as an array that shares memory with its buffer (or data slot)."""
        if is_window(view.buffer):
            flat = self._windows[view.buffer - WINDOWS]
            return flat[: int(np.prod(view.shape, dtype=np.int64))].reshape(view.shape)
        if Buffer.DATA <= view.buffer < SHARED:
            return self.data[view.buffer - Buffer.DATA]
        if view.buffer == Buffer.INDEX:
            if self.index is None:
                raise ValueError("the program gathers by index; expected index, got None")
            return self.index
        flat = self._buffers[view.buffer][view.offset // self._unit(view.buffer) :]
        if view.buffer == Buffer.HYPER:
            return flat.reshape(-1, *view.shape)
        flat = flat[: int(np.prod(view.shape, dtype=np.int64))]
        return (flat.view(np.int64) if view.spec.kind == "int64" else flat).reshape(view.shape)

    def instruction(self, number: int) -> Instruction:
        """Return a record decoded."""
        program = self.program
        record = program.records[number]
        return Instruction(
            op=op_of(record).name,
            variant=program.kernels[number].variant,
            mapped=program.maps[number],
            flags=Flag(int(record[FLAGS_WORD])),
            operands={view.spec.name: self.operand(view) for view in operands_of(record, program.dtype)},
            dims=dims_of(record),
            params=params_of(record),
            dtype=program.dtype,
        )

    def instructions(self) -> list[Instruction]:
        """Return all records decoded, of a program without loops."""
        return [self.instruction(number) for number in range(len(self.program))]

    def run(self, steps: int = 1) -> int:
        """Run the program and return the number of finished steps.

        A record that sets the status stops the program after itself. NaN and infinities do not raise.
        """
        loops = list(loops_of(self.program.records))
        within = {number for loop in loops for number in range(loop.start, loop.last + 1)}
        # records of loops are decoded in each round
        decoded = {number: self.instruction(number) for number in range(len(self.program)) if number not in within}
        starts = {loop.start: loop for loop in loops}
        with np.errstate(all="ignore"):
            for step in range(steps):
                for number in range(len(self.program)):
                    if number in decoded:
                        EXECUTE[decoded[number].op](decoded[number], self.counters)
                    elif number in starts:
                        self._run_loop(starts[number])
                    if self.counters.status != 0:
                        return step
        return steps

    def _run_loop(self, loop: Loop) -> None:
        for turn in range(loop.times):
            for number in range(loop.start + 1, loop.last + 1):
                made = self.instruction(number)
                if made.op == "window":
                    (stack,) = made.operands.values()
                    first = made.dims["first"] + turn * made.dims["step"]
                    self._windows[made.dims["number"]] = stack.reshape(-1)[first : first + made.dims["size"]]
                else:
                    EXECUTE[made.op](made, self.counters)
                if self.counters.status != 0:
                    return
