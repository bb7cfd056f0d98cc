"""Chains of six elementwise ops as one pass over memory, beside the traffic of their ends, JAX and NumPy.

    python benchmarks/chains.py [--elements 1000000] [--threads 1] [--rounds 41]

All take turns, on as many processors as there are threads; the figures are medians in microseconds. "ends" is one
record that reads the inputs and writes the result, "records" are the six records one after the other. JAX compiles the
chain, and gets the memory of its result (a donated argument). Where JAX is not installed, its column is missing.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
A, B, C, D = 1.5, 0.3, 0.2, 0.9


def one_input(ops: Any, x: Any) -> Any:
    """Return min((relu(a x + b) - c)^2, d)."""
    return ops.minimum(ops.square(ops.subtract(ops.maximum(ops.add(ops.multiply(x, A), B), 0.0), C)), D)


def two_inputs(ops: Any, x: Any, w: Any) -> Any:
    """Return min((relu(x w + b) - w)^2, d)."""
    return ops.minimum(ops.square(ops.subtract(ops.maximum(ops.add(ops.multiply(x, w), B), 0.0), w)), D)


def with_a_root(ops: Any, x: Any) -> Any:
    """Return the square root of (relu(a x) - c)^2 + d."""
    return ops.sqrt(ops.add(ops.square(ops.subtract(ops.maximum(ops.multiply(x, A), 0.0), C)), D))


CHAINS: dict[str, tuple[Callable[..., Any], int]] = {
    "one input": (one_input, 1),
    "two inputs": (two_inputs, 2),
    "with a root": (with_a_root, 1),
}


class GraphOps:
    """NumPy's names for nodes of a graph."""

    def __init__(self, graph: Any) -> None:
        self._graph = graph

    def __getattr__(self, name: str) -> Callable[..., Any]:
        from fastnn.graph.ops.pointwise import pointwise

        return lambda *operands: pointwise(self._graph, name, operands, name)


def arrays(elements: int, count: int) -> list[Array]:
    """Return inputs, with a row of one element for each sample."""
    rng = np.random.default_rng(0)
    return [rng.standard_normal((elements, 1), np.float32) for _ in range(count)]


def lowered(name: str, inputs: list[Array], *, chained: bool = True, ends: bool = False) -> Any:
    """Return a chain as fastnn's program, or one record that reads and writes as much."""
    from fastnn.graph.graph import Graph
    from lowered import Lowered

    graph = Graph()
    tensors = [graph.input(x.shape[1:], "x") for x in inputs]
    ops = GraphOps(graph)
    one_record = ops.negative if len(tensors) == 1 else ops.add
    y = one_record(*tensors) if ends else CHAINS[name][0](ops, *tensors)
    return Lowered(graph, [y], inputs, chained=chained)


def with_numpy(name: str, inputs: list[Array]) -> Callable[[], object]:
    """Return a chain as NumPy's functions."""
    return lambda: CHAINS[name][0](np, *inputs)


def with_jax(name: str, inputs: list[Array]) -> Callable[[], object]:
    """Return a chain as JAX compiles it; its result's memory is used again."""
    jax: Any = importlib.import_module("jax")

    def compute(old: Any, *given: Any) -> Any:
        return CHAINS[name][0](jax.numpy, *given)

    compiled = jax.jit(compute, donate_argnums=0, keep_unused=True)
    held = [jax.device_put(x) for x in inputs]
    last = [compiled(jax.device_put(np.empty_like(inputs[0])), *held)]

    def call() -> Any:
        last[0] = compiled(last[0], *held)
        last[0].block_until_ready()
        return last[0]

    return call


def contestants(name: str, elements: int, threads: int) -> dict[str, Callable[[], object]]:
    """Return calls by name, whose results have been compared."""
    inputs = arrays(elements, CHAINS[name][1])
    programs = {
        "chain": lowered(name, inputs),
        "records": lowered(name, inputs, chained=False),
        "ends": lowered(name, inputs, ends=True),
    }
    calls: dict[str, Callable[[], object]] = {key: partial(program, 1, threads) for key, program in programs.items()}
    calls["NumPy"] = with_numpy(name, inputs)
    if importlib.util.find_spec("jax") is not None:
        calls["JAX"] = with_jax(name, inputs)
    wanted = np.asarray(calls["NumPy"]())
    for key in ("chain", "records"):
        calls[key]()
        np.testing.assert_allclose(programs[key].results[0], wanted, rtol=1e-5, atol=1e-6)
    if "JAX" in calls:
        np.testing.assert_allclose(np.asarray(calls["JAX"]()), wanted, rtol=1e-5, atol=1e-6)
    return calls


def medians(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return microseconds by name, of calls in turns."""
    times: dict[str, list[float]] = {key: [] for key in calls}
    for round_ in range(rounds + 3):
        for key, call in calls.items():
            begin = time.perf_counter()
            call()
            if round_ >= 3:
                times[key].append((time.perf_counter() - begin) * 1e6)
    return {key: statistics.median(found) for key, found in times.items()}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--elements", type=int, default=1_000_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=41)
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):  # before JAX starts its threads
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    print(f"{options.elements} elements of float32, {options.threads} threads: microseconds")
    for name in CHAINS:
        found = medians(contestants(name, options.elements, options.threads), options.rounds)
        columns = "  ".join(f"{key} {value:7.1f}" for key, value in found.items())
        print(f"{name:<12} {columns}  chain / ends {found['chain'] / found['ends']:.2f}", flush=True)


if __name__ == "__main__":
    main()
