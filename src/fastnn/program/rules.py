"""Rules of single records: a kernel's assumptions, those of its op in the table and those of all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fastnn.program.layout import FLAGS_WORD, Flag
from fastnn.program.record import KernelKey, OperandView, dims_of, op_of


def broken_rule(
    record: NDArray[np.int64], kernel: KernelKey, mapped: KernelKey | None, dtype: str, views: Sequence[OperandView]
) -> str | None:
    """Return what is wrong with a record, or None; `broken_place` checks the places of its operands.

    Parameters
    ----------
    record : ndarray, int64, shape (RECORD_WORDS,)
        With a known op and valid dimensions.
    kernel, mapped : KernelKey (or None)
        The functions that the program names for it.
    dtype : str
        The program's dtype.
    views : sequence of OperandView
        The record's operands.
    """
    op, dims, flags = op_of(record), dims_of(record), Flag(int(record[FLAGS_WORD]))
    if (kernel.op, kernel.dtype) != (op.name, dtype):
        return f"names the kernel {kernel}, expected one of {op.name!r} in {dtype}"
    kind = op.maps or None
    if kind == "flags":
        kind = "map" if Flag.MAP_FORWARD in flags else "map_grad" if Flag.MAP_GRADIENT in flags else None
    if (None if mapped is None else (mapped.op, mapped.dtype)) != (None if kind is None else (kind, dtype)):
        return f"names the mapped function {mapped}, expected {kind} in {dtype}"
    if "per_sample" in dims and dims["per_sample"] * dims["samples"] != dims["rows"]:
        return f"has {dims['rows']} rows of {dims['samples']} samples of {dims['per_sample']} rows"
    return None if op.rule is None else op.rule(dims, frozenset(view.spec.name for view in views), flags)


def broken_place(views: Sequence[OperandView]) -> str | None:
    """Return what is wrong with the places of a record's operands, or None."""
    for out in views:
        if out.spec.access == "read" or out.spec.kind == "any":
            continue
        for other in views:
            apart = out.offset + out.nbytes <= other.offset or other.offset + other.nbytes <= out.offset
            allowed = out.spec.over == other.spec.name and out.offset == other.offset
            if other is not out and other.buffer == out.buffer and not apart and not allowed:
                return f"writes {out.spec.name!r} over {other.spec.name!r}"
    return None
