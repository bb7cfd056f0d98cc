"""Products of many matrices, as attention has them, beside NumPy's.

    OPENBLAS_NUM_THREADS=1 python benchmarks/batched_products.py

One thread. Prints GF/s of fastnn's kernel and of `numpy.matmul`, taken in turns, for heads of T positions: scores
(queries times keys transposed), results (scores times values) and a gradient (scores transposed times values).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import fastnn as fnn
from fastnn.program.layout import Flag
from fastnn.program.opcodes import OPS
from kernel_record import Record, aligned

#: the products by name: whether the result is T x T, and the flags
KINDS = {
    "scores": (True, Flag.TRANSPOSE_B),
    "results": (False, Flag(0)),
    "gradient": (False, Flag.TRANSPOSE_A),
}
#: as many elements of scores at once
ELEMENTS = 1 << 18


@dataclass(frozen=True)
class Heads:
    """Matrices of T x T and T x size, and their product of one kind."""

    kind: str
    steps: int
    size: int
    dtype: str = "float32"

    @property
    def count(self) -> int:
        """The number of matrices."""
        return min(256, max(1, ELEMENTS // self.steps**2))

    @property
    def work(self) -> int:
        """Floating-point operations of all products."""
        return 2 * self.count * self.steps**2 * self.size

    def calls(self) -> tuple[Callable[[], object], Callable[[], object]]:
        """Return fastnn's kernel and NumPy's product on the same operands, after a first call of each."""
        square, flags = KINDS[self.kind]
        steps, size, rng = self.steps, self.size, np.random.default_rng(0)
        m, n, k = (steps, steps, size) if square else (steps, size, steps)
        left = (k, m) if Flag.TRANSPOSE_A in flags else (m, k)
        right = (n, k) if Flag.TRANSPOSE_B in flags else (k, n)
        a, b = (aligned(rng.standard_normal((self.count, *shape)).astype(self.dtype)) for shape in (left, right))
        c, other = (aligned(np.zeros((self.count, m, n), self.dtype)) for _ in range(2))
        dims = {"samples": self.count, "count": 1, "inner": 1, "m": m, "n": n, "k": k, "c_between": m * n, "c_row": n}
        for name, shape in (("a", left), ("b", right)):
            size = shape[0] * shape[1]
            dims |= {f"{name}_size": size, f"{name}_first": 0, f"{name}_between": size, f"{name}_row": shape[1]}
        dims = {name: size for name, size in dims.items() if name in OPS["batched_matmul"].dims}  # older commits
        record = Record("batched_matmul", {"c": c, "a": a, "b": b}, dims, dtype=self.dtype, params={"scale": 1.0},
                        flags=flags)  # fmt: skip
        x = a.swapaxes(1, 2) if Flag.TRANSPOSE_A in flags else a
        y = b.swapaxes(1, 2) if Flag.TRANSPOSE_B in flags else b

        def product() -> None:
            np.matmul(x, y, out=other)

        record()
        product()
        np.testing.assert_allclose(c, other, rtol=1e-3, atol=1e-3)
        return record, product


def seconds(call: Callable[[], object], least: float = 0.02) -> float:
    """Return the time of one call."""
    begin, times = time.perf_counter(), 0
    while time.perf_counter() - begin < least:
        call()
        times += 1
    return (time.perf_counter() - begin) / times


def main() -> None:
    """Print the table."""
    fnn.set_num_threads(1)
    print("kind       dtype      T  size  matrices   fastnn    numpy   ratio")
    for dtype in ("float32", "float64"):
        for steps in (8, 16, 32, 64, 128, 256, 512):
            for size in (16, 64, 128):
                for kind in KINDS:
                    heads = Heads(kind, steps, size, dtype)
                    ours, theirs = heads.calls()
                    pairs = [(seconds(ours), seconds(theirs)) for _ in range(5)]
                    rates = [heads.work / statistics.median(each) / 1e9 for each in zip(*pairs, strict=True)]
                    ratio = statistics.median(theirs / ours for ours, theirs in pairs)
                    what = f"{kind:10} {dtype} {steps:4} {size:5} {heads.count:9}"
                    print(f"{what} {rates[0]:8.1f} {rates[1]:8.1f} {ratio:7.2f}")


if __name__ == "__main__":
    main()
