"""Elementwise functions, sums and the largest entries of graphs, beside NumPy's.

    python benchmarks/graph_ops.py

One thread, float32. Each op is a program of its own; NumPy writes where it is told to (`out=`) if it can. Both take
turns in random order; prints medians. Repetitions of a program are steps of one run, those of NumPy calls from Python.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.pointwise import pointwise
from fastnn.graph.ops.reductions import reduce
from fastnn.graph.ops.scans import argmax, cumsum, top_k
from graph_products import Array, Make, compiled, medians, repeated


def applied(function: str, *numbers: float) -> Make:
    """Return a function that applies an elementwise function to tensors and then numbers."""
    return lambda g, *x: pointwise(g, function, (*x, *numbers), "op")


def reduced(kind: str, *axes: int) -> Make:
    """Return a function that reduces axes."""
    return lambda g, x: reduce(g, kind, x, axes, False, "op")


def largest(g: Graph, x: Tensor, k: int) -> Tensor:
    """Return the k largest entries of each row."""
    return top_k(g, x, k, "op")[0]


def sorted_rows(x: Array, k: int) -> Array:
    """Return the k largest entries of each row, by a sort of their places."""
    places = np.argsort(-x, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(x, places, 1)


def into(function: Callable[..., Any]) -> Callable[..., Array]:
    """Return a function that writes its result into an array, which is its last argument."""
    return lambda *arrays: function(*arrays[:-1], out=arrays[-1])


def fresh(function: Callable[..., Any]) -> Callable[..., Array]:
    """Return a function that ignores its last argument: NumPy allocates the result."""
    return lambda *arrays: function(*arrays[:-1])


SIDE = (1000, 1000)
#: name, graph function, NumPy's, shapes, and where arguments are
CASES: tuple[tuple[str, Make, Callable[..., Array], tuple[tuple[int, ...], ...], tuple[float, float]], ...] = (
    ("a + b", applied("add"), into(np.add), (SIDE, SIDE), (-3, 3)),
    ("a + a number", applied("add", 0.5), into(lambda a, out: np.add(a, np.float32(0.5), out=out)), (SIDE,), (-3, 3)),
    ("a + a row", applied("add"), into(np.add), (SIDE, (1, 1000)), (-3, 3)),
    ("a + a column", applied("add"), into(np.add), (SIDE, (1000, 1)), (-3, 3)),
    ("a column times a row", applied("multiply"), into(np.multiply), ((1000, 1), (1, 1000)), (-3, 3)),
    ("rows of ten + a row", applied("add"), into(np.add), ((100_000, 10), (1, 10)), (-3, 3)),
    ("a + b of 1024", applied("add"), into(np.add), ((1024, 1), (1024, 1)), (-3, 3)),
    ("exp", applied("exp"), into(np.exp), (SIDE,), (-3, 3)),
    ("log", applied("log"), into(np.log), (SIDE,), (0.1, 9)),
    ("sqrt", applied("sqrt"), into(np.sqrt), (SIDE,), (0.1, 9)),
    ("sin", applied("sin"), into(np.sin), (SIDE,), (-9, 9)),
    ("tan", applied("tan"), into(np.tan), (SIDE,), (-1.5, 1.5)),
    ("tanh", applied("tanh"), into(np.tanh), (SIDE,), (-3, 3)),
    ("sinh", applied("sinh"), into(np.sinh), (SIDE,), (-3, 3)),
    ("arctan", applied("arctan"), into(np.arctan), (SIDE,), (-3, 3)),
    ("a to the power of b", applied("power"), into(np.power), (SIDE, SIDE), (0.1, 9)),
    ("sum of all", reduced("sum", 0, 1), fresh(np.sum), (SIDE,), (-3, 3)),
    ("sum of rows", reduced("sum", 1), into(partial(np.sum, axis=1)), (SIDE,), (-3, 3)),
    ("sum of columns", reduced("sum", 0), into(partial(np.sum, axis=0)), (SIDE,), (-3, 3)),
    ("max of rows", reduced("max", 1), into(partial(np.max, axis=1)), (SIDE,), (-3, 3)),
    ("max of columns", reduced("max", 0), into(partial(np.max, axis=0)), (SIDE,), (-3, 3)),
    ("argmax of rows", lambda g, x: argmax(g, x, 1, False, "op"), fresh(partial(np.argmax, axis=1)), (SIDE,), (-3, 3)),
    ("cumsum of rows", lambda g, x: cumsum(g, x, 1, "op"), into(partial(np.cumsum, axis=1)), (SIDE,), (-3, 3)),
    ("the 10 largest of 1000, by argsort", partial(largest, k=10), fresh(partial(sorted_rows, k=10)), (SIDE,), (-3, 3)),
    ("the 500 largest of 1000, by argsort", partial(largest, k=500), fresh(partial(sorted_rows, k=500)), (SIDE,),
     (-3, 3)),
)  # fmt: skip


def main() -> None:
    """Measure."""
    rng = np.random.default_rng(0)
    print(f"{'op':38} {'fastnn':>9} {'NumPy':>9}   microseconds, and how many times as fast fastnn is")
    for name, make, theirs, shapes, (low, high) in CASES:
        arrays = [rng.uniform(low, high, shape).astype(np.float32) for shape in shapes]
        run, result, _ = compiled(make, arrays)
        run()
        out = np.empty_like(result)
        expected = theirs(*arrays, out)
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
        small = result.size < 10_000 and arrays[0].size < 10_000
        found = medians({"fastnn": run, "NumPy": partial(repeated, partial(theirs, *arrays, out))}, 500 if small else 3)
        ours, numpy = found["fastnn"], found["NumPy"]
        print(f"{name:38} {ours:9.2f} {numpy:9.2f}   {numpy / ours:.2f}", flush=True)


if __name__ == "__main__":
    main()
