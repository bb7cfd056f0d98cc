"""Products of graphs with NumPy's rules, beside NumPy's.

    OPENBLAS_NUM_THREADS=1 python benchmarks/graph_products.py

One thread, float32. Each product is a program of one batch, without transposes of its own; NumPy gets the same arrays,
and has to write its result in the same order. Both take turns; prints medians.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any

import numpy as np

from fastnn.backend.cpu.executor.engine import BoundProgram
from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.contractions import einsum
from fastnn.graph.ops.products import matmul
from fastnn.graph.ops.strided import getitem, swapaxes
from fastnn.lower.lower import lower
from fastnn.lower.task import Place, Task
from fastnn.program.layout import CONTEXT_WORDS, Buffer
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


#: columns that slices take
_FEW = slice(None), slice(64)
#: name, graph function, NumPy's, shapes
CASES: tuple[tuple[str, Make, Callable[..., Array], tuple[tuple[int, ...], ...]], ...] = (
    ("x @ w, (256, 512) @ (512, 256)", lambda g, a, b: matmul(g, a, b, "p"), np.matmul, ((256, 512), (512, 256))),
    ("x @ x.T of 512 rows of 128", lambda g, a: matmul(g, a, swapaxes(g, a, 0, 1, "t"), "p"),
     lambda a: np.matmul(a, a.T), ((512, 128),)),
    ("x.T @ y of 512 rows", lambda g, a, b: matmul(g, swapaxes(g, a, 0, 1, "t"), b, "p"),
     lambda a, b: np.matmul(a.T, b), ((512, 128), (512, 96))),
    ("x[:, :64] @ w, (512, 128), (64, 96)", lambda g, a, b: matmul(g, getitem(g, a, _FEW, "s"), b, "p"),
     lambda a, b: np.matmul(a[_FEW], b), ((512, 128), (64, 96))),
    ("x @ w[:, :64], (512, 128), (128, 192)", lambda g, a, b: matmul(g, a, getitem(g, b, _FEW, "s"), "p"),
     lambda a, b: np.matmul(a, b[_FEW]), ((512, 128), (128, 192))),
    ("x @ w[:, :64], (4, 128), (128, 192)", lambda g, a, b: matmul(g, a, getitem(g, b, _FEW, "s"), "p"),
     lambda a, b: np.matmul(a, b[_FEW]), ((4, 128), (128, 192))),
    ("(32, 64, 128) @ (128, 96)", lambda g, a, b: matmul(g, a, b, "p"), np.matmul, ((32, 64, 128), (128, 96))),
    ("(32, 64, 48) @ (4, 1, 48, 64)", lambda g, a, b: matmul(g, a, b, "p"), np.matmul, ((32, 64, 48), (4, 1, 48, 64))),
    ("scores bqhd,bkhd->bhqk, 8 x 64 x 4 x 32", lambda g, a, b: einsum(g, "bqhd,bkhd->bhqk", (a, b), "p"),
     scores, ((8, 64, 4, 32), (8, 64, 4, 32))),
    ("results bhqk,bkhd->bqhd, 8 x 64 x 4 x 32", lambda g, a, b: einsum(g, "bhqk,bkhd->bqhd", (a, b), "p"),
     results, ((8, 4, 64, 64), (8, 64, 4, 32))),
    ("scores, 4 x 256 x 4 x 64", lambda g, a, b: einsum(g, "bqhd,bkhd->bhqk", (a, b), "p"),
     scores, ((4, 256, 4, 64), (4, 256, 4, 64))),
)  # fmt: skip


def compiled(make: Make, arrays: list[Array]) -> tuple[Callable[[], object], Array]:
    """Return a function that runs a product of some arrays, and where it writes the result."""
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
    raw = [aligned_zeros(4 * prod(each)) for each in (*(array.shape for array in arrays), shape)]
    slots = [(int(Buffer.DATA) + slot, tensor) for slot, tensor in enumerate((*tensors, y))]
    places = {tensor.id: Place(slot, 0) for slot, tensor in slots}
    sizes = {slot: each.nbytes for (slot, _), each in zip(slots, raw, strict=True)}
    program = lower(Task("product", graph, batch, "float32", {}, places, frozenset(), (), sizes))
    assert len(program) == 1, program
    context = np.zeros(CONTEXT_WORDS, np.int64)
    for (slot, _), each in zip(slots, raw, strict=True):
        context[slot] = each.ctypes.data
    for array, each in zip(arrays, raw, strict=False):
        each.view(np.float32)[:] = array.reshape(-1)
    bound = BoundProgram(program)

    def run(kept: object = raw) -> None:
        bound.run(context, 1, 1)

    return run, raw[-1].view(np.float32).reshape(shape)


def main() -> None:
    """Measure."""
    rng = np.random.default_rng(0)
    print(f"{'product':42} {'fastnn':>10} {'NumPy':>10}   microseconds, and fastnn's time over NumPy's")
    for name, make, theirs, shapes in CASES:
        arrays = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
        run, result = compiled(make, arrays)
        run()
        np.testing.assert_allclose(result, theirs(*arrays), rtol=1e-3, atol=1e-3)
        times: tuple[list[float], list[float]] = [], []
        repeats = 20
        for _ in range(15):
            calls: tuple[Callable[[], object], ...] = run, partial(theirs, *arrays)
            for call, found in zip(calls, times, strict=True):
                begin = time.perf_counter()
                for _ in range(repeats):
                    call()
                found.append((time.perf_counter() - begin) / repeats * 1e6)
        ours, numpy = (statistics.median(found) for found in times)
        print(f"{name:42} {ours:10.1f} {numpy:10.1f}   {ours / numpy:.2f}")


if __name__ == "__main__":
    main()
