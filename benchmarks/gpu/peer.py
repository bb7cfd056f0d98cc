"""PyTorch's specifics: the precision of its products, and the measurement of its device's time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def set_precision(torch: Any, precision: str) -> None:
    """Choose between float32 and tf32 for products of float32 matrices.

    It does not use `torch.backends.cuda.matmul.fp32_precision`, which PyTorch 2.9 recommends: in 2.9 and 2.10
    torch.compile reads the older setting, and raises if both are used (pytorch issue 166387). This one sets both.
    """
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")


def torch_seconds(torch: Any, device: str, work: Callable[[], Any]) -> float:
    """Return the device's time between two events around a function; the host's time if the device is the CPU."""
    if device == "cpu":
        begin = time.perf_counter()
        work()
        return time.perf_counter() - begin
    first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    first.record()
    work()
    last.record()
    last.synchronize()
    return float(first.elapsed_time(last)) * 1e-3
