"""Rounded products by warpgroups, which are off by default: checked, then timed against cuBLAS."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastnn.backend.cuda.codegen.kernel import Key
from fastnn.backend.cuda.codegen.sizes import PRODUCTS
from fastnn.backend.cuda.driver import available
from fastnn.backend.cuda.kernels.matmul.plan import Algorithm
from gpu import checks, matmul, oracle, shapes
from gpu.events import Job
from gpu.settings import Settings

CAPABILITY = (9, 0)


def _uses(keys: list[Key]) -> bool:
    return any(key.op == "matmul" and Algorithm.parse(key.algorithm).shape in PRODUCTS.warpgroup_tiles for key in keys)


def work(settings: Settings) -> Iterator[tuple[Any, str, str]]:
    """Yield (case, dtype, precision) of products that warpgroups would make, in sizes of real networks."""
    for case, dtype, precision in shapes.products(settings):
        if precision in oracle.BITS and _uses(oracle.keys(case, dtype, precision, True)):
            yield case, dtype, precision


def keys(settings: Settings) -> Iterator[Key]:
    """Return the kernels of all products."""
    for case, dtype, precision in work(settings):
        yield from oracle.keys(case, dtype, precision, True)
    for shape in settings.products:
        for precision in oracle.BITS:
            yield from oracle.keys(matmul.case_of(shape), "float32", precision, True)


def run(job: Job) -> None:
    """Check and time them."""
    device = available.open_device(0)
    if device.capability != CAPABILITY:
        job.skip("only GPUs of compute capability 9.0 have warpgroups")
        return
    device.warpgroups = True
    checks.check_all(job, device, list(work(job.settings)))
    matmul.time_all(job, device, tuple(oracle.BITS))
