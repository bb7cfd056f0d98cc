"""Graphs of whole shapes, run on arrays: their inputs and outputs are arrays of the caller."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastnn.backend.cpu.executor.engine import BoundProgram
from fastnn.backend.reference.executor import ReferenceBackend
from fastnn.graph.gradients import differentiate
from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.strided import copied
from fastnn.lower.lower import lower
from fastnn.lower.task import Place, Task
from fastnn.program.layout import CONTEXT_WORDS, Buffer
from fastnn.program.program import Program, aligned_zeros

#: takes a graph and its inputs, and returns its outputs
Build = Callable[..., Any]


class Compiled:
    """A graph as a program.

    Parameters
    ----------
    build : callable
        Takes a graph and tensors; returns a tensor or a list of them.
    arrays : sequence of ndarray
        Of integers or reals; in those that are batched, the first axis is the batch.
    batched : sequence of bool, optional
        All are by default.
    grads : sequence of int, optional
        Inputs whose gradients of the sum of the outputs times `seeds`, which become further inputs, are outputs, too.
    """

    def __init__(
        self,
        build: Build,
        arrays: Sequence[np.ndarray],
        dtype: str = "float64",
        batched: Sequence[bool] | None = None,
        grads: Sequence[int] = (),
        twice: bool = False,
    ) -> None:
        self.dtype = dtype
        self.none: list[int] = []
        graph = Graph()
        batched = [True] * len(arrays) if batched is None else batched
        self.batch = next((len(x) for x, flag in zip(arrays, batched, strict=True) if flag), 3)
        self.inputs: list[Tensor] = []
        for number, (array, flag) in enumerate(zip(arrays, batched, strict=True)):
            kind = "int64" if array.dtype.kind in "iu" else "real"
            (x,) = graph.add("given", (), [(array.shape[flag:], flag, f"x{number}", kind)], "given")
            self.inputs.append(x)
        found = build(graph, *self.inputs)
        outputs = list(found) if isinstance(found, (list, tuple)) else [found]
        self.whole = [y.whole for y in outputs]
        wanted = [self.inputs[number] for number in grads]
        if grads:
            reals = [y for y in outputs if y.kind == "real"]
            seeds = [graph.add("given", (), [(y.shape, y.batched, "seed")], "given")[0] for y in reals]
            self.inputs += seeds
            outputs = self._gradients(graph, reals, seeds, wanted)
            if twice:
                more = [graph.add("given", (), [(y.shape, y.batched, "seed")], "given")[0] for y in outputs]
                self.inputs += more
                outputs = self._gradients(graph, outputs, more, [*wanted, *seeds], True)
                self.none = [number for number, y in enumerate(outputs) if y is None]
                outputs = [y for y in outputs if y is not None]
        self.outputs = [copied(graph, y, None, None, "out") for y in outputs]
        graph.nodes[:] = [node for node in graph.nodes if node.op != "given"]
        graph._producers = {key: node for key, node in graph._producers.items() if node.op != "given"}
        places = {x.id: Place(Buffer.DATA + slot, 0) for slot, x in enumerate([*self.inputs, *self.outputs])}
        sizes = {int(Buffer.DATA + slot): self._nbytes(x) for slot, x in enumerate([*self.inputs, *self.outputs])}
        task = Task("graph", graph, self.batch, dtype, {}, places, frozenset(), (), sizes)
        self.program: Program = lower(task)

    @staticmethod
    def _gradients(
        graph: Graph, ys: list[Tensor], seeds: list[Tensor], wanted: list[Tensor], some: bool = False
    ) -> list[Tensor | None]:
        """Add gradients; what the results do not depend on has none, where that is allowed."""
        found = differentiate(graph, (), wanted, list(zip(ys, seeds, strict=True)))
        assert some or all(x.id in found for x in wanted), "an input has no gradient"
        assert all(len(parts) == 1 for parts in found.values())
        return [found[x.id][0] if x.id in found else None for x in wanted]

    def shape(self, x: Tensor) -> tuple[int, ...]:
        """Return the shape of a tensor in this batch."""
        return tuple(size if isinstance(size, int) else size.at(self.batch) for size in x.whole)

    def _nbytes(self, x: Tensor) -> int:
        return int(np.prod(self.shape(x))) * (8 if x.kind == "int64" or self.dtype == "float64" else 4)

    def run(self, *arrays: np.ndarray, parts: int = 1) -> list[np.ndarray]:
        """Run on the CPU."""
        context = np.zeros(CONTEXT_WORDS, np.int64)
        kept, results = [], []
        for slot, (x, array) in enumerate(zip(self.inputs, arrays, strict=True)):
            raw = aligned_zeros(self._nbytes(x))
            raw.view("int64" if x.kind == "int64" else self.dtype)[:] = array.reshape(-1)
            kept.append(raw)
            context[Buffer.DATA + slot] = raw.ctypes.data
        for slot, y in enumerate(self.outputs, len(self.inputs)):
            raw = aligned_zeros(self._nbytes(y))
            context[Buffer.DATA + slot] = raw.ctypes.data
            results.append(raw.view("int64" if y.kind == "int64" else self.dtype).reshape(self.shape(y)))
        arena = aligned_zeros(self.program.arena_bytes)
        arena[:] = 0xFF
        context[Buffer.ARENA] = arena.ctypes.data
        BoundProgram(self.program).run(context, 1, parts=parts)
        return results

    def reference(self, *arrays: np.ndarray) -> list[np.ndarray]:
        """Run on the reference backend."""
        given = {slot: np.array(array).reshape(-1) for slot, array in enumerate(arrays)}
        results = []
        for slot, y in enumerate(self.outputs, len(self.inputs)):
            given[slot] = np.zeros(int(np.prod(self.shape(y))), "int64" if y.kind == "int64" else "float64")
            results.append(given[slot].reshape(self.shape(y)))
        backend = _Shaped(self.program, data=given)
        backend.run()
        return results


class _Shaped(ReferenceBackend):
    """Operands in data slots have the shapes that records say, as codes' operands have."""

    def operand(self, view: Any) -> np.ndarray:
        if view.buffer >= Buffer.DATA:
            return self.data[view.buffer - Buffer.DATA].reshape(view.shape)
        return super().operand(view)


