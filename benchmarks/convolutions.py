"""Convolutions beside fastnn's own products of the same sizes, and beside PyTorch where it is installed.

    python benchmarks/convolutions.py
    python benchmarks/convolutions.py --dtype float64 --threads 2

Prints GF/s of the convolution, of its gradient for inputs, and of that for weights (multiplications and additions that
the definition has; zeros around maps count). "product" is the matrix product with as many rows, columns and terms.
PyTorch has its maps in channels-last order, with oneDNN. All take turns; medians of several rounds.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

import fastnn as fnn
from fastnn.program.layout import Flag
from fastnn.program.window import packed
from kernel_record import Record, aligned

try:
    torch: Any = importlib.import_module("torch")
except ImportError:
    torch = None


@dataclass(frozen=True)
class Convolution:
    """Square maps, or lines of `size` pixels; zeros around them keep their size but for strides."""

    batch: int
    size: int
    channels: int
    filters: int
    window: int = 3
    stride: int = 1
    line: bool = False
    groups: int = 1

    @property
    def label(self) -> str:
        """What it is, in words."""
        shape = f"{self.size}" if self.line else f"{self.size} x {self.size}"
        more = (f", stride {self.stride}" if self.stride > 1 else "") + (
            f", {self.groups} groups" if self.groups > 1 else ""
        )
        return f"{self.batch} x {shape} x {self.channels}, {self.window} to {self.filters}{more}"

    @property
    def result(self) -> int:
        """The size of the result."""
        return -(-self.size // self.stride)

    @property
    def padding(self) -> int:
        """Zeros before a map."""
        return max((self.result - 1) * self.stride + self.window - self.size, 0) // 2

    @property
    def dims(self) -> dict[str, int]:
        """Those of the record."""

        def each(number: int, rest: int) -> int:
            return packed((rest, rest if self.line else number, number))

        def sizes(size: int) -> tuple[int, int]:
            return (1 if self.line else size), size

        dims = {"batch": self.batch, "depth": 1, "channels": self.channels, "out_depth": 1, "filters": self.filters}
        dims["height"], dims["width"] = sizes(self.size)
        dims["rows"], dims["cols"] = sizes(self.result)
        dims |= {"window": each(self.window, 1), "stride": each(self.stride, 1), "dilation": each(1, 1)}
        dims |= {"padding": each(self.padding, 0), "groups": self.groups}
        dims["weights"] = self.window ** (1 if self.line else 2) * self.channels // self.groups * self.filters
        return dims


def contestants(each: Convolution, dtype: str) -> dict[str, dict[str, Callable[[], object]]]:
    """Return the calls of each product, by contestant, on the same numbers."""
    rng, dims = np.random.default_rng(0), each.dims
    maps = (each.batch, dims["height"], dims["width"], each.channels)
    places = (each.batch, dims["rows"], dims["cols"], each.filters)
    chunks = 8
    x, dy = (aligned(rng.standard_normal(shape).astype(dtype)) for shape in (maps, places))
    w = aligned(rng.standard_normal(dims["weights"]).astype(dtype))
    y, dx, parts = (aligned(np.zeros(shape, dtype)) for shape in (places, maps, (chunks, dims["weights"])))
    dw = aligned(np.zeros(dims["weights"], dtype))
    forward = Record("conv", {"y": y, "x": x, "w": w}, dims, dtype=dtype)
    back = Record("conv_back", {"dx": dx, "dy": dy, "w": w}, dims, dtype=dtype)
    by_chunk = Record("conv_weights", {"dw": parts, "x": x, "dy": dy}, {**dims, "chunks": chunks}, dtype=dtype)
    added = Record(
        "sum_chunks", {"y": dw, "x": parts}, {"batch": each.batch, "chunks": chunks, "n": len(dw)}, dtype=dtype
    )

    def weights() -> None:
        by_chunk()
        added()

    found: dict[str, dict[str, Callable[[], object]]] = {
        "forward": {"fastnn": forward}, "inputs": {"fastnn": back}, "weights": {"fastnn": weights},
    }  # fmt: skip
    m, n, k = prod(places[:-1]), each.filters, dims["weights"] // each.filters
    if each.groups == 1:
        for name, (rows, columns, terms) in {
            "forward": (m, n, k),
            "inputs": (m, each.channels, k // each.channels * n),
            "weights": (k, n, m),
        }.items():
            found[name]["product"] = product(rows, columns, terms, dtype, transpose=name == "weights")
    if torch is not None:
        found = _with_torch(found, each, x, w, dy, (forward, back, weights), (y, dx, dw))
    return found


def product(m: int, n: int, k: int, dtype: str, *, transpose: bool) -> Callable[[], object]:
    """Return fastnn's own product of m x k and k x n."""
    rng = np.random.default_rng(0)
    a, b = (aligned(rng.standard_normal(size).astype(dtype)) for size in (m * k, k * n))
    c = aligned(np.zeros(m * n, dtype))
    flags = Flag.TRANSPOSE_A if transpose else Flag(0)
    return Record("matmul", {"c": c, "a": a, "b": b}, {"m": m, "n": n, "k": k}, dtype=dtype, flags=flags)


