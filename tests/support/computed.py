"""Graphs of ops as programs: their values on the CPU and on the reference backend, and derivatives by differences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from fastnn.backend.cpu.executor.engine import BoundProgram
from fastnn.backend.reference.executor import ReferenceBackend
from fastnn.backend.reference.instruction import Counters
from fastnn.graph.extent import at
from fastnn.graph.gradients import differentiate, gradients
from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.strided import copied
from fastnn.lower.lower import lower
from fastnn.lower.task import Place, Task
from fastnn.program.layout import CONTEXT_WORDS, Buffer, Counter, align
from fastnn.program.program import Program, aligned_zeros

#: takes a graph and its inputs, and returns a tensor or several
Make = Callable[..., Any]
#: whether the first axis is the batch, the shape without it, and the kind, if that is not "real"
Input = Sequence[Any]
#: of the inputs of a graph, in their order or by tensor
Values = Sequence[np.ndarray] | Mapping[Tensor, np.ndarray]


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
        self.given, self.batch, self.dtype = list(given), batch, np.dtype(dtype)
        self.outputs: list[Tensor] = []
        for y in outputs:
            # a result may be what was given, or a view of another one; copies are neither
            node = graph.producer(y)
            alone = node is not None and node.op != "reshape" and y not in self.outputs
            self.outputs.append(y if alone else copied(graph, y, None, None, "result"))
        places, end = {}, 0
        for tensor in (*self.given, *self.outputs):
            places[tensor.id] = Place(Buffer.GRADIENTS, end)
            # eight bytes for each element: so many has the reference for integers
            end += align(8 * prod(whole_at(tensor, batch)))
        self._offsets = {key: place.offset for key, place in places.items()}
        sizes = {int(Buffer.GRADIENTS): end}
        self.program: Program = lower(Task("graph", graph, batch, dtype, {}, places, frozenset(), (), sizes))
        self._bound: BoundProgram | None = None

    def _fill(self, values: Values, seen: Callable[[Tensor], np.ndarray]) -> None:
        arrays = [values[tensor] for tensor in self.given] if isinstance(values, Mapping) else values
        for tensor, array in zip(self.given, arrays, strict=True):
            seen(tensor)[...] = array

    def run(self, values: Values, *, seed: int = 0, step: int = 0, parts: int = 1) -> list[np.ndarray]:
        """Run on the CPU."""
        self._bound = BoundProgram(self.program) if self._bound is None else self._bound
        buffers = {buffer: aligned_zeros(nbytes) for buffer, nbytes in self.program.sizes.items()}
        if Buffer.ARENA in buffers:
            buffers[Buffer.ARENA][:] = 0xFF
        context = np.zeros(CONTEXT_WORDS, np.int64)
        for buffer, raw in buffers.items():
            context[buffer] = raw.ctypes.data
        context[Counter.SEED], context[Counter.STEP] = seed, step

        def seen(tensor: Tensor) -> np.ndarray:
            shape, start = whole_at(tensor, self.batch), self._offsets[tensor.id]
            dtype = np.dtype(np.int64) if tensor.kind == "int64" else self.dtype
            return buffers[Buffer.GRADIENTS][start:][: prod(shape) * dtype.itemsize].view(dtype).reshape(shape)

        self._fill(values, seen)
        self._bound.run(context, 1, parts=parts)
        return [seen(y).copy() for y in self.outputs]

    def reference(self, values: Values, *, seed: int = 0, step: int = 0) -> list[np.ndarray]:
        """Run on the reference backend, which computes in float64."""
        backend = ReferenceBackend(self.program, counters=Counters(seed=seed, step=step))
        flat = backend.buffer(Buffer.GRADIENTS)

        def seen(tensor: Tensor) -> np.ndarray:
            shape = whole_at(tensor, self.batch)
            part = flat[self._offsets[tensor.id] // self.dtype.itemsize :][: prod(shape)]
            return (part.view(np.int64) if tensor.kind == "int64" else part).reshape(shape)

        self._fill(values, seen)
        backend.run()
        return [seen(y).copy() for y in self.outputs]


def _made(make: Make, inputs: Sequence[Input]) -> tuple[Graph, list[Tensor], list[Tensor]]:
    """Make a graph; returns its inputs and its results, too."""
    graph, xs = Graph(), []
    for number, (batched, shape, *kind) in enumerate(inputs):
        if not batched and kind in ([], ["real"]):
            xs.append(graph.parameter(shape, f"x{number}"))
        else:
            add = graph.input if batched else lambda s, name, k: graph.placeholder(s, False, k, name)
            xs.append(add(shape, f"x{number}", *kind))
    found = make(graph, *xs)
    return graph, xs, list(found) if isinstance(found, (list, tuple)) else [found]


def build(make: Make, inputs: Sequence[Input], batch: int = 1, dtype: str = "float64") -> Computed:
    """Make the program of a graph."""
    graph, xs, ys = _made(make, inputs)
    return Computed(graph, ys, xs, batch, dtype)


def _factors(graph: Graph, ys: Sequence[Tensor]) -> list[Tensor]:
    return [graph.input(y.shape, "factor") if y.batched else graph.parameter(y.whole, "factor") for y in ys]


def _gradients(graph: Graph, ys: Sequence[Tensor], by: Sequence[Tensor], dys: Sequence[Tensor]) -> list[Tensor]:
    """Add the gradients of the sum of all results times factors."""
    if len(ys) == 1:
        return gradients(graph, ys[0], by, "first", dy=dys[0], unconnected="zeros")
    found = differentiate(graph, (), by, list(zip(ys, dys, strict=True)))
    assert all(len(found[x.id]) == 1 for x in by)
    return [found[x.id][0] for x in by]


def slopes(
    function: Callable[[], float], array: np.ndarray, step: float, places: Sequence[int] | None = None
) -> np.ndarray:
    """Return derivatives of a function by elements of an array that it reads, from differences of four values."""
    places = range(array.size) if places is None else places
    found = np.zeros(len(places))
    for number, place in enumerate(places):
        before, values = array.flat[place], []
        for distance in (1.0, -1.0, 2.0, -2.0):
            array.flat[place] = before + distance * step
            values.append(function())
        array.flat[place] = before
        found[number] = (8.0 * (values[0] - values[1]) - (values[2] - values[3])) / (12.0 * step)
    return found


def check_derivatives(
    make: Make,
    inputs: Sequence[Input],
    *,
    batch: int = 3,
    values: Sequence[np.ndarray] | None = None,
    backend: str = "cpu",
    seed: int = 0,
    step: float = 1e-3,
    tolerance: float = 1e-7,
    orders: int = 2,
    wanted: Sequence[int] | None = None,
    most: int | None = None,
) -> Graph:
    """Compare first and second derivatives of results with differences.

    Parameters
    ----------
    values : sequence of ndarray, optional
        By default normal.
    wanted : sequence of int, optional
        The numbers of the inputs to differentiate by; by default all.
    most : int, optional
        So many elements of each input are moved; by default all.
    """
    rng = np.random.default_rng(7)
    graph, xs, ys = _made(make, inputs)
    by = [xs[number] for number in (range(len(xs)) if wanted is None else wanted)]
    # the sum over weighted elements is differentiated, and then that over the elements of each gradient
    ys = [y for y in ys if y.kind == "real"]
    weights = _factors(graph, ys)
    first = _gradients(graph, ys, by, weights)
    directions = _factors(graph, first) if orders > 1 else []
    second = []
    for g, v in zip(first, directions, strict=bool(directions)):
        second += gradients(graph, g, [*by, *weights], "second", dy=v, unconnected="zeros")
    computed = Computed(graph, [*ys, *first, *second], [*xs, *weights, *directions], batch)
    arrays = {t: rng.normal(size=whole_at(t, batch)) for t in computed.given}
    if values is not None:
        arrays.update((t, np.array(v, np.int64 if t.kind == "int64" else np.float64))
                      for t, v in zip(xs, values, strict=True))  # fmt: skip
    run = computed.run if backend == "cpu" else computed.reference
    found = run(arrays, seed=seed)

    def compare(got: np.ndarray, outputs: slice, factors: Sequence[Tensor], x: Tensor, what: str) -> None:
        def total() -> float:
            results = run(arrays, seed=seed)[outputs]
            return sum(float((y * arrays[t]).sum()) for y, t in zip(results, factors, strict=True))

        places = rng.permutation(arrays[x].size)[:most]
        expected = slopes(total, arrays[x], step, places)
        atol = tolerance * max(1.0, np.abs(got).max())
        np.testing.assert_allclose(got.flat[places], expected, rtol=tolerance, atol=atol, err_msg=what)

    position = len(ys)
    for x in by:
        compare(found[position], slice(len(ys)), weights, x, f"by {x.name}")
        position += 1
    for number, v in enumerate(directions):
        gradient = slice(len(ys) + number, len(ys) + number + 1)
        for x in (*by, *weights):
            compare(found[position], gradient, [v], x, f"of the gradient by {by[number].name} by {x.name}")
            position += 1
    return graph


def _inputs(arrays: Sequence[np.ndarray], batched: Sequence[bool] | None) -> tuple[list[Input], int]:
    """Return the inputs of which arrays are values, and the batch size."""
    flags = [True] * len(arrays) if batched is None else batched
    batch = next((len(x) for x, flag in zip(arrays, flags, strict=True) if flag), 3)
    kinds = ["int64" if x.dtype.kind in "iu" else "real" for x in arrays]
    return [(flag, x.shape[flag:], kind) for x, flag, kind in zip(arrays, flags, kinds, strict=True)], batch


def build_for(
    make: Make,
    arrays: Sequence[np.ndarray],
    dtype: str = "float64",
    batched: Sequence[bool] | None = None,
    grads: Sequence[int] = (),
) -> Computed:
    """Make the program of a graph whose inputs have the shapes of arrays.

    Parameters
    ----------
    batched : sequence of bool, optional
        Whether the first axis is the batch: of all inputs by default.
    grads : sequence of int, optional
        Numbers of inputs. The results are their gradients, and the factors of what `make` returned are further inputs.
    """
    inputs, batch = _inputs(arrays, batched)
    graph, xs, ys = _made(make, inputs)
    weights = _factors(graph, ys) if grads else []
    results = _gradients(graph, ys, [xs[number] for number in grads], weights) if grads else ys
    return Computed(graph, results, [*xs, *weights], batch, dtype)


def check(
    make: Make,
    arrays: Sequence[np.ndarray],
    expected: Any = None,
    batched: Sequence[bool] | None = None,
    grads: Sequence[int] | None = None,
    twice: bool = False,
) -> Computed:
    """Compare a graph with NumPy's results, on both backends and dtypes, in parts, and with finite differences."""
    computed = build_for(make, arrays, batched=batched)
    found = computed.run(arrays)
    if expected is not None:
        results = list(expected) if isinstance(expected, (list, tuple)) else [expected]
        for got, want in zip(found, results, strict=True):
            assert got.shape == np.shape(want), f"{got.shape}, expected {np.shape(want)}"
            np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)
    for got, want in zip(computed.reference(arrays), found, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)
    for parts in (2, 3):
        for got, want in zip(computed.run(arrays, parts=parts), found, strict=True):
            assert got.tobytes() == want.tobytes()
    for got, want in zip(build_for(make, arrays, "float32", batched).run(arrays), found, strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5)
    if grads is None:
        grads = [number for number, array in enumerate(arrays) if array.dtype.kind == "f"]
    if grads:
        inputs, batch = _inputs(arrays, batched)
        check_derivatives(
            make, inputs, batch=batch, values=arrays, orders=2 if twice else 1, wanted=grads, most=12
        )  # fmt: skip
    return computed
