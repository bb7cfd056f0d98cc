"""Graphs as programs whose inputs and results are in one buffer: tensors are arrays of whole shapes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from fastnn.backend.cpu.executor.engine import BoundProgram
from fastnn.backend.reference.executor import ReferenceBackend
from fastnn.backend.reference.instruction import Counters
from fastnn.graph.extent import at
from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.strided import copied
from fastnn.lower.lower import lower
from fastnn.lower.task import Place, Task
from fastnn.program.layout import CONTEXT_WORDS, Buffer, Counter, align
from fastnn.program.program import Program, aligned_zeros
from fastnn.program.record import ITEM_SIZES

#: adds nodes to a graph whose inputs are tensors, and returns the results
Make = Callable[[Graph, Sequence[Tensor]], Sequence[Tensor]]


@dataclass(frozen=True)
class Built:
    """A program of a graph, and the places of its inputs and results in one buffer, by whole shapes."""

    program: Program
    inputs: Sequence[tuple[int, tuple[int, ...], str]]
    results: Sequence[tuple[int, tuple[int, ...], str]]

    def run(self, arrays: Sequence[np.ndarray], *, step: int = 0, seed: int = 0, parts: int = 1) -> list[np.ndarray]:
        """Run on the CPU."""
        buffers = {buffer: aligned_zeros(nbytes) for buffer, nbytes in self.program.sizes.items()}
        context = np.zeros(CONTEXT_WORDS, np.int64)
        for buffer, raw in buffers.items():
            context[buffer] = raw.ctypes.data
        context[Counter.STEP], context[Counter.SEED] = step, seed
        for (offset, shape, dtype), array in zip(self.inputs, arrays, strict=True):
            self._view(buffers[Buffer.GRADIENTS], offset, shape, dtype)[...] = array
        BoundProgram(self.program).run(context, 1, parts=parts)
        return [self._view(buffers[Buffer.GRADIENTS], *place).copy() for place in self.results]

    def reference(self, arrays: Sequence[np.ndarray], *, step: int = 0, seed: int = 0) -> list[np.ndarray]:
        """Run on the reference backend, in float64."""
        backend = ReferenceBackend(self.program, counters=Counters(step=step, seed=seed))
        flat, unit = backend.buffer(Buffer.GRADIENTS), ITEM_SIZES[self.program.dtype]
        for (offset, shape, dtype), array in zip(self.inputs, arrays, strict=True):
            part = flat[offset // unit :][: prod(shape)]
            (part.view(np.int64) if dtype == "int64" else part).reshape(shape)[...] = array
        backend.run()
        found = []
        for offset, shape, dtype in self.results:
            part = flat[offset // unit :][: prod(shape)]
            found.append((part.view(np.int64) if dtype == "int64" else part).reshape(shape).copy())
        return found

    @staticmethod
    def _view(raw: np.ndarray, offset: int, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        return raw[offset : offset + prod(shape) * ITEM_SIZES[dtype]].view(dtype).reshape(shape)


def build(make: Make, inputs: Sequence[object], batch: int = 1, dtype: str = "float64") -> Built:
    """Make the program of a graph.

    Parameters
    ----------
    inputs : sequence of (shape of a sample, batched) or (shape, batched, kind)
    """
    graph = Graph()
    tensors = []
    for number, (shape, batched, *kind) in enumerate(inputs):
        if batched:
            tensors.append(graph.input(shape, f"x{number}", *kind))
        else:
            tensors.append(graph.parameter(shape, f"w{number}"))
    results = []
    for y in make(graph, tensors):
        node = graph.producer(y)
        if node is None or node.op == "reshape" or y in results:
            y = copied(graph, y, None, None, "result")
        results.append(y)
    places, described, end = {}, [], 0
    for x in (*tensors, *results):
        shape = tuple(at(size, batch) for size in x.whole)
        kind = dtype if x.kind == "real" else x.kind
        places[x.id] = Place(Buffer.GRADIENTS, end)
        described.append((end, shape, kind))
        # eight bytes for each element: so many has the reference for integers
        end += align(8 * prod(shape))
    task = Task("test", graph, batch, dtype, {}, places, frozenset(), (), {Buffer.GRADIENTS: end})
    return Built(lower(task), described[: len(tensors)], described[len(tensors) :])