def _with_torch(found: Any, each: Convolution, x: Any, w: Any, dy: Any, ours: Any, results: Any) -> Any:
    """Add PyTorch's calls, after comparing what they compute with ours."""
    axes = 1 if each.line else 2
    last = torch.channels_last if axes == 2 else torch.contiguous_format

    def first(array: Any) -> Any:
        return torch.from_numpy(
            np.ascontiguousarray(np.moveaxis(array.reshape(array.shape[:1] + array.shape[3 - axes :]), -1, 1))
        ).to(memory_format=last)

    shape = (*[each.window] * axes, each.channels // each.groups, each.filters)
    weights = torch.from_numpy(np.ascontiguousarray(np.moveaxis(w.reshape(shape), (-1, -2), (0, 1)))).to(
        memory_format=last
    )
    total = max((each.result - 1) * each.stride + each.window - each.size, 0)
    after = total - each.padding
    maps, gradient = first(x), first(dy)
    function = torch.nn.functional.conv1d if each.line else torch.nn.functional.conv2d
    even = after == each.padding
    pad = [each.padding if even else 0] * axes
    if not even:
        maps = torch.nn.functional.pad(maps, [each.padding, after] * axes).to(memory_format=last)

    def forward() -> Any:
        return function(maps, weights, stride=each.stride, padding=pad, groups=each.groups)

    def backward(mask: list[bool]) -> Any:
        return torch.ops.aten.convolution_backward(
            gradient, maps, weights, None, [each.stride] * axes, pad, [1] * axes, False, [0] * axes, each.groups, mask
        )

    for call in ours:
        call()
    y, dx, dw = results
    with torch.no_grad():
        _same(y, np.moveaxis(forward().numpy(), 1, -1).ravel())
        if even:
            _same(dx, np.moveaxis(backward([True, False, False])[0].numpy(), 1, -1).ravel())
        _same(dw, np.moveaxis(backward([False, True, False])[1].numpy(), (0, 1), (-1, -2)).ravel())
    found["forward"]["PyTorch"] = forward
    found["inputs"]["PyTorch"] = lambda: backward([True, False, False])
    found["weights"]["PyTorch"] = lambda: backward([False, True, False])
    return found


def _same(ours: Any, theirs: Any) -> None:
    scale = np.abs(theirs).max()
    np.testing.assert_allclose(ours.ravel() / scale, theirs / scale, rtol=0, atol=1e-4)


#: Seconds in which the threads of other libraries, which spin after their work, go to sleep.
IDLE = 0.05


def measured(calls: Mapping[str, Callable[[], object]], least: float = 0.01, rounds: int = 7) -> dict[str, float]:
    """Return the median seconds of a call of each contestant; between turns other libraries' threads go to sleep."""
    times: dict[str, int] = {}
    for name, call in calls.items():
        call()
        begin = time.perf_counter()
        call()
        times[name] = max(1, int(least / max(time.perf_counter() - begin, 1e-7)))
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            time.sleep(IDLE)
            call()
            begin = time.perf_counter()
            for _ in range(times[name]):
                call()
            found[name].append((time.perf_counter() - begin) / times[name])
    return {name: statistics.median(each) for name, each in found.items()}


SIZES = (
    Convolution(64, 28, 1, 16),
    Convolution(64, 14, 16, 32),
    Convolution(64, 28, 3, 32),
    Convolution(64, 28, 1, 6, 5),
    Convolution(64, 14, 6, 16, 5),
    Convolution(32, 56, 16, 16),
    Convolution(32, 32, 16, 16),
    Convolution(32, 16, 32, 32),
    Convolution(32, 8, 64, 64),
    Convolution(16, 28, 64, 64),
    Convolution(16, 14, 128, 128),
    Convolution(16, 7, 128, 128),
    Convolution(32, 32, 16, 32, stride=2),
    Convolution(32, 16, 32, 64, stride=2),
    Convolution(32, 32, 64, 64, 1),
    Convolution(32, 256, 64, 64, line=True),
    Convolution(32, 30, 24, 40, 3),
    Convolution(32, 48, 32, 32, 3, groups=32),
    Convolution(32, 24, 64, 64, 3, 2, groups=64),
    Convolution(32, 12, 128, 128, 3, groups=128),
)


def main() -> None:
    """Print a line for each convolution."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dtype", default="float32", choices=("float32", "float64"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", help="a part of the label")
    options = parser.parse_args()
    fnn.set_num_threads(options.threads)
    if torch is not None:
        torch.set_num_threads(options.threads)
        torch.set_grad_enabled(False)
    print(f"{'':42}{'GF/s':>8}{'product':>9}{'of it':>7}{'PyTorch':>9}{'times':>7}")
    for each in SIZES:
        if options.only not in each.label:
            continue
        work = 2 * each.batch * each.result ** (1 if each.line else 2) * each.dims["weights"]
        for name, calls in contestants(each, options.dtype).items():
            seconds = measured(calls)
            rates = {who: work / taken / 1e9 for who, taken in seconds.items()}
            line = f"{each.label if name == 'forward' else '':34}{name:8}{rates['fastnn']:8.1f}"
            for who in ("product", "PyTorch"):
                if who in rates:
                    line += f"{rates[who]:9.1f}{rates['fastnn'] / rates[who]:7.2f}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
