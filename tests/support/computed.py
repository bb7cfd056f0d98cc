"""Graphs of ops as programs: their values on the CPU or on the reference backend, and derivatives by differences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from fastnn.backend.cpu.executor.engine import BoundProgram
from fastnn.backend.reference.executor import ReferenceBackend
from fastnn.backend.reference.instruction import Counters
from fastnn.graph.extent import at
from fastnn.graph.gradients import gradients
from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.strided import copied
from fastnn.lower.lower import lower
from fastnn.lower.task import Place, Task
from fastnn.program.layout import CONTEXT_WORDS, Buffer, Counter, align
from fastnn.program.program import Program, aligned_zeros

Arrays = Mapping[Tensor, np.ndarray]


def whole_at(tensor: Tensor, batch: int) -> tuple[int, ...]:
    """Return the shape of a tensor for a batch size."""
    return tuple(at(size, batch) for size in tensor.whole)


class Computed:
    """A graph's tensors as functions of its inputs and parameters, in float64 by default.

    Parameters
    ----------
    outputs : sequence of Tensor
    given : sequence of Tensor
        Inputs and parameters.
    """

    def __init__(
        self, graph: Graph, outputs: Sequence[Tensor], given: Sequence[Tensor], batch: int, dtype: str = "float64"
    ) -> None:
        self.given, self.outputs, self.batch, self.dtype = list(given), list(outputs), batch, np.dtype(dtype)
        # a result may be what was given, or a view of another one; copies are neither
        copies = [copied(graph, y, None, None, "result") if y.kind == "real" else y for y in outputs]
        places, sizes = {}, {}
        for buffer, tensors in ((Buffer.PARAMETERS, self.given), (Buffer.GRADIENTS, copies)):
            offset = 0
            for tensor in tensors:
                places[tensor.id] = Place(buffer, offset)
                item = self._type(tensor).itemsize
                offset += align(item * int(np.prod(whole_at(tensor, batch), dtype=np.int64)))
            sizes[buffer] = offset
        self._places = [[places[tensor.id].offset for tensor in each] for each in (self.given, copies)]
        self.program: Program = lower(Task("graph", graph, batch, dtype, {}, places, frozenset(), [], sizes))
        self._bound: BoundProgram | None = None

    def _type(self, tensor: Tensor) -> np.dtype:
        return np.dtype(np.int64) if tensor.kind == "int64" else self.dtype

    def cpu(self, values: Arrays, *, seed: int = 0, step: int = 0, parts: int = 1) -> list[np.ndarray]:
        """Run on the CPU."""
        self._bound = BoundProgram(self.program) if self._bound is None else self._bound
        buffers = {buffer: aligned_zeros(max(nbytes, 64)) for buffer, nbytes in self.program.sizes.items()}
        buffers[Buffer.ARENA] = aligned_zeros(max(self.program.sizes.get(Buffer.ARENA, 0), 64))
        buffers[Buffer.ARENA][:] = 0xFF
        context = np.zeros(CONTEXT_WORDS, np.int64)
        for buffer, raw in buffers.items():
            context[buffer] = raw.ctypes.data
        context[Counter.SEED], context[Counter.STEP] = seed, step

        def seen(buffer: int, tensor: Tensor, offset: int) -> np.ndarray:
            shape, dtype = whole_at(tensor, self.batch), self._type(tensor)
            nbytes = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
            return buffers[buffer][offset : offset + nbytes].view(dtype).reshape(shape)

        given, made = self._places
        for tensor, offset in zip(self.given, given, strict=True):
            seen(Buffer.PARAMETERS, tensor, offset)[...] = values[tensor]
        self._bound.run(context, 1, parts=parts)
        return [seen(Buffer.GRADIENTS, y, offset).copy() for y, offset in zip(self.outputs, made, strict=True)]

    def reference(self, values: Arrays, *, seed: int = 0, step: int = 0) -> list[np.ndarray]:
        """Run on the reference backend, which computes in float64."""
        backend = ReferenceBackend(self.program, counters=Counters(seed=seed, step=step))

        def seen(buffer: int, tensor: Tensor, offset: int) -> np.ndarray:
            shape, start = whole_at(tensor, self.batch), offset // self.dtype.itemsize
            flat = backend.buffer(buffer)[start : start + int(np.prod(shape, dtype=np.int64))]
            return (flat.view(np.int64) if tensor.kind == "int64" else flat).reshape(shape)

        given, made = self._places
        for tensor, offset in zip(self.given, given, strict=True):
            seen(Buffer.PARAMETERS, tensor, offset)[...] = values[tensor]
        backend.run()
        return [seen(Buffer.GRADIENTS, y, offset).copy() for y, offset in zip(self.outputs, made, strict=True)]


def slopes(function: Callable[[], float], array: np.ndarray, step: float) -> np.ndarray:
    """Return derivatives of a function by all elements of an array that it reads, from differences of four values."""
    found = np.zeros_like(array)
    for index in np.ndindex(array.shape):
        before, values = array[index], []
        for distance in (1.0, -1.0, 2.0, -2.0):
            array[index] = before + distance * step
            values.append(function())
        array[index] = before
        found[index] = (8.0 * (values[0] - values[1]) - (values[2] - values[3])) / (12.0 * step)
    return found


def check_derivatives(
    make: Callable[..., Tensor],
    shapes: Sequence[tuple[bool, Sequence[int]]],
    *,
    batch: int = 3,
    values: Sequence[np.ndarray] | None = None,
    backend: str = "cpu",
    seed: int = 0,
    step: float = 1e-3,
    tolerance: float = 1e-7,
    orders: int = 2,
    wanted: Sequence[int] | None = None,
) -> Graph:
    """Compare first and second derivatives of a tensor with differences.

    Parameters
    ----------
    make : callable
        Takes a graph and tensors, and returns a tensor.
    shapes : sequence of (batched, shape)
        Of the tensors; batched ones are inputs, and others parameters.
    values : sequence of ndarray, optional
        By default normal.
    wanted : sequence of int, optional
        The numbers of the tensors to differentiate by; by default all.
    """
    rng = np.random.default_rng(7)
    graph = Graph()
    xs = [graph.input(s, f"x{i}") if batched else graph.parameter(s, f"x{i}") for i, (batched, s) in enumerate(shapes)]
    by = [xs[number] for number in (range(len(xs)) if wanted is None else wanted)]
    y = make(graph, *xs)
    # the sum over one of weighted elements is differentiated, and then that over all gradients
    weight = graph.input(y.shape, "weight") if y.batched else graph.parameter(y.shape, "weight")
    given, outputs = [*xs, weight], [y]
    directions: list[Tensor] = []
    if orders:
        first = gradients(graph, y, by, "first", dy=weight, unconnected="zeros")
        outputs += first
    if orders > 1:
        directions = [graph.input(g.shape, "v") if g.batched else graph.parameter(g.whole, "v") for g in first]
        given += directions
        second: list[Tensor | None] = []
        for g, v in zip(first, directions, strict=True):
            second += gradients(graph, g, [*by, weight], "second", dy=v, unconnected="zeros")
        outputs += second
    computed = Computed(graph, outputs, given, batch)
    arrays = {t: rng.normal(size=whole_at(t, batch)) for t in given}
    if values is not None:
        arrays.update((t, np.array(v, np.float64)) for t, v in zip(xs, values, strict=True))

    def run() -> list[np.ndarray]:
        return computed.cpu(arrays, seed=seed) if backend == "cpu" else computed.reference(arrays, seed=seed)

    found = run()
    for number, x in enumerate(by):
        if orders:
            expected = slopes(lambda: float((arrays[weight] * run()[0]).sum()), arrays[x], step)
            np.testing.assert_allclose(found[1 + number], expected, rtol=tolerance, atol=tolerance, err_msg="first")
    position = 1 + len(by)
    for number, v in enumerate(directions):
        for x in (*by, weight):
            expected = slopes(lambda n=number, v=v: float((arrays[v] * run()[1 + n]).sum()), arrays[x], step)
            message = f"of the gradient by {number} by {x.name}"
            np.testing.assert_allclose(found[position], expected, rtol=tolerance, atol=tolerance, err_msg=message)
            position += 1
    return graph
