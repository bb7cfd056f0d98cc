"""A graph as a callable: its inputs and results are arrays that the records read and fill in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastnn as fnn
from fastnn.addresses import address
from fastnn.backend.cpu.executor.engine import BoundProgram, Runner
from fastnn.graph.graph import Graph, Tensor
from fastnn.lower import lower as lowering
from fastnn.lower.task import Place, Task
from fastnn.program.layout import CONTEXT_WORDS, Buffer, Counter
from fastnn.program.program import aligned_zeros

Array = NDArray[Any]


class Lowered:
    """The program of a graph, bound to arrays.

    Parameters
    ----------
    graph : Graph
    outputs : sequence of Tensor
    arrays : sequence of ndarray
        Of the graph's inputs, one row for each sample.
    chained : bool
        Whether the program may have chains.
    """

    def __init__(self, graph: Graph, outputs: Sequence[Tensor], arrays: Sequence[Array], *, chained: bool) -> None:
        batch, dtype = len(arrays[0]), arrays[0].dtype
        self.results = [np.empty((batch, *y.shape), dtype) for y in outputs]
        self._arrays = [*arrays, *self.results]
        tensors = [*graph.inputs, *outputs]
        places = {x.id: Place(Buffer.DATA + slot, 0) for slot, x in enumerate(tensors)}
        sizes = {Buffer.DATA + slot: array.nbytes for slot, array in enumerate(self._arrays)}
        task = Task("lowered", graph, batch, dtype.name, {}, places, frozenset(), [], sizes)
        before, lowering.CHAINED = lowering.CHAINED, chained
        self.bound = BoundProgram(lowering.lower(task))
        lowering.CHAINED = before
        self._context = np.zeros(CONTEXT_WORDS, np.int64)
        self._arena = aligned_zeros(self.bound.program.arena_bytes)
        self._context[Buffer.ARENA] = address(self._arena)
        for slot, array in enumerate(self._arrays):
            self._context[Buffer.DATA + slot] = address(array)
        self._runner = Runner(self._context)

    def __call__(self, times: int = 1, threads: int | None = None, parts: int = 0) -> None:
        """Run the program several times in one call."""
        self._context[Counter.CURSOR] = self._context[Counter.CHUNK_STEP] = self._context[Counter.STEP] = 0
        self._runner.run(self.bound, times, fnn.get_num_threads() if threads is None else threads, parts)
