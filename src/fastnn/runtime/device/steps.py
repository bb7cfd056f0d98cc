"""Steps of sequences on a GPU, on the weights of a model there: their states stay in the GPU's memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.runtime.bindings import Bindings
from fastnn.runtime.device.placement import Placement
from fastnn.runtime.programs.codes import next_steps as program_of
from fastnn.runtime.programs.independence import traits
from fastnn.runtime.runtime import Runtime


class _Steps:
    """The model of one step, or of several: a program for each number of sequences, and the memory of its data."""

    def __init__(self, runtime: Runtime, placement: Placement) -> None:
        runtime.move(placement)
        self.runtime, self._placement = runtime, placement
        self._programs: dict[int, Any] = {}

    def __call__(self, x: NDArray[np.int64], halves: Sequence[Any]) -> NDArray[Any]:
        """Take the next steps of sequences whose state is in two arrays on the GPU."""
        rows, table = len(x), self.runtime.table
        if rows not in self._programs:
            (shape,) = table.architecture.output_shapes
            bound = self._placement.bind(program_of(table, rows))
            self._programs[rows] = bound, self._placement.upload(x), self._placement.empty((rows, *shape), table.dtype)
        bound, given, made = self._programs[rows]
        self._placement.device.write(given.device_address, x)
        slots = enumerate((given, *halves, made))
        self.runtime.run(bound, Bindings({slot: array.device_address for slot, array in slots}), 1, cursor=0)
        found: NDArray[Any] = made.copy_to_host()
        return found


class DeviceStates:
    """Sequences of tokens, and what is known of each of them: see `HostStates`.

    Parameters
    ----------
    next_steps : callable
        Returns the runtime of the model of one step, for None, or of several that are known.
    placement : Placement
        Where the network is.
    rows, size, carried : int

    Raises
    ------
    NotImplementedError
        When the network draws random numbers.
    """

    def __init__(
        self, next_steps: Callable[[int | None], Runtime], placement: Placement, rows: int, size: int, carried: int
    ) -> None:
        self._next_steps, self._carried, self._size = next_steps, carried, size
        self._placement = placement
        self._several: dict[int | None, _Steps] = {}
        table = self._of(None).runtime.table
        if traits(table, training=False).random:
            raise NotImplementedError("the network draws random numbers, which would be the same in all steps")
        self._dtype = table.dtype
        self._halves = self._zeros(rows)

    def step(self, tokens: Sequence[int]) -> NDArray[Any]:
        """Take the next token of each sequence, and return what the network gives after it, shape (rows, ...).

        Raises
        ------
        NotImplementedError
            When a record runs on the CPU only.
        """
        return self._of(None)(np.array(tokens, np.int64), self._halves)

    def read(self, row: int, parts: Sequence[Sequence[int]]) -> None:
        """Take the next tokens of one sequence, those of a part together."""
        if self._halves[0].shape[0] == 1:
            self._take(parts, self._halves)
            return
        # in memory of its own: a row may begin where kernels cannot read 16 bytes
        device, alone, held = self._placement.device, self._zeros(1), np.empty(self._size, self._dtype)
        for half, one in zip(self._halves, alone, strict=True):
            device.read(self._place(half, row), held)
            device.write(one.device_address, held)
        self._take(parts, alone)
        for half, one in zip(self._halves, alone, strict=True):
            device.write(self._place(half, row), one.copy_to_host())

    def _take(self, parts: Sequence[Sequence[int]], halves: Sequence[Any]) -> None:
        for tokens in parts:
            one = len(tokens) == 1
            self._of(None if one else len(tokens))(np.array(tokens if one else [tokens], np.int64), halves)

    def keep(self, rows: Sequence[int]) -> None:
        """Forget all sequences but these."""
        self._halves = [self._placement.upload(half.copy_to_host()[rows]) for half in self._halves]

    def restart(self, row: int) -> None:
        """Forget what is known of a sequence."""
        self._placement.device.write(self._place(self._halves[0], row), np.zeros(self._carried, self._dtype))

    def _zeros(self, rows: int) -> list[Any]:
        return [self._placement.upload(np.zeros((rows, self._size), self._dtype)) for _ in range(2)]

    def _place(self, half: Any, row: int) -> int:
        place: int = half.device_address + row * half.strides[0]
        return place

    def _of(self, steps: int | None) -> _Steps:
        if steps not in self._several:
            placement = Placement(self._placement.device, self._placement.precision)
            self._several[steps] = _Steps(self._next_steps(steps), placement)
        return self._several[steps]