def check(
    build: Build,
    arrays: Sequence[np.ndarray],
    expected: Any = None,
    batched: Sequence[bool] | None = None,
    grads: Sequence[int] | None = None,
    twice: bool = False,
) -> Compiled:
    """Compare a graph with NumPy's results, on both backends and dtypes, in parts, and with finite differences."""
    rng = np.random.default_rng(5)
    made = Compiled(build, arrays, batched=batched)
    found = made.run(*arrays)
    if expected is not None:
        results = list(expected) if isinstance(expected, (list, tuple)) else [expected]
        for got, want in zip(found, results, strict=True):
            assert got.shape == np.shape(want), f"{got.shape}, expected {np.shape(want)}"
            np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)
    for got, want in zip(found, made.reference(*arrays), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)
    for parts in (2, 3):
        for got, want in zip(made.run(*arrays, parts=parts), found, strict=True):
            assert got.tobytes() == want.tobytes()
    single = Compiled(build, arrays, "float32", batched=batched)
    for got, want in zip(single.run(*arrays), found, strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5)
    if grads is None:
        grads = [number for number, array in enumerate(arrays) if array.dtype.kind == "f"]
    if grads:
        reals = [y for y in found if y.dtype.kind == "f"]
        seeds = [rng.standard_normal(y.shape) for y in reals]
        _differences(Compiled(build, arrays, batched=batched, grads=grads), made, arrays, seeds, grads)
        if twice:
            first = Compiled(build, arrays, batched=batched, grads=grads)
            given = [*arrays, *seeds]
            more = [rng.standard_normal(arrays[number].shape) for number in grads]
            second = Compiled(build, arrays, batched=batched, grads=grads, twice=True)
            also = [*grads, *range(len(arrays), len(given))]
            _differences(second, first, given, more, also)
    return made


def _differences(
    gradient: Compiled, function: Compiled, arrays: Sequence[np.ndarray], seeds: Sequence[np.ndarray],
    wanted: Sequence[int],
) -> None:  # fmt: skip
    """Compare gradients with differences of fourth order in some elements."""
    found = gradient.run(*arrays, *seeds)
    for number in gradient.none:
        found.insert(number, np.zeros(arrays[wanted[number]].shape))
    rng, step = np.random.default_rng(6), 1e-3
    for number, got in zip(wanted, found, strict=True):
        scale = max(np.abs(got).max(), 1e-3)
        for place in rng.permutation(arrays[number].size)[:12]:
            slope = 0.0
            for weight, move in ((1, -2.0), (-8, -1.0), (8, 1.0), (-1, 2.0)):
                moved = [array.copy() for array in arrays]
                moved[number].flat[place] += move * step
                ys = [y for y in function.run(*moved) if y.dtype.kind == "f"]
                slope += weight * sum(float((y * seed).sum()) for y, seed in zip(ys, seeds, strict=True))
            slope /= 12.0 * step
            assert abs(got.flat[place] - slope) <= 1e-7 * scale, (
                f"input {number}, element {place}: {got.flat[place]}, by differences {slope}"
            )
