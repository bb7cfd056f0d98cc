"""The tests' table of cases and the float64 reference, used on a GPU."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cuda.codegen.kernel import KERNELS, Key
from fastnn.backend.cuda.launch.launches import keys_of
from gpu.settings import Settings

# bits of the significand after rounding the factors
BITS = {"tf32": 11, "bf16": 8}
# the operands that are rounded, by op
FACTORS = {"matmul": ("a", "b"), "conv": ("x", "w"), "conv_back": ("dy", "w"), "conv_weights": ("x", "dy")}
# replaces infinity, which JSON does not have, for errors beyond all bounds
HUGE = 1e9

running: Any = importlib.import_module("running")
making: Any = importlib.import_module("making")
run_cuda: Any = importlib.import_module("cuda_running").run_cuda
table: list[Any] = importlib.import_module("cases").CASES


def cases(settings: Settings) -> list[Any]:
    """Return the cases of the table that have a CUDA kernel; only the smallest of each op if not all are requested."""
    found = [case for case in table if case.op in KERNELS]
    if settings.cases_per_op == 0:
        return found
    by_op: dict[str, list[Any]] = {}
    for case in found:
        by_op.setdefault(case.op, []).append(case)
    return [case for group in by_op.values() for case in _spread(group, settings.cases_per_op)]


def _spread(group: list[Any], count: int) -> list[Any]:
    """Choose some of a group: the smallest one, or some that are far apart in the table."""
    if count == 1:
        return [min(group, key=lambda case: int(np.prod([max(size, 1) for size in case.dims.values()])))]
    return group[:: -(-len(group) // count)]


def keys(case: Any, dtype: str, precision: str, warpgroups: bool = False) -> list[Key]:
    """Return the kernels of a case."""
    return keys_of(running.build(case, dtype), precision, warpgroups)


def rounds_operands(case: Any, precision: str, warpgroups: bool = False) -> bool:
    """Return whether a product of this shape rounds its operands at a precision."""
    return precision in BITS and keys(case, "float32", precision, warpgroups) != keys(case, "float32", "float32")


def rounded_factors(case: Any, values: Mapping[str, Any], precision: str) -> dict[str, Any]:
    """Return the values of a case with those rounded that tensor cores round."""
    factors = FACTORS[case.op] if precision in BITS else ()
    return {name: rounded(array, BITS[precision]) if name in factors else array for name, array in values.items()}


def untied(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return numbers without ties between two shorter ones, where rounding modes differ."""
    return (values.astype(np.float32).view(np.uint32) | 1).view(np.float32).astype(np.float64)


def rounded(values: NDArray[Any], bits: int) -> NDArray[np.float64]:
    """Round float32 numbers to `bits` bits, to nearest."""
    drop = 24 - bits
    words = values.astype(np.float32).view(np.uint32)
    words = (words + np.uint32(1 << (drop - 1))) & np.uint32(0x1_0000_0000 - (1 << drop))
    return words.view(np.float32).astype(np.float64)


def check(case: Any, dtype: str, precision: str, salt: int, device: Any) -> dict[str, Any]:
    """Run a case twice, compare with the reference, and compare the two runs bit for bit.

    Returns
    -------
    dict
        "ratio": the largest error divided by its bound, at most 1 if correct; "output": its output; "same": whether the
        runs agree; "wrong": other errors, as text.
    """
    values = case.values(salt)
    expecting, measured = values, case
    if precision in BITS:
        values = {name: untied(array) if name in FACTORS[case.op] else array for name, array in values.items()}
        expecting = values
        if rounds_operands(case, precision, device.warpgroups):
            # tensor cores shift summands to one exponent and truncate lower bits; an H200 was at 1.13
            bound = making.Bound(2.0 * case.bound.relative, 2.0 * case.bound.absolute)
            measured = replace(case, bound=bound)
            expecting = rounded_factors(case, values, precision)
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
