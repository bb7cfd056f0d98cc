"""Matrix products: `fastnn.matmul` against OpenBLAS (NumPy) and MKL (PyTorch), all into a given output."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from comparing.race import Comparison, Entry, enter, race
from comparing.settings import Settings, required
from compiled_contestants import PyTorch
from contestants import Contestant, Fastnn, Numpy

Array = NDArray[Any]
SECTION = "matmul"
EXPLANATION = (
    "GFLOP/s of the median run, higher is better; in brackets the time divided by fastnn's. m x k x n is "
    "the product of (m, k) and (k, n); N, T: whether a, b are read transposed. Spread: the largest half distance of "
    "quartiles, relative to the median. Every product was compared with one in float64."
)
SQUARES = (64, 128, 256, 512, 1024, 2048)
LAYERS = ((32, 64, 128), (128, 64, 128), (128, 784, 256), (128, 256, 128), (512, 1024, 4096))
LARGE_FLOPS = 3e9
# Random rounding errors of k products grow as the square root of k; this is many times as much.
TOLERANCE_EPS = 8.0


@dataclass(frozen=True)
class Product:
    """One matrix product, (m, k) @ (k, n).

    Attributes
    ----------
    group : str
        The group in which it is averaged.
    transposed : str
        "NN", "TN" or "NT": which operand is transposed in memory.
    """

    group: str
    m: int
    k: int
    n: int
    transposed: str
    dtype: str

    @property
    def name(self) -> str:
        """Dtype, sizes, transposition."""
        return f"{self.dtype} {self.m} x {self.k} x {self.n} {self.transposed}"

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        return 2 * self.m * self.k * self.n

    def operands(self, seed: int = 0) -> tuple[Array, Array]:
        """Return a and b in their memory layout."""
        rng, (m, k, n) = np.random.default_rng(seed), (self.m, self.k, self.n)
        a = rng.standard_normal((k, m) if self.transposed[0] == "T" else (m, k)).astype(self.dtype)
        b = rng.standard_normal((n, k) if self.transposed[1] == "T" else (k, n)).astype(self.dtype)
        return a, b

    def views(self, a: Any, b: Any) -> tuple[Any, Any]:
        """Return the operands as (m, k) and (k, n), transposed without a copy."""
        return a.T if self.transposed[0] == "T" else a, b.T if self.transposed[1] == "T" else b


def products() -> Iterator[Product]:
    """Yield squares, and the three products of a layer: forward, weight gradient, input gradient."""
    for dtype in ("float32", "float64"):
        for size in SQUARES:
            yield Product(f"square, {dtype}", size, size, size, "NN", dtype)
        for rows, n_in, n_out in LAYERS:
            yield Product(f"layers forward, {dtype}", rows, n_in, n_out, "NN", dtype)
            yield Product(f"layers' weight gradient, {dtype}", n_in, rows, n_out, "TN", dtype)
            yield Product(f"layers' input gradient, {dtype}", rows, n_out, n_in, "NT", dtype)


def fastnn_call(product: Product, a: Array, b: Array, out: Array, threads: int) -> Callable[[], object]:
    """Return a call of `fastnn.matmul`."""
    fnn = importlib.import_module("fastnn")
    fnn.set_num_threads(threads)
    left, right = (letter == "T" for letter in product.transposed)
    return partial(fnn.matmul, a, b, out=out, transpose_a=left, transpose_b=right)


def numpy_call(product: Product, a: Array, b: Array, out: Array, threads: int) -> Callable[[], object]:
    """Return a call of `numpy.matmul`, which passes transposed views to BLAS without copies."""
    return partial(np.matmul, *product.views(a, b), out=out)


def torch_call(product: Product, a: Array, b: Array, out: Array, threads: int) -> Callable[[], object]:
    """Return a call of `torch.mm` on tensors that share the arrays' memory."""
    torch = importlib.import_module("torch")
    torch.set_num_threads(threads)
    views = product.views(torch.from_numpy(a), torch.from_numpy(b))
    return partial(torch.mm, *views, out=torch.from_numpy(out))


Call = Callable[[Product, Array, Array, Array, int], Callable[[], object]]
KINDS: tuple[tuple[str, type[Contestant], Call], ...] = (
    ("fastnn", Fastnn, fastnn_call),
    ("NumPy (OpenBLAS)", Numpy, numpy_call),
    ("PyTorch (MKL)", PyTorch, torch_call),
)


def compare(settings: Settings, kinds: Sequence[tuple[str, type[Contestant], Call]] = KINDS) -> Iterator[Comparison]:
    """Yield the comparison of each product."""
    chosen = [kind for kind in kinds if required(kind[0]) or settings.admits(kind[0])]
    for product in products():
        if settings.wants(product.name, product.flops > LARGE_FLOPS):
            makers = [(kind[0], required(kind[0]), partial(call_first, product, settings, *kind)) for kind in chosen]
            entries, skipped = enter(makers)
            race(entries, settings.rounds, settings.seconds, settings.threads)
            yield Comparison(SECTION, product.name, "call", entries, skipped, product.group, product.flops)


def call_first(product: Product, settings: Settings, name: str, kind: type[Contestant], call: Call) -> Entry:
    """Return the entry of a library, after one product that checks its results."""
    a, b = product.operands()
    out = np.full((product.m, product.n), np.nan, product.dtype)
    function = call(product, a, b, out, settings.threads)
    function()
    error, allowed = deviation(product, a, b, out)
    return Entry(name, kind.version(), partial(calls, function), deviation=f"{error:.0e}", agrees=error <= allowed)


def deviation(product: Product, a: Array, b: Array, out: Array) -> tuple[float, float]:
    """Return the relative error of a product, compared with float64, and the allowed error.

    Instead of the matrices, their products with some random vectors are compared (Freivalds, 1977), which takes
    far less time than a second product, and detects any wrong element.
    """
    vectors = np.random.default_rng(9).standard_normal((product.n, 4))
    left, right = (matrix.astype(np.float64) for matrix in product.views(a, b))
    exact = left @ (right @ vectors)
    error = float(np.linalg.norm(out.astype(np.float64) @ vectors - exact) / np.linalg.norm(exact))
    return error, TOLERANCE_EPS * float(np.finfo(product.dtype).eps) * product.k**0.5


def calls(function: Callable[[], object], count: int) -> None:
    """Call a function `count` times."""
    for _ in repeat(None, count):
        function()
