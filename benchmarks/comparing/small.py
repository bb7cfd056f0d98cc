"""Small matrix products from compiled code, where the call costs more than the arithmetic.

fastnn: one compiled loop runs a program of one matmul record many times, its dispatch included. SciPy's BLAS:
a loop compiled by Numba calls `numpy.dot` with an output. NumPy can only be called from a Python loop.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from functools import cache, partial
from itertools import repeat
from typing import Any

import numpy as np

from comparing.matmul import Array, Product, deviation
from comparing.race import Comparison, Entry, enter, race
from comparing.settings import Settings, required
from contestants import Fastnn, Numpy
from kernel_record import Record, aligned

SECTION = "small matmul"
EXPLANATION = (
    "Nanoseconds per product of square matrices, called from compiled code, except NumPy, which is called from Python; "
    "in brackets the time divided by fastnn's. Spread: the largest half distance of quartiles, relative "
    "to the median."
)
SIZES = (4, 8, 12, 16, 24, 32, 48)


def compare(settings: Settings) -> Iterator[Comparison]:
    """Yield the comparison of each size."""
    chosen = [kind for kind in KINDS if required(kind[0]) or settings.admits(kind[0])]
    for dtype in ("float32", "float64"):
        for size in SIZES:
            product = Product(f"small square, {dtype}", size, size, size, "NN", dtype)
            if not settings.wants(f"small {product.name}"):
                continue
            makers = [(kind[0], required(kind[0]), partial(run_first, product, *kind)) for kind in chosen]
            entries, skipped = enter(makers)
            race(entries, settings.rounds, settings.seconds, 1)
            yield Comparison(SECTION, product.name, "call", entries, skipped, product.group, product.flops)


def run_first(product: Product, name: str, version: Callable[[], str], make: Make) -> Entry:
    """Return the entry of a library, after one product that checks its results."""
    a, b, out = (
        aligned(array) for array in (*product.operands(), np.full((product.m, product.n), np.nan, product.dtype))
    )
    run = make(product, a, b, out)
    run(1)
    error, allowed = deviation(product, a, b, out)
    return Entry(name, version(), run, deviation=f"{error:.0e}", agrees=error <= allowed)


def fastnn_run(product: Product, a: Array, b: Array, out: Array) -> Callable[[int], object]:
    """Return a function that runs a matmul record a number of times."""
    importlib.import_module("fastnn").set_num_threads(1)
    sizes = {"m": product.m, "n": product.n, "k": product.k}
    return Record("matmul", {"c": out, "a": a, "b": b}, sizes, dtype=product.dtype)


def numpy_run(product: Product, a: Array, b: Array, out: Array) -> Callable[[int], object]:
    """Return a Python loop around `numpy.matmul`."""
    matmul = np.matmul

    def run(count: int) -> None:
        for _ in repeat(None, count):
            matmul(a, b, out)

    return run


@cache
def numba_loop() -> Any:
    """Return a compiled loop around `numpy.dot`, which Numba sends to SciPy's BLAS."""
    importlib.import_module("scipy.linalg.cython_blas")
    numba = importlib.import_module("numba")

    def loop(a: Array, b: Array, out: Array, count: int) -> None:
        for _ in range(count):
            np.dot(a, b, out)

    return numba.njit(loop)


def numba_run(product: Product, a: Array, b: Array, out: Array) -> Callable[[int], object]:
    """Return a function that calls SciPy's BLAS from compiled code."""
    return partial(numba_loop(), a, b, out)


def scipy_version() -> str:
    """Return the versions of SciPy and Numba."""
    return ", ".join(f"{name} {importlib.import_module(name).__version__}" for name in ("scipy", "numba"))


Make = Callable[[Product, Array, Array, Array], Callable[[int], object]]
KINDS: tuple[tuple[str, Callable[[], str], Make], ...] = (
    ("fastnn", Fastnn.version, fastnn_run),
    ("NumPy from Python", Numpy.version, numpy_run),
    ("SciPy's BLAS by numba", scipy_version, numba_run),
)
