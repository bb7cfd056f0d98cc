"""Products of graphs with NumPy's rules, beside NumPy's.

    OPENBLAS_NUM_THREADS=1 python benchmarks/graph_products.py

One thread, float32. Each product is a program of one batch, without transposes of its own; NumPy gets the same arrays,
and has to write its result in the same order. What reads slices in place is also compared with a program that copies
them first. All take turns in random order; prints medians. Repetitions of a program are steps of one run, those of
NumPy calls from Python.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from math import prod
from typing import Any

import numpy as np

from fastnn.backend.cpu.executor.engine import BoundProgram
from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.contractions import einsum
from fastnn.graph.ops.products import matmul
from fastnn.graph.ops.strided import getitem, swapaxes
from fastnn.lower import lower as lowering_module
from fastnn.lower.task import Place, Task
from fastnn.program.layout import CONTEXT_WORDS, Buffer, Counter
from fastnn.program.program import aligned_zeros

Array = np.ndarray[Any, np.dtype[Any]]
Make = Callable[..., Tensor]


def scores(q: Array, k: Array) -> Array:
    """Multiply queries and keys, head by head."""
    found: Array = np.matmul(q.transpose(0, 2, 1, 3), k.transpose(0, 2, 3, 1))
    return found


def results(weights: Array, v: Array) -> Array:
    """Weigh values, head by head, and put the heads side by side."""
    return np.ascontiguousarray(np.matmul(weights, v.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3))


def sliced(a: Any, b: Any) -> tuple[Make, Callable[..., Array]]:
    """Return the product of parts of two matrices, as fastnn and as NumPy have it."""

    def make(g: Graph, x: Tensor, w: Tensor) -> Tensor:
        return matmul(g, getitem(g, x, a, "s"), getitem(g, w, b, "s"), "p")

    return make, lambda x, w: np.matmul(x[a], w[b])


ALL = slice(None)
lowering: Any = lowering_module
#: name, graph function, NumPy's, shapes
CASES: tuple[tuple[str, Make, Callable[..., Array], tuple[tuple[int, ...], ...]], ...] = (
    ("x @ w, (256, 512) @ (512, 256)", lambda g, a, b: matmul(g, a, b, "p"), np.matmul, ((256, 512), (512, 256))),
    ("x @ x.T of 512 rows of 128", lambda g, a: matmul(g, a, swapaxes(g, a, 0, 1, "t"), "p"),
     lambda a: np.matmul(a, a.T), ((512, 128),)),
    ("x.T @ y of 512 rows", lambda g, a, b: matmul(g, swapaxes(g, a, 0, 1, "t"), b, "p"),
     lambda a, b: np.matmul(a.T, b), ((512, 128), (512, 96))),
    ("x[:, :64] @ w, (512, 128), (64, 96)", *sliced((ALL, slice(64)), ALL), ((512, 128), (64, 96))),
    ("x @ w[:, :96], (512, 128), (128, 192)", *sliced(ALL, (ALL, slice(96))), ((512, 128), (128, 192))),
    ("x[:, 3:67] @ w[:, 5:101], (512, 128), (64, 192)", *sliced((ALL, slice(3, 67)), (ALL, slice(5, 101))),
     ((512, 128), (64, 192))),
    ("x[2:500] @ w, (512, 64), (64, 96)", *sliced(slice(2, 500), ALL), ((512, 64), (64, 96))),
    ("x @ w[:, :96], (4, 128), (128, 192)", *sliced(ALL, (ALL, slice(96))), ((4, 128), (128, 192))),
    ("x @ w[:, :512], (1, 512), (512, 1024)", *sliced(ALL, (ALL, slice(512))), ((1, 512), (512, 1024))),
    ("x[:, :256] @ w, (512, 512), (256, 256)", *sliced((ALL, slice(256)), ALL), ((512, 512), (256, 256))),
    ("x[:, :1024] @ w, (512, 2048), (1024, 1024)", *sliced((ALL, slice(1024)), ALL), ((512, 2048), (1024, 1024))),
    ("(32, 64, 128) @ (128, 96)", lambda g, a, b: matmul(g, a, b, "p"), np.matmul, ((32, 64, 128), (128, 96))),
    ("(32, 64, 48) @ (4, 1, 48, 64)", lambda g, a, b: matmul(g, a, b, "p"), np.matmul, ((32, 64, 48), (4, 1, 48, 64))),
    ("scores bqhd,bkhd->bhqk, 8 x 64 x 4 x 32", lambda g, a, b: einsum(g, "bqhd,bkhd->bhqk", (a, b), "p"),
     scores, ((8, 64, 4, 32), (8, 64, 4, 32))),
    ("results bhqk,bkhd->bqhd, 8 x 64 x 4 x 32", lambda g, a, b: einsum(g, "bhqk,bkhd->bqhd", (a, b), "p"),
     results, ((8, 4, 64, 64), (8, 64, 4, 32))),
    ("scores, 4 x 256 x 4 x 64", lambda g, a, b: einsum(g, "bqhd,bkhd->bhqk", (a, b), "p"),
     scores, ((4, 256, 4, 64), (4, 256, 4, 64))),
)  # fmt: skip


def compiled(make: Make, arrays: list[Array], *, copies: bool = False) -> tuple[Callable[..., object], Array, int]:
    """Return a function that runs an op of some arrays so many times, where it writes the result, and its records.

    Parameters
    ----------
    make : callable
        Adds the op to a graph.
    copies : bool
        Whether products copy views before they read them.
    """
    graph = Graph()
    batch = len(arrays[0])
    tensors = [
        graph.input(array.shape[1:], "x") if len(array) == batch else graph.parameter(array.shape, "x")
        for array in arrays
    ]
    y = make(graph, *tensors)
    shape = tuple(size if isinstance(size, int) else size.at(batch) for size in y.whole)
    # what a reshape sees is where its input is
    while (node := graph.producer(y)) is not None and node.op == "reshape" and node.inputs[0] is not None:
        y = node.inputs[0]
    dtype = np.dtype(np.float32 if y.kind == "real" else np.int64)
    raw = [aligned_zeros(array.nbytes) for array in arrays] + [aligned_zeros(dtype.itemsize * prod(shape))]
    slots = [(int(Buffer.DATA) + slot, tensor) for slot, tensor in enumerate((*tensors, y))]
    places = {tensor.id: Place(slot, 0) for slot, tensor in slots}
    sizes = {slot: each.nbytes for (slot, _), each in zip(slots, raw, strict=True)}
    before = lowering.in_place
    if copies:
        lowering.in_place = lambda nodes, *options: (list(nodes), [])
    try:
        program = lowering.lower(Task("product", graph, batch, "float32", {}, places, frozenset(), (), sizes))
    finally:
        lowering.in_place = before
    context = np.zeros(CONTEXT_WORDS, np.int64)
    raw.append(aligned_zeros(program.arena_bytes))
    context[Buffer.ARENA] = raw[-1].ctypes.data
    for (slot, _), each in zip(slots, raw, strict=False):
        context[slot] = each.ctypes.data
    for array, each in zip(arrays, raw, strict=False):
        each.view(np.float32)[:] = array.reshape(-1)
    bound = BoundProgram(program)

    def run(times: int = 1, kept: object = raw) -> None:
        context[Counter.CURSOR] = 0
        bound.run(context, times, 1)

    return run, raw[-2].view(dtype).reshape(shape), len(program)


def medians(calls: Mapping[str, Callable[[int], object]], repeats: int, rounds: int = 15) -> dict[str, float]:
    """Return microseconds by name, of calls in random order; each repeats its work so many times."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    order, chance = list(calls), random.Random(0)
    for _ in range(rounds):
        chance.shuffle(order)
        for name in order:
            begin = time.perf_counter()
            calls[name](repeats)
            times[name].append((time.perf_counter() - begin) / repeats * 1e6)
    return {name: statistics.median(found) for name, found in times.items()}


def repeated(call: Callable[[], object], times: int) -> None:
    """Call a function so many times."""
    for _ in range(times):
        call()


def main() -> None:
    """Measure."""
    rng = np.random.default_rng(0)
    print(f"{'product':48} {'fastnn':>9} {'copies':>9} {'NumPy':>9}   microseconds, and fastnn's time over NumPy's")
    for name, make, theirs, shapes in CASES:
        arrays = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
        calls: dict[str, Callable[[int], object]] = {"NumPy": partial(repeated, partial(theirs, *arrays))}
        for key, copies in (("fastnn", False), ("copies", True)):
            run, result, records = compiled(make, arrays, copies=copies)
            run()
            np.testing.assert_allclose(result, theirs(*arrays), rtol=1e-3, atol=1e-3)
            if records == 1 and copies:
                continue  # there are no views
            assert records == 1 or copies, name
            calls[key] = run
        found = medians(calls, 20)
        copied = f"{found['copies']:9.1f}" if "copies" in found else " " * 9
        ratio = found["fastnn"] / found["NumPy"]
        print(f"{name:48} {found['fastnn']:9.1f} {copied} {found['NumPy']:9.1f}   {ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
