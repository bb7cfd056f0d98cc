"""Matrix products alone, in three precisions, against cuBLAS."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fastnn.backend.cuda.codegen.kernel import Key
from fastnn.backend.cuda.driver import available
from gpu import oracle
from gpu.buffers import Rotation
from gpu.cublas import find
from gpu.events import Job
from gpu.settings import PRECISIONS, Settings
from gpu.timing import race

# Relative to the largest element: sums of 8192 float32 products are right to six digits.
TOLERANCE = {"float32": 1e-5, "tf32": 5e-5, "bf16": 5e-5}
SAMPLED_ROWS, SAMPLED_COLS = 16, 64


def case_of(shape: tuple[int, int, int]) -> Any:
    """Return the case of a plain product, of numbers that all rounding modes round alike."""
    m, n, k = shape
    make = {name: lambda rng, shape: oracle.untied(rng.standard_normal(shape, np.float32)) for name in ("a", "b")}
    return oracle.making.Case("matmul", {"m": m, "n": n, "k": k}, special=make)


def keys(settings: Settings) -> Iterator[Key]:
    """Return the kernels of all products."""
    for shape in settings.products:
        for precision in PRECISIONS:
            yield from oracle.keys(case_of(shape), "float32", precision)


def run(job: Job) -> None:
    """Time every product in every precision."""
    time_all(job, available.open_device(0), PRECISIONS)


def time_all(job: Job, device: Any, precisions: Sequence[str]) -> None:
    """Time every product in some precisions."""
    settings = job.settings
    peer = find(settings)
    job.fact(peer=peer.name)
    todo = [(shape, precision) for precision in precisions for shape in settings.products]
    for number, (shape, precision) in enumerate(todo):
        if number and job.out(settings.piece_seconds):
            job.stop(f"{number} of {len(todo)} products were timed")
            return
        job.begin(f"{'x'.join(map(str, shape))} in {precision}")
        _one(job, device, peer, shape, precision)


def _one(job: Job, device: Any, peer: Any, shape: tuple[int, int, int], precision: str) -> None:
    case, name = case_of(shape), f"{'x'.join(map(str, shape))} in {precision}"
    rotation = Rotation(device, case, precision, job.settings, job.salt)
    contestants, units = {"fastnn": rotation.seconds}, {"fastnn": rotation.launches}
    other = peer.product(rotation, precision)
    if other is not None:
        contestants["cuBLAS"], units["cuBLAS"] = other.seconds, other.launches
    times = race(contestants, units, job)
    off = _off(rotation, precision)
    flops = 2.0 * np.prod([float(size) for size in shape])
    item: dict[str, Any] = {
        "product": list(shape), "precision": precision, "sets": rotation.sets, "off": off,
        "rounds": oracle.rounds_operands(case, precision, device.warpgroups), "flops": flops,
        "us": {who: one.micro() for who, one in times.items()},
        "tflops": {who: flops / one.median / 1e12 for who, one in times.items()},
    }  # fmt: skip
    if other is not None:
        item["off by cuBLAS"] = _off(rotation, "float32", other.result())
    job.item(**item)
    untouched = rotation.untouched()
    if not off <= TOLERANCE[precision] or untouched:
        job.fail(f"{name}: off by {off:.2g} of the largest element" + (", and NaN is left in c" if untouched else ""))


def _off(rotation: Rotation, precision: str, got: Any = None) -> float:
    """Return the largest error of some rows and columns, relative to the largest element of these."""
    rng = np.random.default_rng(0)
    a, b = rotation.host["a"], rotation.host["b"]
    rows = np.append(rng.integers(0, len(a), SAMPLED_ROWS), len(a) - 1)
    cols = np.append(rng.integers(0, b.shape[1], SAMPLED_COLS), b.shape[1] - 1)
    a, b = a[rows].astype(np.float64), b[:, cols].astype(np.float64)
    if oracle.rounds_operands(rotation.case, precision, rotation.device.warpgroups):
        a, b = oracle.rounded(a, oracle.BITS[precision]), oracle.rounded(b, oracle.BITS[precision])
    expected = a @ b
    c = rotation.operand("c", rotation.sets - 1).copy_to_host() if got is None else got
    return float(np.abs(c[np.ix_(rows, cols)] - expected).max() / np.abs(expected).max())
