"""The tests' table of cases and the float64 reference, which find every error of a kernel: also on a GPU."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cuda.kit import KERNELS, Key
from fastnn.backend.cuda.launches import keys_of
from gpu.settings import Settings

# bits of the significand that are left of what is multiplied
BITS = {"tf32": 11, "bf16": 8}
# for JSON, which has no infinity: of errors that are beyond all bounds
HUGE = 1e9

running: Any = importlib.import_module("running")
making: Any = importlib.import_module("making")
run_cuda: Any = importlib.import_module("cuda_running").run_cuda
table: list[Any] = importlib.import_module("cases").CASES


def cases(settings: Settings) -> list[Any]:
    """Return the cases of the table that have a CUDA kernel; the smallest of each op where not all are wanted."""
    found = [case for case in table if case.op in KERNELS]
    if settings.cases_per_op == 0:
        return found
    by_op: dict[str, list[Any]] = {}
    for case in found:
        by_op.setdefault(case.op, []).append(case)
    return [case for group in by_op.values() for case in _spread(group, settings.cases_per_op)]


def _spread(group: list[Any], count: int) -> list[Any]:
    """Choose some of a group: the smallest one, or some that stand far apart in the table."""
    if count == 1:
        return [min(group, key=lambda case: int(np.prod([max(size, 1) for size in case.dims.values()])))]
    return group[:: -(-len(group) // count)]


def keys(case: Any, dtype: str, precision: str, warpgroups: bool = False) -> list[Key]:
    """Return the kernels of a case."""
    return keys_of(running.build(case, dtype), precision, warpgroups)


def rounds_operands(case: Any, precision: str, warpgroups: bool = False) -> bool:
    """Tell whether a product of this shape is made from rounded operands at a precision."""
    return precision in BITS and keys(case, "float32", precision, warpgroups) != keys(case, "float32", "float32")


def untied(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return numbers of which none lies in the middle between two shorter ones, where roundings differ."""
    return (values.astype(np.float32).view(np.uint32) | 1).view(np.float32).astype(np.float64)


def rounded(values: NDArray[Any], bits: int) -> NDArray[np.float64]:
    """Round float32 numbers to the nearest of so many bits."""
    drop = 24 - bits
    words = values.astype(np.float32).view(np.uint32)
    words = (words + np.uint32(1 << (drop - 1))) & np.uint32(0x1_0000_0000 - (1 << drop))
    return words.view(np.float32).astype(np.float64)


def check(case: Any, dtype: str, precision: str, salt: int, device: Any) -> dict[str, Any]:
    """Run a case twice and compare with the reference, and the two runs with one another, bit for bit.

    Returns
    -------
    dict
        "ratio": the largest error over its bound, 1 or less where all is well; "output": whose; "same": whether the
        runs agree; "wrong": what else is wrong, in words.
    """
    values = case.values(salt)
    expecting, measured = values, case
    if precision in BITS:
        values = {name: untied(array) if name in ("a", "b") else array for name, array in values.items()}
        expecting = values
        if rounds_operands(case, precision, device.warpgroups):
            # tensor cores shift what they add to one exponent and cut the bits that are below; an H200 was at 1.13
            bound = making.Bound(2.0 * case.bound.relative, 2.0 * case.bound.absolute)
            measured = replace(case, bound=bound)
            expecting = {n: rounded(v, BITS[precision]) if n in ("a", "b") else v for n, v in values.items()}
    got = run_cuda(case, dtype, device, values, precision)
    expected = running.run_reference(case, dtype, expecting)
    ratio, output = 0.0, ""
    for name, array in got.outputs.items():
        error = running.excess(measured, name, dtype, array, expected.outputs[name])
        if error > ratio:
            ratio, output = error, name
    wrong = []
    if (got.steps, got.counters) != (expected.steps, expected.counters):
        wrong.append(f"counters {got.steps}, {got.counters} instead of {expected.steps}, {expected.counters}")
    if any(not np.array_equal(got.data[slot], array, equal_nan=True) for slot, array in expected.data.items()):
        wrong.append("an array of the user's differs")
    again = run_cuda(case, dtype, device, values, precision)
    same = all(_bytes(array) == _bytes(again.outputs[name]) for name, array in got.outputs.items())
    same &= all(_bytes(array) == _bytes(again.data[slot]) for slot, array in got.data.items())
    return {"ratio": min(float(ratio), HUGE), "output": output, "same": same, "wrong": "; ".join(wrong)}


def _bytes(array: NDArray[Any]) -> bytes:
    return np.ascontiguousarray(array).tobytes()
